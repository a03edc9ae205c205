"""Densify in the sidebar."""

import bpy

from ...ui.panel import ShapewrightPanel, draw_jobs, settings_column
from .. import kinds_shown_in


class SHAPEWRIGHT_PT_densify(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Densify"
    bl_idname = "SHAPEWRIGHT_PT_densify"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        settings = context.scene.shapewright_generation
        self.layout.operator("shapewright.densify", icon="OUTLINER_OB_POINTCLOUD")
        column = settings_column(self.layout)
        for name in ("output", "points" if settings.output == "points" else "resolution"):
            column.prop(settings, name)
        draw_jobs(self.layout, kinds_shown_in("SHAPEWRIGHT_PT_densify"))
