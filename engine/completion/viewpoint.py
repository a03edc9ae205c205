"""Where a scan was taken from, estimated from its points alone.

Two things give a sensor away. What it saw hides nothing of what it saw: from its place no point lies behind others (after
hidden point removal, Katz et al. 2007, turned round: the place is asked for, not what is hidden). And its image is evenly
filled: a depth camera measures so many points a solid angle, so from its place the points are as far from their
neighbours here as there. The second says nothing about points that were thinned, and then it is told as unlikely;
the first says little between a place and the one opposite, from where the same points may be hidden by nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..geometry.clouds import PointCloud
from ..geometry.signed_distance import sphere_directions

Array = NDArray[np.float64]

POINTS, FEWER = 2000, 1200
"""Points drawn for the image's evenness, and for what is hidden."""
DIRECTIONS = 400
"""Asked over the whole sphere: nobody has said yet what is up."""
DISTANCE = 2.0
"""From the centre, in sizes of the cloud: where a person stands; refined where the image's evenness tells it."""
NEIGHBOUR = 6
CANDIDATES, APART = 8, 20.0
"""Places looked at closely, and how far apart, in degrees."""
EVEN, HIDES = 0.24, 0.35
"""From the sensor's place the image is at least so even, and hides at most this share of what others hide (median)."""
FEWEST = 200
PIXEL, BEHIND = 2.4, 6.0
"""Side of a pixel in which points hide one another, and how far behind is hidden, in spacings."""


@dataclass(frozen=True)
class SeenFrom:
    """viewpoint: (3,) in the cloud's frame.  hidden: share of the points that lie behind others from there.
    evenness: standard deviation of the logarithm of the distance to the sixth neighbour in its image: about 0.2 for the
    raw points of a depth camera.  confidence: 0..1."""

    viewpoint: Array
    hidden: float
    evenness: float
    confidence: float


def _axes(views: Array) -> tuple[Array, Array, Array]:
    """(V, 3) each: forward to the origin, right and up of the images from `views` (V, 3)."""
    forward = -views / np.linalg.norm(views, axis=1, keepdims=True)
    right = np.cross(forward, np.where(np.abs(forward[:, 2:]) > 0.99, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]))
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return forward, right, np.cross(right, forward)


def hidden_from(points: Array, views: Array, spacing: float) -> Array:
    """(V,) shares of points (N, 3) that lie behind others from places `views` (V, 3), in images centred at 0."""
    forward, right, up = (axis.astype(np.float32) for axis in _axes(views))
    at = points.astype(np.float32)
    shares = np.empty(len(views))
    for k, view in enumerate(views.astype(np.float32)):
        away = at - view
        depth = np.maximum(away @ forward[k], 1e-3)
        pixel = np.float32(PIXEL * spacing / np.linalg.norm(views[k]))
        column = np.floor(away @ right[k] / depth / pixel).astype(np.int32)
        row = np.floor(away @ up[k] / depth / pixel).astype(np.int32)
        column -= column.min()
        key = (row - row.min()).astype(np.int64) * (int(column.max()) + 1) + column
        _, place = np.unique(key, return_inverse=True)
        nearest = np.full(int(place.max()) + 1, np.inf, np.float32)
        np.minimum.at(nearest, place, depth)
        shares[k] = np.mean(depth > nearest[place] + BEHIND * spacing)
    return shares


def evenness_from(points: Array, view: Array) -> float:
    """How unevenly points (N, 3) fill the image from `view` (3,): see `SeenFrom`."""
    (forward,), (right,), (up,) = _axes(view[None])
    away = points - view
    depth = np.maximum(away @ forward, 1e-3)
    image = np.stack([away @ right / depth, away @ up / depth], 1)
    apart = cKDTree(image).query(image, k=NEIGHBOUR + 1)[0][:, -1]
    return float(np.log(apart + 1e-12).std())


def seen_from(cloud: PointCloud, rng: np.random.Generator) -> SeenFrom | None:
    """Where one sensor saw these points from; None where several did, or nobody knows: walk-arounds, models, clouds of
    fewer than `FEWEST` points.

    cloud: in any frame, as it was measured: thinned evenly it says nothing.
    """
    count = len(cloud.points)
    if count < FEWEST:
        return None
    points = cloud.points[rng.permutation(count)[:POINTS]].astype(np.float64)
    low, high = points.min(0), points.max(0)
    centre, size = 0.5 * (low + high), float((high - low).max())
    if not size > 0:
        return None
    points = (points - centre) / size
    few = points[:FEWER]
    spacing = float(np.median(cKDTree(few).query(few, k=2)[0][:, 1]))
    if not spacing > 0:
        return None
    directions = sphere_directions(DIRECTIONS)
    hidden = hidden_from(few, DISTANCE * directions, spacing)
    usual = float(np.median(hidden))
    starts = DISTANCE * directions[_lowest(hidden, directions)]
    evenness = np.array([evenness_from(points, start) for start in starts])
    place, even = min((refined(points, starts[k]) for k in np.argsort(evenness)[:2]), key=lambda found: found[1])
    behind = float(hidden_from(few, place[None], spacing)[0])
    if even > EVEN or behind > HIDES * usual + 1.0 / len(few):
        return None
    confidence = min(1.0, (EVEN - even) / (EVEN - 0.2)) * (1.0 - behind / max(HIDES * usual + 1.0 / len(few), 1e-9))
    return SeenFrom(centre + size * place, behind, even, float(np.clip(confidence, 0.0, 1.0)))


def _lowest(hidden: Array, directions: Array) -> list[int]:
    """Directions (indices) that hide least, `APART` degrees from one another, up to a third of what is usual."""
    order = np.argsort(hidden, kind="stable")
    limit = hidden[order[0]] + HIDES * (np.median(hidden) - hidden[order[0]])
    chosen: list[int] = []
    for k in order:
        if len(chosen) == CANDIDATES or hidden[k] > limit:
            break
        if all(directions[k] @ directions[j] < np.cos(np.deg2rad(APART)) for j in chosen):
            chosen.append(int(k))
    return chosen


def refined(points: Array, view: Array) -> tuple[Array, float]:
    """The place near `view` (3,) from which the image is evenest, and how even."""
    distance = float(np.linalg.norm(view))
    at = np.array([np.arctan2(view[1], view[0]), np.arcsin(view[2] / distance), np.log(distance)])
    step = np.array([0.14, 0.14, 0.3])
    best = evenness_from(points, view)
    for _ in range(3):
        for axis in range(3):
            for sign in (1.0, -1.0):
                asked = at.copy()
                asked[axis] += sign * step[axis]
                value = evenness_from(points, _place(asked))
                if value < best:
                    at, best = asked, value
                    break
        step *= 0.5
    return _place(at), best


def _place(at: Array) -> Array:
    azimuth, elevation, distance = at
    flat = np.cos(elevation)
    return np.exp(distance) * np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
