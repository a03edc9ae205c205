"""What a training shows while it runs, and where. Nothing here keeps a reference to a Blender object."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ...link.mesh_arrays import MeshArrays
from ...scene.reference import PREVIEW_PROPERTY, Reference
from ...scene.write import build_mesh, swap_mesh
from ...writers.base import JobWriter


class TrainingWriter(JobWriter):
    """Shows what the prior being learnt makes of a held-out shape, beside what it learns from. Leaves nothing."""

    expects_results = False

    def __init__(self, name: str, place: tuple[float, float, float], size: float) -> None:
        super().__init__()
        self.name = name
        self.matrix = Matrix.LocRotScale(place, None, (size, size, size))

    def show_preview(self, arrays: MeshArrays) -> None:
        if len(arrays.faces) == 0:
            return
        mesh = build_mesh(f"{self.name} Preview", arrays)
        obj = self._find_preview()
        if obj is None:
            obj = bpy.data.objects.new(f"{self.name} Preview", mesh)
            obj.matrix_world = self.matrix
            bpy.context.scene.collection.objects.link(obj)
            obj[PREVIEW_PROPERTY] = self.job_id
            obj.hide_select = True
            self.preview = Reference.of(obj)
        else:
            swap_mesh(obj, mesh)

    def finish(self, request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any]) -> None:
        """A prior is learnt, and nothing in the scene has changed."""


def beside(collection: bpy.types.Collection | None) -> tuple[tuple[float, float, float], float]:
    """A place for a preview and its size: right of the collection's objects, as large as they are as a rule; at the
    3D cursor where there is no collection."""
    boxes = []
    for obj in collection.all_objects if collection is not None else ():
        if obj.type == "MESH" and len(obj.data.vertices):
            corners = np.array([obj.matrix_world @ Vector(corner) for corner in obj.bound_box])
            boxes.append((corners.min(0), corners.max(0)))
    if not boxes:
        x, y, z = bpy.context.scene.cursor.location
        return (float(x), float(y), float(z) + 0.5), 1.0
    size = float(np.median([(high - low).max() for low, high in boxes])) or 1.0
    low, high = np.min([box[0] for box in boxes], axis=0), np.max([box[1] for box in boxes], axis=0)
    return (float(high[0] + size), float(low[1] + high[1]) / 2, float(low[2] + size / 2)), size
