"""Which edges of a mesh can be collapsed, many at a time: for edges too short, and for fewer triangles.

An edge goes by one of its ends moving onto the other, so that all vertices that stay are where they were. It may go
where the surface stays the one that it was: the ends share no neighbours but the third corners of the faces at the edge
(the link condition, Dey et al. 1999, Topology preserving edge contraction), and no face turns over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

TURN = 0.2
"""Cosine of the most that a face may turn by, about 78 degrees."""
SLIVER = 0.01
"""Twice the area over the square of the longest side: of thinner faces the normal says nothing."""


@dataclass
class Patch:
    """Some edges that may go, and the faces about them.

    start, end: (E,) vertices of the edges.  faces: (F, 3), every face at one of these.  offsets: (V' + 1,), star: which
    of the faces and which corner of them (3 f + k) are at a vertex; of the vertices numbered in `local` alone.
    """

    start: Indices
    end: Indices
    faces: Indices
    local: Indices
    offsets: Indices
    star: Indices

    def at(self, vertices: Indices) -> tuple[Indices, Indices]:
        """For each of the vertices the corners there: (which of the vertices, corner), both flat."""
        number = self.local[vertices]
        first, count = self.offsets[number], self.offsets[number + 1] - self.offsets[number]
        which = np.repeat(np.arange(len(vertices)), count)
        within = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        return which, self.star[first[which] + within]


def faces_at(faces: Indices, start: Indices, end: Indices, count: int) -> Indices:
    """Indices of the faces that have a corner at an end of these edges; count: of the vertices."""
    mark = np.zeros(count, bool)
    mark[start] = mark[end] = True
    return np.flatnonzero(mark[faces[:, 0]] | mark[faces[:, 1]] | mark[faces[:, 2]])


def patch_about(faces: Indices, start: Indices, end: Indices, local: Indices) -> Patch:
    """local: (V,) room for numbers."""
    ends = np.unique(np.concatenate([start, end]))
    local[faces] = len(ends)
    local[ends] = np.arange(len(ends))
    number = local[faces.ravel()]
    order = np.argsort(number, kind="stable")
    offsets = np.searchsorted(number[order], np.arange(len(ends) + 1))
    return Patch(start, end, faces, local, offsets, order)


def ways(patch: Patch, at: Floats) -> tuple[Floats, Floats]:
    """(E,) twice: the cosine of the most that a face turns by when an edge collapses onto its start, onto its end; -inf
    where that would change the topology, or move a rim."""
    legal, rim_at_start, rim_at_end = _linked(patch, len(at))
    start, end = at[patch.start], at[patch.end]
    to_start = np.where(legal & (rim_at_start | ~rim_at_end), turns(patch, at, start, start, collapse=True), -np.inf)
    to_end = np.where(legal & (rim_at_end | ~rim_at_start), turns(patch, at, end, end, collapse=True), -np.inf)
    return to_start, to_end


def ring(patch: Patch, vertices: Indices) -> tuple[Indices, Indices]:
    """The neighbours of each of the vertices, each once where the surface is closed there, twice or once where it has
    a rim: (which of the vertices, neighbour), those after and before in every face."""
    which, corner = patch.at(vertices)
    face, k = np.divmod(corner, 3)
    return np.concatenate([which, which]), np.concatenate([patch.faces[face, (k + 1) % 3], patch.faces[face, k - 1]])


def _linked(patch: Patch, count: int) -> tuple[Mask, Mask, Mask]:
    """(E,) three times: whether an edge can go without changing the topology; whether its start, its end is on a rim.

    Both ends' common neighbours have to be the third corners of the faces at the edge alone, no rim may meet another,
    and more than the edge's own faces has to be left.
    """
    edges = len(patch.start)
    legal = np.ones(edges, bool)
    valence = np.zeros(edges, np.int64)
    keys_of, rims, alone = [], [], np.zeros(edges, bool)
    for vertices, others in ((patch.start, patch.end), (patch.end, patch.start)):
        which, other = ring(patch, vertices)
        keys, times = np.unique(which * count + other, return_counts=True)
        row = keys // count
        # A neighbour is met twice about a vertex inside the surface, in the faces before and after the edge to it; on a
        # rim two of them are met once.
        once = np.bincount(row[times == 1], minlength=edges)
        legal &= (once == 0) | (once == 2)
        legal[row[times > 2]] = False
        alone[row[(times == 1) & (keys % count == others[row])]] = True
        valence += np.bincount(row, minlength=edges)
        keys_of.append(keys)
        rims.append(once > 0)
    common = np.intersect1d(keys_of[0], keys_of[1], assume_unique=True)
    alike = np.bincount(common // count, minlength=edges)
    legal &= np.where(alone, alike == 1, (alike == 2) & ~(rims[0] & rims[1]))
    legal &= valence - 2 - alike >= np.where(rims[0] | rims[1], 2, 3)
    return legal, rims[0], rims[1]


def turns(patch: Patch, before: Floats, start_at: Floats, end_at: Floats, collapse: bool) -> Floats:
    """(E,) the cosine of the most that a face at an edge turns by when its ends go to other places (E, 3).

    collapse: the faces at the edge itself go, and do not count. A face that shrinks to a line turns by 180 degrees; of
    one that was a sliver before, its neighbours' normal is taken for its own.
    """
    edges = len(patch.start)
    normals, thin = scaled_normals(before[patch.faces])
    overall = np.zeros((edges, 3))
    around = []
    for vertices, others in ((patch.start, patch.end), (patch.end, patch.start)):
        which, corner = patch.at(vertices)
        face = corner // 3
        shared = (patch.faces[face] == others[which, None]).any(1)
        for axis in range(3):
            overall[:, axis] += np.bincount(which, normals[face, axis], edges)
        around.append((which, face, shared))
    least = np.ones(edges)
    for turn, (which, face, shared) in enumerate(around):
        counts = ~shared if collapse or turn else np.ones(len(face), bool)
        which, face = which[counts], face[counts]
        corners = before[patch.faces[face]]
        for vertices, places in ((patch.start, start_at), (patch.end, end_at)):
            row, k = np.nonzero(patch.faces[face] == vertices[which, None])
            corners[row, k] = places[which[row]]
        after, flat = scaled_normals(corners)
        was = np.where(thin[face, None], overall[which], normals[face])
        norm = np.sqrt(np.einsum("ij,ij->i", after, after) * np.einsum("ij,ij->i", was, was))
        cosine = np.divide(np.einsum("ij,ij->i", after, was), norm, out=np.full(len(face), -1.0), where=norm > 0)
        cosine[flat & ~thin[face]] = -1.0
        np.minimum.at(least, which, cosine)
    return least


def scaled_normals(corners: Floats) -> tuple[Floats, Mask]:
    """(F, 3, 3) corners -> normals of length twice the area (F, 3), and whether the face is a sliver."""
    first, second, third = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], corners[:, 2] - corners[:, 1]
    normals = np.stack(
        [
            first[:, 1] * second[:, 2] - first[:, 2] * second[:, 1],
            first[:, 2] * second[:, 0] - first[:, 0] * second[:, 2],
            first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0],
        ],
        axis=1,
    )
    longest = np.max([np.einsum("ij,ij->i", side, side) for side in (first, second, third)], axis=0)
    area = np.sqrt(np.einsum("ij,ij->i", normals, normals))
    return normals, area <= SLIVER * longest


def apart(patch: Patch, chosen: Indices, cost: Floats, count: int) -> Mask:
    """(C,) which of the chosen edges can go at once: each is the cheapest of all that have an end about it, so that no
    face and no neighbour is touched by two."""
    rank = np.empty(len(chosen), np.int64)
    rank[np.argsort(cost, kind="stable")] = np.arange(len(chosen))
    cheapest = np.full(count, len(chosen), np.int64)
    best = np.full(len(chosen), len(chosen), np.int64)
    for vertices in (patch.start, patch.end):
        np.minimum.at(cheapest, vertices[chosen], rank)
    for vertices in (patch.start, patch.end):
        which, corner = patch.at(vertices[chosen])
        np.minimum.at(best, which, cheapest[patch.faces[corner // 3]].min(1))
    return np.asarray(best == rank)
