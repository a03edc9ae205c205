"""The panel of the feature."""

import bpy

from ...ui.panel import ShapewrightPanel, big_button, draw_jobs, settings_column
from .. import kinds_shown_in


class SHAPEWRIGHT_PT_sphere(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Sphere"
    bl_idname = "SHAPEWRIGHT_PT_sphere"

    def draw(self, context: bpy.types.Context) -> None:
        big_button(self.layout).operator("shapewright.check_sphere")
        settings_column(self.layout).prop(context.scene.shapewright_sphere, "steps")
        draw_jobs(self.layout, kinds_shown_in("SHAPEWRIGHT_PT_sphere"))
