"""What several writers share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rows(table: NDArray[Any], prefix: str = "") -> bytes:
    """One line a row; nine digits carry a float32 exactly, seventeen a float64."""
    number = "%d" if table.dtype.kind in "iu" else "%.17g" if table.dtype == np.float64 else "%.9g"
    pattern = prefix + " ".join([number] * table.shape[1]) + "\n"
    return "".join(pattern % tuple(row) for row in table.tolist()).encode("ascii")
