"""How far it is through a wall: rays from places of a surface inward, as far as walls are thin.

By NumPy and a kd-tree: the ray casters of engine.geometry.rays need packages that running does without, and short rays
meet few triangles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..geometry.meshes import Mesh

Floats = NDArray[np.float64]
OPPOSITE = -0.5
"""Cosine between two sides of one wall, at most: what a ray meets beside it, round a sharp edge, is no other side."""


def through(mesh: Mesh, face: NDArray[np.int64], places: Floats, reach: float) -> Floats:
    """(N,) the length of the ray from each place (N, 3) of the mesh's faces (N,) against the face's normal to the other
    side of the wall, in the mesh's unit; inf where that is farther than `reach`."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)
    centres = corners.mean(axis=1)
    radii = np.linalg.norm(corners - centres[:, None], axis=2).max(1)
    along = -normals[face]
    middle = places + 0.5 * reach * along
    length = np.full(len(places), np.inf)
    small = radii <= 2 * np.median(radii)
    for some in (np.flatnonzero(small), np.flatnonzero(~small)):  # a few large faces shall not widen every search
        if len(some) == 0:
            continue
        near = cKDTree(centres[some]).query_ball_point(middle, 0.5 * reach + radii[some].max())
        ray = np.repeat(np.arange(len(places)), [len(found) for found in near])
        other = some[np.concatenate([np.asarray(found, np.int64) for found in near])]
        opposite = np.einsum("ij,ij->i", normals[face[ray]], normals[other]) < OPPOSITE
        ray, other = ray[opposite], other[opposite]
        t = _met(corners[other], places[ray], along[ray])
        met = (t >= 0) & (t <= reach)
        np.minimum.at(length, ray[met], t[met])
    return length


def _met(corners: Floats, start: Floats, along: Floats) -> Floats:
    """(N,) where each ray start + t along meets its triangle (N, 3, 3); -1 where it does not (Moeller and Trumbore
    1997)."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(along, second)
    scale = np.einsum("ij,ij->i", first, across)
    scale = np.where(scale == 0, 1e-300, scale)
    offset = start - corners[:, 0]
    u = np.einsum("ij,ij->i", offset, across) / scale
    turned = np.cross(offset, first)
    v = np.einsum("ij,ij->i", along, turned) / scale
    t = np.einsum("ij,ij->i", second, turned) / scale
    return np.where((u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9), t, -1.0)
