"""Fewer triangles, with the same topology."""

from __future__ import annotations

import numpy as np

from ..geometry.meshes import Mesh, with_faces
from .collapse import TURN, Floats, Indices, Patch, apart, faces_at, patch_about, ring, scaled_normals, ways

CHEAP = 0.2
"""Share of the edges, the cheapest, that may go at once where there are many."""


def decimate(mesh: Mesh, faces: int, shortest: float = 0.0) -> Mesh:
    """Edges collapsed, those first that cost least by their quadrics (Garland and Heckbert 1997), until no more than
    `faces` triangles are left: exactly so many, or one less, of a closed surface.

    No edge shorter than `shortest` is made. The topology is kept: where it needs more triangles, more are left. What
    belongs to the vertices and faces that stay is kept.
    """
    if faces < 4:
        raise ValueError("a closed surface has at least 4 triangles")
    if len(mesh.faces) <= faces:
        return mesh
    left, kept_faces = mesh.faces.astype(np.int64), np.arange(len(mesh.faces))
    at = mesh.vertices.astype(np.float64)
    quadrics = _quadrics(at, left)
    local = np.full(len(at), -1, np.int64)
    least, share, rng = TURN, CHEAP, np.random.default_rng(0)
    while len(left) > faces:
        start, end, wings = _edges(left, len(at))
        to_start, to_end = _errors(quadrics[end], at[start]), _errors(quadrics[start], at[end])
        some = _cheapest(np.minimum(to_start, to_end), max(30, int(share * len(start))))
        # Apart by chance, not by cost: on flat ground all cost the same, and in the order of their numbers few would be
        # the cheapest far and wide. Whether they can go is asked of these few alone.
        patch = patch_about(left[faces_at(left, start[some], end[some], len(at))], start, end, local)
        some = some[apart(patch, some, rng.random(len(some)), len(at))]
        start, end, wings = start[some], end[some], wings[some]
        to_start, to_end = to_start[some], to_end[some]
        patch = patch_about(left[faces_at(left, start, end, len(at))], start, end, local)
        for cost, turn, goes, stays in zip(
            (to_start, to_end), ways(patch, at), (end, start), (start, end), strict=True
        ):
            cost[(turn <= least) | (_nearest(patch, at, goes, stays) < shortest)] = np.inf
        cost = np.minimum(to_start, to_end)
        chosen = np.argsort(cost, kind="stable")[: np.isfinite(cost).sum()]
        if len(chosen) < 0.2 * len(some):
            if len(chosen) == 0 and share > 4.0:
                if least < 0:
                    break
                least, share = -0.5, CHEAP  # rather a fold than too many
                continue
            share *= 1.5
        else:
            share = CHEAP
        chosen = chosen[np.cumsum(wings[chosen]) - wings[chosen] < len(left) - faces]
        onto_start = to_start[chosen] <= to_end[chosen]
        gone = np.where(onto_start, end[chosen], start[chosen])
        kept = np.where(onto_start, start[chosen], end[chosen])
        onto = np.arange(len(at))
        onto[gone] = kept
        quadrics[kept] += quadrics[gone]
        left = onto[left]
        flat = (left[:, 0] == left[:, 1]) | (left[:, 1] == left[:, 2]) | (left[:, 2] == left[:, 0])
        left, kept_faces = left[~flat], kept_faces[~flat]
    return with_faces(mesh, left.astype(np.int32), kept_faces)


def _cheapest(cost: Floats, count: int) -> Indices:
    """Indices of so many of the cheapest; all where there are no more."""
    return np.arange(len(cost)) if count >= len(cost) else np.sort(np.argpartition(cost, count)[:count])


def _edges(faces: Indices, count: int) -> tuple[Indices, Indices, Indices]:
    """Every edge once, as its lower and its higher vertex, and how many faces it has."""
    start, end = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    keys, wings = np.unique(np.minimum(start, end) * count + np.maximum(start, end), return_counts=True)
    return keys // count, keys % count, wings


_PAIRS = ((0, 0), (1, 1), (2, 2), (3, 3), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
"""Entries of a symmetric 4 x 4 matrix: half of it."""


def _quadrics(at: Floats, faces: Indices) -> Floats:
    """(V, 10) of each vertex the squared distances to its faces' planes, weighed by area, as a quadratic form; on a rim
    also to the planes that stand on it, so that it does not wear away."""
    normals = scaled_normals(at[faces])[0]
    start, end, wings = _edges(faces, len(at))
    half = np.minimum(faces, faces[:, [1, 2, 0]]) * len(at) + np.maximum(faces, faces[:, [1, 2, 0]])
    face, k = np.nonzero(np.isin(half, (start * len(at) + end)[wings == 1]))
    first, last = faces[face, k], faces[face, (k + 1) % 3]
    along = at[last] - at[first]
    standing = np.cross(along, normals[face])
    size = np.linalg.norm(standing, axis=1, keepdims=True)
    standing *= np.einsum("ij,ij->i", along, along)[:, None] / np.maximum(size, 1e-300)

    total = np.zeros((len(at), len(_PAIRS)))
    for directions, places, owners in ((normals, at[faces[:, 0]], faces.T), (standing, at[first], (first, last))):
        weight = np.linalg.norm(directions, axis=1)
        unit = directions / np.maximum(weight, 1e-300)[:, None]
        plane = np.column_stack([unit, -np.einsum("ij,ij->i", unit, places)])
        for n, (i, j) in enumerate(_PAIRS):
            form = plane[:, i] * plane[:, j] * weight
            for vertices in owners:
                total[:, n] += np.bincount(vertices, form, len(at))
    return total


def _errors(quadrics: Floats, places: Floats) -> Floats:
    """(E,) what vertices with such forms (E, 10) cost at other places (E, 3)."""
    x = np.column_stack([places, np.ones(len(places))])
    terms = [quadrics[:, k] * x[:, i] * x[:, j] * (1 if i == j else 2) for k, (i, j) in enumerate(_PAIRS)]
    return np.asarray(np.maximum(np.sum(terms, axis=0), 0.0), np.float64)


def _nearest(patch: Patch, at: Floats, goes: Indices, stays: Indices) -> Floats:
    """(E,) the shortest edge that would be made if the one end goes to the other."""
    which, other = ring(patch, goes)
    new = other != stays[which]
    which, other = which[new], other[new]
    shortest = np.full(len(goes), np.inf)
    np.minimum.at(shortest, which, np.linalg.norm(at[other] - at[stays[which]], axis=1))
    return shortest
