"""The alignment that the engine found, shown as an empty: the canonical box of side 1, where it lies in the world.

Moving, turning or scaling the empty corrects the alignment; `matrix_for` carries it back to the engine. The empty hangs
on its result and moves along with it. Which source it is about is written in the empty.
"""

from __future__ import annotations

import json

import bpy
import numpy as np
from mathutils import Matrix

from ..link.problem import EngineProblem
from .pose import POSE, has_pose, pose_of
from .source import NAME, has_source, present, source_of

NUMBER, SOURCE, LOCKED = "shapewright_alignment", "shapewright_alignment_of", "shapewright_locked"
"""Custom properties of the empty: a number that grows from one to the next, the source, and whether Complete Shape
takes this alignment for its source instead of finding one."""
FOUND_BY = "shapewright_found_by"


def knows(obj: bpy.types.Object) -> bool:
    """Whether it is a result that was found in a source with an alignment."""
    return has_pose(obj) and has_source(obj)


def show_alignment(result: bpy.types.Object, source: bpy.types.Object | None) -> bpy.types.Object | None:
    """Makes the empty for a result that names its pose; None where it does not."""
    if not has_pose(result):
        return None
    name = source.name if source is not None else result.get(NAME, result.name)
    empty = bpy.data.objects.new(f"{name} Alignment", None)
    empty.empty_display_type, empty.empty_display_size = "CUBE", 0.5
    empty.show_axis = True
    empty.hide_render = True
    for collection in result.users_collection:
        collection.objects.link(empty)
    if source is not None:
        empty[SOURCE] = source
    empty[LOCKED] = False
    empty[FOUND_BY] = _found_by(result)
    empty[NUMBER] = 1 + max(int(obj.get(NUMBER, 0)) for obj in bpy.data.objects)
    place(empty, result)
    return empty


def _found_by(result: bpy.types.Object) -> str:
    """How the engine says that it found the alignment of a result; '' where it does not."""
    try:
        alignment = json.loads(result.get("shapewright_report", "{}")).get("alignment")
    except (ValueError, TypeError, AttributeError):
        return ""
    if not isinstance(alignment, dict):
        return ""
    return ", ".join(str(alignment[key]) for key in ("found_by", "symmetry") if alignment.get(key))


def place(empty: bpy.types.Object, result: bpy.types.Object) -> None:
    """Hangs the empty on a result, at the alignment that this result was found with."""
    hang(empty, result)
    empty.matrix_basis = world_matrix(result) @ Matrix(pose_of(result).tolist())


def hang(empty: bpy.types.Object, result: bpy.types.Object) -> None:
    """Makes the result the empty's parent; the empty stays where it is."""
    world = world_matrix(empty)
    empty.parent = result
    # Its own location, rotation and scale then are those in the world, and stay so should the result be deleted.
    empty.matrix_parent_inverse = world_matrix(result).inverted_safe()
    empty.matrix_basis = world


def world_matrix(obj: bpy.types.Object) -> Matrix:
    """obj.matrix_world, also before Blender has brought it up to date."""
    if obj.parent is None:
        return obj.matrix_basis.copy()
    return world_matrix(obj.parent) @ obj.matrix_parent_inverse @ obj.matrix_basis


def alignment_of(obj: bpy.types.Object | None) -> bpy.types.Object | None:
    """The empty that belongs to the object: itself, the one that hangs on it, or its source's (a locked one first)."""
    if obj is None:
        return None
    if NUMBER in obj:
        return obj
    mine = [empty for empty in all_alignments() if empty.parent == obj]
    mine = mine or [empty for empty in all_alignments() if aligned_object(empty) == obj]
    if not mine:
        source = source_of(obj)
        mine = [empty for empty in all_alignments() if source is not None and aligned_object(empty) == source]
    return max(mine, key=lambda empty: (bool(empty.get(LOCKED)), empty[NUMBER]), default=None)


def aligned_object(empty: bpy.types.Object) -> bpy.types.Object | None:
    """The object whose alignment it is; None where that was deleted."""
    return present(empty.get(SOURCE))


def follow_answer(before: bpy.types.Object, after: bpy.types.Object) -> None:
    """Another hypothesis is shown: its alignment empty comes along, and moves where that one was found elsewhere."""
    for empty in [empty for empty in all_alignments() if empty.parent == before]:
        was, now = (list(obj.get(POSE, ())) for obj in (before, after))
        if len(now) == 16 and was != now and not empty.get(LOCKED):
            place(empty, after)
        else:  # a correction by hand stays
            hang(empty, after)


def locked_for(source: bpy.types.Object) -> bpy.types.Object | None:
    """The newest locked empty of a source."""
    locked = [empty for empty in all_alignments() if empty.get(SOURCE) == source and empty.get(LOCKED)]
    return max(locked, key=lambda empty: empty[NUMBER], default=None)


def matrix_for(empty: bpy.types.Object, frame: np.ndarray) -> list[float]:
    """Canonical -> sent frame, 16 numbers row by row. frame: (4, 4), sent frame -> world.

    Raises EngineProblem where the empty is squeezed or mirrored: the engine knows one size for all three axes.
    """
    matrix = np.linalg.inv(frame) @ np.array(world_matrix(empty), np.float64)
    linear = matrix[:3, :3]
    scale = float(np.cbrt(np.linalg.det(linear)))
    if not scale > 0 or not np.allclose(linear.T @ linear, scale**2 * np.eye(3), atol=0.01 * scale**2):
        raise EngineProblem(
            "pose_not_similar",
            f"The alignment '{empty.name}' cannot be used.",
            "It is mirrored, flat, or not of the same size along its three axes.",
            "Give the empty one scale for X, Y and Z, and its source no scale that differs between its axes.",
        )
    left, _, right = np.linalg.svd(linear)  # the nearest rotation: what float32 and parents left over goes
    matrix[:3, :3] = scale * left @ right
    return [float(value) for value in matrix.reshape(-1)]


def all_alignments() -> list[bpy.types.Object]:
    """Every alignment that is in some collection; one deleted by hand lives on only until the file is saved."""
    return [obj for obj in bpy.data.objects if NUMBER in obj and obj.users_collection]
