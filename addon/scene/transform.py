"""Points and normals under a matrix; free of bpy."""

from __future__ import annotations

import numpy as np

from ..link.problem import EngineProblem


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(N, 3) points through a (4, 4) matrix, computed in float64, returned as float32."""
    moved = points.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    with np.errstate(over="ignore"):  # what leaves float32's range becomes infinite, and the engine says so
        return moved.astype(np.float32)


def transform_normals(normals: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(N, 3) normals under a (4, 4) matrix of any scale and shear: by its inverse transpose, unit length again.

    A mirroring matrix keeps the normals outside: it is the faces' winding that turns.
    """
    linear = matrix[:3, :3]
    if abs(np.linalg.det(linear)) < 1e-300:
        raise EngineProblem(
            "source_flat",
            "The object cannot be completed.",
            "Its scale is zero along an axis, so its normals have no direction.",
            "Give the object a scale that is not zero.",
        )
    turned = normals.astype(np.float64) @ np.linalg.inv(linear)
    lengths = np.linalg.norm(turned, axis=1, keepdims=True)
    return (turned / np.maximum(lengths, 1e-300)).astype(np.float32)
