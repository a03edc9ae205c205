"""Points from surfaces, fewer points from many, and what a bare cloud lacks: normals and an up axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..errors import InputError
from .clouds import FloatArray, PointCloud
from .meshes import Mesh, face_areas, face_normals

Float64Array = NDArray[np.float64]


def sample_surface(mesh: Mesh, n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """(n, 3) points spread uniformly over the triangles' area, and (n, 3) unit normals of their faces; mesh's frame.

    Raises InputError 'mesh_without_area'.
    """
    cloud = sample_cloud(mesh, n, rng)
    assert cloud.normals is not None
    return cloud.points, cloud.normals


def sample_cloud(mesh: Mesh, n: int, rng: np.random.Generator) -> PointCloud:
    """The same points and normals, with the colours that the surface has there (between those of the corners) and the
    materials of their faces.

    Square-root barycentric sampling (Osada et al. 2002). Raises InputError 'mesh_without_area'.
    """
    total = np.cumsum(face_areas(mesh))
    if len(total) == 0 or not (np.isfinite(total[-1]) and total[-1] > 0.0):
        raise InputError(
            "mesh_without_area",
            "The mesh has no surface.",
            "It holds no triangle with an area and finite corners.",
            "Check the mesh; point clouds are given as points, without faces.",
        )
    # side="right" never lands on a face of area zero.
    face = np.minimum(np.searchsorted(total, rng.random(n) * total[-1], side="right"), len(total) - 1)
    root, along = np.sqrt(rng.random((n, 1))), rng.random((n, 1))
    a, b, c = mesh.vertices.astype(np.float64)[mesh.faces[face].T]
    points = (1.0 - root) * a + root * (1.0 - along) * b + root * along * c
    colours = None
    if mesh.colours is not None:
        a, b, c = mesh.colours.astype(np.float64)[mesh.faces[face].T]
        colours = ((1.0 - root) * a + root * (1.0 - along) * b + root * along * c).astype(np.float32)
    return PointCloud(
        points.astype(np.float32),
        face_normals(Mesh(mesh.vertices, mesh.faces[face])),
        colours=colours,
        materials=None if mesh.face_materials is None else mesh.face_materials[face],
    )


def subsample(cloud: PointCloud, n: int, rng: np.random.Generator) -> PointCloud:
    """At most n of the cloud's points, evenly spread however uneven the cloud's density: exactly n if it has as many.

    One random point a voxel, the voxel size chosen so that about n voxels are occupied. Works on at most a few hundred
    thousand points at a time: a larger cloud is first thinned, by a fine voxel grid and then at random. A cloud of n
    points or fewer comes back as it is.
    """
    count = len(cloud.points)
    if count <= n:
        return cloud
    if n <= 0:
        raise ValueError("n must be positive")
    chosen = rng.permutation(count)  # the first of a voxel in this order is a random one
    workable = max(20 * n, 200_000)
    if count > workable:
        thinned = chosen[_first_of_voxels(cloud.points[chosen], _extent(cloud.points) / 512.0)]
        # A cloud denser than that grid somewhere may still need more points than the grid has left.
        chosen = thinned if len(thinned) >= n else chosen
        chosen = chosen[:workable]
    points = cloud.points[chosen]

    # Occupied voxels fall as voxels grow: bisect for the largest size that still occupies at least n.
    low, high = 0.0, _extent(points)
    best: NDArray[np.int64] = np.arange(len(points))
    for _ in range(16):
        size = 0.5 * (low + high)
        occupied = _first_of_voxels(points, size)
        if len(occupied) >= n:
            low, best = size, occupied
            if len(occupied) <= 1.02 * n:
                break
        else:
            high = size
    picked = chosen[np.sort(best)[:n]] if len(best) <= 1.02 * n else chosen[rng.choice(best, n, replace=False)]
    picked = np.sort(picked)
    return cloud.at(picked)


def _first_of_voxels(points: FloatArray, size: float) -> NDArray[np.int64]:
    """Ascending indices of the first point in each occupied voxel."""
    low = points.min(axis=0).astype(np.float64)
    side = min(int(_extent(points) / size) + 2, 1 << 20) if size > 0 else 1 << 20
    key = np.zeros(len(points), np.int64)
    for axis in range(3):  # axis by axis keeps the temporaries small
        cell = (points[:, axis] - low[axis]) / (size if size > 0 else 1.0)
        key = key * side + np.minimum(cell.astype(np.int64), side - 1)
    return np.sort(np.unique(key, return_index=True)[1])


def _extent(points: FloatArray) -> float:
    return float(np.ptp(points.astype(np.float32), axis=0).max())


def remove_duplicates(cloud: PointCloud) -> PointCloud:
    """The cloud without points whose three coordinates equal an earlier one's; order kept."""
    rows = np.ascontiguousarray(cloud.points, np.float32) + np.float32(0)  # -0 becomes 0
    keys = rows.view(np.dtype((np.void, 12))).ravel()
    first = np.sort(np.unique(keys, return_index=True)[1])
    if len(first) == len(rows):
        return cloud
    return cloud.at(first)


def estimate_normals(
    points: FloatArray, k: int = 16, viewpoint: FloatArray | None = None, chunk: int = 100_000
) -> FloatArray:
    """(N, 3) unit normals: the direction of least spread among each point's k nearest neighbours (Hoppe et al. 1992).

    viewpoint: (3,) in the points' frame; normals then look towards it. Without one their sign is arbitrary (positive
    along the normal's largest component), so only their line may be used.
    """
    if len(points) < 3:
        raise ValueError("normals need at least three points")
    k = min(max(k, 3), len(points))
    tree = cKDTree(points)
    normals = np.empty((len(points), 3))
    for start in range(0, len(points), chunk):
        part = points[start : start + chunk]
        near = points[tree.query(part, k)[1]].astype(np.float64)
        near -= near.mean(axis=1, keepdims=True)
        normals[start : start + chunk] = np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))[1][:, :, 0]
    if viewpoint is not None:
        towards = np.asarray(viewpoint, np.float64) - points
        flip = np.einsum("ni,ni->n", normals, towards) < 0
    else:
        largest = np.argmax(np.abs(normals), axis=1)
        flip = normals[np.arange(len(normals)), largest] < 0
    normals[flip] *= -1.0
    return normals.astype(np.float32)
