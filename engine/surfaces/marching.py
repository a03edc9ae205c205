"""From a signed distance field to triangles: dense and coarse-to-fine marching cubes.

Marching cubes (Lorensen and Cline 1987) runs here on a list of cells, not on a box of voxels, so that the
coarse-to-fine extraction never builds a dense grid, and runs where the field lives (CPU or CUDA). The cases are in
case_table.py.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import Cancelled, JobFailed
from ..frames import BOUND
from ..geometry.meshes import Mesh
from .case_table import CORNERS, case_table

log = logging.getLogger(__name__)

Field = Callable[[torch.Tensor], torch.Tensor]
"""(N, 3) float32 canonical points within [-bound, bound]^3 -> (N,) signed distance, negative inside, same device."""

LevelCallback = Callable[[Mesh, int], None]


@dataclass
class LevelStats:
    """What one resolution of an extraction cost.

    resolution: cells along the box.  cells: cells looked at.  cut_cells: cells that the surface crosses.
    followed_cells: cells that the Lipschitz margin had excluded and that the surface led to nevertheless.
    evaluations: field queries spent on this level.
    """

    resolution: int
    cells: int
    cut_cells: int
    followed_cells: int
    evaluations: int
    faces: int
    seconds: float


@dataclass
class Extraction:
    """mesh: watertight, canonical frame.  evaluations: field queries in all, those for normals included.

    peak_bytes: the device's peak memory during the extraction, field included; None on the CPU, where nobody counts it.
    """

    mesh: Mesh
    evaluations: int
    peak_bytes: int | None = None
    levels: list[LevelStats] = field(default_factory=list)


def extract_dense(
    field: Field,
    resolution: int,
    *,
    device: torch.device | str = "cpu",
    bound: float = BOUND,
    lipschitz: float = 1.0,
    chunk: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    with_normals: bool = False,
) -> Extraction:
    """Marching cubes over all (resolution + 1)^3 lattice points of [-bound, bound]^3: the yardstick for extract_sparse.

    Memory grows with resolution^3 (5 bytes a lattice point). lipschitz: the field's, used only where the shape runs out
    of the box and is closed there.
    Raises: JobFailed "empty_surface", "field_not_finite"; Cancelled once should_stop() is true.
    """
    return _extract(field, resolution, 0, device, bound, chunk, None, should_stop, lipschitz, 1.0, with_normals)


def extract_sparse(
    field: Field,
    resolution: int,
    *,
    device: torch.device | str = "cpu",
    bound: float = BOUND,
    on_level: LevelCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
    coarse: int = 32,
    lipschitz: float = 1.0,
    safety: float = 1.1,
    chunk: int | None = None,
    with_normals: bool = False,
) -> Extraction:
    """Coarse-to-fine marching cubes: evaluates only where the surface can be.

    A grid of at most `coarse` cells a side is evaluated whole; then every cell that a field with Lipschitz constant
    `lipschitz * safety` could have a zero in is split in eight, until `resolution` cells a side (any number, powers of
    two or not). Where the field keeps that Lipschitz constant the triangles are those of extract_dense. Where it does
    not, the surface is followed across cell faces, so the mesh is closed all the same; only a component that no level
    saw a sign of can be missed.

    on_level(mesh, level_resolution) gets the mesh of every level, the last included, coarse first; levels that do not
    show a surface yet are skipped.  with_normals: vertex normals of the final mesh by central differences (six more
    queries a vertex).  chunk: points in one field call, None = 65,536 on the CPU and 262,144 elsewhere.
    A shape that runs out of the box is closed just inside the box's sides.
    Raises: JobFailed "empty_surface", "field_not_finite"; Cancelled once should_stop() is true (asked before every
    chunk).
    """
    if coarse < 2:
        raise ValueError("coarse must be at least 2")
    splits = max(0, math.ceil(math.log2(resolution / coarse))) if resolution > coarse else 0
    return _extract(
        field, resolution, splits, device, bound, chunk, on_level, should_stop, lipschitz, safety, with_normals
    )


# --- the extraction itself -------------------------------------------------------------------------------------------


@dataclass
class _Lattice:
    """The points of one level: (cells + 1)^3 of them, `step` apart, numbered with z fastest."""

    cells: int
    step: float

    @property
    def side(self) -> int:
        return self.cells + 1

    def node_ids(self, ijk: torch.Tensor) -> torch.Tensor:
        return (ijk[..., 0] * self.side + ijk[..., 1]) * self.side + ijk[..., 2]

    def node_ijk(self, ids: torch.Tensor) -> torch.Tensor:
        return _unravel(ids, self.side)

    def cell_ids(self, ijk: torch.Tensor) -> torch.Tensor:
        return (ijk[..., 0] * self.cells + ijk[..., 1]) * self.cells + ijk[..., 2]

    def cell_ijk(self, ids: torch.Tensor) -> torch.Tensor:
        return _unravel(ids, self.cells)

    def corner_ids(self, cells: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
        """(C,) cell ids -> (C, 8) node ids."""
        return self.node_ids(self.cell_ijk(cells))[:, None] + self.node_ids(corners)[None]


@dataclass
class _Sampler:
    """Evaluates the field at lattice points, in chunks, counting; closes the shape at the box.

    Near the sides the field is intersected with a box half a (final) cell smaller than the domain. Scaled by the
    Lipschitz constant, that box keeps the sum of both within the same constant.
    """

    field: Field
    device: torch.device
    bound: float
    half_side: float
    lipschitz: float
    chunk: int
    should_stop: Callable[[], bool] | None
    evaluations: int = 0

    def at(self, points: torch.Tensor) -> torch.Tensor:
        """(N, 3) points on any device -> (N,) raw field values on that device."""
        values = torch.empty(len(points), dtype=torch.float32, device=points.device)
        for start in range(0, len(points), self.chunk):
            if self.should_stop is not None and self.should_stop():
                raise Cancelled
            part = points[start : start + self.chunk].clamp(-self.bound, self.bound).to(self.device)
            with torch.no_grad():
                answer = self.field(part)
            if answer.shape != (len(part),):
                raise ValueError(f"the field answered {tuple(answer.shape)} to {len(part)} points, expected one each")
            values[start : start + len(part)] = answer.to(points.device, torch.float32)
        self.evaluations += len(points)
        if not bool(torch.isfinite(values).all()):
            raise JobFailed(
                "field_not_finite",
                "The surface could not be extracted.",
                "The shape's field has values that are not numbers (NaN or infinity).",
                "Try another seed or another prior; if a prior does this always, its file or its training is broken.",
            )
        return values

    def at_nodes(self, lattice: _Lattice, ids: torch.Tensor) -> torch.Tensor:
        """(N,) node ids -> (N,) values of the closed field."""
        values = torch.empty(len(ids), dtype=torch.float32, device=ids.device)
        for start in range(0, len(ids), self.chunk):  # chunked here too: the points of a dense 512^3 would take 1.6 GB
            points = self.positions(lattice, ids[start : start + self.chunk])
            box = self.lipschitz * (points.abs().amax(dim=1) - self.half_side)
            values[start : start + len(points)] = torch.maximum(self.at(points), box)
        return values

    def positions(self, lattice: _Lattice, ids: torch.Tensor) -> torch.Tensor:
        return lattice.node_ijk(ids).to(torch.float32) * lattice.step - self.bound


@dataclass
class _Level:
    """Everything known at one resolution. All id lists ascend.

    nodes: (N,) ids, values: (N,) closed field.  cells: (C,) ids, corners: (C, 8) indices into nodes.
    cases: (C,) sign patterns, bit c set where corner c lies inside; 0 and 255 are not crossed by the surface.
    """

    lattice: _Lattice
    nodes: torch.Tensor
    values: torch.Tensor
    cells: torch.Tensor
    corners: torch.Tensor
    followed: int = 0
    cases: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        inside = self.values < 0
        self.cases = inside[self.corners[:, 0]].to(torch.int64)
        for corner in range(1, 8):
            self.cases |= inside[self.corners[:, corner]].to(torch.int64) << corner

    def is_cut(self) -> torch.Tensor:
        """(C,) whether the surface crosses the cell."""
        cut: torch.Tensor = (self.cases != 0) & (self.cases != 255)
        return cut


def _extract(
    field: Field,
    resolution: int,
    splits: int,
    device: torch.device | str,
    bound: float,
    chunk: int | None,
    on_level: LevelCallback | None,
    should_stop: Callable[[], bool] | None,
    lipschitz: float,
    safety: float,
    with_normals: bool,
) -> Extraction:
    if resolution < 2:
        raise ValueError("resolution must be at least 2")
    device = torch.device(device)
    on_cuda = device.type == "cuda"
    # The bookkeeping (sorting 64-bit ids) runs beside the field on CUDA; other accelerators lack parts of it.
    home = device if on_cuda else torch.device("cpu")
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    cell = 2.0 * bound / resolution
    if chunk is None:
        chunk = 65_536 if device.type == "cpu" else 262_144
    sampler = _Sampler(field, device, bound, bound - 0.5 * cell, lipschitz, chunk, should_stop)

    # A resolution that 2^splits does not divide: the coarse cells overhang the box; beyond it all is outside.
    coarse_cells = -(-resolution // 2**splits)
    lattice = _Lattice(coarse_cells, cell * 2**splits)
    slope = lipschitz * safety
    stats: list[LevelStats] = []
    level: _Level | None = None
    mesh: Mesh | None = None
    for split in range(splits + 1):
        started, spent = time.perf_counter(), sampler.evaluations
        last = split == splits
        if level is None:
            level = _whole_level(lattice, sampler, home, keep_all=not last)
        else:
            level = _refined(level, sampler, slope)
            lattice = level.lattice
        cut = level.is_cut()
        mesh = _march(level, cut, sampler) if (last or on_level is not None) and bool(cut.any()) else None
        stats.append(
            LevelStats(
                resolution=-(-resolution // 2 ** (splits - split)),
                cells=lattice.cells**3 if split == 0 else len(level.cells),
                cut_cells=int(cut.sum()),
                followed_cells=level.followed,
                evaluations=sampler.evaluations - spent,
                faces=0 if mesh is None else len(mesh.faces),
                seconds=time.perf_counter() - started,
            )
        )
        log.debug("extraction level %s", stats[-1])
        if mesh is not None and on_level is not None:
            on_level(mesh, stats[-1].resolution)
    if mesh is None:
        raise JobFailed(
            "empty_surface",
            "No surface came out.",
            f"The shape's field has no zero crossing on a grid of {resolution} cells a side.",
            "Raise the resolution, try another seed or another prior, or check that the input's scale and up axis fit.",
        )
    if with_normals:
        mesh.normals = _field_normals(sampler, mesh.vertices, 0.5 * cell, home)
    peak = int(torch.cuda.max_memory_allocated(device)) if on_cuda else None
    return Extraction(mesh, sampler.evaluations, peak, stats)


def _whole_level(lattice: _Lattice, sampler: _Sampler, home: torch.device, keep_all: bool) -> _Level:
    """Every lattice point. keep_all: list all cells, to be refined; else only those that the surface crosses."""
    values = sampler.at_nodes(lattice, torch.arange(lattice.side**3, device=home))
    if keep_all:
        cells = torch.arange(lattice.cells**3, device=home)
        return _Level(lattice, torch.arange(len(values), device=home), values, cells, _corner_ids(lattice, cells))
    inside = (values < 0).view(lattice.side, lattice.side, lattice.side)
    found = []
    for i in range(lattice.cells):  # slab by slab, so that the temporaries stay small
        slab = inside[i : i + 2]
        corners = [slab[x, y : y + lattice.cells, z : z + lattice.cells] for x, y, z in product((0, 1), repeat=3)]
        any_in, all_in = corners[0].clone(), corners[0].clone()
        for corner in corners[1:]:
            any_in |= corner
            all_in &= corner
        found.append((any_in & ~all_in).flatten().nonzero()[:, 0] + i * lattice.cells**2)
    cells = torch.cat(found)
    nodes, corners_of = _numbered(_corner_ids(lattice, cells))
    return _Level(lattice, nodes, values[nodes], cells, corners_of)


# How far from a set of a cube's corners its points can lie, in edge lengths: the mean distance to all eight is largest
# at a corner; the sum of the distances to two opposite corners is largest at any other corner.
_MEAN_TOCORNERS = (3.0 + 3.0 * math.sqrt(2.0) + math.sqrt(3.0)) / 8.0
_SUM_TO_OPPOSITE = 1.0 + math.sqrt(2.0)


def _refined(coarse: _Level, sampler: _Sampler, slope: float) -> _Level:
    """Splits the cells that a field with Lipschitz constant `slope` may have a zero in.

    Two steps, since the second saves a third of all queries: a cell is kept or dropped by its eight corners; of a kept
    cell the centre is evaluated, and each eighth is kept or dropped by the two opposite corners known by then.
    """
    home = coarse.nodes.device
    fine = _Lattice(coarse.lattice.cells * 2, coarse.lattice.step / 2)
    at_corners = coarse.values[coarse.corners]
    near = at_corners.abs().mean(dim=1) <= slope * _MEAN_TOCORNERS * coarse.lattice.step
    keep = near | coarse.is_cut()
    at_corners = at_corners[keep]
    parents = coarse.lattice.cell_ijk(coarse.cells[keep])
    centres = fine.node_ids(2 * parents + 1)
    at_centres = sampler.at_nodes(fine, centres)
    crossed = (at_corners < 0) != (at_centres[:, None] < 0)
    near = at_corners.abs() + at_centres.abs()[:, None] <= slope * _SUM_TO_OPPOSITE * fine.step
    parent, octant = (crossed | near).nonzero(as_tuple=True)
    cells = torch.sort(fine.cell_ids(2 * parents[parent] + _corner_offsets(home)[octant])).values

    known_ids = torch.cat([fine.node_ids(2 * coarse.lattice.node_ijk(coarse.nodes)), centres])
    known_ids, order = torch.sort(known_ids)
    known_values = torch.cat([coarse.values, at_centres])[order]
    level = _with_cells(fine, cells, known_ids, known_values, sampler)

    # A field steeper than promised may lead out of the cells kept. Follow it, so that the surface has no hole.
    while True:
        beyond = _uncovered_neighbours(level)
        if len(beyond) == 0:
            return level
        cells = torch.sort(torch.cat([level.cells, beyond])).values
        followed = level.followed + len(beyond)
        level = _with_cells(fine, cells, level.nodes, level.values, sampler)
        level.followed = followed


def _with_cells(
    lattice: _Lattice, cells: torch.Tensor, known_ids: torch.Tensor, known_values: torch.Tensor, sampler: _Sampler
) -> _Level:
    """The level of these cells; nodes among known_ids (ascending) keep their values, the others are evaluated."""
    nodes, corners = _numbered(_corner_ids(lattice, cells))
    values = torch.empty(len(nodes), dtype=torch.float32, device=nodes.device)
    where, known = _look_up(known_ids, nodes)
    values[known] = known_values[where[known]]
    values[~known] = sampler.at_nodes(lattice, nodes[~known])
    return _Level(lattice, nodes, values, cells, corners)


def _uncovered_neighbours(level: _Level) -> torch.Tensor:
    """Ids of cells not in the level that share a crossed face with one that is."""
    cut = level.is_cut()
    cases, ijk = level.cases[cut], level.lattice.cell_ijk(level.cells[cut])
    found = []
    for axis, side in product(range(3), (0, 1)):
        mask = sum(1 << corner for corner in range(8) if corner >> axis & 1 == side)
        face = cases & mask
        neighbour = ijk[(face != 0) & (face != mask)]
        neighbour[:, axis] += 2 * side - 1
        valid = (neighbour[:, axis] >= 0) & (neighbour[:, axis] < level.lattice.cells)
        ids = level.lattice.cell_ids(neighbour[valid])
        found.append(ids[~_look_up(level.cells, ids)[1]])
    beyond: torch.Tensor = torch.unique(torch.cat(found))
    return beyond


def _march(level: _Level, cut: torch.Tensor, sampler: _Sampler) -> Mesh:
    """Triangles of the cut cells. One vertex for each crossed lattice edge, so there is nothing to weld."""
    home = level.nodes.device
    table = case_table()
    corners = level.corners[cut]
    case = level.cases[cut]
    counts = torch.from_numpy(table.counts).to(home)[case]
    rows = torch.repeat_interleave(torch.arange(len(corners), device=home), counts)
    nth = torch.arange(len(rows), device=home) - (torch.cumsum(counts, 0) - counts)[rows]
    cell_edges = torch.from_numpy(table.triangles).to(home)[case[rows], nth]  # (F, 3) edges of the cell, 0..11
    start = torch.from_numpy(table.edge_start).to(home)[cell_edges]
    axis = torch.from_numpy(table.edge_axis).to(home)[cell_edges]
    keys = corners[rows[:, None], start] * 3 + axis  # an edge is its lower node and its axis

    used = torch.zeros(3 * len(level.nodes), dtype=torch.bool, device=home)
    used[keys.flatten()] = True
    edges = used.nonzero()[:, 0]
    number = torch.cumsum(used, 0, dtype=torch.int64) - 1
    faces = number[keys].to(torch.int32)

    low = torch.div(edges, 3, rounding_mode="floor")
    axis = edges - 3 * low
    ijk = level.lattice.node_ijk(level.nodes[low])
    step = torch.eye(3, dtype=torch.int64, device=home)[axis]
    high = _look_up(level.nodes, level.lattice.node_ids(ijk + step))[0]
    a, b = level.values[low], level.values[high]
    # Kept off the lattice points, where several vertices would fall together and triangles vanish.
    t = (a / (a - b)).clamp(1e-3, 1.0 - 1e-3)
    vertices = (ijk.to(torch.float32) + t[:, None] * step.to(torch.float32)) * level.lattice.step - sampler.bound
    return Mesh(vertices.cpu().numpy(), faces.cpu().numpy())


def field_normals(
    field: Field,
    vertices: NDArray[np.float32],
    step: float,
    *,
    device: torch.device | str = "cpu",
    bound: float = BOUND,
) -> NDArray[np.float32]:
    """(V, 3) unit gradients of the field at vertices (V, 3) of the canonical frame, by central differences of `step`.

    Where the gradient vanishes: the zero vector. Raises JobFailed "field_not_finite".
    """
    device = torch.device(device)
    chunk = 65_536 if device.type == "cpu" else 262_144
    home = device if device.type == "cuda" else torch.device("cpu")
    return _field_normals(_Sampler(field, device, bound, bound, 1.0, chunk, None), vertices, step, home)


def _field_normals(
    sampler: _Sampler, vertices: NDArray[np.float32], step: float, home: torch.device
) -> NDArray[np.float32]:
    """(V, 3) unit gradients by central differences. Where the gradient vanishes: the zero vector."""
    points = torch.from_numpy(vertices).to(home)
    offsets = torch.cat([torch.eye(3, device=home), -torch.eye(3, device=home)]) * step
    # Clamped before the query, and divided by the distance really walked, so that the sides of the box are right too.
    probes = (points[:, None] + offsets[None]).clamp(-sampler.bound, sampler.bound)
    values = sampler.at(probes.reshape(-1, 3)).view(-1, 2, 3)
    axis = torch.arange(3, device=home)
    walked = probes[:, axis, axis] - probes[:, axis + 3, axis]
    gradient = (values[:, 0] - values[:, 1]) / walked
    length = gradient.norm(dim=1, keepdim=True)
    normals: NDArray[np.float32] = torch.where(length > 0, gradient / length.clamp_min(1e-30), 0.0).cpu().numpy()
    return normals


def _unravel(ids: torch.Tensor, side: int) -> torch.Tensor:
    rest = torch.div(ids, side, rounding_mode="floor")
    i = torch.div(rest, side, rounding_mode="floor")
    return torch.stack([i, rest - i * side, ids - rest * side], dim=-1)


def _corner_offsets(device: torch.device) -> torch.Tensor:
    return torch.from_numpy(CORNERS).to(device)


def _corner_ids(lattice: _Lattice, cells: torch.Tensor) -> torch.Tensor:
    return lattice.corner_ids(cells, _corner_offsets(cells.device))


def _numbered(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(C, 8) node ids -> the distinct ones ascending, and (C, 8) indices into them."""
    nodes, index = torch.unique(ids, return_inverse=True)
    return nodes, index


def _look_up(ascending: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each wanted id stands in the ascending list, and whether it really is there."""
    if len(ascending) == 0:
        nowhere = torch.zeros_like(wanted)
        return nowhere, nowhere.to(torch.bool)
    where = torch.searchsorted(ascending, wanted).clamp_max(len(ascending) - 1)
    return where, ascending[where] == wanted
