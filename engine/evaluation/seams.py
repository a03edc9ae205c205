"""Is there a seam where observed and imagined parts of a completion meet?

Shading shows the direction of the normals, and a seam is a line along which they jump. Real edges are such lines too,
and the border of what was seen often runs along one (the rim of a seat). So a place is looked at with two fields: the
answer's own, and that without the correction which keeps what was seen (engine.completion.refinement). Where normals
of the uncorrected field hardly turn from one vertex to the next and those of the answer turn sharply, the correction
made a crease that the prior's shape has not. Creases are counted apart for what was seen, what was not, and the border
between the two: a seam is a border with more creases than either side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..geometry.clouds import FloatArray, PointCloud
from ..geometry.meshes import Mesh
from ..surfaces.marching import field_normals

SEEN_WITHIN, RINGS = 0.012, 4
"""A vertex this near to an observed point (canonical) counts as seen; so many edges from the border count as border."""
SMOOTH, SHARP = 10.0, 20.0
"""Degrees that the normal turns along one edge of the mesh: less is smooth, more is a crease."""

ZONES = ("observed", "border", "imagined")


@dataclass
class Zone:
    """Figures of one part of a surface, over the edges of its mesh.

    edges: how many.  turn, turn_before: mean angle between the normals at an edge's ends, degrees, in the answer and in
    the uncorrected field at the same places.  sharp, sharp_before: share of the edges along which they turn by more
    than SHARP.  creased: of the edges smooth in the uncorrected field, the share that the correction made sharp.
    """

    edges: int
    turn: float
    turn_before: float
    sharp: float
    sharp_before: float
    creased: float


def mesh_edges(faces: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """(F, 3) -> (E, 2) vertex numbers, each edge once, the lower first."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    sides.sort(axis=1)
    edges: NDArray[np.int64] = np.unique(sides, axis=0)
    return edges


def seen_vertices(mesh: Mesh, observed: PointCloud, normals: FloatArray) -> NDArray[np.bool_]:
    """(V,) whether a vertex of a canonical mesh lies at observed points and (with a viewpoint) faces where they were
    seen from; stray islands of either kind are evened out."""
    seen: NDArray[np.bool_] = cKDTree(observed.points).query(mesh.vertices)[0] < SEEN_WITHIN
    if observed.viewpoint is not None:
        seen &= ((observed.viewpoint - mesh.vertices) * normals).sum(1) > 0
    edges = mesh_edges(mesh.faces)
    share = seen.astype(np.float64)
    count = np.bincount(edges.ravel(), minlength=len(share)) + 1
    for _ in range(3):
        a, b = share[edges[:, 0]], share[edges[:, 1]]
        around = np.bincount(edges[:, 0], b, len(share)) + np.bincount(edges[:, 1], a, len(share))
        share = (share + around) / count
    smoothed: NDArray[np.bool_] = share > 0.5
    return smoothed


def zones_of(edges: NDArray[np.int64], seen: NDArray[np.bool_], rings: int = RINGS) -> NDArray[np.int64]:
    """(E,) index into ZONES: within `rings` edges of where seen and unseen vertices meet it is the border."""
    near = np.zeros(len(seen), bool)
    near[edges[seen[edges[:, 0]] != seen[edges[:, 1]]].ravel()] = True
    for _ in range(rings - 1):
        touched = edges[near[edges].any(axis=1)]
        near[touched.ravel()] = True
    side = np.where(seen[edges[:, 0]], 0, 2)
    zones: NDArray[np.int64] = np.where(near[edges].all(axis=1), 1, side)
    return zones


def measure_seam(
    mesh: Mesh,
    observed: PointCloud,
    corrected: Callable[[torch.Tensor], torch.Tensor],
    uncorrected: Callable[[torch.Tensor], torch.Tensor],
    step: float,
    device: torch.device | str = "cpu",
) -> dict[str, dict[str, float]]:
    """{zone: figures of `Zone`}. mesh: the answer, canonical, as extracted.  observed: canonical, with its viewpoint.
    corrected, uncorrected: the fields with and without what keeps the observed points.  step: of the differences that
    give normals, half a cell."""
    normals = field_normals(corrected, mesh.vertices, step, device=device)
    before = field_normals(uncorrected, mesh.vertices, step, device=device)
    edges = mesh_edges(mesh.faces)
    zone = zones_of(edges, seen_vertices(mesh, observed, normals))

    def turns(unit: FloatArray) -> NDArray[np.float64]:
        cosine = np.einsum("ei,ei->e", unit[edges[:, 0]].astype(np.float64), unit[edges[:, 1]].astype(np.float64))
        return np.asarray(np.degrees(np.arccos(cosine.clip(-1, 1))), np.float64)

    after_turn, before_turn = turns(normals), turns(before)
    figures = {}
    for k, name in enumerate(ZONES):
        here = zone == k
        if not here.any():
            figures[name] = asdict(Zone(0, 0.0, 0.0, 0.0, 0.0, 0.0))
            continue
        smooth = here & (before_turn < SMOOTH)
        figures[name] = asdict(Zone(
            int(here.sum()), float(after_turn[here].mean()), float(before_turn[here].mean()),
            float((after_turn[here] > SHARP).mean()), float((before_turn[here] > SHARP).mean()),
            float((after_turn[smooth] > SHARP).mean()) if smooth.any() else 0.0,
        ))  # fmt: skip
    return figures
