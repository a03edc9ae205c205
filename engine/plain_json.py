"""JSON as every strict parser takes it, read from files that may be damaged and sent to clients."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

MAX_DEPTH = 64
"""Lists and objects within each other. The engine writes a dozen at most; encoders give up at some hundreds."""


def plain(value: Any) -> Any:
    """`value` in JSON's own types: NumPy scalars and arrays, tuples and paths converted, NaN and infinity made null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not travel as JSON")


def parse_strictly(data: bytes) -> Any:
    """The value that UTF-8 JSON holds. ValueError where it is damaged, nests deeper than MAX_DEPTH, or holds what
    cannot be sent on: NaN, numbers beyond all bounds, halves of surrogate pairs."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    sendable(value)
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("it holds a number beyond all bounds")
    return value


def sendable(value: Any) -> bytes:
    """`value`, of JSON's own types, as an answer of the server carries it. ValueError where it cannot be sent."""
    check_depth(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def check_depth(value: Any) -> None:
    """ValueError where lists and objects lie more than MAX_DEPTH deep within each other."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for item in level if isinstance(item, dict | list | tuple)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]  # fmt: skip
        if not level:
            return
    raise ValueError(f"it nests deeper than {MAX_DEPTH} levels")
