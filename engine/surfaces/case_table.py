"""The cases of marching cubes, derived and not typed in.

One rule makes them: "on a face whose two inside corners lie diagonally, keep the two apart". The rule looks at nothing
but the four corners of that face, so the two cells that share the face always agree: no cracks. No triangle has a
diagonal within a cell's face, so no edge is ever used by more than two triangles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

CORNERS = np.array([[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)], np.int64)
"""(8, 3): corner c of a cell lies at these lattice offsets."""


@dataclass
class CaseTable:
    """For each of the 256 sign patterns (bit c set = corner c inside) its triangles as edges of the cell.

    counts: (256,).  triangles: (256, M, 3), edges 0..11.  edge_start: (12,) lower corner.  edge_axis: (12,).
    """

    counts: NDArray[np.int64]
    triangles: NDArray[np.int64]
    edge_start: NDArray[np.int64]
    edge_axis: NDArray[np.int64]


@lru_cache(maxsize=1)
def case_table() -> CaseTable:
    edges = [(c, axis) for axis in range(3) for c in range(8) if not c >> axis & 1]
    number = {frozenset((c, c | 1 << axis)): e for e, (c, axis) in enumerate(edges)}
    faces = []
    for axis, side in product(range(3), (0, 1)):
        u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        base = side << axis
        ring = [base, base | u, base | u | v, base | v]  # counter-clockwise seen from the axis' far end
        faces.append(ring if side else ring[::-1])
    faces_of_edge = [{f for f, ring in enumerate(faces) if c in ring and c | 1 << axis in ring} for c, axis in edges]

    def on_one_face(a: int, b: int) -> bool:
        return bool(faces_of_edge[a] & faces_of_edge[b])

    triangles: list[list[tuple[int, int, int]]] = []
    for case in range(256):
        following: dict[int, int] = {}
        for ring in faces:
            entry = None
            turns = [(ring[i], ring[(i + 1) % 4]) for i in range(4)]
            crossings = [
                (number[frozenset(turn)], bool(case >> turn[1] & 1))
                for turn in turns
                if case >> turn[0] & 1 != case >> turn[1] & 1
            ]
            if crossings and not crossings[0][1]:  # begin where the ring goes in
                crossings = crossings[1:] + crossings[:1]
            for edge, goes_in in crossings:
                if goes_in:
                    entry = edge
                elif entry is not None:
                    following[entry] = edge  # in this direction the triangles face outwards
        rows: list[tuple[int, int, int]] = []
        while following:
            loop = [next(iter(following))]
            while (after := following.pop(loop[-1])) != loop[0]:
                loop.append(after)
            rows += _triangulated(tuple(loop), on_one_face)
        triangles.append(rows)
    most = max(len(rows) for rows in triangles)
    packed = np.zeros((256, most, 3), np.int64)
    for case, rows in enumerate(triangles):
        packed[case, : len(rows)] = np.array(rows, np.int64).reshape(-1, 3)
    return CaseTable(
        counts=np.array([len(rows) for rows in triangles], np.int64),
        triangles=packed,
        edge_start=np.array([c for c, _ in edges], np.int64),
        edge_axis=np.array([axis for _, axis in edges], np.int64),
    )


def _triangulated(loop: tuple[int, ...], forbidden: Callable[[int, int], bool]) -> list[tuple[int, int, int]]:
    """Cuts a polygon into triangles, no diagonal of which is forbidden."""
    answer = _try_triangulate(loop, forbidden)
    if answer is None:
        raise AssertionError(f"no valid triangulation of {loop}")
    return answer


def _try_triangulate(loop: tuple[int, ...], forbidden: Callable[[int, int], bool]) -> list[tuple[int, int, int]] | None:
    if len(loop) < 3:
        return []
    first, last = loop[0], loop[-1]  # the side first-last belongs to exactly one triangle: try each apex
    for apex in range(1, len(loop) - 1):
        if apex > 1 and forbidden(first, loop[apex]):
            continue
        if apex < len(loop) - 2 and forbidden(loop[apex], last):
            continue
        left = _try_triangulate(loop[: apex + 1], forbidden)
        right = _try_triangulate(loop[apex:], forbidden)
        if left is not None and right is not None:
            return [(first, loop[apex], last), *left, *right]
    return None
