"""How sound a completion is as an asset, measured against the truth: what F-score and Chamfer distance hide.

Every measure has a price for what is missing as well as for what is too much, so that none can be bought by leaving
something out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ...finish.lattice import Lattice, filled_by
from ...finish.soundness import feet
from ...finish.topology import topology_of, welded
from ...finish.tunnels import Tunnel, shared
from ...geometry.connected import labels_of
from ...geometry.meshes import Mesh, face_areas
from ...geometry.rays import RayCaster
from ...geometry.signed_distance import SignedDistance, sphere_directions
from . import surfaces
from .solid import below, solid_of
from .surfaces import Skin

COLUMNS: dict[str, tuple[str, float]] = {
    "whole": ("one part where the truth is one, %", 100.0),
    "parts": ("parts", 1.0),
    "parts_surplus": ("parts beyond the truth's", 1.0),
    "crumbs": ("crumbs", 1.0),
    "cavities": ("closed hollows", 1.0),
    "handles": ("handles", 1.0),
    "handles_surplus": ("surplus handles", 1.0),
    "handles_missing": ("missing handles", 1.0),
    "thickness_error": ("error of thin parts' thickness, % of size", 100.0),
    "thin_missing": ("thin parts missing, %", 100.0),
    "part_recall": ("recall of the truth's worst part, %", 100.0),
    "empty_filled": ("seen-empty volume filled, % of the truth's", 100.0),
    "flatness": ("waves of flat parts, RMS, % of size", 100.0),
    "flat_covered": ("flat parts there, %", 100.0),
    "creases": ("angle of creases kept, %", 100.0),
    "unlikeness": ("difference of repeated parts, % of size", 100.0),
    "asymmetry": ("off its mirror image, % of size", 100.0),
    "floor": ("feet off one floor, % of size", 100.0),
    "smallest_edge": ("smallest edge, % of size", 100.0),
    "median_edge": ("median edge, % of size", 100.0),
    "watertight": ("watertight, %", 100.0),
    "quads": ("accepted by QuadriFlow, %", 100.0),
}
"""Columns of the report: {key of a row: (what it says, factor)}."""

PROBES = 30_000
_MISSING_FOOT = 0.05
NARROW = 2.5
"""Membranes that a ball of so many steps lays, over openings below about 4 % of the size, are narrow."""
_LINES = sphere_directions(24, lowest_elevation=0.0)
MOST_NODES, TOUCHING_NODES = 4000, 1.8
"""Of a membrane so many nodes are looked through at most; neighbours by a corner belong to one spot."""


class TrueAsset:
    """A shape as answers are compared with it. Build once, measure often.

    mesh: canonical.  points, normals: (N, 3) of its visible surface, evenly by area.  cache: where its solid is kept.
    """

    def __init__(self, mesh: Mesh, points: NDArray[Any], normals: NDArray[Any], cache: Path | None = None) -> None:
        rng = np.random.default_rng(0)
        self.lattice = Lattice()
        self.mesh = surfaces.truth_of(mesh)
        self.field = SignedDistance(self.mesh)
        self.solid = solid_of(self.mesh, self.field, self.lattice, cache)
        # What one cannot look through (below cushions, behind drawers) nobody wants and nobody minds.
        clear = [(tunnel, self._looked_through(tunnel)) for tunnel in self.solid.tunnels]
        self.tunnels = [replace(tunnel, handles=handles) for tunnel, handles in clear if handles]
        self.handles = sum(tunnel.handles for tunnel in self.tunnels)
        some = rng.permutation(len(points))[:PROBES]
        self.skin = Skin.of(points[some], normals[some])
        face, self.part = surfaces.part_of(self.mesh, self.skin.points)
        region = surfaces.flat_regions(self.mesh)[face]
        self.flat = np.arange(len(some))[: PROBES // 2]
        self.flat = self.flat[surfaces.within_rims(self.skin, region, self.flat)]
        self.flat_region = region[self.flat]
        self.creases = surfaces.creases_of(self.mesh, self.skin, rng)
        self.pairs = surfaces.repeated(self.skin, self.part)
        self.symmetric = surfaces.mirrored_off(self.skin) < 0.003
        looked = np.arange(min(4000, len(some)))
        thick = surfaces.thickness(self.field, self.skin.points[looked], self.skin.normals[looked])
        self.thin, self.thick = looked[np.isfinite(thick)], thick[np.isfinite(thick)]
        self.feet = self._feet()

    def measure(
        self, answer: Mesh | None, points: NDArray[Any], normals: NDArray[Any], viewpoint: NDArray[Any] | None
    ) -> dict[str, Any]:
        """The row of COLUMNS (raw, canonical units); None where one does not apply.

        answer: canonical; None or without faces: it failed.  points, normals: (M, 3) of its surface, evenly by area.
        viewpoint: (3,) where the scan was taken from, canonical.
        """
        row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"true_parts": self.solid.parts, "true_handles": self.handles}
        mesh = None if answer is None else welded(answer)
        if mesh is None or len(mesh.faces) == 0:
            return row | {
                "whole": 0.0 if self.solid.parts == 1 else None, "handles_missing": float(self.handles),
                "part_recall": 0.0, "thin_missing": 1.0, "flat_covered": 0.0, "creases": 0.0, "watertight": 0.0,
            }  # fmt: skip
        skin = Skin.of(points, normals)
        told = topology_of(mesh, face_areas(mesh))
        closed = filled_by(mesh, self.lattice) if told.watertight else self._filled_by_open(mesh)
        found = min(shared(self.tunnels, closed), told.handles)
        allowed = min(max(found, shared(self.solid.tunnels, closed)), told.handles)
        off = skin.off(self.skin.points, self.skin.normals)
        flatness, covered = surfaces.flatness(off[self.flat], self.skin.points[self.flat], self.flat_region)
        caster = RayCaster(mesh)
        thin: tuple[float | None, float | None] = (None, None)
        if len(self.thin) >= 40:
            thin = surfaces.thickness_off(caster, self.skin.points[self.thin], self.skin.normals[self.thin], self.thick)
        return row | {
            "whole": float(told.parts == 1) if self.solid.parts == 1 else None,
            "parts": told.parts,
            "parts_surplus": max(0, told.parts - self.solid.parts),
            "crumbs": told.crumbs,
            "cavities": told.cavities,
            "handles": told.handles,
            "handles_surplus": told.handles - allowed,
            "handles_missing": self.handles - found,
            "thickness_error": thin[0],
            "thin_missing": thin[1],
            "part_recall": self._worst_part(skin),
            "empty_filled": None if viewpoint is None else self._empty_filled(closed, viewpoint),
            "flatness": flatness,
            "flat_covered": covered,
            "creases": surfaces.creases_kept(self.creases, skin),
            "unlikeness": surfaces.unlikeness(off, self.pairs),
            "asymmetry": surfaces.mirrored_off(skin) if self.symmetric else None,
            "floor": self._floor(np.concatenate([skin.points, mesh.vertices.astype(np.float64)])),
            "smallest_edge": told.smallest_edge,
            "median_edge": told.median_edge,
            "watertight": float(told.watertight),
        }

    def _looked_through(self, tunnel: Tunnel) -> int:
        """How many of a membrane's handles one can look through: all, where some straight line passes through it and
        meets nothing on either side; of a narrow one, which may hang together from openings and crevices, as many as it
        has spots through which such lines pass."""
        nodes = tunnel.membrane[np.random.default_rng(0).permutation(len(tunnel.membrane))[:MOST_NODES]]
        places = np.repeat(self.lattice.points(nodes), len(_LINES), axis=0)
        lines = np.tile(_LINES, (len(nodes), 1))
        free = ~self.field.occluded(places, lines)
        free[free] = ~self.field.occluded(places[free], -lines[free])
        nodes = nodes[free.reshape(len(nodes), -1).any(1)]
        if len(nodes) == 0 or tunnel.handles == 1 or tunnel.radius > NARROW:
            return tunnel.handles if len(nodes) else 0
        reach = TOUCHING_NODES * max(1.0, (len(tunnel.membrane) / MOST_NODES) ** 0.5)  # thinned, they lie farther apart
        pairs = cKDTree(nodes).query_pairs(reach, output_type="ndarray").astype(np.int64)
        return min(tunnel.handles, int(labels_of(len(nodes), *pairs.T).max()) + 1)

    def _filled_by_open(self, mesh: Mesh) -> NDArray[np.bool_]:
        field = SignedDistance(mesh)
        return below(lambda places: field(places)[0], self.lattice, 0.0)

    def _worst_part(self, skin: Skin) -> float:
        """Least share of a connected part's visible surface within 1 % of the answer; parts of 0.3 % of the surface."""
        near = skin.tree.query(self.skin.points, distance_upper_bound=0.01)[0] <= 0.01
        counts = np.bincount(self.part)
        shares = np.bincount(self.part, weights=near) / np.maximum(counts, 1)
        large = counts >= 0.003 * len(self.part)
        return float(shares[large].min()) if large.any() else float(near.mean())

    def _empty_filled(self, filled: NDArray[np.bool_], viewpoint: NDArray[Any]) -> float:
        """Of what the scanner looked through, farther than 1.5 % of the size from the truth: how much is filled."""
        index = np.argwhere(filled & ~self.solid.filled)
        if len(index) == 0:
            return 0.0
        places = self.lattice.points(index)
        places = places[np.linalg.norm(places - self.field.closest(places), axis=1) > 0.015]
        if len(places) == 0:
            return 0.0
        towards = np.asarray(viewpoint, np.float32) - places
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        through = ~self.field.occluded(places, towards) & self.field.outside(places)
        return float(through.sum()) / max(int(self.solid.filled.sum()), 1)

    def _feet(self) -> list[tuple[NDArray[np.float64], float]]:
        """Places (K, 2) of each foot of the truth and its height; of a single one, of its four quarters."""
        found = [self.mesh.vertices[foot].astype(np.float64) for foot in feet(self.mesh)]
        if len(found) == 1:
            low = self.skin.points[self.skin.points[:, 2] < self.skin.points[:, 2].min() + 0.01]
            whole = np.concatenate([found[0], low])
            side = (whole[:, :2] > 0.5 * (whole[:, :2].min(0) + whole[:, :2].max(0))) @ [1, 2]
            found = [whole[side == k] for k in range(4) if (side == k).any()]
        rows = [(foot[foot[:, 2] < foot[:, 2].min() + 0.01, :2], float(foot[:, 2].min())) for foot in found]
        lowest = min(height for _, height in rows)
        return [(places, height) for places, height in rows if height < lowest + 0.01]

    def _floor(self, points: NDArray[np.float64]) -> float | None:
        """Largest difference between feet in how far the answer's is above or below the truth's."""
        if len(self.feet) < 2:
            return None
        off = []
        for places, height in self.feet:
            beside = cKDTree(places).query(points[:, :2], distance_upper_bound=0.02)[0] <= 0.02
            low = points[beside & (points[:, 2] < height + _MISSING_FOOT), 2]
            off.append(float(low.min()) - height if len(low) else _MISSING_FOOT)
        return float(np.ptp(off)) if min(off) < _MISSING_FOOT else _MISSING_FOOT
