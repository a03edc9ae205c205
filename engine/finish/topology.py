"""Parts, cavities and handles of a triangle mesh, whatever its defects.

The mesh is welded where vertices coincide and cut where an edge is not shared by exactly two faces; what remains are
surfaces with boundary, each of which obeys Euler's formula: V - E + F = 2 - 2 handles - boundaries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry.connected import labels_of
from ..geometry.meshes import Mesh, compacted, face_areas

PART = 0.002
"""Components of more than this share of the area are parts; smaller ones are crumbs."""


@dataclass
class Topology:
    """parts: components of more than `PART` of the area that look outward.  cavities: such components that look inward:
    the walls of closed hollows.  crumbs: components of less area.  handles: the genus, summed over all components.
    watertight: every edge between exactly two faces that run along it in opposite directions.
    smallest_edge, median_edge: lengths in the mesh's unit."""

    parts: int
    cavities: int
    crumbs: int
    handles: int
    watertight: bool
    smallest_edge: float
    median_edge: float


def welded(mesh: Mesh, tolerance: float = 0.0) -> Mesh:
    """Vertices at one place joined, faces that lose a corner so left out. tolerance: places are rounded to multiples of
    it; 0: the same to the last bit. Normals are dropped."""
    if len(mesh.vertices) == 0:
        return mesh
    rows = np.ascontiguousarray(mesh.vertices, np.float32) + np.float32(0.0)  # -0 becomes 0
    if tolerance > 0:
        keys = np.round(rows.astype(np.float64) / tolerance).astype(np.int64).view(np.dtype((np.void, 24))).ravel()
    else:
        keys = rows.view(np.dtype((np.void, 12))).ravel()
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    faces = number.ravel()[mesh.faces].astype(np.int32)
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return compacted(Mesh(rows[first], faces[whole]))


def components(mesh: Mesh) -> NDArray[np.int64]:
    """(F,) the component of each face, 0, 1, ...: faces that share an edge belong together. Weld the mesh first."""
    face, edge, counts, _ = _edges(mesh)
    return labels_of(len(mesh.faces), *_pairs(face, edge, counts))


def topology(mesh: Mesh) -> Topology:
    """Of any mesh: it is welded first. Raises ValueError for a mesh without faces."""
    return topology_of(welded(mesh))


def topology_of(mesh: Mesh) -> Topology:
    """`topology` of a mesh that is welded."""
    if len(mesh.faces) == 0:
        raise ValueError("a mesh without faces has no topology")
    face, edge, counts, start_low = _edges(mesh)
    left, right = _pairs(face, edge, counts)
    component = labels_of(len(mesh.faces), left, right)
    count = int(component.max()) + 1
    areas = np.bincount(component, weights=face_areas(mesh), minlength=count)
    large = areas > PART * areas.sum()
    volumes = _volumes(mesh, component, count)
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    lengths = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2).ravel()
    forward = np.bincount(edge, weights=np.where(start_low, 1, -1), minlength=len(counts))
    return Topology(
        parts=int((large & (volumes >= 0)).sum()),
        cavities=int((large & (volumes < 0)).sum()),
        crumbs=int((~large).sum()),
        handles=int(_genus(mesh, edge, counts, component, count).sum()),
        watertight=bool((counts == 2).all() and (forward == 0).all()),
        smallest_edge=float(lengths.min()),
        median_edge=float(np.median(lengths)),
    )


Indices = NDArray[np.int64]


def _edges(mesh: Mesh) -> tuple[Indices, Indices, Indices, NDArray[np.bool_]]:
    """Of the half-edges 3 f + k (from corner k to the next): (3F,) their face, (3F,) their edge, (E,) how many an edge
    has, and (3F,) whether they start at the lower vertex."""
    faces = mesh.faces.astype(np.int64)
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    keys = np.minimum(start, end) * len(mesh.vertices) + np.maximum(start, end)
    _, edge, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.arange(len(start)) // 3, edge.ravel().astype(np.int64), counts.astype(np.int64), start < end


def _pairs(face: Indices, edge: Indices, counts: Indices) -> tuple[Indices, Indices]:
    """The two faces of every edge that has two."""
    first, second = _twins(edge, counts)
    return face[first], face[second]


def _twins(edge: Indices, counts: Indices) -> tuple[Indices, Indices]:
    """The two half-edges of every edge that has two."""
    order = np.argsort(edge, kind="stable")
    starts = (np.cumsum(counts) - counts)[counts == 2]
    return order[starts], order[starts + 1]


def _volumes(mesh: Mesh, component: Indices, count: int) -> NDArray[np.float64]:
    """(count,) signed volumes (divergence theorem); of an open component, seen from the middle of its own vertices."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    share = np.maximum(np.bincount(component, minlength=count), 1)
    centres = np.stack(
        [np.bincount(component, weights=corners[:, :, k].mean(1), minlength=count) / share for k in range(3)], 1
    )
    a, b, c = np.moveaxis(corners - centres[component][:, None], 1, 0)
    six = np.einsum("ij,ij->i", a, np.cross(b, c))
    return np.asarray(np.bincount(component, weights=six / 6.0, minlength=count), np.float64)


def _genus(mesh: Mesh, edge: Indices, counts: Indices, component: Indices, count: int) -> Indices:
    """(count,) handles of each component. Vertices at which several fans of faces meet are taken apart."""
    halves = len(edge)
    first, second = _twins(edge, counts)

    def following(half: Indices) -> Indices:
        return np.where(half % 3 == 2, half - 2, half + 1)

    # Corners have the numbers of the half-edges that start there. Across an edge those at one vertex keep company.
    start = mesh.faces.ravel()
    same = start[first] == start[second]
    at_first, other = first, following(first)
    at_second = np.where(same, second, following(second))
    beyond = np.where(same, following(second), second)
    fan = labels_of(halves, np.concatenate([at_first, other]), np.concatenate([at_second, beyond]))
    fans = int(fan.max()) + 1
    of_fan = np.zeros(fans, np.int64)
    of_fan[fan] = np.repeat(component, 3)

    rim = np.flatnonzero(counts[edge] != 2)
    loops = np.zeros(count, np.int64)
    if len(rim):
        ends = fan[rim], fan[following(rim)]
        label = labels_of(fans, *ends)
        on_rim = np.unique(ends[0])
        of_loop = np.unique(np.stack([label[on_rim], of_fan[on_rim]], 1), axis=0)[:, 1]
        loops = np.bincount(of_loop, minlength=count)
    faces = np.bincount(component, minlength=count)
    inner = np.bincount(component[first // 3], minlength=count)
    edges = inner + np.bincount(component[rim // 3], minlength=count)
    euler = np.bincount(of_fan, minlength=count) - edges + faces
    return np.maximum((2 - loops - euler) // 2, 0)
