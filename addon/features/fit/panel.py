"""Fit Shape in the sidebar."""

import bpy

from ... import preferences
from ...session import session
from ...ui.panel import ShapewrightPanel
from . import writer as fits


class SHAPEWRIGHT_PT_fit(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Fit Shape"
    bl_idname = "SHAPEWRIGHT_PT_fit"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        settings = context.scene.shapewright_fit
        sources = fits.sources_of(context)
        column = layout.column()
        column.scale_y = 1.4
        column.enabled = bool(sources)
        column.operator("shapewright.fit_shape", icon="OUTLINER_OB_SURFACE")
        if not sources:
            layout.label(text="Select point clouds or meshes", icon="INFO")
        elif len(sources) > 1:
            layout.label(text=f"{len(sources)} objects as one cloud", icon="INFO")

        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        for name in ("resolution", "smoothness", "open_boundaries", "becomes"):
            column.prop(settings, name)

        fitted = context.active_object
        if fitted is not None and fitted.get(fits.FIELD_PROPERTY):
            layout.operator("shapewright.refit_resolution", icon="MOD_REMESH")

        for job in session.current().jobs:
            if job.request.get("kind") == "fit":
                preferences.draw_job(layout, job)


class SHAPEWRIGHT_PT_fit_settings(ShapewrightPanel, bpy.types.Panel):
    bl_label = "More"
    bl_idname = "SHAPEWRIGHT_PT_fit_settings"
    bl_parent_id = "SHAPEWRIGHT_PT_fit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        settings = context.scene.shapewright_fit
        column = self.layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        for name in ("method", "iterations", "normals", "noise", "seed", "viewpoint"):
            row = column.row()
            row.enabled = name != "iterations" or settings.method != "auto"
            row.prop(settings, name)
        if settings.viewpoint == "POINT":
            column.prop(settings, "viewpoint_location")
        elif settings.viewpoint == "CAMERA" and context.scene.camera is None:
            column.label(text="The scene has no camera", icon="ERROR")


CLASSES = (SHAPEWRIGHT_PT_fit, SHAPEWRIGHT_PT_fit_settings)
