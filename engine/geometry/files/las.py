"""LAS and LAZ, by laspy and lazrs, piece by piece: survey coordinates in double precision, colours of 16 bits."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from . import gates
from .gates import Damaged, short
from .loaded import Raw
from .registry import Format
from .thinning import Thinner

_RECORD, _EXTENDED_RECORD = 54, 60
"""Bytes of the header of a variable length record, and of an extended one."""


def read_las(path: Path) -> Raw:
    import laspy

    _check_records(path)
    thinner = Thinner()
    try:
        with laspy.open(str(path)) as reader:
            header = reader.header
            count, row = int(header.point_count), int(header.point_format.size)
            left = path.stat().st_size - int(header.offset_to_point_data)
            # Even a LAZ file of equal points takes more than a byte for a hundred of them.
            least = count * row if not header.are_points_compressed else count // 128
            if least > left:
                raise short(f"{count:,} points", least, max(left, 0))
            scales, offsets = np.array(header.scales, np.float64), np.array(header.offsets, np.float64)
            coloured = {"red", "green", "blue"} <= set(header.point_format.dimension_names)
            for points in reader.chunk_iterator(gates.CHUNK_ROWS):
                mask = thinner.keep(len(points))
                if mask is not None:
                    points = points[mask]
                whole = np.stack([np.asarray(points[name]) for name in ("X", "Y", "Z")], axis=1)
                colours = [np.asarray(points[name]) for name in ("red", "green", "blue")] if coloured else []
                thinner.add(whole * scales + offsets, np.stack(colours, axis=1) if coloured else whole[:, :0])
    except laspy.errors.LaspyException as error:
        raise Damaged(f"Its content makes no sense ({str(error)[:120]}).") from None
    found = thinner.result()
    if not found:
        raise Damaged("It has no points.")
    points_, colours_ = found
    shown = None
    if coloured:
        largest = int(colours_.max(initial=0))
        # 16 bits by the standard; many programs write 8.
        shown = (colours_ / (255.0 if largest <= 255 else 65535.0)).astype(np.float32) if largest else None
    return Raw(points_, None, None, None, shown, notes=list(thinner.note()))


def _check_records(path: Path) -> None:
    """What the header declares beside the points against the file's size: laspy reads as many records as are declared,
    past the file's end too, until no memory is left. Raises Damaged."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(375)
    if len(head) < 227 or head[:4] != b"LASF":
        raise Damaged("It does not begin as a LAS file.")
    header_size, points_at, records = struct.unpack_from("<HII", head, 94)
    if _RECORD * records > min(points_at, size) - header_size:
        raise short(f"{records:,} records before its points", _RECORD * records, min(points_at, size) - header_size)
    if (head[24], head[25]) >= (1, 4) and len(head) == 375:
        at, extended = struct.unpack_from("<QI", head, 235)
        if extended and _EXTENDED_RECORD * extended > max(size - at, 0):
            raise short(f"{extended:,} records behind its points", _EXTENDED_RECORD * extended, max(size - at, 0))


FORMATS = (
    Format(
        "LAS", (".las",), read_las, packages=(("laspy", "laspy"),),
        isolated=True, most_bytes=gates.MAX_STREAMED_BYTES, by="laspy",
        carries="points, colours",
    ),
    Format(
        "LAZ", (".laz",), read_las, packages=(("laspy", "laspy"), ("lazrs", "lazrs")),
        isolated=True,
        most_bytes=gates.MAX_STREAMED_BYTES, by="laspy, lazrs", carries="points, colours",
    ),
)  # fmt: skip
