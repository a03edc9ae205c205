"""Several new shapes in a collection of their own, and where they stand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ..carried import code
from ..carried.provenance import provenance
from ..link.mesh_arrays import MeshArrays
from ..link.problem import EngineProblem
from ..scene.reference import Reference
from ..scene.transform import transform_points
from ..scene.write import build_mesh, in_own_frame, placement
from .base import JobWriter

GAP = 1.25
"""From the middle of one shape to the next, in parts of the largest one's width."""

Place = Callable[[int, np.ndarray], Vector]
"""(number of the result, (V, 3) its vertices before) -> where it is moved to, in the world."""


class SetWriter(JobWriter):
    """Several new shapes in a collection of their own, each appearing as soon as it is there.

    name: of the collection, and in the singular of each object ("Chair").  frame: (4, 4), sent frame -> world.
    place: moves each of them on.  scene: where, if not in the active collection.  start_frame, hold: where they follow
    each other on the timeline instead of standing side by side, the first's frame and how many frames each is shown.
    """

    def __init__(
        self,
        collection_name: str,
        name: str,
        frame: np.ndarray,
        place: Place,
        start_frame: int | None = None,
        hold: int = 1,
        scene: bpy.types.Scene | None = None,
    ) -> None:
        super().__init__()
        self.collection_name, self.name = collection_name, name
        self.place = place
        self.start_frame, self.hold = start_frame, hold
        active = bpy.context.collection if scene is None else None
        self.home = Reference.of(active) if active is not None else None
        self.scene = Reference.of(scene or bpy.context.scene)
        self._matrix, self._bake = _without_scale(frame)

    def show_preview(self, arrays: MeshArrays) -> None:
        """None: the shapes themselves come one after another."""

    def add_result(self, arrays: MeshArrays, number: int, count: int) -> bpy.types.Object:
        if len(arrays.faces) == 0:
            raise EngineProblem(
                "result_empty",
                f"Shape {number + 1} has no surface.",
                "The engine found nothing at this size.",
                "Try another seed, or raise the resolution.",
            )
        collection = self._collection()
        matrix, bake = in_own_frame(self._matrix, self._bake, arrays.own_frame)
        mesh = build_mesh(self.name, arrays, bake)
        obj = bpy.data.objects.new(f"{self.name} {number + 1}", mesh)
        mesh.name = obj.name
        vertices = arrays.vertices if self._bake is None else transform_points(arrays.vertices, self._bake)
        obj.matrix_world = Matrix.Translation(self.place(number, vertices)) @ matrix
        collection.objects.link(obj)
        if arrays.code is not None and arrays.pose is not None:
            code.store(obj, arrays.code, arrays.pose if bake is None else bake @ arrays.pose)
        if self.start_frame is not None:
            self._show_in_turn(obj, number, count)
        self._remember(number, obj, arrays)
        return obj

    def finish(self, request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any]) -> None:
        facts = provenance(request, report, engine_info)
        rows = report.get("shapes") if isinstance(report.get("shapes"), list) else []
        for number, obj in self._found():
            row = rows[number] if number < len(rows) and isinstance(rows[number], dict) else {}
            for key, value in facts.items():
                obj[f"shapewright_{key}"] = value
            obj["shapewright_report"] = json.dumps(row, sort_keys=True)
            code.name_class(obj, row.get("class_name") or request.get("class_name"))

    def _collection(self) -> bpy.types.Collection:
        """The collection of this job; made anew where an undo has taken it away."""
        for reference in self.made_collections:
            found = reference.find(bpy.data.collections)
            if found is not None:
                return found
        home = self.home.find(bpy.data.collections) if self.home is not None else None
        if home is None or home.library is not None:
            home = (self.scene.find(bpy.data.scenes) or bpy.context.scene).collection
        return self._new_collection(self.collection_name, [home])

    def _show_in_turn(self, obj: bpy.types.Object, number: int, count: int) -> None:
        """Keyframes: visible in its own frames only; the first one also before them, the last one also after."""
        assert self.start_frame is not None
        own = self.start_frame + number * self.hold
        keys = [(own, False)]
        if number > 0:
            keys.append((min(self.start_frame, own - 1), True))
        if number < count - 1:
            keys.append((own + self.hold, True))
        for frame, hidden in sorted(keys):
            for name in ("hide_viewport", "hide_render"):
                setattr(obj, name, hidden)
                obj.keyframe_insert(name, frame=frame)


def _without_scale(frame: np.ndarray) -> tuple[Matrix, np.ndarray | None]:
    """(object matrix, matrix for the vertices or None): a scale that is the same on all axes goes into the vertices."""
    scale = np.linalg.norm(frame[:3, :3], axis=0)
    if np.allclose(scale, 1.0, rtol=1e-6):
        return placement(frame)
    if np.allclose(scale, scale[0], rtol=1e-5) and np.linalg.det(frame[:3, :3]) > 0:
        rigid = frame.copy()
        rigid[:3, :3] /= scale[0]
        return Matrix(rigid.tolist()), np.diag([*scale, 1.0])
    return placement(frame)


def grid(count: int, cell: float) -> Place:
    """Rows and columns about the frame's origin, the first in front on the left, each standing on the ground."""
    columns = max(math.ceil(math.sqrt(count)), 1)

    def place(number: int, vertices: np.ndarray) -> Vector:
        row, column = divmod(number, columns)
        return Vector((column * cell, row * cell, -float(vertices[:, 2].min())))

    return place


def row(step: float, start: Sequence[float], columns: int = 10) -> Place:
    """A row along the world's x axis from an offset `start` on; a further row behind it every `columns` shapes."""

    def place(number: int, _vertices: np.ndarray) -> Vector:
        line, column = divmod(number, columns)
        return Vector(start) + Vector((column * step, line * step, 0.0))

    return place


def in_place(_number: int, _vertices: np.ndarray) -> Vector:
    return Vector((0.0, 0.0, 0.0))


def world_extent(objects: Sequence[bpy.types.Object]) -> tuple[float, float]:
    """The largest width and depth (world x, y) among the objects."""
    widths, depths = [0.0], [0.0]
    for obj in objects:
        corners = np.array([obj.matrix_world @ Vector(corner) for corner in obj.bound_box])
        low, high = corners.min(0), corners.max(0)
        widths.append(float(high[0] - low[0]))
        depths.append(float(high[1] - low[1]))
    return max(widths) or 1.0, max(depths) or 1.0
