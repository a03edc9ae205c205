"""What points alone tell of which way is up: the layers they lie in, and whether what they show would stand.

No sign is sure: a shelf lies in layers along its height and its width, a scan from above shows nothing of the feet.
What each is worth was measured (scripts/standing_counts); who asks, joins them with what a network believes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from .signed_distance import sphere_directions
from .transforms import Float64Array

SIGNS = ("layers", "tipping", "feet", "height")
LOOKED_AT = 2500
"""Points of a cloud."""

_CELL = 1 / 24
"""Of the cloud's root mean square size: how thick a layer is."""
_FEET = 0.05
"""Of that size: how high above the lowest point it may rest on something."""


def entropy_along(along: Float64Array, cell: float) -> Float64Array:
    """Entropy of each row of places along an axis (A, N), counted in cells of that length -> (A,)."""
    place = along / cell
    place -= np.floor(place.min())
    low: NDArray[np.int64] = place.astype(np.int64)
    part = place - low
    rows, bins = len(along), int(low.max()) + 2
    index = (np.arange(rows)[:, None] * bins + low).ravel()
    count = np.bincount(index, (1 - part).ravel(), bins * rows) + np.bincount(index + 1, part.ravel(), bins * rows)
    share = count.reshape(rows, bins) / along.shape[1]
    return np.asarray(-(share * np.log(share + 1e-12)).sum(1), np.float64)


def to_up(direction: Float64Array) -> Float64Array:
    """(3, 3) rotation that takes a unit vector to z by the shortest way."""
    x, y, z = direction / np.linalg.norm(direction)
    if z < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    v = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0.0]])
    return np.asarray(np.eye(3) + v + v @ v / (1 + z))


def centred(points: NDArray[np.floating[Any]], most: int) -> tuple[Float64Array, float]:
    """At most about `most` of the points (N, 3) about their mean, and their root mean square distance from it."""
    x: Float64Array = np.asarray(points[:: max(1, len(points) // most)], np.float64)
    x = x - x.mean(0)
    return x, float(np.sqrt((x**2).sum(1).mean()))


def layer_directions(
    points: NDArray[np.floating[Any]], most: int
) -> tuple[list[Float64Array], Float64Array, Float64Array]:
    """Up to `most` unit vectors (3,) along which points (N, 3) lie in layers, the clearest first; the points' principal
    axes, in columns; and the points looked at, about their mean. All turn with the points."""
    x, size = centred(points, 768)
    _, axes = np.linalg.eigh(x.T @ x)
    axes = axes * np.where(((x @ axes) ** 3).sum(0) < 0, -1.0, 1.0)  # the longer tail decides an axis's sign
    directions = sphere_directions(300, 0.0).astype(np.float64) @ axes.T
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    entropy = entropy_along(directions @ x.T, size / 12)
    found: list[tuple[float, Float64Array]] = []
    for k in np.argsort(entropy):
        if len(found) < most and all(abs(directions[k] @ other) < np.cos(np.deg2rad(20)) for _, other in found):
            near = directions[k : k + 1]
            best, cost = near[0], float("inf")
            for reach in (0.06, 0.02, 0.006):
                turn = to_up(best)
                steps = np.linspace(-reach, reach, 5)
                near = np.stack([*(g.ravel() for g in np.meshgrid(steps, steps)), np.ones(25)], 1)
                near = near @ turn
                near = near / np.linalg.norm(near, axis=1, keepdims=True)
                costs = entropy_along(near @ x.T, size / 24)
                best, cost = near[int(np.argmin(costs))], float(costs.min())
            found.append((cost, best))
    found.sort(key=lambda pair: pair[0])
    return [best for _, best in found], axes, x


def standing_signs(points: NDArray[np.floating[Any]], directions: Sequence[Float64Array]) -> Float64Array:
    """(D, 4), in the order of SIGNS, of each of D directions (3,) that may be up for points (N, 3). They turn
    with the points and know no unit.

    layers: entropy along it, low where the points lie in layers.  tipping: how far it may be tilted before the mean of
    the points is beyond the hull of the lowest ones, in units of 30 degrees, -1 to 1.5; negative where it falls.
    feet: logarithm of the share of the points that are lowest.  height: logarithm of the extent along it by the root
    mean square size.
    """
    x, size = centred(points, LOOKED_AT)
    if size <= 0:
        return np.zeros((len(directions), len(SIGNS)))
    entropy = entropy_along(np.stack(directions) @ x.T, _CELL * size)
    return np.stack([np.r_[entropy[k], _resting(x @ to_up(up).T, size)] for k, up in enumerate(directions)])


def _resting(x: Float64Array, size: float) -> Float64Array:
    """tipping, feet and height of points (N, 3) about their mean, with z up."""
    bottom, top = np.percentile(x[:, 2], [0.5, 99.5])
    lowest = x[x[:, 2] < bottom + _FEET * size]
    degrees = -45.0
    if len(lowest) >= 3:
        try:
            sides = ConvexHull(lowest[:, :2]).equations
        except QhullError:  # on a line: it falls
            pass
        else:
            inside = -float(sides[:, 2].max())  # of the mean, from the nearest side
            degrees = float(np.degrees(np.arctan2(inside, max(-bottom, 1e-6 * size))))
    feet = np.clip(len(lowest) / len(x), 0.003, 1.0)
    height = np.clip((top - bottom) / size, 0.05, 5.0)
    return np.array([np.clip(degrees, -30, 45) / 30, np.log(feet), np.log(height)])
