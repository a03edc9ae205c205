"""Variants: relatives of one shape, with a part of it kept where that is wanted."""

import bpy
import numpy as np
from mathutils import Matrix

from ... import session
from ...carried import code
from ...scene.read import why_unreadable
from ...ui.choices import prior_named, shape_settings
from ...writers import side_by_side
from ..job_operator import JobOperator, job_settings
from .kept import kept_part
from .settings import vary_settings


class SHAPEWRIGHT_OT_vary(JobOperator, bpy.types.Operator):
    bl_idname = "shapewright.vary"
    bl_label = "Variants"
    bl_description = (
        "Make relatives of the active object, beside it in a new collection. "
        "A mesh that the prior did not make is taken up by it first"
    )

    __annotations__ = {**shape_settings(), **vary_settings(), **prior_named(), **job_settings()}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return cls.allowed(why_unreadable(context.active_object))

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        settings = context.scene.shapewright_generation
        self.take_settings(settings, (*shape_settings(), *vary_settings()))
        return self.run(context)

    def execute(self, context: bpy.types.Context) -> set:
        return self.run(context)

    def make_job(self, context: bpy.types.Context) -> session.Job:
        obj = context.active_object
        depsgraph = context.evaluated_depsgraph_get()
        frame = frame_to_send_in(obj)
        shape = code.read_shape(obj, depsgraph, frame)
        kept, kept_normals = kept_part(obj, self.keep, np.linalg.inv(frame))

        def arrays() -> dict[str, np.ndarray | None]:
            return {**shape.arrays(), "kept": kept, "kept_normals": kept_normals}

        request = {
            "kind": "vary",
            **code.one_prior([shape], self.prior),
            "count": self.variants,
            "strength": self.strength,
            **self.common_request(context, obj.name),
        }
        width, _ = side_by_side.world_extent([obj])
        step = side_by_side.GAP * width
        place = side_by_side.row(step, (step, 0.0, 0.0))
        writer = side_by_side.SetWriter(f"{obj.name} Variants", f"{obj.name} Variant", frame, place)
        title = f"{self.variants} variants of {obj.name}"
        job = session.Job(title, request, writer=writer, arrays=arrays, want_previews=False)
        job.result_count, job.shapes = self.variants, [shape]
        return job


def frame_to_send_in(obj: bpy.types.Object) -> np.ndarray:
    """The frame in which an object is sent and its relatives come back, (4, 4) -> world.

    An object with a code gives its own, so that what is made has its rotation; without one it is looked at as it
    stands in the world: what is up for it is not known.
    """
    world = np.array(obj.matrix_world, np.float64)
    scale = np.linalg.norm(world[:3, :3], axis=0)
    if code.has_code(obj) and not code.why_outdated(obj) and scale.min() > 0 and np.linalg.det(world[:3, :3]) > 0:
        rotation = world[:3, :3] / scale
        if np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-4):
            frame = world.copy()
            frame[:3, :3] = rotation
            return frame
    return np.array(Matrix.Translation(world[:3, 3].tolist()), np.float64)
