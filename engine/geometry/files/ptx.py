"""PTX, Leica's text format: scans one after the other, each with its size, the scanner's place and its matrix.

Points come back in the common frame. Missing pixels are written as 0 0 0; they are dropped and counted. The scanner's
place is the viewpoint of its scan's points.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import gates
from ._scans import seen_from
from .gates import Damaged, Float64Array, table, text_lines, unit_colours
from .loaded import Raw
from .registry import Format
from .thinning import Thinner

MAX_SCANS = 10_000


def read_ptx(path: Path) -> Raw:
    lines = (line for line in text_lines(path) if line.strip())
    thinner = Thinner()
    places: list[Float64Array] = []
    missing = 0
    width: int | None = None
    left = path.stat().st_size
    while (first := next(lines, None)) is not None:
        count = _count(first) * _count(next(lines, b""))
        if count < 0 or 2 * 4 * count > left:
            raise gates.short(f"{count:,} points", 8 * count, left)
        matrix, place = _matrix(lines)
        places.append(place)
        if len(places) > MAX_SCANS:
            raise gates.too_large(path.name, f"It has more than {MAX_SCANS:,} scans.")
        while count:
            chunk = list(itertools.islice(lines, min(count, gates.CHUNK_ROWS)))
            if len(chunk) < min(count, gates.CHUNK_ROWS):
                raise Damaged("It ends in the middle of a scan.")
            count -= len(chunk)
            values = table(chunk, "points")
            if values.shape[1] not in (3, 4, 6, 7) or (width is not None and values.shape[1] != width):
                raise Damaged(f"Its rows have {values.shape[1]} numbers; x y z, intensity and r g b are expected.")
            width = values.shape[1]
            there = values[:, :3].any(axis=1)
            missing += int((~there).sum())
            values = values[there]
            mask = thinner.keep(len(values))
            if mask is not None:
                values = values[mask]
            placed = values[:, :3] @ matrix[:3, :3] + matrix[3, :3]
            number = np.full(len(placed), len(places) - 1, np.int32)
            thinner.add(placed, values[:, -3:] if width in (6, 7) else np.zeros((len(placed), 0)), number)
    if width is None:
        raise Damaged("It has no points.")
    points, colours, scans = thinner.result()
    notes = list(thinner.note())
    if missing:
        notes.append(f"{missing:,} pixels saw nothing and are left out.")
    viewpoint, numbers, told = seen_from(places, scans)
    notes += [told] * bool(told)
    shown = unit_colours(colours) if colours.shape[1] else None
    return Raw(points, None, None, viewpoint, shown, notes=notes, scans=numbers)


def _count(line: bytes) -> int:
    try:
        value = int(line)
    except ValueError:
        raise Damaged("A scan does not begin with its numbers of columns and rows.") from None
    if not 0 <= value < 1 << 31:
        raise Damaged(f"A scan declares {value:,} columns or rows.")
    return value


def _matrix(lines: Iterator[bytes]) -> tuple[Float64Array, Float64Array]:
    """The matrix (4, 4) that rows (x, y, z, 1) are multiplied with from the left, and where that puts the scanner."""
    head = [next(lines, b"") for _ in range(8)]
    place = table(head[:4], "scanner's place and axes")
    matrix = table(head[4:], "matrix")
    if place.shape != (4, 3) or matrix.shape != (4, 4) or not bool(np.isfinite(matrix).all()):
        raise Damaged("A scan does not begin with the scanner's place, axes and matrix.")
    return matrix, matrix[3, :3].copy()


FORMATS = (
    Format("PTX", (".ptx",), read_ptx, most_bytes=gates.MAX_STREAMED_BYTES, carries="points, colours, viewpoint"),
)
