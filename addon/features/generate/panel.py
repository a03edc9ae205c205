"""Generate, Variants, Blend, Sliders and Densify in the sidebar."""

import bpy

from ... import preferences
from ...carried import code as codes
from ...scene import read as scene
from ...session import session
from ...ui.panel import ShapewrightPanel
from ...writers import side_by_side as generation
from ..blend import operator as blend
from ..slide import sliding


class _Section(ShapewrightPanel):
    bl_parent_id = "SHAPEWRIGHT_PT_generate"

    @staticmethod
    def column(layout: bpy.types.UILayout) -> bpy.types.UILayout:
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        return column


class SHAPEWRIGHT_PT_generate(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Generate"
    bl_idname = "SHAPEWRIGHT_PT_generate"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        settings = context.scene.shapewright_generation
        button = layout.column()
        button.scale_y = 1.4
        button.operator("shapewright.generate", icon="MESH_GRID")
        column = _Section.column(layout)
        for name in ("prior", "class_name", "count", "temperature", "size", "resolution", "seed"):
            column.prop(settings, name)
        for job in session.current().jobs:
            if job.request.get("kind") in generation.KINDS:
                preferences.draw_job(layout, job)


class SHAPEWRIGHT_PT_vary(_Section, bpy.types.Panel):
    bl_label = "Variants"
    bl_idname = "SHAPEWRIGHT_PT_vary"

    def draw(self, context: bpy.types.Context) -> None:
        settings = context.scene.shapewright_generation
        self.layout.operator("shapewright.vary", icon="MOD_ARRAY")
        column = self.column(self.layout)
        for name in ("variants", "strength", "keep"):
            column.prop(settings, name)


class SHAPEWRIGHT_PT_blend(_Section, bpy.types.Panel):
    bl_label = "Blend"
    bl_idname = "SHAPEWRIGHT_PT_blend"

    def draw(self, context: bpy.types.Context) -> None:
        settings = context.scene.shapewright_generation
        self.layout.operator("shapewright.blend", icon="ARROW_LEFTRIGHT")
        objects = blend.chosen(context)
        if len(objects) >= 2:
            names = [obj.name for obj in objects]
            listed = ", ".join(names) if len(names) <= 3 else f"{len(names)} objects, {names[0]} to {names[-1]}"
            self.layout.label(text=listed)
        else:
            self.layout.label(text="Select two objects or more", icon="INFO")
        column = self.column(self.layout)
        for name in ("steps", "layout", "path"):
            column.prop(settings, name)
        if settings.layout != "ROW":
            column.prop(settings, "hold")


class SHAPEWRIGHT_PT_sliders(_Section, bpy.types.Panel):
    bl_label = "Sliders"
    bl_idname = "SHAPEWRIGHT_PT_sliders"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        obj = context.active_object
        if not codes.has_code(obj):
            layout.label(text="Select a shape that the prior made", icon="INFO")
            if not scene.why_unreadable(obj):
                take_up = layout.operator("shapewright.vary", text="Or Let It Take Up This One", icon="IMPORT")
                take_up.strength, take_up.variants, take_up.keep = 0.0, 1, "NONE"
            return
        if sliding.has_sliders(obj):
            column = layout.column(align=True)
            for slider in obj.shapewright_sliders:
                column.prop(slider, "value", text=slider.name, slider=True)
            row = layout.row(align=True)
            row.operator("shapewright.reset_sliders", icon="LOOP_BACK")
            row.operator("shapewright.randomise_sliders", icon="MOD_NOISE")
        else:
            layout.operator("shapewright.show_sliders", icon="OPTIONS")
        layout.operator("shapewright.copy_code", icon="PASTEDOWN")
        problem = session.current().sliders.problem
        if problem is not None:
            preferences.draw_problem(layout, problem)


class SHAPEWRIGHT_PT_densify(ShapewrightPanel, bpy.types.Panel):
    bl_label = "Densify"
    bl_idname = "SHAPEWRIGHT_PT_densify"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        settings = context.scene.shapewright_generation
        self.layout.operator("shapewright.densify", icon="OUTLINER_OB_POINTCLOUD")
        column = _Section.column(self.layout)
        for name in ("output", "points" if settings.output == "points" else "resolution"):
            column.prop(settings, name)
        for job in session.current().jobs:
            if job.request.get("kind") == "gradient":
                preferences.draw_job(self.layout, job)


CLASSES = (
    SHAPEWRIGHT_PT_generate,
    SHAPEWRIGHT_PT_vary,
    SHAPEWRIGHT_PT_blend,
    SHAPEWRIGHT_PT_sliders,
    SHAPEWRIGHT_PT_densify,
)
