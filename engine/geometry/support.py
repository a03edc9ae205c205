"""What an object stands on: the floor or table that a scan shows with it, found in any direction.

A support is a plane that bears the object on one side, that carries nothing but strays on the other under itself, and
that goes on beyond the object's footprint: so a box's own sides, table tops and backs are none. How much of it is asked
depends on what else is known. Level with the up axis, it is a floor as any other. Tilted, it contradicts the up axis;
where the points are in their sensor's own frame (seen from the origin nothing hides anything) that axis says nothing
anyway, and scraps of a table beside the object are enough; else the plane has to be clear all round. Scraps say where
the table is and roughly how it lies: what is level on the object itself says it better.

Planes are searched by RANSAC (Fischler and Bolles 1981) over triples of points and of corners of the convex hull: of a
frame cropped to the object a support keeps one point in a hundred, but those are corners of the hull. All thresholds
are relative to the cloud's size and density, so they hold in any unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label
from scipy.spatial import ConvexHull, QhullError, cKDTree

from .cleaning import Mask
from .clouds import FloatArray
from .standing import centred, entropy_along, layer_directions, to_up

Array = NDArray[np.float64]

LEVEL = 6.0
"""Degrees within which a plane is level: the up axis stays as given."""
SAMPLE, TRIPLES, CORNER_TRIPLES = 2000, 500, 2500
"""Points that planes are searched in; triples of any points and of near ones; triples of the hull's corners."""
ONE_SIDED, TWO_SIDED = 24, 8
"""So many planes with hardly anything behind them, and with much, are looked at closely."""
SECTORS = 12
LINK, FOOT = 0.08, 0.06
"""Parts of one thing: their footprints are nearer than the first; a support reaches beyond the footprint by more than
the second. Fractions of the extent of what stands there."""

LAYERED = 3
"""Directions of layers that a camera's frame is searched for supports along."""
SCRAPS, LEANS, LAYER = 0.02, 8.0, 0.1
"""A support with a smaller share of the points around the object is known by scraps; so many degrees these may be off;
the share of the object's points that a layer of it needs to be taken for level."""


@dataclass
class Support:
    """A plane normal . x = offset; normal (3,) is of unit length and points to where the object stands.

    tilt: degrees between normal and the given up axis.  on, beyond, beside: of the points (N,), those that lie on it,
    on its other side, and those of other things that stand on it.  frame: 'sensor' where the points are in their
    sensor's own frame, so that the up axis said nothing, else 'given'.  around: how many of `on` lie beyond the
    object's footprint.
    """

    normal: Array
    offset: float
    tilt: float
    on: Mask
    beyond: Mask
    beside: Mask
    frame: Literal["given", "sensor"]
    around: int = 0

    @property
    def kept(self) -> Mask:
        """(N,) True for the object's own points."""
        return ~(self.on | self.beyond | self.beside)

    @property
    def level(self) -> bool:
        return self.tilt <= LEVEL


@dataclass
class _Scene:
    """What every plane is judged by. points: (N, 3).  thick: half of what a floor may be thick.  sensor: (3,) or None.
    image_up: (3,) in a camera's frame, where the given up axis says nothing, else None."""

    points: Array
    up: Array
    thick: float
    sensor: Array | None
    image_up: Array | None = None

    @property
    def in_sensor_frame(self) -> bool:
        return self.image_up is not None


def find_support(
    points: FloatArray,
    up: NDArray[np.floating] = np.array([0.0, 0.0, 1.0]),  # type: ignore[type-arg]
    *,
    viewpoint: NDArray[np.floating] | None = None,  # type: ignore[type-arg]
    origin: NDArray[np.floating] | None = None,  # type: ignore[type-arg]
    image_up: Array | Literal["look"] | None = "look",
    noise: float = 0.0,
) -> Support | None:
    """The plane that the object of a cloud (N, 3) stands on, or None where nothing of the kind was seen.

    up: (3,) unit vector.  viewpoint: (3,) where the sensor stood, or None.  origin: (3,) of the frame that the points
    were given in, where a sensor's own frame has its sensor; None = tilted supports are not looked for.
    image_up: what `camera_up` says of them, where it is known already.  noise: standard deviation of the points, in
    their unit. A level plane goes before a tilted one.
    """
    count = len(points)
    if count < 50:
        return None
    x = np.asarray(points, np.float64)
    low, high = np.percentile(x, [1.0, 99.0], axis=0)
    extent = float((high - low).max())
    if extent <= 0:
        return None
    axis = np.asarray(up, np.float64)
    sensor = None if viewpoint is None else np.asarray(viewpoint, np.float64)
    scene = _Scene(x, axis, max(0.006 * extent, 3.0 * noise), sensor)
    plane = _level_plane(scene)
    found = None if plane is None else _judged(scene, *plane)
    if found is not None or origin is None:
        return found
    at = np.asarray(origin, np.float64)
    # A room behind a table says nothing of how thick the table is.
    extent = min(extent, 4 * float(np.median(np.linalg.norm(x - np.median(x, axis=0), axis=1))))
    scene.image_up = camera_up(points, at, viewpoint) if isinstance(image_up, str) else image_up
    if scene.image_up is not None:
        scene.sensor = at
    # A clean floor; in a camera's frame also cloth, and what is left of a table in a frame cut to the object.
    for thick in (0.006, 0.015) if scene.in_sensor_frame else (0.006,):
        scene.thick = max(thick * extent, 3.0 * noise)
        supports = [_judged(scene, normal, offset) for normal, offset in _candidates(scene)]
        found = max((s for s in supports if s is not None), key=lambda s: s.around, default=None)
        if found is not None:
            return _levelled(scene, found) if scene.in_sensor_frame and found.around < SCRAPS * count else found
    return None


def _levelled(scene: _Scene, found: Support) -> Support:
    """A support known by scraps, turned to the clearest layer of what stands on it, where there is one nearly level."""
    x, size = centred(scene.points[found.kept], SAMPLE)
    best = found.normal
    for reach, steps in ((LEANS, 9), (1.5, 7), (0.4, 5)):
        lean = np.tan(np.deg2rad(np.linspace(-reach, reach, steps)))
        near = np.stack([*(g.ravel() for g in np.meshgrid(lean, lean)), np.ones(steps**2)], 1) @ to_up(best)
        near /= np.linalg.norm(near, axis=1, keepdims=True)
        near = near[near @ found.normal > np.cos(np.deg2rad(LEANS))]
        best = near[int(np.argmin(entropy_along(near @ x.T, size / 24)))]
    heights = np.sort(x @ best)
    within = np.searchsorted(heights, heights + 2 * scene.thick) - np.arange(len(heights))
    if within.max() < LAYER * len(x):
        return found
    tilt = float(np.degrees(np.arccos(np.clip(best @ scene.up, -1, 1))))
    return replace(found, normal=best, offset=float(np.median(scene.points[found.on] @ best)), tilt=tilt)


def camera_up(
    points: FloatArray,
    origin: NDArray[np.floating],  # type: ignore[type-arg]
    viewpoint: NDArray[np.floating] | None = None,  # type: ignore[type-arg]
) -> Array | None:
    """(3,) which way is up in the image, where a cloud (N, 3) is in the frame of the camera that saw it; None where it
    is not. origin: (3,) of its frame.  viewpoint: where the sensor stood: at the origin, the frame is told.

    By either custom: z forward and y down, or z backward and y up. A sensor that looks along another axis says nothing.
    """
    x, eye = np.asarray(points, np.float64), np.asarray(origin, np.float64)
    if len(x) < 50:
        return None
    forward = np.median(x, axis=0) - eye
    away = float(np.linalg.norm(forward))
    if abs(forward[2]) < 0.5 * away:
        return None
    told = viewpoint is not None and float(np.linalg.norm(viewpoint - eye)) < 1e-3 * away
    if not told and (viewpoint is not None or not seen_from(x, eye)):
        return None
    return np.array([0.0, -np.sign(forward[2]), 0.0])


def seen_from(points: Array, eye: Array) -> bool:
    """Whether a cloud (N, 3) may be one image of a sensor at `eye` (3,): it lies in front of it, neither about it nor
    far away for its size, and hardly a point lies behind others, by a depth buffer as fine as the points are
    spaced: 2 per cent, and of few points what lies along the outlines."""
    some = points[:: max(1, len(points) // 10_000)]
    rays = some - eye
    depth = np.linalg.norm(rays, axis=1)
    middle = np.median(rays, axis=0)
    away, radius = float(np.linalg.norm(middle)), float(np.median(np.linalg.norm(rays - middle, axis=1)))
    if not 0.7 * radius < away < 50 * radius or depth.min() < 0.1 * away:
        return False
    forward = middle / away
    ahead = rays @ forward
    if (ahead < 0.3 * depth).any():
        return False
    across = _basis(forward)
    image = rays @ across.T / ahead[:, None]
    spacing = float(np.median(cKDTree(image).query(image, k=5)[0][:, 4]))
    if spacing <= 0:
        return False
    cell = np.floor((image - image.min(0)) / (1.2 * spacing)).astype(np.int64)
    _, place = np.unique(cell[:, 0] * (int(cell[:, 1].max()) + 1) + cell[:, 1], return_inverse=True)
    nearest = np.full(int(place.max()) + 1, np.inf)
    np.minimum.at(nearest, place, depth)
    hidden = depth - nearest[place] > np.maximum(6 * spacing * depth, 0.05 * radius)
    return bool(hidden.mean() < max(0.02, 1.5 / np.sqrt(len(some))))


def _level_plane(scene: _Scene) -> tuple[Array, float] | None:
    """The most crowded layer in the lower half along the up axis, as a plane, where it is level."""
    x, up, thick = scene.points, scene.up, scene.thick
    across = _basis(up)
    z, flat = x @ up, x @ across.T
    low, high = np.percentile(z, [1.0, 99.0])
    bins = np.arange(low - 4 * thick, high + 2 * thick, thick)
    if len(bins) < 4:
        return None
    crowd = np.histogram(z, bins)[0]
    layer = crowd[:-1] + crowd[1:]
    best = int(np.argmax(np.where(bins[:-2] < low + 0.5 * (high - low), layer, 0)))
    if layer[best] < 0.05 * len(x):
        return None
    height, slope = float(bins[best + 1]), np.zeros(2)
    for width in (3.0, 2.0, 1.0, 1.0):
        near = np.abs(z - height - flat @ slope) < width * thick
        if near.sum() < 0.05 * len(x):
            return None
        middle = flat[near].mean(0)
        solved = np.linalg.lstsq(np.c_[flat[near] - middle, np.ones(int(near.sum()))], z[near], rcond=None)[0]
        slope, height = solved[:2], float(solved[2] - solved[:2] @ middle)
    if float(np.linalg.norm(slope)) > np.tan(np.deg2rad(LEVEL)):
        return None
    normal = up - slope @ across
    length = float(np.linalg.norm(normal))
    return normal / length, height / length


def _candidates(scene: _Scene) -> list[tuple[Array, float]]:
    """Planes that bear much on one side and little on the other, refined, those with the most points first."""
    x = scene.points
    rng = np.random.default_rng(len(x))
    some = x[np.sort(rng.choice(len(x), min(SAMPLE, len(x)), replace=False))]
    near = cKDTree(some).query(some, k=min(40, len(some)))[1]
    first = rng.integers(len(some), size=TRIPLES)
    others = rng.integers(1, near.shape[1], size=(TRIPLES, 2))
    triples = [some[rng.integers(len(some), size=(TRIPLES, 3))]]
    triples.append(np.stack([some[first], some[near[first, others[:, 0]]], some[near[first, others[:, 1]]]], axis=1))
    try:
        corners = x[ConvexHull(x).vertices]
    except (QhullError, ValueError):
        return []
    few = CORNER_TRIPLES if scene.in_sensor_frame else TRIPLES  # elsewhere no scraps are enough
    triples.append(corners[rng.integers(len(corners), size=(few, 3))])
    a, b, c = np.concatenate(triples).transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    usable = length > 1e-6 * float((np.ptp(some, axis=0) ** 2).max())
    normals, a = normals[usable] / length[usable, None], a[usable]
    if scene.in_sensor_frame:  # what lies in layers stands on a plane along them
        lines = np.stack(layer_directions(some, LAYERED)[0])
        normals = np.concatenate([normals, np.repeat(lines, len(corners), axis=0)])
        a = np.concatenate([a, np.tile(corners, (len(lines), 1))])
    offsets = (normals * a).sum(1)
    heights = some @ normals.T - offsets
    towards = heights.mean(0) if scene.sensor is None else normals @ scene.sensor - offsets
    sign = np.where(towards < 0, -1.0, 1.0)
    normals, offsets, heights = normals * sign[:, None], offsets * sign, heights * sign
    on = (np.abs(heights) < scene.thick).mean(0)
    # A plane that only touches what is round has as much beside it as on it.
    peak = on - 0.5 * ((np.abs(heights) < 3 * scene.thick).mean(0) - on)
    below, above = (heights < -3 * scene.thick).mean(0), (heights > 3 * scene.thick).mean(0)
    good = (above > 0.05) & (peak > 0.002)
    found: list[tuple[Array, float]] = []
    # Beyond a table's edge a sensor sees the floor, so planes with much behind them have a share of their own.
    one, two = good & (below < 0.02), good & (below >= 0.02) & scene.in_sensor_frame
    for group, most in ((one, ONE_SIDED), (two, TWO_SIDED)):
        ranked = [k for k in np.argsort(-peak, kind="stable") if group[k]]
        taken: list[int] = []
        for k in ranked:
            if len(taken) == most:
                break
            alike = [j for j in taken if normals[j] @ normals[k] > 0.998]
            if all(abs(offsets[j] - offsets[k]) > 2 * scene.thick for j in alike):
                taken.append(int(k))
        found += [_refined(scene, normals[k], float(offsets[k])) for k in taken]
    return found


def _refined(scene: _Scene, normal: Array, offset: float) -> tuple[Array, float]:
    """The plane of the points near a plane, in narrowing bands."""
    x = scene.points
    for width in (3.0, 2.0, 1.0, 1.0):
        near = x[np.abs(x @ normal - offset) < width * scene.thick]
        if len(near) < 10:
            break
        middle = near.mean(0)
        turned = np.linalg.eigh((near - middle).T @ (near - middle))[1][:, 0]
        normal = turned if turned @ normal > 0 else -turned
        offset = float(normal @ middle)
    return normal, offset


def _basis(normal: Array) -> Array:
    """(2, 3) unit vectors across a unit vector; x and y for z."""
    if abs(normal[2]) > 1 - 1e-12:
        return np.eye(3)[:2]
    first = np.cross(normal, np.eye(3)[int(np.argmin(np.abs(normal)))])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first)])


class _Footprint:
    """The plan (N, 2) of what stands on a plane, in cells of side `cell`; numbered by what hangs together."""

    def __init__(self, plan: Array, above: Mask, cell: float) -> None:
        at = plan[above]
        self.low, self.cell = at.min(0) - 2 * cell, max(cell, float(np.ptp(at, axis=0).max()) / 500)
        shape = np.ceil((at.max(0) + 2 * self.cell - self.low) / self.cell).astype(np.int64) + 1
        filled = np.zeros((int(shape[0]), int(shape[1])), bool)
        filled[tuple(self._cells(at).T)] = True
        self.parts, self.count = label(filled, np.ones((3, 3)))

    def _cells(self, plan: Array) -> NDArray[np.int64]:
        return np.asarray(np.floor((plan - self.low) / self.cell), np.int64)

    def part_of(self, plan: Array) -> NDArray[np.int64]:
        """(N,) number of the part whose footprint holds each place, 0 = none."""
        return self._looked_up(plan, self.parts)

    def within(self, plan: Array, part: int, margin: float) -> Mask:
        """(N,) whether each place is nearer than about `margin` to the footprint of a part."""
        steps = max(1, round(margin / self.cell))
        wide = np.pad(self.parts == part, steps)
        wide = binary_dilation(wide, np.ones((3, 3)), iterations=steps)
        return self._looked_up(plan + steps * self.cell, wide).astype(bool)

    def _looked_up(self, plan: Array, values: NDArray[Any]) -> NDArray[np.int64]:
        cells = self._cells(plan)
        inside = ((cells >= 0) & (cells < values.shape)).all(1)
        found = np.zeros(len(plan), np.int64)
        found[inside] = values[tuple(cells[inside].T)]
        return found


def _judged(scene: _Scene, normal: Array, offset: float) -> Support | None:
    """A plane as a support, or None where it is none; the rules are the module's."""
    x, count = scene.points, len(scene.points)
    tilt = float(np.degrees(np.arccos(np.clip(normal @ scene.up, -1, 1))))
    level = tilt <= LEVEL + 1e-6
    height = x @ normal - offset
    thick = scene.thick
    on, above, beyond = np.abs(height) < thick, height > 2 * thick, height <= -thick
    if on.sum() < (0.05 if level else 0.003) * count or above.sum() < max(20, 0.01 * count):
        return None
    if np.percentile(height, 99.5) < 6 * thick:
        return None
    # What costs little is asked first: dozens of planes are judged, and nearly all of them are none.
    sectors = 0 if level else _sectors_wanted(scene, normal, offset, tilt)
    if not level and sectors == 0:
        return None
    under = height < -2 * thick
    past_edge = scene.in_sensor_frame and not level
    if not past_edge and under.sum() > 0.02 * count:
        return None
    plan = x @ _basis(normal).T
    size = max(float(np.ptp(np.percentile(plan[above], [1, 99], axis=0), axis=0).max()), float(height[above].max()))
    few = x[above][:: max(1, int(above.sum()) // 3000)]
    tree = cKDTree(x[above], balanced_tree=False, compact_nodes=False)  # built in half the time, asked but once
    spacing = float(np.median(tree.query(few, k=5)[0][:, 4]))
    cell = 0.6 * max(LINK * size, 4 * spacing)
    footprint = _Footprint(plan, above, cell)
    part = footprint.part_of(plan)
    sizes = np.bincount(part[above], minlength=footprint.count + 1)
    sizes[0] = 0
    # Of things about as large, the one nearest to the middle of the scan.
    middle = np.median(plan, axis=0)
    large = np.flatnonzero(sizes >= 0.4 * sizes.max())
    away = [float(np.linalg.norm(plan[above & (part == k)].mean(0) - middle)) for k in large]
    main = int(large[int(np.argmin(away))])
    own = footprint.within(plan, main, footprint.cell) & (height >= thick)
    if past_edge:
        # Past a table's edge a sensor sees the floor, far below it; below what is no support the thing itself goes on.
        patch = _Footprint(plan, on, cell)
        under &= (height > -10 * thick) | (patch.part_of(plan) > 0)
        if under.sum() > 0.02 * count:
            return None
    body, around = above & own, 0
    if level:
        clear = _reaches(plan, height, on, body)
    else:
        seen, around = _sectors_seen(scene, plan, height, on, body, footprint, main)
        clear = sectors <= seen
    if not clear:
        return None
    frame: Literal["given", "sensor"] = "sensor" if scene.in_sensor_frame else "given"
    return Support(normal, offset, tilt, on, beyond, (height >= thick) & ~own, frame, around)


def _reaches(plan: Array, height: Array, on: Mask, body: Mask) -> bool:
    """Whether a level plane goes on beyond what it bears on two sides, and by more than a foot does."""
    inner_low, inner_high = np.percentile(plan[body], [1.0, 99.0], axis=0)
    outer_low, outer_high = np.percentile(plan[on], [1.0, 99.0], axis=0)
    size = max(float((inner_high - inner_low).max()), float(np.percentile(height, 99.0)))
    past = np.concatenate([inner_low - outer_low, outer_high - inner_high])
    return bool((past > FOOT * size).sum() >= 2 and float((outer_high - outer_low).max()) >= 0.75 * size)


def _sectors_wanted(scene: _Scene, normal: Array, offset: float, tilt: float) -> int:
    """On how many of the SECTORS round the object a tilted plane has to be seen, for where the sensor was and for how
    far it contradicts what is up; 0 where it can be no support."""
    if scene.sensor is not None:
        towards = scene.sensor - np.median(scene.points, axis=0)
        risen = float(normal @ scene.sensor - offset)
        if risen < np.sin(np.deg2rad(5.0)) * float(np.linalg.norm(towards)):
            return 0
    if scene.image_up is None:
        return 8 if tilt <= 120.0 else 0
    # A camera looks down at what stands on a table; of walls and backs it sees planes that lean away from image up.
    up = float(normal @ scene.image_up)
    return 3 if up > 0.1 else 6 if up > -0.17 else 0


def _sectors_seen(
    scene: _Scene, plan: Array, height: Array, on: Mask, body: Mask, footprint: _Footprint, main: int
) -> tuple[int, int]:
    """On how many of the SECTORS round the footprint of what a plane bears it is seen beyond that, and by how many
    points; 0 where it ends too near: far out is asked of a plane that contradicts a given up axis."""
    inner = np.percentile(plan[body], [1.0, 99.0], axis=0)
    size = max(float(np.ptp(inner, axis=0).max()), float(np.percentile(height[body], 99.0)))
    free = plan[on & ~footprint.within(plan, main, FOOT * size)] - inner.mean(0)
    length = float(np.linalg.norm(np.ptp(np.percentile(plan[on], [1, 99], axis=0), axis=0)))
    share, far = (0.003, 0.75) if scene.in_sensor_frame else (0.05, 1.8)
    if len(free) < max(10, share * on.sum()) or length < far * size:
        return 0, 0
    sector = np.floor((np.arctan2(free[:, 1], free[:, 0]) / (2 * np.pi) + 0.5) * SECTORS).astype(np.int64) % SECTORS
    return int((np.bincount(sector, minlength=SECTORS) >= max(3, 0.02 * len(free))).sum()), len(free)
