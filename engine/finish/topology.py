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


_PRIMES = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


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
    places = np.round(rows.astype(np.float64) / tolerance).astype(np.int64) if tolerance > 0 else rows.view(np.int32)
    mixed = (places.astype(np.uint64) * _PRIMES).sum(1, dtype=np.uint64)  # wraps around
    _, first, number = np.unique(mixed, return_index=True, return_inverse=True)
    if not (places == places[first[number.ravel()]]).all():  # two places with one sum
        keys = np.ascontiguousarray(places).view(np.dtype((np.void, 3 * places.itemsize))).ravel()
        _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    faces = number.ravel()[mesh.faces].astype(np.int32)
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return compacted(Mesh(rows[first], faces[whole]))


def components(mesh: Mesh) -> NDArray[np.int64]:
    """(F,) the component of each face, 0, 1, ...: faces that share an edge belong together. Weld the mesh first."""
    if len(mesh.faces) == 0:
        return np.zeros(0, np.int64)
    edges = _edges(mesh)
    return labels_of(len(mesh.faces), edges.first // 3, edges.second // 3)


def topology(mesh: Mesh) -> Topology:
    """Of any mesh: it is welded first. Raises ValueError for a mesh without faces."""
    mesh = welded(mesh)
    return topology_of(mesh, face_areas(mesh))


def topology_of(mesh: Mesh, face_areas: NDArray[np.float64]) -> Topology:
    """`topology` of a mesh that is welded, and has faces of such areas (F,)."""
    if len(mesh.faces) == 0:
        raise ValueError("a mesh without faces has no topology")
    edges = _edges(mesh)
    component = labels_of(len(mesh.faces), edges.first // 3, edges.second // 3)
    count = int(component.max()) + 1
    areas = np.bincount(component, weights=face_areas, minlength=count)
    large = areas > PART * areas.sum()
    volumes = _volumes(mesh, component, count)
    across = mesh.vertices[mesh.faces] - mesh.vertices[mesh.faces[:, [1, 2, 0]]]
    lengths = np.sqrt(np.einsum("fkd,fkd->fk", across, across)).ravel()
    opposite = edges.forward[edges.first] != edges.forward[edges.second]
    return Topology(
        parts=int((large & (volumes >= 0)).sum()),
        cavities=int((large & (volumes < 0)).sum()),
        crumbs=int((~large).sum()),
        handles=int(_genus(mesh, edges, component, count).sum()),
        watertight=bool((edges.counts == 2).all() and opposite.all()),
        smallest_edge=float(lengths.min()),
        median_edge=float(np.median(lengths)),
    )


Indices = NDArray[np.int64]


@dataclass
class _Edges:
    """Of the half-edges 3 f + k (from corner k of face f to the next): edge: (3F,) which they are of.  counts: (E,) how
    many an edge has.  forward: (3F,) whether they start at its lower vertex.  first, second: the two half-edges of
    every edge that has two."""

    edge: Indices
    counts: Indices
    forward: NDArray[np.bool_]
    first: Indices
    second: Indices


def _edges(mesh: Mesh) -> _Edges:
    faces = mesh.faces.astype(np.int64)
    start, end = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    keys = np.minimum(start, end) * len(mesh.vertices) + np.maximum(start, end)
    order = np.argsort(keys)
    ordered = keys[order]
    fresh = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    starts = np.flatnonzero(fresh)
    counts = np.diff(np.append(starts, len(order)))
    edge = np.empty(len(order), np.int64)
    edge[order] = np.cumsum(fresh) - 1
    pairs = starts[counts == 2]
    return _Edges(edge, counts, start < end, order[pairs], order[pairs + 1])


def _volumes(mesh: Mesh, component: Indices, count: int) -> NDArray[np.float64]:
    """(count,) signed volumes (divergence theorem); of an open component, seen from one of its own vertices."""
    some = np.zeros(count, np.int64)
    some[component] = mesh.faces[:, 0]
    origin = mesh.vertices[some][component]
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = ((mesh.vertices[mesh.faces[:, k]] - origin).T for k in range(3))
    six = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    return np.asarray(np.bincount(component, weights=six / 6.0, minlength=count), np.float64)


def _genus(mesh: Mesh, edges: _Edges, component: Indices, count: int) -> Indices:
    """(count,) handles of each component. Vertices at which several fans of faces meet are taken apart."""
    halves, first, second = len(edges.edge), edges.first, edges.second

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

    rim = np.flatnonzero(edges.counts[edges.edge] != 2)
    loops = np.zeros(count, np.int64)
    if len(rim):
        ends = fan[rim], fan[following(rim)]
        label = labels_of(fans, *ends)
        on_rim = np.unique(ends[0])
        of_loop = np.unique(np.stack([label[on_rim], of_fan[on_rim]], 1), axis=0)[:, 1]
        loops = np.bincount(of_loop, minlength=count)
    faces = np.bincount(component, minlength=count)
    inner = np.bincount(component[first // 3], minlength=count)
    cut = inner + np.bincount(component[rim // 3], minlength=count)
    euler = np.bincount(of_fan, minlength=count) - cut + faces
    return np.maximum((2 - loops - euler) // 2, 0)
