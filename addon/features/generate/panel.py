"""Generate in the sidebar; other features that make new shapes lie in this panel."""

import bpy

from ...ui.panel import ShapewrightPanel, big_button, draw_jobs, settings_column
from .. import kinds_shown_in


class SHAPEWRIGHT_PT_generate(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Generate"
    bl_idname = "SHAPEWRIGHT_PT_generate"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        settings = context.scene.shapewright_generation
        big_button(layout).operator("shapewright.generate", icon="MESH_GRID")
        column = settings_column(layout)
        for name in ("prior", "class_name", "count", "temperature", "size", "resolution", "seed"):
            column.prop(settings, name)
        draw_jobs(layout, kinds_shown_in("SHAPEWRIGHT_PT_generate"))
