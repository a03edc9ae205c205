"""New shapes in the scene: where those of Generate, Variants and Blend go, what they are called, and the settings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty
from mathutils import Matrix, Vector

from .. import properties
from ..carried import code as codes
from ..link.client import EngineProblem, MeshArrays
from ..scene.read import Reference, build_mesh, placement, transform_points
from . import in_place as results

KINDS = ("generate", "vary", "blend", "directions")
GAP = 1.25
"""From the middle of one shape to the next, in parts of the largest one's width."""

Place = Callable[[int, np.ndarray], Vector]
"""(number of the result, (V, 3) its vertices before) -> where it is moved to, in the world."""


class SetWriter(results.JobWriter):
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
        self._frame = frame
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
        mesh = build_mesh(self.name, arrays, self._bake)
        obj = bpy.data.objects.new(f"{self.name} {number + 1}", mesh)
        mesh.name = obj.name
        vertices = arrays.vertices if self._bake is None else transform_points(arrays.vertices, self._bake)
        obj.matrix_world = Matrix.Translation(self.place(number, vertices)) @ self._matrix
        collection.objects.link(obj)
        if arrays.code is not None and arrays.pose is not None:
            codes.store(obj, arrays.code, arrays.pose if self._bake is None else self._bake @ arrays.pose)
        if self.start_frame is not None:
            self._show_in_turn(obj, number, count)
        self._remember(number, obj, arrays)
        return obj

    def finish(self, request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any]) -> None:
        facts = results.provenance(request, report, engine_info)
        rows = report.get("shapes") if isinstance(report.get("shapes"), list) else []
        for number, obj in self._found():
            row = rows[number] if number < len(rows) and isinstance(rows[number], dict) else {}
            for key, value in facts.items():
                obj[f"shapewright_{key}"] = value
            obj["shapewright_report"] = json.dumps(row, sort_keys=True)
            codes.name_class(obj, row.get("class_name") or request.get("class_name"))

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


# ---------------------------------------------------------------------------------------------------------------------
# Where they stand


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


# ---------------------------------------------------------------------------------------------------------------------
# Settings

KEEPS = (
    ("NONE", "Nothing", "Everything may vary"),
    ("SELECTED", "Selected Part", "The vertices selected in Edit Mode stay as they are"),
    ("GROUP", "Vertex Group", "The vertices of the active vertex group stay as they are"),
)
LAYOUTS = (
    ("ROW", "In a Row", "The in-betweens stand side by side"),
    ("TIMELINE", "On the Timeline", "The in-betweens stand in one place, one after another in time: scrub to see them"),
    ("KEYS", "As Shape Keys", "One object whose mesh turns from shape to shape; only where the shapes are much alike"),
)
PATHS = (
    ("plausible", "Plausible", "Bent towards where the prior knows shapes"),
    ("spherical", "Spherical", "On a sphere in the space of shapes"),
    ("straight", "Straight", "The straight line in the space of shapes"),
)


def common_settings() -> dict[str, object]:
    return {
        "prior": EnumProperty(
            name="Prior", description="What the engine knows about shapes", items=properties.prior_items
        ),
        "resolution": IntProperty(
            name="Resolution", description="Cells along the longest side of each shape", default=128, min=16, max=512
        ),
        "seed": IntProperty(name="Seed", description="Another seed gives other shapes", default=0, min=0),
    }


def generate_settings() -> dict[str, object]:
    return {
        "count": IntProperty(name="Count", description="How many shapes", default=10, min=1, max=1000, soft_max=100),
        "temperature": FloatProperty(
            name="Variety",
            description="How far from the likely the shapes may be: 0 is the mean shape, 1 as the prior was taught",
            default=0.9,
            min=0,
            max=2,
        ),
        "size": FloatProperty(
            name="Size", description="The longest side of each shape", default=1.0, min=0.001, unit="LENGTH"
        ),
        "avoid_duplicates": BoolProperty(
            name="Avoid Duplicates",
            description="Draw again what is nearly a known shape or an earlier one",
            default=True,
        ),
    }


def vary_settings() -> dict[str, object]:
    return {
        "variants": IntProperty(name="Count", description="How many variants", default=5, min=1, max=1000, soft_max=50),
        "strength": FloatProperty(
            name="Strength",
            description="How far they may go from the shape: 0 is the shape itself, 1 half way to any other",
            default=0.5,
            min=0,
            max=2,
            soft_max=1,
        ),
        "keep": EnumProperty(name="Keep", description="The part that stays as it is", items=KEEPS, default="NONE"),
    }


def blend_settings() -> dict[str, object]:
    return {
        "steps": IntProperty(
            name="Steps", description="In-betweens from each shape to the next", default=5, min=1, max=256, soft_max=50
        ),
        "path": EnumProperty(name="Path", description="How the way between the shapes runs", items=PATHS),
        "layout": EnumProperty(name="Layout", description="Where the in-betweens stand", items=LAYOUTS),
        "hold": IntProperty(
            name="Frames Each", description="How many frames each in-between is shown", default=5, min=1, max=1000
        ),
    }


DENSE_RESULTS = (
    ("points", "Points", "A dense cloud: a mesh of vertices with normals"),
    ("mesh", "Surface", "A closed surface about the points"),
)


def densify_settings() -> dict[str, object]:
    return {
        "points": IntProperty(
            name="Points", description="How many points", default=20_000, min=8, max=5_000_000, soft_max=200_000
        ),
        "output": EnumProperty(name="Result", description="What is made", items=DENSE_RESULTS),
    }


class ShapewrightGenerationSettings(bpy.types.PropertyGroup):
    __annotations__ = {
        **common_settings(),
        "class_name": EnumProperty(name="Class", description="What to make", items=properties.class_items),
        **generate_settings(),
        **vary_settings(),
        **blend_settings(),
        **densify_settings(),
    }


def register() -> None:
    bpy.utils.register_class(ShapewrightGenerationSettings)
    bpy.types.Scene.shapewright_generation = PointerProperty(type=ShapewrightGenerationSettings)


def unregister() -> None:
    del bpy.types.Scene.shapewright_generation
    bpy.utils.unregister_class(ShapewrightGenerationSettings)
