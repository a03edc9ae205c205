"""Points spread over triangles; free of bpy."""

from __future__ import annotations

import numpy as np


def sample_surface(
    points: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3) points spread evenly over the triangles, and the triangles' unit normals there; none at all where the
    triangles have no area."""
    a, b, c = (points[faces[:, k]].astype(np.float64) for k in range(3))
    across = np.cross(b - a, c - a)
    areas = np.linalg.norm(across, axis=1)
    if not areas.sum() > 0:
        return points[:0], points[:0]
    chosen = np.searchsorted(np.cumsum(areas), rng.random(count) * areas.sum(), side="right").clip(0, len(faces) - 1)
    u, v = rng.random((2, count, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    sampled = a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]
    normals = across[chosen] / np.maximum(areas[chosen, None], 1e-300)
    return sampled.astype(np.float32), normals.astype(np.float32)
