"""Solids on a lattice: what of space they fill, and how many parts, handles and hollows that has.

A lattice spans the canonical frame (longest side 1, centred at 0). A node that is filled stands for the closed cube
about it, so filled nodes that touch by a corner belong together, and empty ones only by a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..geometry.meshes import Mesh

Filled = NDArray[np.bool_]
TOUCHING = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Lattice:
    """`nodes` a side, `step` apart, about the origin. The default reaches 7 % beyond the canonical box."""

    nodes: int = 153
    step: float = 0.0075

    @property
    def low(self) -> float:
        return -0.5 * self.step * (self.nodes - 1)

    def points(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """(N, 3) places of the nodes with indices (N, 3)."""
        return np.asarray(self.low + self.step * index, np.float32)


def filled_by(mesh: Mesh, lattice: Lattice) -> Filled:
    """(n, n, n) whether each node lies inside a closed mesh that looks outward: its winding number is above 0.

    Every triangle is crossed by the lattice's vertical lines; on which side of an edge a line passes is told in the
    same way for both of the edge's triangles, so that none slips between them.
    """
    n = lattice.nodes
    at = (mesh.vertices.astype(np.float64) - lattice.low) / lattice.step
    at[:, :2] += (1.1e-5, 2.3e-5)  # lattice lines through vertices are no use to anybody
    corners = at[mesh.faces]
    first = np.ceil(corners[:, :, :2].min(1)).astype(np.int64).clip(0, n)
    last = np.floor(corners[:, :, :2].max(1)).astype(np.int64).clip(-1, n - 1)
    spans = (last - first + 1).clip(0)
    winding = np.zeros((n * n, n + 1), np.int16)
    counts = spans[:, 0] * spans[:, 1]
    order = np.flatnonzero(counts)
    for block in np.array_split(order, max(1, int(counts.sum() // 2_000_000))):
        face = np.repeat(block, counts[block])
        within = np.arange(len(face)) - np.repeat(np.cumsum(counts[block]) - counts[block], counts[block])
        column = first[face] + np.stack(np.divmod(within, spans[face, 1]), 1)
        sides = []
        for k in range(3):
            i, j = mesh.faces[face, k], mesh.faces[face, (k + 1) % 3]
            low, high = at[np.minimum(i, j)], at[np.maximum(i, j)]
            side = (high[:, 0] - low[:, 0]) * (column[:, 1] - low[:, 1]) - (high[:, 1] - low[:, 1]) * (
                column[:, 0] - low[:, 0]
            )
            sides.append((side >= 0) ^ (i > j))
        above = sides[0] & sides[1] & sides[2]
        below = ~(sides[0] | sides[1] | sides[2])
        hit = np.flatnonzero(above | below)
        a, b, c = np.moveaxis(corners[face[hit]], 1, 0)
        normal = np.cross(b - a, c - a)
        offset = column[hit] - a[:, :2]
        tall = np.where(normal[:, 2] == 0, 1.0, normal[:, 2])
        height = a[:, 2] - (normal[:, 0] * offset[:, 0] + normal[:, 1] * offset[:, 1]) / tall
        start = np.ceil(height).clip(0, n).astype(np.int64)
        np.add.at(winding, (column[hit, 0] * n + column[hit, 1], start), np.where(above[hit], -1, 1).astype(np.int16))
    return np.asarray(np.cumsum(winding, axis=1)[:, :n].reshape(n, n, n) > 0)


def euler(filled: Filled) -> int:
    """Euler characteristic of the union of closed cubes."""
    padded = np.pad(filled, 1)

    def joined(grid: Filled, axis: int) -> Filled:
        ahead = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
        behind = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
        return np.asarray(grid[ahead] | grid[behind])

    x, y, z = (joined(padded, axis) for axis in range(3))
    xy, yz, zx = joined(x, 1), joined(y, 2), joined(z, 0)
    corners, edges = joined(xy, 2).sum(), xy.sum() + yz.sum() + zx.sum()
    return int(corners) - int(edges) + int(x.sum() + y.sum() + z.sum()) - int(filled.sum())


def betti(filled: Filled) -> tuple[int, int, int]:
    """Parts, handles and hollows (the Betti numbers 0, 1 and 2) of what is filled."""
    if not filled.any():
        return 0, 0, 0
    filled = filled[ndimage.find_objects(filled.astype(np.int8))[0]]
    parts = int(ndimage.label(filled, TOUCHING)[1])
    hollows = int(ndimage.label(~np.pad(filled, 1))[1]) - 1
    return parts, parts + hollows - euler(filled), hollows


def handles_of(filled: Filled) -> int:
    return betti(filled)[1]
