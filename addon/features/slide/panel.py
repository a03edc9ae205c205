"""Sliders in the sidebar."""

import bpy

from ...carried import code
from ...scene.read import why_unreadable
from ...ui.drawing import draw_problem
from ...ui.panel import ShapewrightPanel
from .driving import sliders
from .values import has_sliders


class SHAPEWRIGHT_PT_sliders(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Sliders"
    bl_idname = "SHAPEWRIGHT_PT_sliders"
    bl_parent_id = "SHAPEWRIGHT_PT_generate"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        obj = context.active_object
        if not code.has_code(obj):
            layout.label(text="Select a shape that the prior made", icon="INFO")
            if not why_unreadable(obj):
                take_up = layout.operator("shapewright.vary", text="Or Let It Take Up This One", icon="IMPORT")
                take_up.strength, take_up.variants, take_up.keep = 0.0, 1, "NONE"
            return
        if has_sliders(obj):
            column = layout.column(align=True)
            for slider in obj.shapewright_sliders:
                column.prop(slider, "value", text=slider.name, slider=True)
            row = layout.row(align=True)
            row.operator("shapewright.reset_sliders", icon="LOOP_BACK")
            row.operator("shapewright.randomise_sliders", icon="MOD_NOISE")
        else:
            layout.operator("shapewright.show_sliders", icon="OPTIONS")
        layout.operator("shapewright.copy_code", icon="PASTEDOWN")
        problem = sliders().problem
        if problem is not None:
            draw_problem(layout, problem)
