"""Blend in the sidebar."""

import bpy

from ...ui.panel import ShapewrightPanel, settings_column
from .operator import chosen


class SHAPEWRIGHT_PT_blend(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Blend"
    bl_idname = "SHAPEWRIGHT_PT_blend"
    bl_parent_id = "SHAPEWRIGHT_PT_generate"

    def draw(self, context: bpy.types.Context) -> None:
        settings = context.scene.shapewright_generation
        self.layout.operator("shapewright.blend", icon="ARROW_LEFTRIGHT")
        objects = chosen(context)
        if len(objects) >= 2:
            names = [obj.name for obj in objects]
            listed = ", ".join(names) if len(names) <= 3 else f"{len(names)} objects, {names[0]} to {names[-1]}"
            self.layout.label(text=listed)
        else:
            self.layout.label(text="Select two objects or more", icon="INFO")
        column = settings_column(self.layout)
        for name in ("steps", "layout", "path"):
            column.prop(settings, name)
        if settings.layout != "ROW":
            column.prop(settings, "hold")
