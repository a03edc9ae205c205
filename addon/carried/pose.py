"""The pose that an object carries: where the prior's canonical frame lies in the object's own coordinates."""

from __future__ import annotations

import bpy
import numpy as np

from . import mesh_mark

POSE = "shapewright_pose"
"""Custom property: canonical frame -> the object's own coordinates, as they were when it was stored, row by row."""


def has_pose(obj: bpy.types.Object) -> bool:
    return len(obj.get(POSE, ())) == 16


def store_pose(obj: bpy.types.Object, matrix: np.ndarray) -> None:
    """Gives a mesh object the pose of the mesh that it has now. matrix: (4, 4)."""
    obj[POSE] = [float(value) for value in np.asarray(matrix, np.float64).reshape(-1)]
    mesh_mark.leave(obj)


def pose_of(obj: bpy.types.Object) -> np.ndarray:
    """Canonical frame -> the object's own coordinates, (4, 4).

    Where the mesh was scaled, turned or moved as a whole since, as by Apply Scale, the pose goes with it; where it was
    changed otherwise, the pose is the one that was stored.
    """
    stored = np.array(list(obj[POSE]), np.float64).reshape(4, 4)
    change = mesh_mark.change_of(obj) if obj.type == "MESH" else None
    return change.matrix @ stored if change is not None and change.matrix is not None else stored


def nearest_similarity(matrix: np.ndarray) -> np.ndarray:
    """The similarity (one scale, a rotation, a translation) nearest to a (4, 4) matrix; for a mirrored one too."""
    left, stretch, right = np.linalg.svd(matrix[:3, :3])
    if np.linalg.det(left @ right) < 0:
        left[:, 2] *= -1
    nearest = matrix.copy()
    nearest[:3, :3] = stretch.mean() * left @ right
    return nearest
