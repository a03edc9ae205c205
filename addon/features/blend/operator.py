"""Blend: in-betweens of two or more shapes."""

import bpy
import numpy as np
from mathutils import Matrix

from ... import session
from ...carried import code
from ...scene.read import why_unreadable
from ...ui.choices import prior_named, shape_settings
from ...writers import side_by_side
from ..job_operator import JobOperator, job_settings
from .settings import blend_settings
from .writer import KeysWriter

MOST_SHAPES = 16


def chosen(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The selected objects that can be blended, from left to right."""
    found = [obj for obj in context.selected_objects if not why_unreadable(obj)]
    return sorted(found, key=lambda obj: (obj.matrix_world.translation.x, obj.name))


class SHAPEWRIGHT_OT_blend(JobOperator, bpy.types.Operator):
    bl_idname = "shapewright.blend"
    bl_label = "Blend"
    bl_description = "Make the in-betweens of the selected objects, from left to right, in a new collection"

    __annotations__ = {**shape_settings(), **blend_settings(), **prior_named(), **job_settings()}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        count = len(chosen(context))
        if not 2 <= count <= MOST_SHAPES:
            cls.poll_message_set(f"Select two to {MOST_SHAPES} meshes or point clouds")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        settings = context.scene.shapewright_generation
        self.take_settings(settings, (*shape_settings(), *blend_settings()))
        return self.run(context)

    def execute(self, context: bpy.types.Context) -> set:
        return self.run(context)

    def make_job(self, context: bpy.types.Context) -> session.Job:
        objects = chosen(context)
        depsgraph = context.evaluated_depsgraph_get()
        first = objects[0].matrix_world.translation
        frame = np.array(Matrix.Translation(first), np.float64)
        shapes = []
        for obj in objects:  # each about its own place: where they stand is not part of what is blended
            own = np.array(Matrix.Translation(obj.matrix_world.translation), np.float64)
            shapes.append(code.read_shape(obj, depsgraph, own))

        def arrays() -> dict[str, np.ndarray | None]:
            sent = {}
            for number, shape in enumerate(shapes):
                suffix = f"_{number + 1}" if number else ""
                sent.update({f"{name}{suffix}": value for name, value in shape.arrays().items()})
            return sent

        on_timeline = self.layout == "TIMELINE"
        # In a row stand the shapes themselves too, as the prior knows them: where a step is missing can be seen.
        count = (self.steps + 1) * (len(objects) - 1) + 1
        names = " to ".join(obj.name for obj in (objects[0], objects[-1]))
        request = {
            "kind": "blend",
            **code.one_prior(shapes, self.prior),
            "steps": self.steps,
            "ends": True,
            "path": self.path,
            **({"one_mesh": True} if self.layout == "KEYS" else {}),
            **self.common_request(context, names),
        }
        width, depth = side_by_side.world_extent(objects)
        step = side_by_side.GAP * width
        place = side_by_side.row(step, (0.0, -side_by_side.GAP * depth, 0.0), columns=max(count, 1))
        make_writer = KeysWriter if self.layout == "KEYS" else side_by_side.SetWriter
        writer = make_writer(
            f"{names} Blend",
            f"{names} Blend",
            frame,
            side_by_side.in_place if on_timeline else place,
            None if self.layout == "ROW" else context.scene.frame_current,
            self.hold,
        )
        job = session.Job(f"Blend {names}", request, writer=writer, arrays=arrays, want_previews=False)
        job.result_count, job.shapes = count, shapes
        return job
