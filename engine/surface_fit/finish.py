"""What a field's surface still needs: without crumbs, cut off where no points are, and how well the points agree."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..errors import JobFailed
from ..frames import BOUND
from ..geometry.clouds import FloatArray
from ..geometry.connected import vertex_components
from ..geometry.meshes import Mesh, compacted
from ..geometry.sampling import sample_surface
from .base import FitData
from .store import KeptField


def trimmed(mesh: Mesh, kept: KeptField, cell: float) -> Mesh:
    """Without the triangles that no point is near to. Raises JobFailed where nothing is left."""
    distance, nearest = cKDTree(kept.points).query(mesh.vertices)
    near = distance <= np.maximum(kept.reach[nearest], 2.5 * cell)
    near &= np.abs(mesh.vertices).max(1) < BOUND - cell  # the extraction closes the shape there; nobody asked for that
    faces = mesh.faces[near[mesh.faces].all(1)]
    if len(faces) == 0:
        raise JobFailed(
            "nothing_near_points",
            "No surface came out.",
            "The fitted surface is nowhere near the points, so that nothing is left of it where boundaries stay open.",
            "Close the boundaries, or give a denser scan.",
        )
    return without_crumbs(compacted(Mesh(mesh.vertices, faces, mesh.normals)), kept, cell)


def without_crumbs(mesh: Mesh, kept: KeptField, cell: float) -> Mesh:
    """Without the parts that hardly any points lie on: fewer than six of usual density. A stray point, about which
    there is much room, counts little. The largest part stays."""
    part = vertex_components(mesh)
    count = int(part.max()) + 1
    if count == 1:
        return mesh
    distance, nearest = cKDTree(mesh.vertices).query(kept.points)
    weight = np.minimum(1.0, (np.median(kept.reach) / kept.reach) ** 2) * (distance < 3 * cell)
    owned = np.bincount(part[nearest], weight, minlength=count)
    keep = owned >= max(6.0, 5e-4 * float(weight.sum()))
    keep[np.argmax(owned)] = True
    return compacted(Mesh(mesh.vertices, mesh.faces[keep[part[mesh.faces[:, 0]]]], mesh.normals))


def opposed(data: FitData, reach: float) -> float:
    """Share of the points with another one within `reach` that looks the other way: a sheet thinner than that."""
    if data.normals is None or not data.oriented:
        return 0.0
    some = slice(None, None, max(1, len(data.points) // 60_000))
    points, normals = data.points[some], data.normals[some]
    asked = slice(None, None, max(1, len(points) // 4000))
    index = cKDTree(points).query(points[asked], k=min(16, len(points)), distance_upper_bound=reach)[1]
    there = np.concatenate([normals, np.zeros((1, 3), np.float32)])[index]
    return float((np.einsum("nki,ni->nk", there, normals[asked]).min(1) < -0.7).mean())


def guessed(mesh: Mesh, points: FloatArray, far: float) -> float:
    """Share of the surface's area that is further than `far` from all points."""
    samples, _ = sample_surface(mesh, 4000, np.random.default_rng(0))
    return float((cKDTree(points).query(samples)[0] > far).mean())
