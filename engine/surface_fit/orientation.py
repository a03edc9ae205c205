"""Which way is out: noise and spacing of a cloud, its normals' lines, and their signs.

Signs come from the winding number. A closed surface with area-weighted outward normals generates, by one Poisson
equation, a field that is 0 outside and -1 inside; its gradient at the points is again those normals. Wrong signs do not
reproduce themselves. So normals are replaced by the field's gradient, again and again (the iteration of iPSR, Hou et
al. 2022, and of WNNC, Lin et al. 2024). The Poisson equation is solved by FFT on a regular grid, some milliseconds each
time. The iteration keeps what it is given where that is nearly right, and finds sheets with a doubled jump where it is
not; so the first guess decides. It comes from a potential that surrounds the shape and that the points absorb.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import coo_matrix
from scipy.spatial import cKDTree
from torch import Tensor

from ..errors import Cancelled
from ..frames import BOUND
from ..geometry.clouds import FloatArray
from ..geometry.connected import labels_of

ORIENTED_POINTS = 30_000
"""So many points decide the signs; the others ask their neighbours among them."""

Float64Array = NDArray[np.float64]


@dataclass
class CloudStatistics:
    """noise: standard deviation along the normals.  spacing: median distance between neighbours, as on a square grid.
    area: (N,) surface each point stands for.  Unit: the points'."""

    noise: float
    spacing: float
    area: Float64Array


def cloud_statistics(points: FloatArray, rng: np.random.Generator, k: int = 8) -> CloudStatistics:
    """Spacing and area from the distance of the k-th neighbour, noise from quadrics fitted to neighbourhoods."""
    tree = cKDTree(points)
    k = min(k, len(points) - 1)
    radius = np.concatenate(
        [tree.query(points[start : start + 200_000], [k + 1])[0][:, 0] for start in range(0, len(points), 200_000)]
    )
    area = np.pi * radius**2 / k
    return CloudStatistics(quadric_noise(points, tree, rng), float(np.sqrt(np.median(area))), area)


def quadric_noise(points: FloatArray, tree: Any, rng: np.random.Generator, k: int = 16, count: int = 1500) -> float:
    """Standard deviation of points from quadrics through their k neighbours: unlike a plane's, this residual is not
    that of a curved surface sampled sparsely. Neighbourhoods with edges or two sheets have a large one all the same, so
    the lower fifth of `count` neighbourhoods speaks for all, as it would for the same noise everywhere."""
    if len(points) < 12:
        return 0.0
    k = min(k, len(points))
    some = points[rng.permutation(len(points))[:count]]
    return _noise_about(points[tree.query(some, k)[1]])


def _noise_about(near: FloatArray) -> float:
    """quadric_noise of neighbourhoods (N, k, 3)."""
    k = near.shape[1]
    near = near - near.mean(axis=1, keepdims=True, dtype=np.float64)
    size = np.sqrt((near**2).sum(2).mean(1))
    near /= np.maximum(size, 1e-12)[:, None, None]
    axes = np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))[1]
    w, u, v = (np.einsum("nki,ni->nk", near, axes[:, :, axis]) for axis in (0, 1, 2))
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], 2)
    normal = np.einsum("nki,nkj->nij", terms, terms) + 1e-9 * np.eye(6)
    fitted = np.linalg.solve(normal, np.einsum("nki,nk->ni", terms, w)[:, :, None])
    left = w - (terms @ fitted)[:, :, 0]
    freedom = k - 6
    # The lower fifth of a chi-square (Wilson and Hilferty 1931).
    lower = (1 - 2 / (9 * freedom) - 0.8416 * math.sqrt(2 / (9 * freedom))) ** 3
    return float(np.quantile(np.sqrt((left**2).sum(1) / (freedom * lower)) * size, 0.2))


def sheet_neighbours(
    points: FloatArray, normals: FloatArray, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(N, k + 1) each point's nearest on its own side of the surface, itself first, and their distances. normals:
    (N, 3) oriented. Behind a thin wall points may be far denser, as outside a vessel: those are not asked. Where a side
    has fewer points the last one is repeated."""
    index = np.repeat(np.arange(len(points), dtype=np.int32)[:, None], k + 1, 1)
    distance = np.zeros((len(points), k + 1), np.float32)
    main = np.abs(normals).argmax(1)
    for axis in range(3):
        for sign in (1.0, -1.0):
            along = sign * normals[:, axis]
            asked = np.flatnonzero((main == axis) & (along > 0))
            if len(asked) == 0:
                continue
            side = np.flatnonzero(along > -0.15)  # at a right angle is the same sheet beyond an edge; opposed is not
            few = min(k + 1, len(side))
            far, near = cKDTree(points[side]).query(points[asked], few)
            columns = np.minimum(np.arange(k + 1), few - 1)
            index[asked] = side[near.reshape(len(asked), few)][:, columns]
            distance[asked] = far.reshape(len(asked), few)[:, columns]
    return index, distance


def sheet_noise(points: FloatArray, normals: FloatArray, rng: np.random.Generator, k: int = 16) -> float:
    """quadric_noise from neighbours on the same side (normals oriented): two sheets close together are no noise.
    Infinite where too few have that many neighbours."""
    index, distance = sheet_neighbours(points, normals, min(k, len(points)) - 1)
    full = np.flatnonzero(distance[:, -1] > distance[:, -2])
    if k > len(points) or len(full) < 12:
        return math.inf
    return _noise_about(points[index[rng.permutation(full)[:1500]]])


def refined_normals(
    points: FloatArray, normals: FloatArray, spacing: float, noise: float, chunk: int = 100_000
) -> tuple[FloatArray, Float64Array]:
    """Normals (N, 3), those of planes through neighbours on the same side, those with like normals first, where the
    given ones (oriented) contradict these planes; and (N,) the surface each point stands for. Planes through all
    neighbours lie askew in thin walls and sparse parts. Exact normals are kept."""
    reach = max(1.9 * spacing, 5.0 * noise)
    k = int(np.clip(np.pi * (reach / max(spacing, 1e-12)) ** 2, 10, 32))
    k = min(k, len(points) - 1)
    given = normals
    for power in (2, 4) if len(points) <= chunk else (4,):
        index, distance = sheet_neighbours(points, normals, k)
        better = given.copy()
        for start in range(0, len(points), chunk):
            part = slice(start, start + chunk)
            alike = np.einsum("nki,ni->nk", normals[index[part]], normals[part]).clip(0.0, 1.0) ** power
            weight = alike * np.exp(-2.0 * (distance[part] / distance[part, -1:].clip(min=1e-12)) ** 2) + 1e-9
            weight /= weight.sum(1, keepdims=True)
            near = points[index[part]].astype(np.float64)
            near -= np.einsum("nk,nki->ni", weight, near)[:, None]
            moment = np.einsum("nki,nkj->nij", near * weight[:, :, None], near)
            values, axes = np.linalg.eigh(moment)
            found = axes[:, :, 0]
            found = np.where((found * normals[part]).sum(1, keepdims=True) < 0, -found, found)
            left = np.einsum("ni,nij,nj->n", given[part], moment, given[part])
            wrong = left > 2.0 * np.maximum(values[:, 0], 1e-4 * values[:, 1])
            better[part][wrong] = found[wrong]
        normals = better
    few = min(8, k)
    return normals, np.pi * distance[:, few].astype(np.float64) ** 2 / few


def normal_lines(points: FloatArray, statistics: CloudStatistics, chunk: int = 100_000) -> FloatArray:
    """(N, 3) unit normals of arbitrary sign by planes through so many neighbours that noise does not tilt them."""
    reach = max(1.9 * statistics.spacing, 5.0 * statistics.noise)
    k = int(np.clip(np.pi * (reach / max(statistics.spacing, 1e-12)) ** 2, 10, 48))
    k = min(k, len(points))
    tree = cKDTree(points)
    lines = np.empty((len(points), 3), np.float32)
    for start in range(0, len(points), chunk):
        part = points[start : start + chunk]
        near = points[tree.query(part, k)[1]].astype(np.float64)
        near -= near.mean(axis=1, keepdims=True)
        lines[start : start + chunk] = np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))[1][:, :, 0]
    return lines


# ------------------------------------------------------------------------------------------------- the winding field


@dataclass
class PoissonGrid:
    """Nodes `step` apart that include the lattice of `cells` cells along [-bound, bound], padded and periodic."""

    cells: int
    device: torch.device
    padding: float = 0.22

    def __post_init__(self) -> None:
        self.step = 2 * BOUND / self.cells
        wanted = int((self.cells + 1) * (1 + self.padding))
        self.side = next(n for n in range(wanted, 2 * wanted + 8) if _is_smooth(n) and n % 2 == 0)
        self.before = (self.side - self.cells - 1) // 2
        one = 2 * torch.pi * torch.fft.fftfreq(self.side, self.step, device=self.device)
        last = 2 * torch.pi * torch.fft.rfftfreq(self.side, self.step, device=self.device)
        self.waves = (one[:, None, None], one[None, :, None], last[None, None, :])
        self.square = sum(wave**2 for wave in self.waves)
        self.inverse = 1.0 / torch.where(self.square > 0, self.square, torch.ones_like(self.square))
        self.inverse[0, 0, 0] = 0.0

    def corners(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3) -> flat node numbers (N, 8) and trilinear weights (N, 8)."""
        place = (points.clamp(-BOUND, BOUND) + BOUND) / self.step + self.before
        low = place.floor().clamp(max=self.side - 2)
        t = place - low
        ijk = low.long()
        offsets = torch.tensor([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], device=points.device)
        at = ijk[:, None] + offsets
        nodes = (at[..., 0] * self.side + at[..., 1]) * self.side + at[..., 2]
        weights = torch.where(offsets.bool(), t[:, None], 1 - t[:, None]).prod(2)
        return nodes, weights

    def field(self, corners: tuple[Tensor, Tensor], vectors: Tensor, widths: Tensor) -> Tensor:
        """The transform of f with grad f = the density of `vectors` (N, 3), as well as it can be: lap f = div V.

        widths: (N,) 0, 1, 2, ...: a point is blurred by a Gaussian of 0.8 * 2^width steps, so that sparse parts of a
        cloud make a surface too (an octave a width).
        """
        nodes, weights = corners
        total = torch.zeros_like(self.square, dtype=torch.complex64)
        for width in range(int(widths.max()) + 1):
            chosen = (widths == width).nonzero()[:, 0]
            if len(chosen) == 0:
                continue
            flat = nodes[chosen].ravel()
            divergence = torch.zeros_like(total)
            for axis in range(3):
                grid = torch.zeros(self.side**3, device=self.device)
                grid.index_add_(0, flat, (weights[chosen] * vectors[chosen, axis, None]).ravel())
                divergence += self.waves[axis] * torch.fft.rfftn(grid.view((self.side,) * 3))
            total += divergence * torch.exp(-0.5 * self.square * (0.8 * 2.0**width * self.step) ** 2)
        return total * (-1j * self.inverse / self.step**3)

    def values(self, transform: Tensor) -> Tensor:
        values: Tensor = torch.fft.irfftn(transform, s=(self.side,) * 3)
        return values

    def gradient_at(self, transform: Tensor, corners: tuple[Tensor, Tensor], blur: float = 0.0) -> Tensor:
        """(N, 3) gradient of the field, blurred by a Gaussian of `blur` steps, at the points of `corners`."""
        nodes, weights = corners
        if blur > 0:
            transform = transform * torch.exp(-0.5 * self.square * (blur * self.step) ** 2)
        parts = [self.values(1j * wave * transform).ravel()[nodes] * weights for wave in self.waves]
        return torch.stack([part.sum(1) for part in parts], 1)

    def at(self, grid: Tensor, corners: tuple[Tensor, Tensor]) -> Tensor:
        return (grid.ravel()[corners[0]] * corners[1]).sum(1)

    def inner(self, grid: Tensor) -> Tensor:
        """The part of a grid (side, side, side) that is the lattice: (cells + 1)^3."""
        part = slice(self.before, self.before + self.cells + 1)
        return grid[part, part, part]


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1


def widths_of(area: Tensor, step: float, share: float = 1.0) -> Tensor:
    """(N,) octaves of `share` of each point's own spacing above the grid's step, 0..3."""
    return torch.log2(share * area.sqrt().clamp(min=1e-9) / step).ceil().clamp(0, 3).long()


def grid_cells(spacing: float, noise: float, most: int = 128) -> int:
    """Cells along the box so that a step is about the cloud's spacing, and not far below its noise."""
    step = max(spacing, 1.5 * noise, 1e-4)
    wanted = 2 * BOUND / step
    return min((c for c in (24, 32, 48, 64, 96, 128, 192, 256) if c >= 0.9 * wanted or c >= most), default=256)


# -------------------------------------------------------------------------------------------------------- orientation


@dataclass
class Orientation:
    """normals: (N, 3) outward.  agreement: share of the area whose given signs were right, None where none were given.
    found_by: 'given', 'given, turned over', 'viewpoint', 'winding number'."""

    normals: FloatArray
    agreement: float | None
    found_by: str


def orient(
    points: FloatArray,
    lines: FloatArray,
    statistics: CloudStatistics,
    device: torch.device,
    rng: np.random.Generator,
    *,
    given: bool = False,
    trusted: bool = False,
    viewpoint: FloatArray | None = None,
    most_cells: int = 128,
    should_stop: Callable[[], bool] = lambda: False,
) -> Orientation:
    """Outward normals. lines: (N, 3) unit; with `given` their signs are a first guess, which is kept where it proves
    consistent; with `trusted` it is not asked. viewpoint: seen surfaces look towards it. Unit frame."""
    if given and trusted:
        return Orientation(lines, None, "given")
    if viewpoint is not None and not given:
        towards = np.einsum("ni,ni->n", viewpoint - points, lines)
        return Orientation(np.where(towards[:, None] < 0, -lines, lines), None, "viewpoint")
    some = np.arange(len(points))
    if len(points) > ORIENTED_POINTS:
        some = np.sort(rng.choice(len(points), ORIENTED_POINTS, replace=False))
    area = statistics.area[some] * (len(points) / len(some))
    spacing = float(np.sqrt(np.median(area)))
    finest = grid_cells(spacing / 1.5, statistics.noise, most_cells)
    agreement = None
    if given:
        signed = _winding_normals(points[some], lines[some], area, finest, True, device, should_stop)
        same = float(((signed * lines[some]).sum(1) > 0) @ area / area.sum())
        if same > 0.9:
            return Orientation(lines, same, "given")
        if same < 0.1:
            return Orientation(-lines, same, "given, turned over")
        agreement = same
    signed = _winding_normals(points[some], lines[some], area, finest, False, device, should_stop)
    if len(some) < len(points):
        signed = signed[cKDTree(points[some]).query(points)[1]]
    flip = (signed * lines).sum(1, keepdims=True) < 0
    return Orientation(np.where(flip, -lines, lines).astype(np.float32), agreement, "winding number")


def _winding_normals(
    points: FloatArray,
    lines: FloatArray,
    area: Float64Array,
    finest: int,
    signed: bool,
    device: torch.device,
    should_stop: Callable[[], bool],
) -> FloatArray:
    """(N, 3) the lines with signs. signed: those of `lines` are the first guess, else shelter gives it."""
    p = torch.as_tensor(points, dtype=torch.float32, device=device)
    line = torch.as_tensor(lines, dtype=torch.float32, device=device)
    a = torch.as_tensor(area, dtype=torch.float32, device=device)[:, None]
    if signed:
        normals = line
    else:
        normals = _away_from_shelter(p, line, a, finest, should_stop)
        guess = _voted(points, lines, (normals * line).sum(1).cpu().numpy())
        normals = line * torch.as_tensor(guess, dtype=torch.float32, device=device)[:, None]
    grid = PoissonGrid(finest, device)
    corners = grid.corners(p)
    widths = widths_of(a[:, 0], grid.step)
    for blur in (1.0, 0.8, 0.6, 0.4, 0.3, 0.2):
        if should_stop():
            raise Cancelled
        gradient = _unit(grid.gradient_at(grid.field(corners, normals * a, widths), corners, blur))
        along = (gradient * line).sum(1, keepdim=True) * line
        normals = _unit(0.2 * gradient + 0.8 * along)
    signs = _voted(points, lines, (normals * line).sum(1).cpu().numpy())
    normals = line * torch.as_tensor(signs, dtype=torch.float32, device=device)[:, None]
    normals = torch.where((normals * line).sum(1, keepdim=True) < 0, -line, line)
    normals = _turned_outwards(p, normals, a, min(64, finest), device)
    return normals.cpu().numpy()


def _away_from_shelter(
    p: Tensor, line: Tensor, a: Tensor, finest: int, should_stop: Callable[[], bool]
) -> Tensor:
    """(N, 3) along the lines, to the side that is less sheltered: where the potential grows that is 1 on the box and
    that the points absorb, -lap u + s u = 0. Through holes it falls off quickly, but within deep hollows too, so the
    two sides' ratio is what counts. Conjugate gradients, coarse to fine. Length: how sure, about 0..1."""
    # Each point stands for a small disc, so that randomly spread points leave no pinholes.
    other = torch.zeros_like(line).scatter_(1, line.abs().argmin(1, keepdim=True), 1.0)
    first = _unit(torch.linalg.cross(line, other))
    second = torch.linalg.cross(line, first)
    size = 0.7 * a.sqrt().clamp(max=3 * float(a.sqrt().median()))
    discs = torch.cat([p, p + size * first, p - size * first, p + size * second, p - size * second])
    shares = (a / 5).repeat(5, 1)
    u: Tensor | None = None
    for cells in [c for c in (32, 64, 96, 128, 192) if c <= finest] or [finest]:
        grid = PoissonGrid(cells, p.device, padding=0.1)
        nodes, weights = grid.corners(discs)
        shape = (grid.side,) * 3
        density = torch.zeros(grid.side**3, device=p.device)
        density.index_add_(0, nodes.ravel(), (weights * shares).ravel())
        if u is None:
            u = torch.ones(shape, device=p.device)
        else:
            u = torch.nn.functional.interpolate(u[None, None], size=shape, mode="trilinear", align_corners=True)[0, 0]
        u = _absorbed(u, 300.0 * density.view(shape) / grid.step**2, should_stop)
    assert u is not None
    sides = [grid.at(u, grid.corners(p + side * grid.step * line)).clamp(min=0) + 3e-7 for side in (1.0, -1.0)]
    return (0.5 * (sides[0] / sides[1]).log()).clamp(-1, 1)[:, None] * line


def _absorbed(u: Tensor, sink: Tensor, should_stop: Callable[[], bool], rounds: int = 120) -> Tensor:
    """-lap u + sink u = 0, u = 1 around the grid, in units of the step: Jacobi-preconditioned conjugate gradients."""

    def image(x: Tensor) -> Tensor:
        y = (6 + sink) * x
        for axis in range(3):
            n = x.shape[axis] - 1
            y.narrow(axis, 1, n).sub_(x.narrow(axis, 0, n))
            y.narrow(axis, 0, n).sub_(x.narrow(axis, 1, n))
        return y

    right = torch.zeros_like(u)
    for axis in range(3):
        right.select(axis, 0).add_(1)
        right.select(axis, -1).add_(1)
    inverse = 1 / (6 + sink)
    left = right - image(u)
    z = inverse * left
    direction = z.clone()
    size = float((left * z).sum())
    enough = 1e-13 * float((right * right * inverse).sum())
    for k in range(rounds):
        if size <= enough:
            break
        if k % 8 == 0 and should_stop():
            raise Cancelled
        moved = image(direction)
        alpha = size / float((direction * moved).sum())
        u = u + alpha * direction
        left = left - alpha * moved
        z = inverse * left
        new = float((left * z).sum())
        direction = z + (new / size) * direction
        size = new
    return u


def _voted(points: FloatArray, lines: FloatArray, sure: NDArray[Any], rounds: int = 30) -> Float64Array:
    """(N,) signs of the lines that neighbours with like lines agree on. sure: (N,) signed, each point's own vote."""
    k = min(11, len(points))
    near = cKDTree(points).query(points, k)[1][:, 1:]
    alike = np.einsum("nki,ni->nk", lines[near], lines).astype(np.float64)
    # Only where both lie in one another's plane: across a thin wall the lines are alike, and the signs are not.
    between = points[near] - points[:, None]
    length = np.maximum(np.linalg.norm(between, axis=2), 1e-12)
    rise = np.abs(np.einsum("nki,ni->nk", between, lines)) + np.abs(np.einsum("nki,nki->nk", between, lines[near]))
    alike *= np.clip(1.0 - rise / length, 0.0, 1.0) * np.abs(alike)
    own = np.clip(np.asarray(sure, np.float64), -1.0, 1.0)
    weight = np.abs(alike).sum(1) + 0.2
    votes = own.copy()
    for _ in range(rounds):
        votes = (0.2 * own + (alike * np.clip(votes[near], -1, 1)).sum(1)) / weight
        votes /= max(float(np.abs(votes).mean()), 1e-12)
    return _patches_agreed(near, alike, own, np.where(votes < 0, -1.0, 1.0))


def _patches_agreed(near: NDArray[Any], alike: Float64Array, own: Float64Array, signs: Float64Array) -> Float64Array:
    """Patches of one sign that meet within a smooth surface: each is turned over where its neighbours' wish for it
    outweighs its own votes, the one with most to gain first. Votes alone leave such seams where they are."""
    count, k = near.shape
    rows = np.repeat(np.arange(count), k)
    columns = near.ravel()
    bond = (alike * signs[:, None] * signs[near]).ravel()
    firm = bond > 0.3
    patch = labels_of(count, rows[firm], columns[firm])
    patches = int(patch.max()) + 1
    if patches == 1:
        return signs
    a, b = patch[rows], patch[columns]
    between = a != b
    joint = coo_matrix((bond[between], (a[between], b[between])), shape=(patches, patches)).tocsr()
    joint = joint + joint.T
    wish = 0.3 * np.bincount(patch, own * signs, minlength=patches)
    turn = np.ones(patches)
    for _ in range(min(4 * patches, 2000)):
        gain = -turn * (joint @ turn + wish)
        best = int(np.argmax(gain))
        if gain[best] <= 1e-9:
            break
        turn[best] = -turn[best]
    return np.asarray(signs * turn[patch], np.float64)


def _turned_outwards(p: Tensor, normals: Tensor, a: Tensor, cells: int, device: torch.device) -> Tensor:
    """Each connected part with its own sign: outwards where it lies outside the others, inwards where within them."""
    grid = PoissonGrid(cells, device)
    nodes, _ = corners = grid.corners(p)
    widths = widths_of(a[:, 0], grid.step)
    filled = np.zeros(grid.side**3, bool)
    filled[nodes.cpu().numpy().ravel()] = True
    parts, _ = label(filled.reshape((grid.side,) * 3), np.ones((3, 3, 3)))
    part = parts.ravel()[nodes[:, 0].cpu().numpy()]
    sizes = np.bincount(part)
    large = [k for k in np.argsort(-sizes)[:12] if sizes[k] >= max(20, 0.005 * len(p))]
    fields: dict[int, Tensor] = {}
    for k in large:
        own = torch.as_tensor(part == k, device=device)
        values = grid.values(grid.field(corners, normals * a * own[:, None], widths))
        values = values - grid.inner(values)[0, 0, 0]
        level = float((grid.at(values, corners) * a[:, 0])[own].sum() / a[own].sum())
        if level > 0:
            normals = torch.where(own[:, None], -normals, normals)
            values = -values
        fields[int(k)] = values
    if len(fields) > 1:
        turned = normals
        for k in fields:
            own = torch.as_tensor(part == k, device=device)
            others = sum(values for other, values in fields.items() if other != k)
            assert isinstance(others, Tensor)
            if float(grid.at(others, corners)[own].median()) < -0.6:
                turned = torch.where(own[:, None], -normals, turned)
        normals = turned
    return normals


def _unit(vectors: Tensor) -> Tensor:
    length: Tensor = vectors.norm(dim=1, keepdim=True)
    return vectors / length.clamp(min=1e-12)
