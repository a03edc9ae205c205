"""The frames, said once.

Scene: Blender's, z up, metres.  Input: the scan's own frame and unit.  Canonical: z up, front -y, the bounding box of
the whole shape centred at 0, its longest side 1. Fields live on the canonical box [-BOUND, BOUND]^3; signed distance is
negative inside. A `geometry.transforms.Similarity` carries one frame to another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

BOUND = 0.55
"""Half the side of the box that fields live on."""

UP_AXES = ("+x", "-x", "+y", "-y", "+z", "-z")
"""How requests name the axis of the input that points up."""


def up_rotation(up: str) -> NDArray[np.float64]:
    """(3, 3) rotation (determinant +1) that takes the axis `up` ('+z', '-y', 'x', ...) to +z by the shortest way.

    The axis about which it turns is kept: for '+y' and '-y' that is x, for '+x' and '-x' y, for '-z' x.
    Raises InputError 'up_axis_invalid'.
    """
    name = up.strip().lower() if isinstance(up, str) else ""
    name = f"+{name}" if len(name) == 1 else name
    rows = {
        "+z": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "-z": [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
        "+y": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        "-y": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
        "+x": [[0, 0, -1], [0, 1, 0], [1, 0, 0]],
        "-x": [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
    }
    if name not in rows:
        raise InputError(
            "up_axis_invalid",
            "The up axis is not known.",
            f"'{up}' is not one of {', '.join(UP_AXES)}.",
            "Say which axis of the input points up, for example --up=-y.",
        )
    return np.array(rows[name], np.float64)


def axis_name(direction: NDArray[np.float64]) -> str:
    """The name of the axis that a vector (3,) is nearest to, as in UP_AXES."""
    k = int(np.argmax(np.abs(direction)))
    return ("-" if direction[k] < 0 else "+") + "xyz"[k]
