"""From a dense volume of numbers to triangles, by scikit-image's marching cubes (Lewiner et al. 2003).

For fields that come as a whole volume: occupancies, octrees filled up, voxels. A field that can be asked point by point
is better extracted by engine.surfaces.marching, which looks only where the surface is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import JobFailed
from ..geometry.meshes import Mesh


def mesh_of_volume(
    values: NDArray[Any],
    level: float,
    *,
    inside: str,
    spacing: ArrayLike = 1.0,
    origin: ArrayLike = 0.0,
    closed: bool = True,
) -> Mesh:
    """The surface where a volume passes `level`, counter-clockwise seen from outside, with unit vertex normals.

    values: (X, Y, Z), sampled at origin + index * spacing; finite.  inside: 'above' the level (occupancy) or 'below' it
    (signed distance).  spacing: of the samples, one number or three; origin: of values[0, 0, 0]; both in the result's
    frame and unit.  closed: what is inside at the volume's border is closed there, within one sample of it.
    Raises JobFailed 'empty_surface' where the volume nowhere passes the level, ValueError for values of another shape.
    """
    from skimage import measure

    if values.ndim != 3 or min(values.shape) < 2:
        raise ValueError(f"a volume has three axes of at least two samples, not the shape {values.shape}")
    if inside not in ("above", "below"):
        raise ValueError(f"inside is 'above' or 'below' the level, not {inside!r}")
    if not bool(np.isfinite(values).all()):
        raise ValueError("a volume with values that are not finite has no surface there")
    steps = np.broadcast_to(np.asarray(spacing, np.float64), (3,))
    start = np.broadcast_to(np.asarray(origin, np.float64), (3,))
    sign = 1.0 if inside == "above" else -1.0
    volume = sign * (np.asarray(values, np.float32) - np.float32(level))
    if closed:
        # As far outside as the volume's own values go, so the cap lies about the middle of the added layer.
        outside = -max(float(np.abs(volume).max()), 1e-6)
        volume = np.pad(volume, 1, constant_values=outside)
        start = start - steps
    if not float(volume.min()) < 0.0 < float(volume.max()):
        raise JobFailed(
            "empty_surface",
            "No surface came out.",
            f"The volume lies wholly {'inside' if float(volume.min()) >= 0 else 'outside'}.",
            "Choose another level, or a volume that holds the whole shape.",
        )
    marching_cubes: Any = measure.marching_cubes
    vertices, faces, normals, _ = marching_cubes(
        volume, 0.0, spacing=tuple(float(step) for step in steps), gradient_direction="ascent", allow_degenerate=False
    )
    placed = np.asarray(vertices, np.float64) + start
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    unit = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    return Mesh(placed.astype(np.float32), np.ascontiguousarray(faces, np.int32), unit.astype(np.float32))
