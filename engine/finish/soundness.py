"""How sound a mesh is, without knowing the truth: what every job says of its result.

Parts, cavities and handles (`engine.finish.topology`), the lengths of edges, the walls where they are thin, and
whether the feet stand on one plane. Cheap: some tens of milliseconds for the mesh of a 128^3 lattice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..geometry.connected import labels_of
from ..geometry.meshes import Mesh, face_areas, face_normals
from .inward import through
from .topology import Topology, topology_of, welded

THIN = 0.04
"""Walls thinner than this share of the size are thin."""
FOOT = 0.02
"""What ends within this share of the size above the lowest point is a foot; feet are farther apart than that."""
RAYS = 600
"""From so many places rays go inward."""
SPREAD, LOOKED_AT = 6000, 400
"""Places drawn on the surface, and at how many of them the wall is measured: from there to the others opposite."""


@dataclass
class Walls:
    """Where the wall is thin. share: of the surface.  thickness: its 5 % quantile there, as a share of the size.
    unevenness: the median difference from the thickness of the thin wall nearby, as a share of it.  thinnest: the least
    length of inward rays from `RAYS` places, in the mesh's unit; None where no wall is thin."""

    share: float
    thickness: float | None
    unevenness: float | None
    thinnest: float | None = None


@dataclass
class Soundness(Topology):
    """floor: largest difference in height between feet, as a share of the size; None where the up axis is not known or
    there are fewer than two.  feet: how many there are."""

    walls: Walls
    feet: int | None
    floor: float | None


def soundness(mesh: Mesh, *, standing: bool = True) -> Soundness:
    """standing: z is up, so that feet can be told. Raises ValueError for a mesh without faces."""
    mesh = welded(mesh)
    if len(mesh.faces) == 0:
        raise ValueError("a mesh without faces has no soundness")
    count, floor = feet_of(mesh) if standing else (None, None)
    areas = face_areas(mesh)
    return Soundness(**asdict(topology_of(mesh, areas)), walls=walls_of(mesh, areas), feet=count, floor=floor)


def report(mesh: Mesh, *, scale: float = 1.0, standing: bool = True) -> dict[str, Any]:
    """`soundness` for a job's report. scale: of the mesh's unit in the scene's, for lengths."""
    if len(mesh.faces) == 0:
        return {}
    told = asdict(soundness(mesh, standing=standing))
    if told["walls"]["thinnest"] is not None:
        told["walls"]["thinnest"] *= scale
    return told | {key: told[key] * scale for key in ("smallest_edge", "median_edge")}


def extent(mesh: Mesh) -> float:
    """The longest side of the box about the vertices."""
    return max(float(np.ptp(mesh.vertices[:, axis])) for axis in range(3))


def feet_of(mesh: Mesh) -> tuple[int, float | None]:
    """How many feet a welded mesh stands on (z up), and the largest difference in their heights as a share of the size;
    None where there is but one."""
    lowest = np.array([mesh.vertices[foot, 2].min() for foot in feet(mesh)], np.float64)
    return len(lowest), float(np.ptp(lowest)) / extent(mesh) if len(lowest) > 1 else None


def feet(mesh: Mesh) -> list[NDArray[np.int64]]:
    """Vertices of each foot of a welded mesh (z up): what ends within `FOOT` above the lowest point, taken as one where
    edges join it there or less than `FOOT` lies between."""
    size = extent(mesh)
    used = np.unique(mesh.faces)
    z = mesh.vertices[:, 2].astype(np.float64)
    low = used[z[used] < z[used].min() + FOOT * size]
    number = np.full(len(mesh.vertices), -1, np.int64)
    number[low] = np.arange(len(low))
    edges = number[np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])]
    edges = edges[(edges >= 0).all(1)]
    # Near ones by cells: a vertex keeps company with all of its cell, and cells with those about them.
    places = mesh.vertices[low, :2].astype(np.float64)
    cells, first, cell = np.unique(
        np.floor(places / (0.5 * FOOT * size)).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    pairs = first[cKDTree(cells).query_pairs(1.5, output_type="ndarray")]
    together = np.stack([np.arange(len(low)), first[cell.ravel()]], 1)
    left, right = np.concatenate([edges, together, pairs]).astype(np.int64).T
    label = labels_of(len(low), left, right)
    return [low[label == k] for k in range(int(label.max()) + 1)]


def walls_of(mesh: Mesh, areas: NDArray[np.float64]) -> Walls:
    """The thickness of thin walls of a welded mesh with faces of such areas (F,), from face to opposite face at
    `LOOKED_AT` places spread over the area."""
    size = extent(mesh)
    rng = np.random.default_rng(0)
    drawn = rng.choice(len(areas), SPREAD, p=areas / areas.sum())  # evenly over the area, whatever the faces' sizes
    corners = mesh.vertices.astype(np.float64)[mesh.faces[drawn]]
    centroids = corners.mean(axis=1)
    normals = face_normals(Mesh(mesh.vertices, mesh.faces[drawn])).astype(np.float64)
    tree, looked = cKDTree(centroids), slice(LOOKED_AT)
    near = tree.query_ball_point(centroids[looked], THIN * size)
    thickness = np.full(LOOKED_AT, np.inf)
    rows = np.repeat(np.arange(LOOKED_AT), [len(found) for found in near])
    other = np.concatenate([np.asarray(found, np.int64) for found in near])
    across = centroids[rows] - centroids[other]
    depth = np.einsum("ij,ij->i", across, normals[rows])
    aside = np.linalg.norm(across - depth[:, None] * normals[rows], axis=1)
    opposite = np.einsum("ij,ij->i", normals[rows], normals[other]) < -0.5
    behind = opposite & (depth > 0) & (aside < 0.5 * depth + 0.01 * size)
    np.minimum.at(thickness, rows[behind], depth[behind])
    thin = np.isfinite(thickness)
    rays = through(mesh, drawn[:RAYS], centroids[:RAYS], THIN * size)
    thinnest = float(rays.min()) if np.isfinite(rays).any() else None
    if thin.sum() < 10:
        return Walls(float(thin.mean()), None, None, thinnest)
    values = thickness[thin]
    _, neighbours = cKDTree(centroids[looked][thin]).query(centroids[looked][thin], k=min(8, len(values)))
    local = np.median(values[neighbours], axis=1)
    return Walls(
        share=float(thin.mean()),
        thickness=float(np.quantile(values, 0.05)) / size,
        unevenness=float(np.median(np.abs(values - local) / local)),
        thinnest=thinnest,
    )
