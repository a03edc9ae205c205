"""Edges that are too short to be seen collapsed, or spread where they have to stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..geometry.meshes import Mesh, with_faces
from .collapse import TURN, Floats, Indices, Patch, apart, faces_at, patch_about, turns, ways


def without_short_edges(mesh: Mesh, shortest: float, rounds: int = 80) -> Mesh:
    """Edges shorter than `shortest` (in the mesh's unit) are collapsed, the shortest first. Topology, orientation, and
    the places of the vertices that stay are kept, and what belongs to them and to the faces.

    Where an edge cannot go so, its ends are moved apart instead, by less than `shortest`: where a wedge tapers to
    nothing, and only there, a face of the taper may turn over in this.
    """
    faces = mesh.faces.astype(np.int64)
    at = mesh.vertices.astype(np.float64)
    start, end = _short(at, faces, shortest)
    if len(start) == 0:
        return mesh
    alive = np.ones(len(faces), bool)
    local = np.full(len(at), -1, np.int64)
    for _ in range(rounds):
        here = faces_at(faces, start, end, len(at))
        here = here[alive[here]]
        patch = patch_about(faces[here], start, end, local)
        gone, kept = _collapsible(patch, at, np.linalg.norm(at[start] - at[end], axis=1))
        if len(gone) == 0 and not (_spread(patch, at, shortest, TURN) or _spread(patch, at, shortest, -1.0)):
            break
        moved = patch.faces
        if len(gone):
            onto = np.arange(len(at))
            onto[gone] = kept
            moved = onto[moved]
            flat = (moved[:, 0] == moved[:, 1]) | (moved[:, 1] == moved[:, 2]) | (moved[:, 2] == moved[:, 0])
            faces[here] = moved
            alive[here[flat]] = False
            moved = moved[~flat]
        start, end = _short(at, moved, shortest)
        if len(start) == 0:
            break
    vertices = mesh.vertices.copy()
    pushed = (at != mesh.vertices).any(1)
    vertices[pushed] = at[pushed]
    return with_faces(replace(mesh, vertices=vertices), faces[alive].astype(np.int32), alive)


def _short(at: Floats, faces: Indices, shortest: float) -> tuple[Indices, Indices]:
    """The edges shorter than `shortest`, each once, as their lower and their higher vertex."""
    corners = at[faces]
    across = corners - corners[:, [1, 2, 0]]
    face, k = np.nonzero(np.einsum("fkd,fkd->fk", across, across) < shortest**2)
    a, b = faces[face, k], faces[face, (k + 1) % 3]
    keys = np.unique(np.minimum(a, b) * len(at) + np.maximum(a, b))
    return keys // len(at), keys % len(at)


def _collapsible(patch: Patch, at: Floats, cost: Floats) -> tuple[Indices, Indices]:
    """Of the patch's edges a set that can go at once, cheaper ones first: the vertices that go, and what each moves
    onto."""
    to_start, to_end = ways(patch, at)
    chosen = np.flatnonzero(np.maximum(to_start, to_end) > TURN)
    chosen = chosen[apart(patch, chosen, cost[chosen], len(at))]
    onto_start = to_start[chosen] >= to_end[chosen]
    first, last = patch.start[chosen], patch.end[chosen]
    return np.where(onto_start, last, first), np.where(onto_start, first, last)


def _spread(patch: Patch, at: Floats, shortest: float, least: float) -> bool:
    """Ends of edges of the patch moved apart in `at`, where no face turns by more than the angle of cosine `least`.
    Whether any were."""
    start, end = at[patch.start], at[patch.end]
    across = end - start
    length = np.linalg.norm(across, axis=1, keepdims=True)
    step = across / np.maximum(length, 1e-30) * (1.01 * shortest - length)
    best, there, back = np.full(len(start), -np.inf), start.copy(), end.copy()
    for share in (0.5, 1.0, 0.0):
        one, other = start - share * step, end + (1.0 - share) * step
        turn = turns(patch, at, one, other, collapse=False)
        better = turn > best + 0.1
        best[better], there[better], back[better] = turn[better], one[better], other[better]
    good = np.flatnonzero(best >= least)
    good = good[apart(patch, good, length[good, 0], len(at))]
    at[patch.start[good]], at[patch.end[good]] = there[good], back[good]
    return len(good) > 0
