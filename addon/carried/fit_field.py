"""The field that a fit carries: the engine keeps it, and can take its surface anew at another resolution."""

from __future__ import annotations

import json

import bpy
import numpy as np

from ..link.problem import EngineProblem
from ..scene.write import placement
from . import mesh_mark

FIELD, FRAME = "shapewright_field_id", "shapewright_field_frame"
"""Custom properties: what the engine calls the field; and the frame that its surface comes in -> the object's own
coordinates, as they were when it was stored, 16 numbers row by row."""


def store_field(obj: bpy.types.Object, name: str, matrix: np.ndarray) -> None:
    """Gives a mesh object the field of the mesh that it has now. matrix: (4, 4), the field's frame -> the object's."""
    obj[FIELD] = name
    obj[FRAME] = [float(value) for value in np.asarray(matrix, np.float64).reshape(-1)]
    mesh_mark.leave(obj)


def has_field(obj: bpy.types.Object | None) -> bool:
    return obj is not None and obj.type == "MESH" and bool(obj.get(FIELD))


def field_frame(obj: bpy.types.Object) -> np.ndarray:
    """The frame that the field's surface comes in -> the object's own coordinates now, (4, 4): what Apply Scale and the
    like have done to the mesh is done to the surface.

    Raises EngineProblem where the mesh was changed otherwise: that would be lost.
    """
    stored = np.array(list(obj.get(FRAME, ())), np.float64)
    matrix = stored.reshape(4, 4) if stored.size == 16 else _older_frame(obj)
    change = mesh_mark.change_of(obj)
    if change is None:  # a fit of a version that left no mark
        return matrix
    if change.matrix is None:
        raise EngineProblem(
            "shape_edited",
            f"'{obj.name}' was not given another detail.",
            f"Its mesh was changed since it was fitted, and that would be lost. {change.why}",
            "Undo the change; or fit the shape anew.",
        )
    return change.matrix @ matrix


def _older_frame(obj: bpy.types.Object) -> np.ndarray:
    """What versions went by that stored no frame of the field: where the mesh stood in the world at first."""
    try:
        frame = np.array(json.loads(obj["shapewright_frame"]), np.float64)
    except (KeyError, ValueError, TypeError):
        return np.eye(4)
    if frame.shape != (4, 4) or not np.isfinite(frame).all():
        return np.eye(4)
    baked = placement(frame)[1]
    return np.eye(4) if baked is None else baked
