"""Variants in the sidebar."""

import bpy

from ...ui.panel import ShapewrightPanel, settings_column


class SHAPEWRIGHT_PT_vary(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Variants"
    bl_idname = "SHAPEWRIGHT_PT_vary"
    bl_parent_id = "SHAPEWRIGHT_PT_generate"

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.operator("shapewright.vary", icon="MOD_ARRAY")
        column = settings_column(self.layout)
        for name in ("variants", "strength", "keep"):
            column.prop(context.scene.shapewright_generation, name)
