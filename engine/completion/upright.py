"""Does a scan stand as its frame says? Each of the six axes is judged; what is told is which is likelier than z.

The usual lying scan has another custom's axes (y up), so the axes themselves are asked, not every direction. What the
pose network believes says little where it does not know the thing, so what the points tell counts too (layers, would
it fall over), and that a sensor looks down at things, where its place is told or found; and some customs are
commoner than others. Weights by multinomial logistic regression over the six axes; how often that is right, and how
often wrong: docs/inputs.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..frames import UP_AXES, up_rotation
from ..geometry.clouds import PointCloud
from ..geometry.standing import LOOKED_AT, standing_signs
from ..priors.file import Prior
from .alignment import UpDoubt, stands

UNDOUBTED = 1.5
"""Logits of the network for the given axis above which no other is asked: that of most that stand."""

OF_BELIEF, OF_SIGNS = 0.50, np.array([0.57, 0.98, -0.52, -0.92])
"""What a logit of the network's belief is worth, and each of geometry.standing.SIGNS: scripts/standing_counts."""

SENSOR_ABOVE = 3.0
"""Logits for an axis above whose horizon the sensor was; more changed nothing."""
HORIZON = 0.05
"""Sine of the elevation from which on it was."""

COMMON = {"+z": 0.0, "+y": -1.5, "-y": -3.0, "-z": -4.0, "+x": -4.0, "-x": -4.0}
"""Logits of how common an axis is as up in files whose up is said to be z: a guess, but for their order."""
CLEARLY = 1.2
"""Logits by which another axis must be ahead of the given one where it is taken for up: of upright scans fewer than one
in a hundred are then laid down."""


def doubt_up(prior: Prior, cloud: PointCloud) -> UpDoubt | None:
    """Which axis of a cloud is likelier up than z, which is given; None where z is believed or nothing else is."""
    if prior.pose is None:
        return None
    points = cloud.points[:: max(1, len(cloud.points) // LOOKED_AT)]
    alone = PointCloud(points)  # as the weights have it: the sensor counts by itself
    if stands(prior, alone, [np.array([0.0, 0.0, 1.0])])[0] > UNDOUBTED:
        return None
    axes = ["+z", *(axis for axis in UP_AXES if axis != "+z")]
    belief = axis_logits(prior, alone, axes, cloud.viewpoint)
    best = int(np.argmax(belief))
    if best == 0:
        return None
    share = np.exp(belief - belief.max())
    return UpDoubt(axes[best], bool(belief[best] - belief[0] > CLEARLY), float(share[0] / share.sum()))


def axis_logits(
    prior: Prior, cloud: PointCloud, axes: list[str], viewpoint: NDArray[np.floating] | None  # type: ignore[type-arg]
) -> NDArray[np.float64]:
    """(A,) how likely each axis of a cloud is up: logits, but for a constant. viewpoint: (3,), (S, 3) or None."""
    directions = [up_rotation(axis)[2] for axis in axes]
    logits = OF_BELIEF * stands(prior, cloud, directions, sides=4)
    logits += standing_signs(cloud.points, directions) @ OF_SIGNS
    if viewpoint is not None:
        towards = viewpoint.astype(np.float64).reshape(-1, 3) - np.median(cloud.points, axis=0)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True).clip(1e-12)
        logits += SENSOR_ABOVE * (np.stack(directions) @ towards.T > HORIZON).mean(axis=1)
    return np.asarray(logits + np.array([COMMON[axis] for axis in axes]))
