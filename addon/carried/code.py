"""The code that a shape carries: what its prior knows it by, kept in the object's custom properties.

It travels with the object through saving, appending and copying, and is all that it takes to vary, blend or slide the
shape later. `CODE` is the code of the mesh that the object had when it was stored; whether that is still
the mesh that it has, says `why_outdated`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..link.problem import EngineProblem
from ..scene.read import read_scan
from ..scene.transform import transform_normals, transform_points
from . import mesh_mark
from .pose import POSE, nearest_similarity, pose_of, store_pose

CODE, CODE_SHAPE = "shapewright_code", "shapewright_code_shape"
"""Little-endian float32 as bytes; the code's shape."""
PRIOR, PRIOR_HASH, CLASS = "shapewright_prior", "shapewright_prior_hash", "shapewright_class"


@dataclass
class Shape:
    """An object as the engine will see it: by its code where it has one, else by its surface.

    arrays(): code and pose, or points, normals and faces, in the frame that is sent.  note: what a person should know.
    """

    name: str
    arrays: Callable[[], dict[str, np.ndarray | None]]
    prior: str = ""
    prior_hash: str = ""
    class_name: str = ""
    note: str = ""


def store(obj: bpy.types.Object, code: np.ndarray, pose: np.ndarray) -> None:
    """Gives a mesh object the code of the mesh that it has now. pose: (4, 4), canonical -> the object's coordinates."""
    put_bytes(obj, CODE, np.ascontiguousarray(code, "<f4").tobytes())
    obj[CODE_SHAPE] = [int(length) for length in code.shape]
    store_pose(obj, pose)


def why_outdated(obj: bpy.types.Object) -> str:
    """A sentence on why the code does not describe the mesh that the object has now; '' where it does.

    Scaled, turned or moved as a whole it is the same shape: its pose goes with it, see pose.py.
    """
    change = mesh_mark.change_of(obj)
    if change is None:
        return "It does not say which mesh its code describes."
    if change.matrix is None:
        return change.why
    if not change.similar:
        return "It was mirrored, or scaled differently along its axes, and that was applied."
    return ""


def put_bytes(obj: bpy.types.Object, name: str, value: bytes) -> None:
    """Sets a custom property of bytes. Blender (seen in 4.2 and 5.0) cuts them off at the first zero where the property
    is there already, so that one has to go first."""
    if name in obj:
        del obj[name]
    obj[name] = value


def name_class(obj: bpy.types.Object, classes: Any) -> None:
    """Writes down the class: a name, or the likeliest of {name: probability}."""
    if isinstance(classes, dict) and classes:
        classes = max(classes, key=lambda name: classes[name] if isinstance(classes[name], int | float) else 0.0)
    if isinstance(classes, str) and classes:
        obj[CLASS] = classes


def has_code(obj: bpy.types.Object | None) -> bool:
    return obj is not None and CODE in obj and POSE in obj and obj.type == "MESH"


def code_of(obj: bpy.types.Object, name: str = CODE) -> np.ndarray:
    """The code in the custom property `name`, float32. Raises EngineProblem where what the object carries is none."""
    raw, shape = obj.get(name), [int(length) for length in obj.get(CODE_SHAPE, ())]
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogateescape")
    if not isinstance(raw, bytes) or not shape or len(raw) != 4 * int(np.prod(shape)):
        raise EngineProblem(
            "code_damaged",
            f"The code of '{obj.name}' cannot be read.",
            "Its custom properties were changed or written by another version.",
            f"Remove the custom property '{CODE}': the shape is then taken from the mesh.",
        )
    return np.frombuffer(raw, "<f4").reshape(shape).astype(np.float32)


def read_shape(obj: bpy.types.Object, depsgraph: bpy.types.Depsgraph, frame: np.ndarray) -> Shape:
    """Reads an object. frame: (4, 4), the frame that is sent -> world; a rotation and a translation of it, no more.

    Raises EngineProblem where the object has neither code nor points.
    """
    why = why_outdated(obj) if has_code(obj) else ""
    if has_code(obj) and not why:
        code = code_of(obj)
        pose = nearest_similarity(np.linalg.inv(frame) @ np.array(obj.matrix_world, np.float64) @ pose_of(obj))
        return named(obj, lambda: {"code": code, "pose": pose})
    scan = read_scan(obj, depsgraph)
    to_sent = np.linalg.inv(frame) @ scan.frame

    def arrays() -> dict[str, np.ndarray | None]:
        found = scan.arrays()
        points, normals = found["points"], found["normals"]
        assert points is not None
        return {
            "points": transform_points(points, to_sent),
            "normals": None if normals is None else transform_normals(normals, to_sent),
            "faces": found["faces"],
        }

    note = f"'{obj.name}' was changed since the prior made it: its mesh is taken, not its code. {why}" if why else ""
    return Shape(obj.name, arrays, note=note)


def named(obj: bpy.types.Object, arrays: Callable[[], dict[str, np.ndarray | None]] = dict) -> Shape:
    """An object with a code, by what it says about its prior."""
    facts = (str(obj.get(name, "")) for name in (PRIOR, PRIOR_HASH, CLASS))
    return Shape(obj.name, arrays, *facts)


def one_prior(shapes: Sequence[Shape], chosen: str) -> dict[str, str]:
    """The request's `prior` and `prior_sha256` for these shapes; `chosen` where none of them has a code.

    Raises EngineProblem where their codes belong to different priors.
    """
    with_code = [shape for shape in shapes if shape.prior_hash]
    hashes = {shape.prior_hash for shape in with_code}
    if len(hashes) > 1:
        named = ", ".join(f"'{shape.name}' to '{shape.prior}' ({shape.prior_hash[:8]})" for shape in with_code)
        raise EngineProblem(
            "priors_differ",
            "These shapes cannot be used together.",
            f"Their codes belong to different priors: {named}.",
            f"Remove the custom property '{CODE}' from those of one prior: they are then taken from their meshes.",
        )
    if not with_code:
        return {"prior": chosen}
    return {"prior": with_code[0].prior or chosen, "prior_sha256": with_code[0].prior_hash}


def missing_prior(problem: EngineProblem, shapes: Sequence[Shape]) -> EngineProblem:
    """The engine's 'prior_missing', with the prior's name: the engine was asked for a hash."""
    named = next((shape for shape in shapes if shape.prior_hash), None)
    if problem.code != "prior_missing" or named is None:
        return problem
    return EngineProblem(
        problem.code,
        f"The prior of '{named.name}' is not installed.",
        f"Its code belongs to the prior '{named.prior}' ({named.prior_hash[:12]}).",
        f"Import '{named.prior}' in the add-on's preferences, or remove the custom property '{CODE}': the shape is "
        "then taken from the mesh.",
    )


def ground(obj: bpy.types.Object) -> Matrix:
    """A frame for what is made from an object: its place, no rotation and no scale."""
    return Matrix.Translation(obj.matrix_world.translation)
