"""The header of a NumPy array from a stranger, read without touching what follows it.

Read by `wire.npz`, for which an archive holds what a client may send and no more, and by `geometry.files.numpy_arrays`,
for which it is a person's own file with whatever else lies in it. What either allows is its own; what a header is, and
that nothing in it is executed or believed, stands here.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

_npy: Any = np.lib.format  # its functions carry no type hints

LONGEST = 4096
"""Bytes of a header. NumPy writes 128 for plain arrays."""


@dataclass(frozen=True)
class Header:
    """fortran: whether the first index runs fastest.  nbytes: that the array takes.  length: of all before it."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    nbytes: int
    length: int


def read_header(stream: IO[bytes]) -> Header:
    """The header that `stream` begins with; it then stands at the data. ValueError says what is wrong."""
    version = _npy.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"NPY version {version} is not known")
    digits = 2 if version == (1, 0) else 4
    length = int.from_bytes(stream.read(digits), "little")
    if length > LONGEST:
        raise ValueError(f"its header declares {length} bytes")
    text = stream.read(length)
    if len(text) != length:
        raise ValueError("its header is cut short")
    # NumPy's own parser (a literal, nothing is executed), fed a version 2 header made of the bytes just checked.
    try:
        shape, fortran, dtype = _npy.read_array_header_2_0(io.BytesIO(length.to_bytes(4, "little") + text))
    except Exception as error:  # it meets hostile text: whatever it raises means the same
        raise ValueError(str(error)) from None
    if any(int(n) < 0 for n in shape):
        raise ValueError(f"its shape is {shape}")
    plain = tuple(int(n) for n in shape)
    nbytes = math.prod(plain) * dtype.itemsize  # Python integers: no overflow
    return Header(plain, bool(fortran), dtype, nbytes, _npy.MAGIC_LEN + digits + length)
