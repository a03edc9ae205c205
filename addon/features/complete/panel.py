"""Complete Shape in the sidebar."""

import bpy

from ... import preferences
from ...scene import read as scene
from ...session import session
from ...ui.panel import ShapewrightPanel


class SHAPEWRIGHT_PT_complete(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Complete Shape"
    bl_idname = "SHAPEWRIGHT_PT_complete"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        settings = context.scene.shapewright
        preferences.draw_engine(layout)

        column = layout.column()
        column.scale_y = 1.4
        column.operator("shapewright.complete_shape", icon="SHADERFX")
        why = scene.why_unreadable(context.active_object)
        if why:
            layout.label(text=why, icon="INFO")

        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        for name in ("prior", "class_name", "resolution", "max_faces", "seed", "hypotheses", "align", "viewpoint"):
            column.prop(settings, name)
        if settings.viewpoint == "POINT":
            column.prop(settings, "viewpoint_location")
        elif settings.viewpoint == "CAMERA" and context.scene.camera is None:
            column.label(text="The scene has no camera", icon="ERROR")

        for job in session.current().jobs:
            if job.scan is not None and job.request.get("kind") not in ("fit", "gradient"):
                preferences.draw_job(layout, job)


CLASSES = (SHAPEWRIGHT_PT_complete,)
