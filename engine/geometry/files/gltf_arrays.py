"""The arrays of a glTF tree: accessors, views and buffers, each compared with what is there before it is read."""

from __future__ import annotations

import base64
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import gates
from .gates import Damaged, check_counts, short

_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}

Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""glTF's y up to z up."""


class Arrays:
    """What a tree's accessors hold. binary: the chunk of a GLB."""

    def __init__(self, path: Path, tree: dict[str, Any], binary: memoryview | None) -> None:
        self.path, self.tree, self.binary = path, tree, binary
        self._buffers: dict[int, memoryview] = {}

    def values(self, number: int, width: int) -> NDArray[Any]:
        """(count, width) values, normalised where the accessor says so. One without a buffer view is all zeros, and
        sparse entries replace what is there, as the standard has it."""
        accessor = self.tree["accessors"][number]
        dtype = np.dtype(_TYPES[accessor["componentType"]])
        count = int(accessor["count"])
        if _WIDTHS[accessor["type"]] != width or count < 0:
            raise Damaged("One of its arrays has the wrong shape.")
        if "bufferView" in accessor:
            values = self._strided(accessor["bufferView"], int(accessor.get("byteOffset", 0)), count, width, dtype)
        else:
            check_counts(self.path.name, count)
            values = np.zeros((count, width), dtype)
        if "sparse" in accessor:
            values = self._replaced(values, accessor["sparse"], dtype)
        if accessor.get("normalized") and dtype.kind in "iu":
            return np.maximum(values / np.iinfo(dtype).max, -1.0)
        return values

    def _replaced(self, values: NDArray[Any], sparse: dict[str, Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        count = int(sparse["count"])
        if not 0 <= count <= len(values):
            raise Damaged("One of its arrays replaces more entries than it has.")
        where, what = sparse["indices"], sparse["values"]
        kind = np.dtype(_TYPES[where["componentType"]])
        index = self._strided(where["bufferView"], int(where.get("byteOffset", 0)), count, 1, kind).ravel()
        if count and (kind.kind == "f" or int(index.max()) >= len(values) or int(index.min()) < 0):
            raise Damaged("One of its arrays replaces entries that it does not have.")
        changed = values.copy()
        width = values.shape[1]
        changed[index] = self._strided(what["bufferView"], int(what.get("byteOffset", 0)), count, width, dtype)
        return changed

    def _strided(self, view: int, offset: int, count: int, width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        described = self.tree["bufferViews"][view]
        data = self.view(view)
        stride = int(described.get("byteStride", 0)) or dtype.itemsize * width
        needed = offset + (stride * (count - 1) + dtype.itemsize * width if count else 0)
        if offset < 0 or stride < 0 or needed > len(data):
            raise short(f"an array of {count:,} entries", needed, len(data))
        return np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize))

    def view(self, number: int) -> memoryview:
        """The bytes of a buffer view."""
        described = self.tree["bufferViews"][number]
        buffer = self._buffer(described["buffer"])
        start, length = int(described.get("byteOffset", 0)), int(described["byteLength"])
        if start < 0 or length < 0 or start + length > len(buffer):
            raise short(f"a piece of {length:,} bytes", length, max(0, len(buffer) - max(start, 0)))
        return buffer[start : start + length]

    def uri(self, text: str) -> memoryview:
        """What an URI names: data in itself, or a file beside this one."""
        if text.startswith("data:"):
            return memoryview(base64.b64decode(text.partition(",")[2]))
        return memoryview(gates.beside(self.path, urllib.parse.unquote(text)))

    def _buffer(self, number: int) -> memoryview:
        if number not in self._buffers:
            uri = self.tree["buffers"][number].get("uri")
            if uri is not None:
                self._buffers[number] = self.uri(uri)
            elif self.binary is None or number != 0:
                raise Damaged("A buffer has no data.")
            else:
                self._buffers[number] = self.binary
        return self._buffers[number]
