"""Does a scan stand as its frame says? The pose network's belief about each of the six axes.

The usual lying scan is one of another custom (y up), so the axes themselves are asked, not every direction. The belief
about one axis says little where the network does not know the thing: sofas and cabinets are as likely on their backs.
So a scan is stood up only where the given axis is disbelieved, another believed, and no third comes near; how often
that is so, and how often it is wrong: docs/inputs.md.
"""

from __future__ import annotations

import numpy as np

from ..frames import UP_AXES, up_rotation
from ..geometry.clouds import PointCloud
from ..priors.file import Prior
from .alignment import UpDoubt, stands

UNDOUBTED = 0.5
"""Logits for the given axis above which no other is asked."""
BELIEVED, AHEAD, ALONE = 3.0, 4.0, 1.5
"""Logits of the axis that is clearly up; how far it is ahead of the given one, and of every other."""
LIKELIER = 2.0
"""How far another axis is ahead where it is worth a word."""


def doubt_up(prior: Prior, cloud: PointCloud) -> UpDoubt | None:
    """Which axis of a cloud is likelier up than z, which is given; None where z is believed or nothing else is."""
    if prior.pose is None or stands(prior, cloud, [np.array([0.0, 0.0, 1.0])])[0] > UNDOUBTED:
        return None
    axes = ["+z", *(axis for axis in UP_AXES if axis != "+z")]
    belief = stands(prior, cloud, [up_rotation(axis)[2] for axis in axes], sides=4)
    order = np.argsort(-belief)
    best, ahead = int(order[0]), float(belief[order[0]] - belief[0])
    if best == 0 or ahead < LIKELIER:
        return None
    third = max(float(belief[k]) for k in range(1, len(axes)) if k != best)
    clear = belief[best] > BELIEVED and ahead > AHEAD and belief[0] < 0 and belief[best] - third > ALONE
    return UpDoubt(axes[best], bool(clear), ahead)
