"""What is too short to be seen, and makes other programs refuse a mesh, taken out of it.

Marching cubes leaves edges of a thousandth of a cell where the surface passes by a lattice point. Blender takes a mesh
whose ends of an edge differ by 1e-4 of its unit or less along every axis for one that is not manifold, and remeshes
none of them.
"""

from __future__ import annotations

from ..frames import BOUND
from ..geometry.meshes import Mesh
from ..surfaces.short_edges import without_short_edges

IN_SCENE = 2e-4
"""In the scene's unit: wherever an edge points, it is longer than 1e-4 along some axis."""
OF_CELL, MOST_OF_CELL = 0.05, 0.4
"""Of a cell: shorter edges carry no form. Small things keep their form, whatever the scene's unit."""


def shortest_edge(resolution: int, scale: float) -> float:
    """Canonical length below which edges are slivers. resolution: cells along the canonical box.  scale: from the
    canonical frame to the scene."""
    cell = 2 * BOUND / resolution
    return min(max(IN_SCENE / scale, OF_CELL * cell), MOST_OF_CELL * cell)


def without_slivers(mesh: Mesh, resolution: int, scale: float) -> Mesh:
    """A canonical mesh with no edge shorter than `shortest_edge`; `without_short_edges` says what stays as it was."""
    return without_short_edges(mesh, shortest_edge(resolution, scale))
