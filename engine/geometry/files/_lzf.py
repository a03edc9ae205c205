"""Unpacking LZF (Lehmann's LibLZF format), which compressed PCD files use, as a loop that numba compiles."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


def unpack(packed: bytes, size: int) -> bytes | None:
    """The `size` bytes that `packed` stands for, or None where it stands for anything else."""
    out = np.empty(size, np.uint8)
    return out.tobytes() if _unpack(np.frombuffer(packed, np.uint8), out) == size else None


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _unpack(packed: NDArray[np.uint8], out: NDArray[np.uint8]) -> int:
    """Bytes written, or -1. A control byte below 32: so many + 1 bytes follow as they are; else its upper three bits
    are a length (7: the next byte adds to it) and the lower five with the next byte how far back to copy from."""
    i: Any = 0
    o: Any = 0
    count, size = len(packed), len(out)
    while i < count:
        control = np.int64(packed[i])
        i += 1
        if control < 32:
            length = control + 1
            if i + length > count or o + length > size:
                return -1
            out[o : o + length] = packed[i : i + length]
            i += length
            o += length
            continue
        length = control >> 5
        if length == 7:
            if i >= count:
                return -1
            length += np.int64(packed[i])
            i += 1
        if i >= count:
            return -1
        start = o - ((control & 31) << 8) - np.int64(packed[i]) - 1
        i += 1
        length += 2
        if start < 0 or o + length > size:
            return -1
        for k in range(length):  # may overlap what it writes
            out[o + k] = out[start + k]
        o += length
    return int(o)
