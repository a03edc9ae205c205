"""Where a scan was taken from, estimated from its points alone.

Three things give a sensor away, the surest first. Its raster: a depth camera measures along a lattice of rays, so
seen from its place every point is as far from its next neighbours as every other. Where points were left out at random
since, the image is still evenly filled. And what it saw hides nothing of what it saw: from its place no point lies
behind others (hidden point removal, Katz et al. 2007, turned round: the place is asked for, not what is hidden).
Several sensors, a walk-around and a model have no such place; points thinned evenly in space have lost it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..geometry.signed_distance import sphere_directions

Array = NDArray[np.float64]
Measure = Callable[[Array], float]
"""A place (3,) -> what is lowest at the sensor's."""

FEWEST = 200
"""Of fewer points nothing is told."""
DIRECTIONS, DISTANCE = 300, 2.0
"""Places asked first: over the whole sphere, for nobody has said yet what is up, as far from the centre in sizes of the
cloud as people stand."""
APART = 20.0
"""Degrees between places that are looked at more closely."""

SEEDS, QUICK, AROUND = 300, 120, 24
"""Points whose pitch is measured, at first, and how many others about each are looked at."""
RASTERS, LINED_UP = 6, 0.06
"""Places looked at closely, and the spread of a raster: at most 0.015 at the sensor's place, at least 0.12 from the
best place of two scans."""

POINTS, FEWER, NEIGHBOUR = 2000, 1200, 6
"""Points drawn for the image's evenness and for what is hidden; the neighbour whose distance tells how dense it is."""
CANDIDATES, EVEN, HIDES = 8, 0.24, 0.35
"""From the sensor's place the image is at least so even (0.2 of points at random), and hides at most this share of what
others hide (median)."""
SURE = 0.25
"""Of what an even image tells; two scans from about the same side are often below it."""
PIXEL, BEHIND = 2.4, 6.0
"""Side of a pixel in which points hide one another, and how far behind is hidden, in spacings."""


@dataclass(frozen=True)
class SeenFrom:
    """viewpoint: (3,) in the points' frame.  by: what told it.  confidence: 0..1."""

    viewpoint: Array
    by: str
    confidence: float


def seen_from(points: NDArray[np.float32], rng: np.random.Generator) -> SeenFrom | None:
    """Where one sensor saw these points (N, 3) from, as they were measured; None where nothing tells that one did."""
    if len(points) < FEWEST:
        return None
    some = points[rng.permutation(len(points))].astype(np.float64)
    low, high = some.min(0), some.max(0)
    centre, size = 0.5 * (low + high), float((high - low).max())
    if not size > 0:
        return None
    some = (some - centre) / size
    directions = sphere_directions(DIRECTIONS).astype(np.float64)
    found = _by_raster(some, directions) or _by_evenness(some, directions)
    return None if found is None else SeenFrom(centre + size * found.viewpoint, found.by, found.confidence)


def _by_raster(points: Array, directions: Array) -> SeenFrom | None:
    """points: in random order."""
    seeds = points[:SEEDS]
    near = points[cKDTree(points).query(seeds, k=min(AROUND + 1, len(points)))[1][:, 1:]]
    quick, pitch = Pitch(seeds[:QUICK], near[:QUICK]), Pitch(seeds, near)
    coarse = np.array([quick.spread(DISTANCE * direction) for direction in directions])
    starts = _lowest(coarse, directions, RASTERS, np.inf)
    places = [place for place, spread in (refined(pitch.spread, DISTANCE * directions[k]) for k in starts)
              if spread < LINED_UP]  # fmt: skip
    if not places:
        return None
    # A plane's image is as regular from the place's mirror image in the plane: what lies elsewhere tells them apart,
    # what is hidden, and at last that people scan from above.
    few = points[:FEWER]
    spacing = _spacing(few)
    faults = [pitch.strays(place) + hidden_from(few, place, spacing) + 0.02 * (place[2] < 0) for place in places]
    best = int(np.argmin(faults))
    return SeenFrom(places[best], "its raster", float(np.clip(1.0 - faults[best], 0.0, 1.0)))


class Pitch:
    """How far points are from their next neighbours but one in the image from a place: in a raster those lie along the
    same row, however steeply the surface runs away."""

    def __init__(self, seeds: Array, near: Array) -> None:
        """seeds: (S, 3).  near: (S, K, 3) the points about each, more than lie in one row."""
        self.seeds, self.near = seeds.astype(np.float32), near.astype(np.float32)

    def spread(self, place: Array) -> float:
        """Half of what lies between the 16 % and 84 % quantiles of the logarithm of these distances."""
        pitch = np.sort(self._logarithms(place))
        return float(0.5 * (pitch[len(pitch) * 84 // 100] - pitch[len(pitch) * 16 // 100]))

    def strays(self, place: Array) -> float:
        """The share that is a fifth from the median."""
        pitch = self._logarithms(place)
        return float(np.mean(np.abs(pitch - np.median(pitch)) > 0.2))

    def _logarithms(self, place: Array) -> NDArray[np.float32]:
        axes, eye = np.stack(_axes(place), 1).astype(np.float32), place.astype(np.float32)
        seeds, near = (self.seeds - eye) @ axes, (self.near - eye) @ axes
        # From among the points there is no image: what lies behind is taken to the image's plane, where nothing fits.
        apart = near[..., 1:] / np.maximum(near[..., :1], 0.05)
        apart -= (seeds[:, 1:] / np.maximum(seeds[:, :1], 0.05))[:, None]
        pitch = np.partition(np.einsum("skd,skd->sk", apart, apart), 1, axis=1)[:, 1]
        logarithms: NDArray[np.float32] = 0.5 * np.log(pitch + np.float32(1e-12))
        return logarithms


def _by_evenness(points: Array, directions: Array) -> SeenFrom | None:
    """points: in random order."""
    some, few = points[:POINTS], points[:FEWER]
    spacing = _spacing(few)
    if not spacing > 0:
        return None
    hidden = np.array([hidden_from(few, DISTANCE * direction, spacing) for direction in directions])
    usual = float(np.median(hidden))
    limit = hidden.min() + HIDES * (usual - hidden.min())
    starts = _lowest(hidden, directions, CANDIDATES, limit)
    evenness = np.array([unevenness_from(some, DISTANCE * directions[k]) for k in starts])
    best = [starts[k] for k in np.argsort(evenness)[:2]]

    def uneven(place: Array) -> float:
        return unevenness_from(some, place)

    place, even = min((refined(uneven, DISTANCE * directions[k]) for k in best), key=lambda found: found[1])
    allowed = HIDES * usual + 1.0 / len(few)
    behind = hidden_from(few, place, spacing)
    if even > EVEN or behind > allowed:
        return None
    sure = 0.9 * min(1.0, (EVEN - even) / (EVEN - 0.2)) * (1.0 - behind / allowed)
    if sure < SURE:
        return None
    return SeenFrom(place, "its even image", float(sure))


def _spacing(points: Array) -> float:
    return float(np.median(cKDTree(points).query(points, k=2)[0][:, 1]))


def hidden_from(points: Array, place: Array, spacing: float) -> float:
    """Share of points (N, 3) that lie behind others from a place (3,), in an image centred at 0."""
    forward, right, up = (axis.astype(np.float32) for axis in _axes(place))
    away = points.astype(np.float32) - place.astype(np.float32)
    depth = np.maximum(away @ forward, 1e-3)
    pixel = np.float32(PIXEL * spacing / np.linalg.norm(place))
    column = np.floor(away @ right / depth / pixel).astype(np.int64)
    row = np.floor(away @ up / depth / pixel).astype(np.int64)
    column -= column.min()
    _, cell = np.unique((row - row.min()) * (int(column.max()) + 1) + column, return_inverse=True)
    nearest = np.full(int(cell.max()) + 1, np.inf, np.float32)
    np.minimum.at(nearest, cell, depth)
    return float(np.mean(depth > nearest[cell] + BEHIND * spacing))


def unevenness_from(points: Array, place: Array) -> float:
    """How unevenly points (N, 3) fill the image from a place (3,): the standard deviation of the logarithm of the
    distance to the `NEIGHBOUR`-th neighbour there."""
    forward, right, up = _axes(place)
    away = points - place
    depth = np.maximum(away @ forward, 1e-3)
    image = np.stack([away @ right / depth, away @ up / depth], 1)
    apart = cKDTree(image).query(image, k=NEIGHBOUR + 1)[0][:, -1]
    return float(np.log(apart + 1e-12).std())


def _axes(place: Array) -> tuple[Array, Array, Array]:
    """(3,) each: forward from a place to the origin, right and up of its image."""
    forward = -place / np.linalg.norm(place)
    right = np.cross(forward, [0.0, 1.0, 0.0] if abs(forward[2]) > 0.99 else [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return forward, right, np.cross(right, forward)


def _lowest(values: Array, directions: Array, most: int, limit: float) -> list[int]:
    """The directions (indices) with the lowest values up to a limit, `APART` degrees from one another."""
    chosen: list[int] = []
    for k in np.argsort(values, kind="stable"):
        if len(chosen) == most or values[k] > limit:
            break
        if all(directions[k] @ directions[j] < np.cos(np.deg2rad(APART)) for j in chosen):
            chosen.append(int(k))
    return chosen


def refined(measure: Measure, start: Array) -> tuple[Array, float]:
    """The place about `start` (3,) where a measure is lowest, and what it is there: a search along azimuth, elevation
    and the logarithm of the distance."""
    distance = float(np.linalg.norm(start))
    at = np.array([np.arctan2(start[1], start[0]), np.arcsin(start[2] / distance), np.log(distance)])
    step = np.array([0.12, 0.12, 0.25])
    best = measure(start)
    for _ in range(5):
        for axis in range(3):
            for sign in (1.0, -1.0):
                asked = at.copy()
                asked[axis] += sign * step[axis]
                value = measure(_place(asked))
                if value < best:
                    at, best = asked, value
                    break
        step *= 0.6
    return _place(at), best


def _place(at: Array) -> Array:
    azimuth, elevation, distance = at
    flat = np.cos(elevation)
    towards = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], np.float64)
    return towards * float(np.exp(distance))
