"""What people bring to a completion, simulated from a shape's record.

One view or several, or the whole surface; a viewpoint that is known or not; what depth cameras get wrong (noise across
the surface and along the ray, pixels that fly between a near and a far surface, stray points, dark parts without a
return); the floor that was left in; a front that was given wrong. Everything is drawn from a generator that the caller
seeds. Coordinates are canonical (bounding box centred at 0, longest side 1, z up) unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .supervision import UNITS, VIEWS

WHOLE_SHARE, ALL_ROUND_SHARE = 0.2, 0.15
"""How often the evidence is the complete surface: said to be so and decoded from its code alone, which is what codes
that can be generated and blended are learnt from; and as a cloud like any other, with its evidence features."""

MOST_VIEWS = 8
SINGLE_SHARE = 0.6
"""Of the partial scans; the others have two to MOST_VIEWS views, all numbers alike."""

UNKNOWN_SHARE, UNKNOWN_ALL_ROUND = 0.4, 0.8
"""How often nobody tells from where the points were seen: of partial scans, and of complete clouds."""

TURNED_SHARE = 0.25
"""How often the front is wrong by one, two or three quarter turns. Evidence and target are turned together, so that
the mirror image in x = 0, which the evidence also holds, is right only where the points themselves bear it out."""

FEWEST = 100
"""Points of the sparsest clouds; the densest have as many as a batch has room for."""

HOLE_SHARE, NOISE_SHARE, FLYING_SHARE, STRAY_SHARE, FLOOR_SHARE = 0.35, 0.6, 0.2, 0.1, 0.2
MOST_NOISE = 0.01
FLIES = 0.03
"""Least difference in distance, in canonical units, between neighbouring pixels for one to fly between them."""
HIDES = 0.025
"""Radians about a surface point within which it hides what lies behind: the spacing of a record's 6,000 points, about
1.5 % of the size, from the nearest viewpoint, and somewhat more: they lie irregularly."""

Kind = Literal["whole", "all round", "views"]


@dataclass
class Seen:
    """points: (N, 3).  origins: (N, 3), from where each was seen.  known: (N,) 1 where that is told, else 0."""

    points: NDArray[np.float32]
    origins: NDArray[np.float32]
    known: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.points)

    def at(self, chosen: NDArray[Any]) -> Seen:
        return Seen(self.points[chosen], self.origins[chosen], self.known[chosen])


def draw_kind(rng: np.random.Generator) -> Kind:
    u = rng.random()
    return "whole" if u < WHOLE_SHARE else "all round" if u < WHOLE_SHARE + ALL_ROUND_SHARE else "views"


def draw_views(rng: np.random.Generator) -> NDArray[np.int64]:
    """Which of a record's viewpoints a partial scan was made from: one to MOST_VIEWS of them, no one twice."""
    count = 1 if rng.random() < SINGLE_SHARE else int(rng.integers(2, MOST_VIEWS + 1))
    return rng.choice(VIEWS, count, replace=False)


def seen_from(record: NDArray[np.void], views: NDArray[np.int64]) -> Seen:
    """The surface points of a record that the views see, each from the first of them that does; viewpoints known."""
    bits = (record["seen"][:, None] >> views.astype(np.uint16)) & 1 == 1
    pick = np.flatnonzero(bits.any(1))
    points = record["surface"][pick].astype(np.float32) / UNITS
    origins = record["viewpoint"][views[bits[pick].argmax(1)]]
    return Seen(points, origins, np.ones(len(pick), np.float32))


def all_round(record: NDArray[np.void], rng: np.random.Generator) -> Seen:
    """All surface points of a record, each from one of the viewpoints that see it. Where none does (undersides), it is
    not known from where."""
    bits = (record["seen"][:, None] >> np.arange(VIEWS, dtype=np.uint16)) & 1
    which = (bits * rng.random(bits.shape)).argmax(1)
    points = record["surface"].astype(np.float32) / UNITS
    return Seen(points, record["viewpoint"][which], bits.any(1).astype(np.float32))


def without_holes(points: NDArray[np.float32], rng: np.random.Generator, least: int = 64) -> NDArray[np.int64]:
    """Indices of the points outside of one to three balls about some of them: dark and shiny parts return nothing.
    A hole that would leave fewer than `least` is not made."""
    kept = np.arange(len(points))
    for _ in range(int(rng.integers(1, 4))):
        centre = points[rng.choice(kept)]
        left = kept[np.linalg.norm(points[kept] - centre, axis=1) > rng.uniform(0.03, 0.25)]
        if len(left) >= least:
            kept = left
    return kept


def measured(seen: Seen, rng: np.random.Generator, sigma: float) -> NDArray[np.float32]:
    """Points with noise of standard deviation `sigma`, for half of the scans in any direction, else along the ray.

    Points that were seen from nowhere that is known to the record lie along some ray all the same: any will do."""
    if rng.random() < 0.5:
        return seen.points + rng.normal(0.0, sigma, seen.points.shape).astype(np.float32)
    ray = seen.points - seen.origins
    ray /= np.linalg.norm(ray, axis=1, keepdims=True).clip(1e-6)
    return seen.points + ray * rng.normal(0.0, sigma, (len(seen), 1)).astype(np.float32)


def with_flying_pixels(seen: Seen, rng: np.random.Generator, share: float) -> NDArray[np.float32]:
    """Points of which `share` are tried: one whose neighbour in the picture lies more than FLIES nearer or farther is
    measured somewhere between both, on its own ray, as time-of-flight and stereo cameras do at silhouettes."""
    points = seen.points.copy()
    for origin in np.unique(seen.origins, axis=0):
        mine = np.flatnonzero((seen.origins == origin).all(1))
        if len(mine) < 16:
            continue
        ray = seen.points[mine] - origin
        depth = np.linalg.norm(ray, axis=1)
        ray /= depth[:, None].clip(1e-6)
        tried = rng.choice(len(mine), max(1, round(share * len(mine))), replace=False)
        beside = cKDTree(ray).query(ray[tried], k=8)[1]
        difference = depth[beside] - depth[tried, None]
        largest = np.take_along_axis(difference, np.abs(difference).argmax(1)[:, None], 1)[:, 0]
        flies = np.abs(largest) > FLIES
        tried, largest = tried[flies], largest[flies]
        moved = depth[tried] + largest * rng.uniform(0.1, 0.9, len(tried))
        points[mine[tried]] = origin + ray[tried] * moved[:, None]
    return points.astype(np.float32)


def support_patch(
    surface: NDArray[np.float32], views: NDArray[np.float32], rng: np.random.Generator, most: int = 1500
) -> Seen:
    """Points of the floor that the views (V, 3) see about a shape and under it, at the shape's lowest point.

    surface: (N, 3) of the whole shape, which hides what lies behind it (within HIDES).  At most `most` points, possibly
    none. The patch reaches up to 0.3 beyond the shape on every side, on each side differently.
    """
    low, high = surface.min(0), surface.max(0)
    reach = rng.uniform(0.0, 0.3, (2, 2))
    at = rng.uniform(low[:2] - reach[0], high[:2] + reach[1], (int(rng.integers(most // 5, most)), 2))
    floor = np.column_stack([at, np.full(len(at), low[2])]).astype(np.float32)
    found, origins = [], []
    for view in views:
        ray = floor - view
        depth = np.linalg.norm(ray, axis=1)
        shape = surface - view
        shape_depth = np.linalg.norm(shape, axis=1)
        _, which = cKDTree(shape / shape_depth[:, None]).query(
            ray / depth[:, None], k=min(8, len(surface)), distance_upper_bound=HIDES
        )
        # Where fewer than eight lie within HIDES, the tree answers with one past the last.
        hidden = np.append(shape_depth, np.inf)[which] < depth[:, None] - 0.01
        clear = ~hidden.any(1)
        found.append(floor[clear])
        origins.append(np.broadcast_to(view, (int(clear.sum()), 3)))
        floor = floor[~clear]
        if not len(floor):
            break
    points = np.concatenate(found)
    return Seen(points, np.concatenate(origins).astype(np.float32), np.ones(len(points), np.float32))


def draw_count(rng: np.random.Generator, most: int) -> int:
    """How many points a cloud has at most: half of the time `most`, else FEWEST to `most`, evenly in its logarithm."""
    if rng.random() < 0.5:
        return most
    return round(float(np.exp(rng.uniform(np.log(FEWEST), np.log(most)))))


def quarter_turns(points: NDArray[np.float32], quarters: int) -> NDArray[np.float32]:
    """Points or directions (..., 3) turned about z by so many quarters, exactly."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    turned = [(x, y), (-y, x), (-x, -y), (y, -x)][quarters % 4]
    return np.stack([*turned, z], -1)


def draw_quarters(rng: np.random.Generator) -> int:
    """By how many quarter turns the front is wrong: mostly 0."""
    return int(rng.integers(1, 4)) if rng.random() < TURNED_SHARE else 0


def scan_record(record: NDArray[np.void], rng: np.random.Generator, kind: Kind) -> Seen:
    """What somebody scanned of a record's shape, before any error of measurement; viewpoints are told or not."""
    if kind == "whole":
        surface = record["surface"].astype(np.float32) / UNITS
        return Seen(surface, np.zeros_like(surface), np.zeros(len(surface), np.float32))
    views = draw_views(rng)
    seen = all_round(record, rng) if kind == "all round" else seen_from(record, views)
    told = rng.random() >= (UNKNOWN_ALL_ROUND if kind == "all round" else UNKNOWN_SHARE)
    if len(seen) < 16:  # hardly anything: as good as seen from nowhere
        seen, told = all_round(record, rng), False
    if rng.random() < HOLE_SHARE:
        seen = seen.at(without_holes(seen.points, rng))
    if rng.random() < FLYING_SHARE:
        seen.points = with_flying_pixels(seen, rng, rng.uniform(0.0, 0.3))
    if rng.random() < FLOOR_SHARE:
        surface = record["surface"].astype(np.float32) / UNITS
        floor = support_patch(surface, record["viewpoint"][views], rng, max(40, len(seen) // 2))
        seen = Seen(*(np.concatenate([a, b]) for a, b in zip(vars(seen).values(), vars(floor).values(), strict=True)))
    if not told:
        seen.known = np.zeros_like(seen.known)
    return seen


def spoil(seen: Seen, rng: np.random.Generator) -> NDArray[np.float32]:
    """What is measured of what was scanned, in canonical units: noise up to MOST_NOISE, and stray points."""
    points = seen.points
    if rng.random() < NOISE_SHARE:
        points = measured(seen, rng, rng.uniform(0.0, MOST_NOISE))
    if rng.random() < STRAY_SHARE:
        wild = rng.random(len(points)) < rng.uniform(0.0, 0.08)
        points = np.where(wild[:, None], rng.uniform(-0.5, 0.5, points.shape), points)
    return points.astype(np.float32)
