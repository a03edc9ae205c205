"""Sliders: get them for a shape, reset and randomise them, and copy a shape's code to other objects."""

import time

import bpy
import numpy as np
from bpy.props import FloatProperty, IntProperty
from mathutils import Matrix

from ... import preferences, session
from ...carried import code
from ...carried.pose import pose_of
from ...link.problem import EngineProblem
from ...scene import write
from ...scene.reference import Reference
from ..job_operator import JobOperator, job_settings
from .driving import sliders
from .values import copy_sliders, give_sliders, has_sliders, set_values

PATIENCE_S = 300.0


def with_code(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The selected shapes that have a code, and the active one, which comes first."""
    active = context.active_object
    found = [active] if code.has_code(active) else []
    return found + [obj for obj in context.selected_objects if code.has_code(obj) and obj != active]


def with_sliders(context: bpy.types.Context) -> list[bpy.types.Object]:
    return [obj for obj in with_code(context) if has_sliders(obj)]


class SHAPEWRIGHT_OT_show_sliders(JobOperator, bpy.types.Operator):
    bl_idname = "shapewright.show_sliders"
    bl_label = "Get Sliders"
    bl_description = "Ask the prior for its main directions for the active shape, and show them as sliders"

    __annotations__ = {
        "count": IntProperty(name="Count", description="How many sliders", default=8, min=1, max=64),
        "resolution": IntProperty(
            name="Resolution", description="Cells along the longest side once a slider rests", default=128, min=16,
            max=512,
        ),
        **job_settings(),
    }  # fmt: skip

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not with_code(context):
            cls.poll_message_set("Select a shape that the prior made: one of Generate, Variants, Blend or Complete")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        if not self.properties.is_property_set("resolution"):
            self.resolution = context.scene.shapewright_generation.resolution
        return self.execute(context)

    def execute(self, context: bpy.types.Context) -> set:
        outcomes = []
        for obj in with_code(context):
            self._object = obj
            outcomes.append(self.run(context))
        return {"FINISHED"} if {"FINISHED"} in outcomes else {"CANCELLED"}

    def make_job(self, context: bpy.types.Context) -> session.Job:
        obj = self._object
        shape = code.read_shape(obj, context.evaluated_depsgraph_get(), np.eye(4))
        device = self.device or preferences.of(context).device
        request = {
            "kind": "directions",
            **code.one_prior([shape], shape.prior),
            "class_name": shape.class_name,
            "count": self.count,
            "device": device,
            "name": obj.name,
        }
        reference, resolution = Reference.of(obj), self.resolution

        def give(job: session.Job) -> None:
            found = reference.find(bpy.data.objects)
            if found is not None and code.has_code(found):
                give_sliders(found, job.report, resolution, device)

        job = session.Job(f"Sliders of {obj.name}", request, arrays=shape.arrays, want_previews=False, on_done=give)
        job.shapes = [shape]
        return job


class _Sliding:
    # No 'UNDO': the session pushes one step when the mesh has followed.
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not with_sliders(context):
            cls.poll_message_set("Select a shape that has sliders")
            return False
        return True

    def follow(self) -> set:
        """The meshes follow: later in a window, now without one."""
        running = session.current()
        if not bpy.app.background:
            session.drive()
            return {"FINISHED"}
        deadline = time.monotonic() + PATIENCE_S
        while sliders().busy and time.monotonic() < deadline:
            running.step()
            time.sleep(0.005)
        if sliders().problem is not None:
            self.report({"ERROR"}, str(sliders().problem))
            return {"CANCELLED"}
        return {"FINISHED"}


class SHAPEWRIGHT_OT_apply_sliders(_Sliding, bpy.types.Operator):
    bl_idname = "shapewright.apply_sliders"
    bl_label = "Apply Sliders"
    bl_description = "Bring the meshes to what their sliders say; needed only after scripts without a window"

    def execute(self, context: bpy.types.Context) -> set:
        for obj in with_sliders(context):
            sliders().moved(obj, at_rest=True, push=True)
        return self.follow()


class SHAPEWRIGHT_OT_reset_sliders(_Sliding, bpy.types.Operator):
    bl_idname = "shapewright.reset_sliders"
    bl_label = "Reset"
    bl_description = "Bring the selected shapes back to what they were before their sliders moved"

    def execute(self, context: bpy.types.Context) -> set:
        for obj in with_sliders(context):
            set_values(obj, {slider.name: 0.0 for slider in obj.shapewright_sliders})
        return self.follow()


class SHAPEWRIGHT_OT_randomise_sliders(_Sliding, bpy.types.Operator):
    bl_idname = "shapewright.randomise_sliders"
    bl_label = "Randomise"
    bl_description = "Move every slider of the selected shapes somewhere sensible, each shape its own way"

    __annotations__ = {
        "seed": IntProperty(name="Seed", description="0: another one every time", default=0, min=0),
        "amount": FloatProperty(name="Amount", description="1: the whole sensible range", default=0.7, min=0, max=1),
    }

    def execute(self, context: bpy.types.Context) -> set:
        rng = np.random.default_rng(self.seed or None)
        for obj in with_sliders(context):
            drawn = {s.name: self.amount * float(rng.uniform(s.low, s.high)) for s in obj.shapewright_sliders}
            set_values(obj, drawn)
        return self.follow()


class SHAPEWRIGHT_OT_copy_code(bpy.types.Operator):
    bl_idname = "shapewright.copy_code"
    bl_label = "Copy Shape to Selected"
    bl_description = (
        "Give the other selected meshes the active one's shape, code and sliders. They keep their place, and their "
        "size where they have a code"
    )
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not code.has_code(context.active_object) or not cls.targets(context):
            cls.poll_message_set("Select the objects to change, and last the shape whose code they get")
            return False
        return True

    @staticmethod
    def targets(context: bpy.types.Context) -> list[bpy.types.Object]:
        return [
            obj
            for obj in context.selected_objects
            if obj != context.active_object and obj.type == "MESH" and obj.library is None
        ]

    def execute(self, context: bpy.types.Context) -> set:
        source = context.active_object
        try:
            latent, pose = code.code_of(source), pose_of(source)
            why = code.why_outdated(source)
            if why:
                raise EngineProblem(
                    "shape_edited",
                    f"The shape of '{source.name}' was not copied.",
                    f"Its code no longer describes its mesh. {why}",
                    "Undo the change; or make a variant of it with strength 0, and copy that one.",
                )
        except EngineProblem as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        for target in self.targets(context):
            own = pose_of(target) if code.has_code(target) else pose
            mesh = source.data.copy()
            mesh.transform(Matrix((own @ np.linalg.inv(pose)).tolist()))
            mesh.name = target.data.name
            materials = list(target.data.materials)
            mesh.materials.clear()
            for material in materials:
                mesh.materials.append(material)
            write.swap_mesh(target, mesh)
            code.store(target, latent, own)
            copy_sliders(source, target)
        return {"FINISHED"}
