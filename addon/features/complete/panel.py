"""Complete Shape in the sidebar."""

import bpy

from ...scene.read import why_unreadable
from ...ui.drawing import draw_engine
from ...ui.panel import ShapewrightPanel, big_button, draw_jobs, draw_viewpoint, settings_column
from .. import kinds_shown_in


class SHAPEWRIGHT_PT_complete(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Complete Shape"
    bl_idname = "SHAPEWRIGHT_PT_complete"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        settings = context.scene.shapewright
        draw_engine(layout)
        big_button(layout).operator("shapewright.complete_shape", icon="SHADERFX")
        why = why_unreadable(context.active_object)
        if why:
            layout.label(text=why, icon="INFO")
        column = settings_column(layout)
        for name in ("prior", "class_name", "resolution", "max_faces", "seed", "hypotheses", "align", "viewpoint"):
            column.prop(settings, name)
        draw_viewpoint(column, settings, context.scene)
        draw_jobs(layout, kinds_shown_in("SHAPEWRIGHT_PT_complete"))
