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

from .transforms import Float64Array

SIGNS = ("layers", "tipping", "feet", "height")
LOOKED_AT = 2500
"""Points of a cloud."""

_CELL = 1 / 24
"""Of the cloud's root mean square size: how thick a layer is."""
_FEET = 0.03
"""Of the cloud's extent: how high above the lowest point it may rest on something."""


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


def standing_signs(points: NDArray[np.floating[Any]], directions: Sequence[Float64Array]) -> Float64Array:
    """(D, 4), in the order of SIGNS, of each of D directions (3,) that may be up for points (N, 3).

    layers: entropy along it, low where the points lie in layers.  tipping: how far it may be tilted before the mean of
    the points is beyond the hull of the lowest ones, in units of 30 degrees, -1 to 1.5; negative where it falls.
    feet: logarithm of the share of the points that are lowest.  height: logarithm of the extent along it as a share of
    the longest side.
    """
    x, size = centred(points, LOOKED_AT)
    if size <= 0:
        return np.zeros((len(directions), len(SIGNS)))
    entropy = entropy_along(np.stack(directions) @ x.T, _CELL * size)
    return np.stack([np.r_[entropy[k], _resting(x @ to_up(up).T)] for k, up in enumerate(directions)])


def _resting(x: Float64Array) -> Float64Array:
    """tipping, feet and height of points (N, 3) with z up."""
    bottom, top = np.percentile(x[:, 2], [0.5, 99.5])
    extent = float(np.ptp(np.percentile(x, [1, 99], axis=0), axis=0).max())
    lowest = x[x[:, 2] < bottom + _FEET * extent]
    mean = x.mean(0)
    degrees = -45.0
    if len(lowest) >= 3:
        try:
            sides = ConvexHull(lowest[:, :2]).equations
        except QhullError:  # on a line: it falls
            pass
        else:
            inside = -float((sides[:, :2] @ mean[:2] + sides[:, 2]).max())
            degrees = float(np.degrees(np.arctan2(inside, max(mean[2] - bottom, 1e-6 * extent))))
    feet = np.clip(len(lowest) / len(x), 0.003, 1.0)
    height = np.clip((top - bottom) / extent, 0.05, 1.5)
    return np.array([np.clip(degrees, -30, 45) / 30, np.log(feet), np.log(height)])
