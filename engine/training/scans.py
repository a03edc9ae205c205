"""One-view scans of meshes, and the surface a completion of them is judged against.

A scan is what a depth camera at one place sees: rays through the pixels of a pinhole image fitted to the shape, cut off
at the first surface they meet, whichever side of it. The truth is the surface that can be seen from somewhere outside
(`true_surface`): real designs are overlapping open shells, and what lies hidden inside them nobody can see, scan or
complete.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry.clouds import FloatArray, PointCloud
from ..geometry.meshes import Mesh
from ..geometry.rays import RayCaster
from ..geometry.sampling import sample_surface
from ..geometry.signed_distance import SignedDistance
from .shapes import canonicalise

PROBE = 0.003
"""How far beside the surface its two sides are asked whether they can be seen from outside, in canonical units."""


def random_viewpoint(rng: np.random.Generator) -> FloatArray:
    """(3,) where a person would hold a depth camera around a shape in the canonical frame (longest side 1, front -y).

    Azimuth mostly from the front half (three in four drawn around the front with a deviation of 50 degrees, the rest
    from anywhere), elevation 10 to 45 degrees, distance 1.5 to 2.5 from the centre.
    """
    azimuth = rng.normal(-0.5 * np.pi, np.deg2rad(50.0)) if rng.random() < 0.75 else rng.uniform(-np.pi, np.pi)
    elevation = np.deg2rad(rng.uniform(10.0, 45.0))
    distance = rng.uniform(1.5, 2.5)
    flat = np.cos(elevation)
    toward = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    return (distance * toward).astype(np.float32)


def camera_rays(vertices: FloatArray, viewpoint: FloatArray, pixels: int) -> tuple[FloatArray, tuple[int, int]]:
    """Unit directions (H * W, 3), rows from top to bottom, of a pinhole image from `viewpoint` that just frames
    `vertices` (N, 3), and (H, W), of which the larger is `pixels`. Square pixels, z up in the picture.
    InputError where the viewpoint is among the vertices, so that no image can hold them all.
    """
    toward = np.asarray(vertices, np.float64) - viewpoint
    low, high = np.asarray(vertices, np.float64).min(0), np.asarray(vertices, np.float64).max(0)
    forward = 0.5 * (low + high) - viewpoint
    forward /= max(float(np.linalg.norm(forward)), 1e-12)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 1e-6:  # straight from above or below: any right will do
        right = np.array([1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    depth = toward @ forward
    if not (depth > 1e-3 * np.linalg.norm(high - low)).all():
        raise InputError(
            "viewpoint_inside",
            "The shape cannot be scanned from there.",
            "The viewpoint lies inside the shape's bounds or beside them, so part of the shape is behind the camera.",
            "Choose a viewpoint farther away.",
        )
    x, y = toward @ right / depth, toward @ up / depth
    width, height = np.ptp(x), np.ptp(y)
    step = max(width, height, 1e-9) / pixels
    columns, rows = max(1, round(width / step)), max(1, round(height / step))
    u = x.min() + (np.arange(columns) + 0.5) * step
    v = y.max() - (np.arange(rows) + 0.5) * step
    directions = forward + u[None, :, None] * right + v[:, None, None] * up
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    return directions.reshape(-1, 3).astype(np.float32), (rows, columns)


def scan(
    mesh: Mesh,
    viewpoint: NDArray[np.floating[Any]],
    rng: np.random.Generator,
    *,
    pixels: int = 160,
    noise: float = 0.0,
    outliers: float = 0.0,
) -> PointCloud:
    """What a depth camera at `viewpoint` (3,) sees of `mesh`; both, and the points, in the mesh's own frame.

    pixels: longer side of the image, which just frames the shape (160: about 8,000 points of a chair).
    noise: standard deviation of the measured distance, as a fraction of the shape's longest side.
    outliers: share of the pixels with a hit that measure any distance within the shape's bounding sphere instead.
    Normals are those of the faces hit, turned to the camera. A shape hit nowhere raises InputError.
    """
    canonical, transform = canonicalise(mesh)
    eye = transform.apply(np.asarray(viewpoint, np.float64)[None])[0]
    caster = RayCaster(canonical)
    directions, _ = camera_rays(canonical.vertices, eye, pixels)
    face, distance = caster.first_hits(np.broadcast_to(eye, directions.shape), directions)
    hit = face >= 0
    if not hit.any():
        raise InputError(
            "scan_empty",
            "The scan saw nothing.",
            f"None of the {len(directions)} rays from {np.asarray(viewpoint).tolist()} met the mesh.",
            "Check that the mesh has faces with an area, or use more pixels.",
        )
    directions, distance = directions[hit], distance[hit].astype(np.float64)
    distance += noise * rng.standard_normal(len(distance))
    stray = rng.random(len(distance)) < outliers
    radius = float(np.linalg.norm(canonical.vertices, axis=1).max())
    near = max(float(np.linalg.norm(eye)) - radius, 0.0)
    distance[stray] = rng.uniform(near, float(np.linalg.norm(eye)) + radius, int(stray.sum()))
    normals = caster.face_normals[face[hit]]
    away = (normals * directions).sum(1, keepdims=True) > 0
    normals = np.where(away, -normals, normals).astype(np.float32)
    points = eye + directions * distance[:, None]
    back = transform.inverse()
    return PointCloud(back.apply(points), normals, np.asarray(viewpoint, np.float32))


def true_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """(count, 3) points and unit normals, uniform by area over the *outer* surface of `mesh`, in its own frame.

    This is the truth of the evaluation protocol. A sample belongs to it if one of its two sides (0.3 % of the longest
    side off the surface) can be seen from outside: rays escape in at least two of 64 directions spread over the sphere
    but for those from steeply below (see engine.geometry.signed_distance). Normals point to the side that can be seen,
    and stay as they are where both can.
    Raises InputError for a mesh without area or one that hides itself altogether.
    """
    canonical, transform = canonicalise(mesh)
    field = SignedDistance(canonical)
    found: list[FloatArray] = []
    found_normals: list[FloatArray] = []
    total, total_drawn, wanted = 0, 0, count
    for _ in range(12):
        drawn = int(1.1 * wanted) + 64
        points, normals = sample_surface(field.mesh, drawn, rng)
        front = field.outside(points + PROBE * normals)
        back = np.zeros(drawn, bool)
        back[~front] = field.outside(points[~front] - PROBE * normals[~front])
        normals[back] *= -1
        seen = front | back
        found.append(points[seen])
        found_normals.append(normals[seen])
        total, total_drawn = total + int(seen.sum()), total_drawn + drawn
        if total >= count:
            break
        wanted = int(min((count - total) / max(total / total_drawn, 0.02), 4 * count))
    if total < count:
        raise InputError(
            "mesh_hides_itself",
            "The mesh has no outer surface to compare with.",
            "Almost none of it can be seen from outside.",
            "Check that it is one object and not, for example, the inside of a room.",
        )
    points = np.concatenate(found)[:count]
    return transform.inverse().apply(points), np.concatenate(found_normals)[:count]
