"""Points spread over triangles; free of bpy."""

from __future__ import annotations

import numpy as np


def sample_surface(
    points: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3) points spread evenly over the triangles, and the triangles' unit normals there; none at all where the
    triangles have no area."""
    sampled, normals, _ = sample_coloured(points, faces, None, count, rng)
    return sampled, normals


def sample_coloured(
    points: np.ndarray, faces: np.ndarray, colours: np.ndarray | None, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The same, and the colours there, between those of the corners, where (N, 3) colours of the points are given."""
    a, b, c = (points[faces[:, k]].astype(np.float64) for k in range(3))
    across = np.cross(b - a, c - a)
    areas = np.linalg.norm(across, axis=1)
    if not areas.sum() > 0:
        return points[:0], points[:0], None if colours is None else colours[:0]
    chosen = np.searchsorted(np.cumsum(areas), rng.random(count) * areas.sum(), side="right").clip(0, len(faces) - 1)
    u, v = rng.random((2, count, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    sampled = a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]
    normals = across[chosen] / np.maximum(areas[chosen, None], 1e-300)
    seen = None
    if colours is not None:
        first, second, third = (colours[faces[chosen, k]].astype(np.float64) for k in range(3))
        seen = (first + u * (second - first) + v * (third - first)).astype(np.float32).clip(0.0, 1.0)
    return sampled.astype(np.float32), normals.astype(np.float32), seen
