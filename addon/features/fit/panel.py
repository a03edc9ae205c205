"""Fit Shape in the sidebar."""

import bpy

from ...carried.fit_field import has_field
from ...ui.panel import ShapewrightPanel, big_button, draw_jobs, draw_viewpoint, settings_column
from .. import kinds_shown_in
from .clouds import sources_of


class SHAPEWRIGHT_PT_fit(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Fit Shape"
    bl_idname = "SHAPEWRIGHT_PT_fit"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        settings = context.scene.shapewright_fit
        sources = sources_of(context)
        column = big_button(layout)
        column.enabled = bool(sources)
        column.operator("shapewright.fit_shape", icon="OUTLINER_OB_SURFACE")
        if not sources:
            layout.label(text="Select point clouds or meshes", icon="INFO")
        elif len(sources) > 1:
            layout.label(text=f"{len(sources)} objects as one cloud", icon="INFO")

        column = settings_column(layout)
        for name in ("resolution", "smoothness", "open_boundaries", "becomes"):
            column.prop(settings, name)

        if has_field(context.active_object):
            layout.operator("shapewright.refit_resolution", icon="MOD_REMESH")

        draw_jobs(layout, kinds_shown_in("SHAPEWRIGHT_PT_fit"))


class SHAPEWRIGHT_PT_fit_settings(ShapewrightPanel, bpy.types.Panel):
    bl_label = "More"
    bl_idname = "SHAPEWRIGHT_PT_fit_settings"
    bl_parent_id = "SHAPEWRIGHT_PT_fit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        settings = context.scene.shapewright_fit
        column = settings_column(self.layout)
        for name in ("method", "iterations", "normals", "noise", "seed", "viewpoint"):
            row = column.row()
            row.enabled = name != "iterations" or settings.method != "auto"
            row.prop(settings, name)
        draw_viewpoint(column, settings, context.scene)
