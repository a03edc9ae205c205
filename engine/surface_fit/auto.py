"""The method `auto`: a closed surface from oriented points in seconds, by two linear solves and no network.

1. *Winding number.* Area-weighted normals, blurred as far as the cloud is sparse, are the gradient of an indicator
   (Poisson surface reconstruction, Kazhdan et al. 2006); solved by FFT on a lattice as fine as the cloud. Its sign says
   where inside is, closes holes, and points that it leaves deep inside or outside are hidden parts or outliers.
2. *Signed distance in a band* about that surface, on the same lattice and then on finer ones as far as the cloud has
   detail for them: the minimum of

       sum_i w_i [ (f(p_i) / h)^2 + g |grad f(p_i) - n_i|^2 ] + b sum_nodes h^2 |H f|^2 + d sum_nodes ((f - f0) / h)^2

   (smooth signed distance, Calakli and Taubin 2011, eq. 4; H the Hessian), f trilinear, by preconditioned
   conjugate gradients. b, which makes the surface smooth, follows from the noise: it is the ratio of
   the points' variance to that of the second differences of an everyday surface. f0, the coarser solution, matters in
   holes only. Points that fit badly lose their weight (Geman and McClure) before the finer levels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as F

from ..errors import Cancelled, JobFailed
from ..frames import BOUND
from .base import FitData, FitSettings, FittedField, OnField, OnProgress, register_field
from .orientation import PoissonGrid, grid_cells, widths_of

log = logging.getLogger(__name__)

BLOCK = 4
"""Cells along a block of a fine lattice."""

_CURVATURE = 6000.0
"""Mean of |H f|^2 / h^4 summed over the layers of nodes about one surface cell, to be expected of everyday surfaces: a
curvature of about 35 (in the unit frame), which is that of edges a few cells wide rather than of the faces between."""

_BASE_CELLS = 128

_BLUR = 0.35
"""Share of its own spacing that a point of a sparse part is blurred by at least: more, and thin parts cancel out."""

_LEAST_DEVIATION = 0.06
"""In steps. Trusted to less, points at a sharp edge make fins of the planes beside it; to more, corners are rounded."""

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


# --------------------------------------------------------------------------------------------------------- the field


@dataclass
class BlockField:
    """A trilinear field: one lattice everywhere, finer ones in blocks about the surface.

    coarse: (R + 1, R + 1, R + 1) values on nodes of [-0.55, 0.55]^3.
    levels: finer lattices, coarse to fine: (cells a side, (cells / 4)^3 table of block numbers or -1,
    (B, 5, 5, 5) values of the blocks' nodes).
    """

    coarse: Tensor
    levels: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)
    lipschitz: float = 1.5
    warnings: list[dict[str, str]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    kind: str = "grid"

    def signed_distance(self, points: Tensor) -> Tensor:
        """(N, 3) unit frame -> (N,), negative inside."""
        place = points.flip(-1)[None, :, None, None] / BOUND
        value: Tensor = F.grid_sample(self.coarse[None, None], place, padding_mode="border", align_corners=True)[0, 0]
        value = value.reshape(-1)
        for cells, table, blocks in self.levels:
            at = ((points + BOUND) * (cells / (2 * BOUND))).clamp(0, cells * (1 - 1e-6))
            cell = at.floor()
            ijk = cell.long()
            block = ijk // BLOCK
            side = cells // BLOCK
            number = table[(block[:, 0] * side + block[:, 1]) * side + block[:, 2]].long()
            inside = (number >= 0).nonzero()[:, 0]
            if len(inside) == 0:
                continue
            t, local = (at - cell)[inside], (ijk - block * BLOCK)[inside]
            n = BLOCK + 1
            start = ((number[inside] * n + local[:, 0]) * n + local[:, 1]) * n + local[:, 2]
            flat = blocks.view(-1)
            x = [_between(flat[start + i * n * n], flat[start + i * n * n + 1], t[:, 2]) for i in (0, 1)]
            y = [_between(flat[start + i * n * n + n], flat[start + i * n * n + n + 1], t[:, 2]) for i in (0, 1)]
            z = [_between(x[i], y[i], t[:, 1]) for i in (0, 1)]
            value = value.index_put((inside,), _between(z[0], z[1], t[:, 0]))
        return value

    def to_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"coarse": self.coarse}
        for k, (_, table, blocks) in enumerate(self.levels):
            tensors[f"table{k}"], tensors[f"blocks{k}"] = table, blocks
        return tensors, {"cells": [cells for cells, _, _ in self.levels], "lipschitz": self.lipschitz}

    @classmethod
    def from_state(cls, tensors: dict[str, Tensor], arguments: dict[str, Any]) -> BlockField:
        levels = []
        for k, cells in enumerate(arguments["cells"]):
            table, blocks = tensors[f"table{k}"], tensors[f"blocks{k}"]
            if len(table) != (cells // BLOCK) ** 3 or blocks.shape[1:] != (BLOCK + 1,) * 3:
                raise ValueError("the lattices do not fit together")
            if len(table) and int(table.max()) >= len(blocks):
                raise ValueError("a block is missing")
            levels.append((int(cells), table, blocks))
        return cls(tensors["coarse"], levels, float(arguments["lipschitz"]))

    def to(self, device: torch.device) -> BlockField:
        levels = [(cells, table.to(device), blocks.to(device)) for cells, table, blocks in self.levels]
        return BlockField(self.coarse.to(device), levels, self.lipschitz, self.warnings, self.report)


def _between(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    return a + (b - a) * t


def plane_field(point: Float32, normal: Float32, device: torch.device, cells: int = 8) -> BlockField:
    """The signed distance of a plane: all that can be said of flat input."""
    along = torch.linspace(-BOUND, BOUND, cells + 1, device=device)
    nodes = torch.stack(torch.meshgrid(along, along, along, indexing="ij"), -1)
    return BlockField((nodes - torch.as_tensor(point, device=device)) @ torch.as_tensor(normal, device=device))


# --------------------------------------------------------------------------------------------------------- the method


def fit_auto(
    data: FitData,
    settings: FitSettings,
    device: torch.device,
    on_progress: OnProgress,
    on_field: OnField,
    should_stop: Callable[[], bool],
) -> BlockField:
    """data: with oriented normals and areas. The FFT runs on `device`, the sparse solves on the CPU."""
    if data.normals is None or not data.oriented:
        raise ValueError("auto needs oriented normals")
    area = data.area if data.area is not None else np.full(len(data.points), data.spacing**2, np.float32)
    base = grid_cells(0.5 * data.spacing, data.noise, min(_BASE_CELLS, max(settings.resolution, 32)))
    on_progress("Finding inside and outside", 0.0)
    psi, at_points = _indicator(data.points, data.normals, area, base, device)
    # Where points come out inside, their sheet counts for too little, and for too much where outside. Once only: it
    # does not converge.
    area = area * np.exp(np.clip(-at_points, -0.7, 0.7))
    psi, at_points = _indicator(data.points, data.normals, area, base, device)
    if not bool((psi < 0).any()):
        raise JobFailed(
            "no_inside",
            "No surface came out.",
            "The points enclose nothing: their normals contradict one another, or there are too few of them.",
            "Give a denser scan, or the place where the scanner stood; or ignore the input's normals.",
        )
    keep = np.ones(len(data.points), bool)
    for _ in range(3):  # again without those that do not belong to the surface; a corner of a cube has 0.375
        belongs = np.abs(at_points) < 0.42
        if belongs.all() or belongs.mean() < 0.3:  # or nothing agrees with anything: then the points are all there is
            break
        keep[np.flatnonzero(keep)[~belongs]] = False
        psi, at_points = _indicator(data.points[keep], data.normals[keep], area[keep], base, device)
    cloud = _Cloud(data.points[keep], data.normals[keep], np.ones(int(keep.sum()), np.float32))
    if should_stop():
        raise Cancelled
    distance = _redistanced(psi, 2 * BOUND / base)
    answer = BlockField(torch.as_tensor(distance))
    on_progress("Fitting the surface", 0.15)

    step = 2 * BOUND / base
    weight = 10.0 ** (4.0 * (settings.smoothness - 0.5))
    nodes, values = _band_of_coarse(distance, cloud, 3.2 * step)
    solution = _solve(nodes, values, base, cloud, data.noise, weight, should_stop, rounds=150)
    distance.ravel()[nodes] = solution
    answer.coarse = torch.as_tensor(distance)
    cloud.judge(answer, max(data.noise, 0.1 * step))
    on_progress("Fitting the surface", 0.45)
    on_field(answer.to(device))

    cells = base
    finest = max(settings.resolution, base)
    while 2 * cells <= 1.05 * finest and _worth_halving(BOUND / cells, data, weight):
        cells *= 2
        step = 2 * BOUND / cells
        nodes, values = _band_of_finer(answer, cells, cloud, 2.6 * step)
        solution = _solve(nodes, values, cells, cloud, data.noise, weight, should_stop)
        answer.levels = [*answer.levels, (cells, *_blocks(nodes, solution, cells, answer))]
        on_progress("Fitting the surface", 0.45 + 0.5 * cells / finest)
    answer.report = {
        "lattice": cells,
        "points_left_out": int(len(keep) - keep.sum()),
        "points_doubted": int((cloud.trust < 0.25).sum()),
    }
    return answer.to(device)


def _worth_halving(step: float, data: FitData, smooth: float) -> bool:
    """Whether cells of this size still have something to say: not far below the spacing, nor smoothed away."""
    return step >= 0.4 * data.spacing and _bending(data.noise, step, smooth) < 3.0


def _indicator(
    points: Float32, normals: Float32, area: NDArray[Any], cells: int, device: torch.device
) -> tuple[Float32, Float32]:
    """On the lattice's nodes (cells + 1)^3: the winding number's negative, shifted to 0 on the surface, -0.5 inside,
    0.5 outside. And the same at the points."""
    grid = PoissonGrid(cells, device)
    p = torch.as_tensor(points, dtype=torch.float32, device=device)
    a = torch.as_tensor(area, dtype=torch.float32, device=device)
    n = torch.as_tensor(normals, dtype=torch.float32, device=device)
    corners = grid.corners(p)
    values = grid.inner(grid.values(grid.field(corners, n * a[:, None], widths_of(a, grid.step, _BLUR))))
    outer = torch.cat([values[0].ravel(), values[-1].ravel(), values[:, 0].ravel(), values[:, -1].ravel(),
                       values[:, :, 0].ravel(), values[:, :, -1].ravel()])  # fmt: skip
    values = values - outer.median()
    place = p.flip(-1)[None, :, None, None] / BOUND
    at = F.grid_sample(values[None, None], place, align_corners=True)[0, 0].reshape(-1)
    # The middle between outside and inside, weighed by area; 0.5 were the areas exact.
    order = torch.argsort(at)
    half = torch.searchsorted(torch.cumsum(a[order], 0), 0.5 * a.sum())
    level = float(at[order[half.clamp(max=len(order) - 1)]])
    # An open sheet, seen from one side only, has 0: a little less closes the far side.
    level = min(max(level, -0.8), -0.04)
    scale = 0.5 / max(abs(level), 0.35)
    return ((values - level) * scale).cpu().numpy(), ((at - level) * scale).cpu().numpy()


def _redistanced(psi: Float32, step: float) -> Float32:
    """A signed distance with the sign of psi: from the nearest node beside a change of sign, and its own share."""
    inside = psi < 0
    beside = np.zeros(psi.shape, bool)
    for axis in range(3):
        here = np.swapaxes(inside, 0, axis)
        change = here[1:] != here[:-1]
        mark = np.swapaxes(beside, 0, axis)
        mark[1:] |= change
        mark[:-1] |= change
    far = distance_transform_edt(~beside).astype(np.float32) * step
    slope = np.sqrt(sum(np.square(part) for part in np.gradient(psi, step)))
    near = np.clip(np.abs(psi) / np.maximum(slope, 1e-6), 0.0, 0.9 * step)
    return np.asarray(np.where(inside, -1, 1) * np.where(beside, near, far + 0.4 * step), np.float32)


@dataclass
class _Cloud:
    points: Float32
    normals: Float32
    trust: Float32

    def judge(self, answer: BlockField, least: float) -> None:
        """Trust 1 / (1 + (r / 4 s)^2)^2 for a distance r from the surface, s the typical one."""
        with torch.no_grad():
            off = np.concatenate([
                answer.signed_distance(torch.as_tensor(self.points[start : start + 500_000])).numpy()
                for start in range(0, len(self.points), 500_000)
            ])  # fmt: skip
        typical = max(1.4826 * float(np.median(np.abs(off))), least)
        self.trust = np.asarray(1.0 / (1.0 + (off / (4 * typical)) ** 2) ** 2, np.float32)

    def in_cells(self, cells: int) -> tuple[Float32, Float32, Float32]:
        """Points, normals and weights, averaged in each cell of a lattice: never more rows than the surface has cells,
        and the noise of dense clouds averages out. Weight: the trusted points in the cell."""
        if len(self.points) == 0:
            return self.points, self.normals, self.trust
        at = ((self.points + BOUND) * (cells / (2 * BOUND))).astype(np.int64).clip(0, cells - 1)
        key = (at[:, 0] * cells + at[:, 1]) * cells + at[:, 2]
        # Two sheets in one cell stay two: their normals point to different octants.
        key = key * 8 + (self.normals > 0) @ np.array([4, 2, 1])
        _, group = np.unique(key, return_inverse=True)
        weight = np.bincount(group, self.trust)
        sums = [np.bincount(group, self.trust * column) for column in (*self.points.T, *self.normals.T)]
        rows = weight > 1e-3
        mean = (np.stack(sums, 1)[rows] / weight[rows, None]).astype(np.float32)
        normals = mean[:, 3:] / np.maximum(np.linalg.norm(mean[:, 3:], axis=1, keepdims=True), 1e-6)
        return mean[:, :3], normals, weight[rows].astype(np.float32)


def _corner_nodes(points: Float32, cells: int) -> tuple[Int64, Float32]:
    """Lowest corner (N, 3) of each point's cell and the place in it (N, 3), 0..1."""
    at = (points.astype(np.float64) + BOUND) * (cells / (2 * BOUND))
    low = np.floor(at).clip(0, cells - 1)
    return low.astype(np.int64), (at - low).astype(np.float32)


_OFFSETS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.int64)


def _near_points(points: Float32, cells: int) -> Int64:
    """Node numbers within one cell around every point's cell."""
    low = np.unique(_corner_nodes(points, cells)[0], axis=0)
    around = np.array([[i, j, k] for i in range(-1, 3) for j in range(-1, 3) for k in range(-1, 3)], np.int64)
    side = cells + 1
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(low), 50_000):
        ijk = (low[start : start + 50_000, None] + around).reshape(-1, 3)
        ijk = ijk[((ijk >= 0) & (ijk < side)).all(1)]
        found.append(np.unique((ijk[:, 0] * side + ijk[:, 1]) * side + ijk[:, 2]))
    return np.unique(np.concatenate(found))


def _band_of_coarse(distance: Float32, cloud: _Cloud, width: float) -> tuple[Int64, Float32]:
    nodes = np.flatnonzero(np.abs(distance.ravel()) <= width)
    nodes = np.union1d(nodes, _near_points(cloud.points, distance.shape[0] - 1))
    return nodes, distance.ravel()[nodes]


def _band_of_finer(answer: BlockField, cells: int, cloud: _Cloud, width: float) -> tuple[Int64, Float32]:
    """Nodes of the lattice of `cells` where the field so far is within `width` of 0, and its values there."""
    half = cells // 2
    if answer.levels:
        _, table, blocks = answer.levels[-1]
        number = table.numpy()
        block = np.flatnonzero(number >= 0)
        side = half // BLOCK
        cube = blocks.numpy()[number[block]]
        low = np.stack(np.unravel_index(block, (side,) * 3), 1) * BLOCK
        near = np.abs(cube[:, :-1, :-1, :-1]) <= width + 2 * BOUND / half
        which, i, j, k = np.nonzero(near)
        parents = low[which] + np.stack([i, j, k], 1)
    else:
        coarse = answer.coarse.numpy()[:-1, :-1, :-1]
        parents = np.stack(np.nonzero(np.abs(coarse) <= width + 2 * BOUND / half), 1)
    side = cells + 1
    offsets = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.int64)
    children = (2 * parents[:, None] + offsets).reshape(-1, 3)
    nodes = np.unique((children[:, 0] * side + children[:, 1]) * side + children[:, 2])
    values = _values(answer, nodes, cells)
    within = np.abs(values) <= width
    extra = np.setdiff1d(_near_points(cloud.points[cloud.trust > 0.1], cells), nodes[within])
    nodes = np.concatenate([nodes[within], extra])
    values = np.concatenate([values[within], _values(answer, extra, cells)])
    order = np.argsort(nodes)
    return nodes[order], values[order]


def _values(answer: BlockField, nodes: Int64, cells: int) -> Float32:
    """The field at a lattice's nodes (numbers)."""
    out = np.empty(len(nodes), np.float32)
    for start in range(0, len(nodes), 500_000):
        ijk = np.stack(np.unravel_index(nodes[start : start + 500_000], (cells + 1,) * 3), 1)
        points = torch.as_tensor((ijk * (2 * BOUND / cells) - BOUND).astype(np.float32))
        with torch.no_grad():
            out[start : start + 500_000] = answer.signed_distance(points).numpy()
    return out


def _solve(
    nodes: Int64,
    start: Float32,
    cells: int,
    cloud: _Cloud,
    noise: float,
    smooth: float,
    should_stop: Callable[[], bool],
    rounds: int = 60,
) -> Float32:
    """The minimum of the module's energy over the values at `nodes` (ascending numbers), from and near `start`."""
    step = 2 * BOUND / cells
    side = cells + 1
    points, normals, weights = cloud.in_cells(cells)
    low, t = _corner_nodes(points, cells)
    number = ((low[:, None] + _OFFSETS) * np.array([side * side, side, 1])).sum(2)
    column = np.searchsorted(nodes, number).clip(max=len(nodes) - 1)
    known = (nodes[column] == number).all(1)
    column, t, normals, weights = column[known], t[known], normals[known], weights[known]
    along = np.where(_OFFSETS[None] == 1, t[:, None], 1 - t[:, None])  # (N, 8, 3)
    sign = np.where(_OFFSETS == 1, np.float32(1), np.float32(-1))
    value = along.prod(2)
    slopes = [sign[None, :, axis] * along[:, :, (axis + 1) % 3] * along[:, :, (axis + 2) % 3] for axis in range(3)]

    deviation = _deviation(noise, step)
    normal_weight = float(np.clip((max(deviation / step, 0.1)) ** 2 / 0.05, 0.2, 4.0))
    bending = _bending(noise, step, smooth)
    pull = 1e-3 * min(bending, 1.0)

    root = np.sqrt(weights)[:, None]
    count, width = len(column), len(nodes)
    entries = [value * root, *(slope * (root * math.sqrt(normal_weight)) for slope in slopes)]
    rows = np.arange(count, dtype=np.int64)
    ones = np.repeat(rows, 8)
    data = sp.csr_matrix(
        (
            np.concatenate([entry.ravel() for entry in entries]).astype(np.float32),
            (np.concatenate([ones + k * count for k in range(4)]), np.tile(column.ravel(), 4)),
        ),
        shape=(4 * count, width),
    )
    wanted = np.concatenate([
        np.zeros(count, np.float32), *(normals[:, axis] * root[:, 0] * math.sqrt(normal_weight) for axis in range(3))
    ]).astype(np.float32)  # fmt: skip
    bend = _second_differences(nodes, side) * np.float32(math.sqrt(bending))
    matrix = sp.vstack([data, bend], format="csr")
    turned = matrix.T.tocsr()
    # In units of a step: x = f / step.
    x = start / step
    right = turned[:, : 4 * count] @ wanted + pull * x
    diagonal = np.asarray(turned.power(2).sum(1)).ravel() + pull
    inverse = (1.0 / np.maximum(diagonal, 1e-8)).astype(np.float32)

    left = right - (turned @ (matrix @ x) + pull * x)
    z = inverse * left
    direction = z.copy()
    size = float(left @ z)
    first = size
    for k in range(rounds):
        if size <= 1e-7 * first or size <= 1e-12 * width:
            break
        if k % 4 == 0 and should_stop():
            raise Cancelled
        image = turned @ (matrix @ direction) + np.float32(pull) * direction
        alpha = np.float32(size / max(float(direction @ image), 1e-30))
        x = x + alpha * direction
        left = left - alpha * image
        z = inverse * left
        new = float(left @ z)
        direction = z + np.float32(new / size) * direction
        size = new
    log.debug("level %d: %d nodes, %d points, %.2g of the residual left", cells, width, count, size / max(first, 1e-30))
    return np.asarray(x * step, np.float32)


def _deviation(noise: float, step: float) -> float:
    """What a point is trusted to: its noise, and never better than the lattice can say."""
    return max(noise, _LEAST_DEVIATION * step)


def _bending(noise: float, step: float, smooth: float) -> float:
    """b of the module's energy."""
    return smooth * _deviation(noise, step) ** 2 / (_CURVATURE * step**4)


def _second_differences(nodes: Int64, side: int) -> Any:
    """Rows (f left - 2 f + f right) along each axis and, times the root of 2, mixed ones over each square of nodes, as
    far as their nodes are among `nodes`: together the square of the Hessian. The Laplacian alone would not do: beyond
    the points a harmonic function may swing as it likes."""
    count = len(nodes)

    def at(jump: int) -> tuple[Int64, NDArray[np.bool_]]:
        number = nodes + jump
        place = np.searchsorted(nodes, number).clip(max=count - 1)
        return place, nodes[place] == number

    jumps = (side * side, side, 1)
    here = np.arange(count)
    next_ = [at(jump) for jump in jumps]
    rows, columns, values, total = [], [], [], 0

    def add(present: NDArray[np.bool_], places: list[Int64], weights: tuple[float, ...]) -> None:
        nonlocal total
        chosen = np.flatnonzero(present)
        columns.append(np.stack([place[chosen] for place in places], 1).ravel())
        values.append(np.tile(np.array(weights, np.float32), len(chosen)))
        rows.append(np.repeat(np.arange(total, total + len(chosen)), len(places)))
        total += len(chosen)

    for axis, jump in enumerate(jumps):
        before, there = at(-jump)
        after, also = next_[axis]
        add(there & also, [before, here, after], (1.0, -2.0, 1.0))
    root = math.sqrt(2.0)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        (a, has_a), (b, has_b) = next_[first], next_[second]
        both, has_both = at(jumps[first] + jumps[second])
        add(has_a & has_b & has_both, [here, a, b, both], (root, -root, -root, root))
    return sp.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(total, count)
    )


def _blocks(nodes: Int64, values: Float32, cells: int, before: BlockField) -> tuple[Tensor, Tensor]:
    """(table, blocks) of BlockField.levels: the solved values, and around them the field before."""
    side, blocks_a_side = cells + 1, cells // BLOCK
    ijk = np.stack(np.unravel_index(nodes, (side,) * 3), 1)
    touched = [np.zeros(0, np.int64)]
    for offset in _OFFSETS:  # a node on a block's face belongs to the neighbours too
        block = (ijk - offset) // BLOCK
        good = ((ijk - offset >= 0) & (block < blocks_a_side)).all(1)
        block = block[good]
        touched.append(np.unique((block[:, 0] * blocks_a_side + block[:, 1]) * blocks_a_side + block[:, 2]))
    numbers = np.unique(np.concatenate(touched))
    table = np.full(blocks_a_side**3, -1, np.int32)
    table[numbers] = np.arange(len(numbers))
    within = np.stack(np.meshgrid(*(np.arange(BLOCK + 1),) * 3, indexing="ij"), -1).reshape(-1, 3)
    blocks = np.empty((len(numbers), (BLOCK + 1) ** 3), np.float32)
    for start in range(0, len(numbers), 4000):
        part = numbers[start : start + 4000]
        low = np.stack(np.unravel_index(part, (blocks_a_side,) * 3), 1) * BLOCK
        at = low[:, None] + within
        number = ((at[..., 0] * side + at[..., 1]) * side + at[..., 2]).ravel()
        found = np.searchsorted(nodes, number).clip(max=len(nodes) - 1)
        solved = nodes[found] == number
        filled = values[found]
        filled[~solved] = _values(before, number[~solved], cells)
        blocks[start : start + 4000] = filled.reshape(len(part), -1)
    return torch.as_tensor(table), torch.as_tensor(blocks.reshape(-1, BLOCK + 1, BLOCK + 1, BLOCK + 1))


def _from_state(tensors: dict[str, Tensor], arguments: dict[str, Any]) -> FittedField:
    return BlockField.from_state(tensors, arguments)


register_field("grid", _from_state)
