"""Where the points of a file with several scans were seen from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .gates import Float64Array


def seen_from(
    places: Sequence[Float64Array], scans: NDArray[Any]
) -> tuple[Float64Array | None, NDArray[Any] | None, str]:
    """places: (3,) each scan's.  scans: (N,) which of them saw each point.  Returns what Raw takes for viewpoint and
    scans, and a sentence about it, '' for a single scan. Programs that merge scans leave them all at the origin, which
    is then no viewpoint."""
    if len(places) == 1:
        return places[0], None, ""
    all_of_them = np.array(places)
    if bool((all_of_them == all_of_them[0]).all()):
        if not all_of_them.any():
            told = f"It holds {len(places)} scans, all at the origin, as merged ones are: no viewpoint is used."
            return None, None, told
        return all_of_them[0], None, f"It holds {len(places)} scans from one place."
    return all_of_them, scans, f"It holds {len(places)} scans; each one's points were seen from its own place."
