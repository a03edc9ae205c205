"""All steps of a blend as one object with shape keys."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from ...link.mesh_arrays import MeshArrays
from ...link.problem import EngineProblem
from ...scene.transform import transform_points
from ...writers.side_by_side import SetWriter


class KeysWriter(SetWriter):
    """All results as one object with a shape key each: they come with the same triangles.

    The keys are absolute: Evaluation Time leads through them, and is animated from `start_frame` on.
    """

    def add_result(self, arrays: MeshArrays, number: int, count: int) -> bpy.types.Object:
        obj = self.results[0].find(bpy.data.objects) if number and 0 in self.results else None
        if obj is None:
            start, self.start_frame = self.start_frame, None  # nothing is hidden in turn
            obj = super().add_result(arrays, number, count)
            self.start_frame = start
            obj.name = obj.data.name = self.name
            obj.shape_key_add(name="Basis", from_mix=False)
            obj.data.shape_keys.use_relative = False
        else:
            vertices = arrays.vertices if self._bake is None else transform_points(arrays.vertices, self._bake)
            if len(vertices) != len(obj.data.vertices):
                raise EngineProblem(
                    "results_differ",
                    f"'{self.name}' cannot get its shape keys.",
                    f"Step {number + 1} has {len(vertices)} vertices, the first one {len(obj.data.vertices)}.",
                    "Choose the layout In a Row or On the Timeline.",
                )
            key = obj.shape_key_add(name=f"Step {number + 1}", from_mix=False)
            key.data.foreach_set("co", np.ascontiguousarray(vertices, np.float32).reshape(-1))
            self._remember(number, obj, arrays)
        if number == count - 1 and self.start_frame is not None:
            keys = obj.data.shape_keys
            for step, block in enumerate(keys.key_blocks):
                keys.eval_time = block.frame
                keys.keyframe_insert("eval_time", frame=self.start_frame + self.hold * step)
            keys.eval_time = keys.key_blocks[0].frame
        return obj

    def finish(self, request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any]) -> None:
        self.results = {number: reference for number, reference in self.results.items() if number == 0}
        super().finish(request, report, engine_info)
