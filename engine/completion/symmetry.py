"""Symmetries that an observed part shows, what they say of where the whole lies, and what of the part not seen.

Furniture has a mirror plane, vessels and lamps have an axis: the pose network says roughly where, the points exactly. A
mirror plane is right where mirrored points lie on observed surface and not in space that was looked through; an axis
where all normals meet it. Images of what was seen are evidence of what was not: those about an axis before anything is
decoded, those of planes where the completed shape agrees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..geometry.clouds import PointCloud
from ..geometry.sampling import estimate_normals
from ..geometry.transforms import Float64Array, Similarity, moved_cloud, yaw_rotation

POINTS = 4000
"""Looked at of a cloud."""

REACH = 0.05
"""How far the mirror plane may lie from where the network says, longest side 1."""

GAIN = 0.05
"""By how much of the points' share the moved plane must be better than the given one."""

AGREES, MOST, CONTRADICTS = 0.02, 0.95, 0.03
"""An image agrees with a shape whose surface is nearer than the first; a further symmetry is one where at least the
second share of the images do, and at most the third lies in space that was looked through."""

TURNS = 16
"""Images about an axis of revolution, that which was seen among them."""

BESIDE = 2.5
"""So many pitches of the image from the next ray that met something, a direction leads to the background."""

_RAYS = 4
"""Of those about a direction, that must all have gone on."""

Distance = Callable[[NDArray[np.floating[Any]]], NDArray[np.floating[Any]]]
"""(N, 3) canonical points -> (N,) signed distance of the completed shape."""


class LookedThrough:
    """Whether points lie in space that a sensor looked through: before what it saw in that direction.

    points: (N, 3), seen from viewpoint (3,); or in several scans (N,) from the viewpoints (S, 3) of each: what one of
    them looked through is empty.  A direction counts as looked into within 0.02 of a point's; 0.02 before the surface
    is not yet empty.
    """

    def __init__(
        self, points: NDArray[np.floating[Any]], viewpoint: NDArray[np.floating[Any]],
        scans: NDArray[np.int32] | None = None,
    ) -> None:  # fmt: skip
        if scans is None:
            self._scans = [_OneScan(points, viewpoint)]
        else:
            self._scans = [_OneScan(points[scans == k], viewpoint[k]) for k in np.unique(scans)]

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """(N, 3) -> (N,)"""
        empty = self._scans[0](points)
        for scan in self._scans[1:]:
            empty |= scan(points)
        return empty

    def beside(self, points: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """(N, 3) -> (N,) whether points lie where a sensor met nothing at all: `BESIDE` pitches from what it saw."""
        return np.asarray(np.any([scan.beside(points) for scan in self._scans], axis=0))


class _OneScan:
    """LookedThrough of points (N, 3) that were seen from one viewpoint (3,)."""

    def __init__(self, points: NDArray[np.floating[Any]], viewpoint: NDArray[np.floating[Any]]) -> None:
        self.viewpoint = np.asarray(viewpoint, np.float64)
        rays, self.depths = self._directions(points)
        self.rays = cKDTree(rays)

    @cached_property
    def pitch(self) -> float:
        """Between neighbours of the image, in radians."""
        rays = np.asarray(self.rays.data)
        some = rays[:: max(1, len(rays) // POINTS)]
        return float(np.median(self.rays.query(some, k=min(3, len(rays)))[0][:, -1]))

    def _directions(self, points: NDArray[np.floating[Any]]) -> tuple[Float64Array, Float64Array]:
        away = np.asarray(points, np.float64) - self.viewpoint
        depth = np.linalg.norm(away, axis=1)
        return away / depth[:, None].clip(1e-9), depth

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """(N, 3) -> (N,)"""
        ray, depth = self._directions(points)
        angle, k = self.rays.query(ray, k=min(_RAYS, len(self.depths)), distance_upper_bound=0.02)
        looked = np.isfinite(angle)
        beyond = depth[:, None] < self.depths[np.where(looked, k, 0)] - 0.02
        # At a silhouette one ray passes by: all that come near must have gone on.
        empty: NDArray[np.bool_] = looked.any(1) & (beyond | ~looked).all(1)
        return empty

    def beside(self, points: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """(N, 3) -> (N,)"""
        ray, _ = self._directions(points)
        nearest, _ = self.rays.query(ray, k=1, distance_upper_bound=BESIDE * self.pitch)
        return np.asarray(~np.isfinite(nearest))


def axis_of_revolution(
    points: NDArray[np.floating[Any]], normals: NDArray[np.floating[Any]], tolerance: float, share: float = 0.85
) -> Float64Array | None:
    """(2,) where the vertical axis of a surface of revolution is, or None where the points are not of one.

    points, normals: (N, 3), z up. Robust least squares of the distances by which the normals' horizontal lines miss the
    axis; it is one where such a share miss it by less than `tolerance` and they come from more than one side.
    """
    across = np.linalg.norm(normals[:, :2], axis=1)
    steep = across > 0.5
    if steep.sum() < 50:
        return None
    h = np.asarray(normals[steep, :2], np.float64) / across[steep, None]
    rows = np.stack([-h[:, 1], h[:, 0]], 1)  # distance of a place c from the line: rows . (c - point)
    wanted = (rows * points[steep, :2]).sum(1)
    weight = np.ones(len(rows))
    centre = np.zeros(2)
    for _ in range(10):
        system = (rows * weight[:, None]).T @ rows
        if np.linalg.eigvalsh(system / weight.sum())[0] < 0.1:
            return None  # seen from one direction: the depth of the axis is anybody's guess
        centre = np.linalg.solve(system, (rows * weight[:, None]).T @ wanted)
        miss = np.abs(rows @ centre - wanted)
        weight = 1 / (1 + (miss / (1.5 * np.median(miss) + 1e-6 * tolerance)) ** 2)
    return centre if float((miss < tolerance).mean()) >= share else None


def revolution_direction(
    points: NDArray[np.floating[Any]], normals: NDArray[np.floating[Any]], tolerance: float = 0.02, share: float = 0.85
) -> Float64Array | None:
    """(3,) unit direction of the axis of a surface of revolution that lies anyhow, or None where the points are not of
    one, or of one with many axes (a ball, a plane).

    points: (N, 3); normals: (N, 3), their sign does not matter.  The normals of such a surface meet the axis, that is,
    their lines lie in a linear complex, whose direction is the smallest eigenvector of a 3 x 3 matrix (Pottmann and
    Randrup 1998, "Rotational and helical surface approximation for reverse engineering").  tolerance: fraction of the
    points' size by which a line may miss the axis; share: of the lines that are not nearly along it.
    """
    p: Float64Array = np.asarray(points[:: max(1, len(points) // POINTS)], np.float64)
    n: Float64Array = np.asarray(normals[:: max(1, len(points) // POINTS)], np.float64)
    p = p - p.mean(0)
    p = p / max(float(np.ptp(p, axis=0).max()), 1e-12)
    moment = np.cross(p, n)
    weight = np.ones(len(p))
    direction = np.zeros(3)
    for _ in range(20):
        mm, mn, nn = ((a * weight[:, None]).T @ b / weight.sum() for a, b in ((moment, moment), (moment, n), (n, n)))
        if np.linalg.eigvalsh(nn)[0] < 0.01:
            return None  # normals of one plane only: a plane, or a cylinder seen from one side
        inner = np.linalg.solve(nn, mn.T)
        values, vectors = np.linalg.eigh(mm - mn @ inner)
        direction = vectors[:, 0]
        shift = -inner @ direction
        across = np.linalg.norm(np.cross(n, direction), axis=1)
        miss = np.abs(moment @ direction + n @ (shift - (shift @ direction) * direction)) / across.clip(0.3)
        weight = 1 / (1 + (miss / (1.5 * np.median(miss) + 1e-6)) ** 2)
    steep = across > 0.5
    if values[1] < 4 * values[0] + 1e-4 or steep.mean() < 0.2:
        return None
    return direction if float((miss[steep] < tolerance).mean()) >= share else None


def _mirror_agreement(cloud: PointCloud) -> Callable[[float, float], tuple[float, float]]:
    """Of a cloud with normals and a viewpoint, the function of a mirror plane's yaw (radians, 0 = its normal is x) and
    distance from the origin: share of mirrored points on observed surface, share of them in space that was looked
    through."""
    assert cloud.normals is not None and cloud.viewpoint is not None
    points, normals = cloud.points.astype(np.float64), cloud.normals.astype(np.float64)
    tree = cKDTree(points)
    looked_through = LookedThrough(points, cloud.viewpoint, cloud.scans)
    some = slice(None, None, max(1, len(points) // 1000))

    def agreement(yaw: float, x: float) -> tuple[float, float]:
        across = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        mirrored = points[some] - 2 * (points[some] @ across - x)[:, None] * across
        facing = normals[some] - 2 * (normals[some] @ across)[:, None] * across
        distance, k = tree.query(mirrored, distance_upper_bound=0.03)
        near = np.isfinite(distance)
        k = np.where(near, k, 0)
        alike = (normals[k] * facing).sum(1).clip(0.0)
        off = ((mirrored - points[k]) * normals[k]).sum(1)
        on = float((near * alike * np.exp(-((off / 0.006) ** 2))).mean())
        return on, float(looked_through(mirrored).mean())

    return agreement


def mirror_plane(cloud: PointCloud) -> tuple[float | None, float]:
    """x of the mirror plane of a canonical cloud with normals and a viewpoint, near 0, None where none is clearly
    better than x = 0; and what speaks for the plane: the share of mirrored points on observed surface less that in
    space that was looked through."""
    agreement = _mirror_agreement(cloud)

    def look(places: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([[x, *agreement(0.0, float(x))] for x in places])

    table = look(np.linspace(-REACH, REACH, 11))
    best = table[int(np.argmax(table[:, 1] - table[:, 2]))]
    table = np.concatenate([table, look(best[0] + np.linspace(-0.0075, 0.0075, 7))])
    table = table[np.argsort(table[:, 0], kind="stable")]
    score = table[:, 1] - table[:, 2]
    k = int(np.argmax(score))
    given = agreement(0.0, 0.0)
    if abs(table[k, 0]) > REACH - 0.005 or table[k, 1] < given[0] or score[k] < given[0] - given[1] + GAIN:
        return None, given[0] - given[1]
    return float(table[k, 0]), float(score[k])


def turned_mirror_plane(cloud: PointCloud, x: float = 0.0) -> tuple[float, float] | None:
    """(yaw in radians, distance from the origin) of the mirror plane of a cloud as `mirror_plane` takes it, near yaw 0
    and x; None where none is clearly better than that: by 0.02, and 0.01 for every degree."""
    agreement = _mirror_agreement(cloud)

    def score(yaw: float, x: float) -> float:
        on, empty = agreement(yaw, x)
        return on - empty

    given = best = score(0.0, x)
    at = (0.0, x)
    for turn, turns, shift, shifts in ((6.0, 7, 0.03, 7), (1.5, 7, 0.0075, 7), (0.4, 5, 0.002, 3)):
        yaw, middle = at
        for more in np.radians(np.linspace(-turn, turn, turns)):
            for aside in np.linspace(-shift, shift, shifts):
                found = score(yaw + float(more), middle + float(aside))
                if found > best:
                    best, at = found, (yaw + float(more), middle + float(aside))
    return at if best > given + 0.02 + 0.01 * abs(np.degrees(at[0])) else None


def vertical_axis(cloud: PointCloud, share: float = 0.85) -> Float64Array | None:
    """`axis_of_revolution` of a canonical cloud, where it passes through the middle of the box at all."""
    points, lines = cloud.points, cloud.normals
    if lines is None:
        points = points[:: max(1, len(points) // POINTS)]
        lines = estimate_normals(points)
    axis = axis_of_revolution(points, lines, 0.02, share)
    return axis if axis is not None and float(np.abs(axis).max()) < 0.25 else None


def revolved(cloud: PointCloud, most: int) -> PointCloud | None:
    """Images of a canonical cloud about its axis of revolution, at most about `most`, or None where it has none.

    Without those in space that was looked through, and without what is not part of the revolution (handles). They have
    normals where the cloud has.  Fewer normals (there is a handle too) do for an axis where hardly any image lies in
    space that was looked through: anything with a corner turns into it.
    """
    axis = vertical_axis(cloud)
    sure = axis is not None
    if axis is None and cloud.viewpoint is not None:
        axis = vertical_axis(cloud, 0.7)
    if axis is None:
        return None
    middle = np.array([*axis, 0.0])
    points = cloud.points.astype(np.float64) - middle
    lines = (estimate_normals(cloud.points) if cloud.normals is None else cloud.normals).astype(np.float64)
    across = np.linalg.norm(lines[:, :2], axis=1)
    miss = np.abs(lines[:, 0] * points[:, 1] - lines[:, 1] * points[:, 0])
    part = np.flatnonzero((miss < 0.03 * across) | (across < 0.3))
    part = part[:: max(1, -(-(TURNS - 1) * len(part) // most))]
    maps = [Similarity(rotation=yaw_rotation(2 * np.pi * k / TURNS)) for k in range(1, TURNS)]
    images = np.concatenate([turn.apply(points[part]) for turn in maps]) + middle
    facing = np.concatenate([turn.apply_to_directions(lines[part]) for turn in maps]).astype(np.float32)
    free = np.ones(len(images), bool)
    if cloud.viewpoint is not None:
        free = ~LookedThrough(cloud.points, cloud.viewpoint, cloud.scans)(images)
    if not sure and float(free.mean()) < 1 - 0.5 * CONTRADICTS:
        return None
    return PointCloud(images[free].astype(np.float32), None if cloud.normals is None else facing[free])


def _about(linear: Float64Array, centre: Float64Array) -> Similarity:
    """x -> linear (x - centre) + centre; linear may be a reflection."""
    return Similarity(rotation=linear, translation=centre - linear @ centre)


def symmetries(
    points: NDArray[np.floating[Any]], distance: Distance, looked_through: LookedThrough | None
) -> list[Similarity]:
    """Maps of a completed shape in about the canonical frame to itself, `points` (N, 3) being what was seen of it.

    The first is the mirror image in x, which things of the canonical frame have as a rule: the plane x = offset whose
    images agree best with the shape, for x = 0 is only as good as the pose. Then, where nearly all images agree with
    the shape and hardly any lies in space that was looked through: the mirror image in y, the half turn, and the
    quarter turns with theirs.
    """
    sample = np.asarray(points[:: max(1, len(points) // 2000)], np.float64)

    def sure(to_itself: Similarity) -> bool:
        assert looked_through is not None
        images = to_itself.apply(sample)
        if float((np.abs(distance(images)) < AGREES).mean()) < MOST:
            return False
        return float(looked_through(images).mean()) < CONTRADICTS

    def plane(axis: int) -> tuple[Similarity, Float64Array]:
        flip, best, best_cost = np.eye(3), np.zeros(3), np.inf
        flip[axis, axis] = -1.0
        for offset in np.linspace(-0.03, 0.03, 13):
            centre = np.eye(3)[axis] * offset
            off = np.abs(distance(_about(flip, centre).apply(sample)))
            cost = float(off.clip(max=0.03).mean()) + 0.01 * abs(offset)
            if cost < best_cost:
                best, best_cost = centre, cost
        return _about(flip, best), best

    mirror, middle = plane(0)
    found = [mirror]
    if looked_through is None:  # nothing would contradict the others
        return found
    other, centre = plane(1)
    if not sure(other):
        return found
    found.append(other)
    if sure(mirror):
        found.append(mirror.after(other))
        quarters = [_about(yaw_rotation(angle), middle + centre) for angle in (np.pi / 2, -np.pi / 2)]
        if all(sure(quarter) for quarter in quarters):
            found += [*quarters, quarters[0].after(mirror), quarters[0].after(other)]
    return found


@dataclass(frozen=True)
class Centred:
    """to_scene: canonical -> the cloud's frame.  by: what was found, 'axis', 'mirror plane' or '' (nothing better than
    the given pose).  agreement: share of the points that the symmetry explains less that which it contradicts, -1..1;
    an axis explains all."""

    to_scene: Similarity
    by: str = ""
    agreement: float = 0.0


def centred_by_symmetry(cloud: PointCloud, to_scene: Similarity, turn: bool = False) -> Centred:
    """A pose (canonical -> the cloud's frame) moved so that an axis of revolution, or else a mirror plane, of the cloud
    lies where the canonical frame has it; its yaw is corrected by the plane too where `turn` says that it may be off.

    Mirror planes are looked for only with normals and a viewpoint: else nothing tells what contradicts them.
    """
    inverse = to_scene.inverse()
    some = slice(None, None, max(1, len(cloud.points) // POINTS))
    seen = moved_cloud(cloud.at(np.arange(len(cloud.points))[some]), inverse)
    axis = vertical_axis(seen)
    if axis is not None:
        return Centred(to_scene.after(Similarity(translation=np.array([*axis, 0.0]))), "axis", 1.0)
    if seen.normals is None or seen.viewpoint is None:
        return Centred(to_scene)
    x, agreement = mirror_plane(seen)
    plane = turned_mirror_plane(seen, x or 0.0) if turn else None
    if plane is not None:
        yaw, x = plane
        across = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        corrected = to_scene.after(Similarity(rotation=yaw_rotation(yaw), translation=x * across))
        return Centred(corrected, "mirror plane", agreement)
    if x is None:
        return Centred(to_scene, "", agreement)
    return Centred(to_scene.after(Similarity(translation=np.array([x, 0.0, 0.0]))), "mirror plane", agreement)
