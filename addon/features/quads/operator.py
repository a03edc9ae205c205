"""Remesh the selected objects in quads."""

import bpy
from bpy.props import IntProperty

from ...link.problem import EngineProblem
from ...scene.quads import make_quads


def _meshes(context: bpy.types.Context) -> list[bpy.types.Object]:
    return [obj for obj in context.selected_objects if obj.type == "MESH" and obj.data.polygons and obj.library is None]


class SHAPEWRIGHT_OT_make_quads(bpy.types.Operator):
    bl_idname = "shapewright.make_quads"
    bl_label = "Make Quads"
    bl_description = "Remesh the selected objects in quads, by QuadriFlow: even faces that follow the form"
    bl_options = {"REGISTER", "UNDO"}

    faces: IntProperty(name="Quads", description="How many, about", default=4000, min=50, soft_max=50_000)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.mode != "OBJECT" or not _meshes(context):
            cls.poll_message_set("Select a mesh in object mode")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set:
        made = 0
        for obj in _meshes(context):
            try:
                count = make_quads(obj, self.faces)
            except EngineProblem as problem:
                self.report({"WARNING"}, str(problem))
                continue
            made += 1
            self.report({"INFO"}, f"'{obj.name}' has {count} quads")
        return {"FINISHED"} if made else {"CANCELLED"}
