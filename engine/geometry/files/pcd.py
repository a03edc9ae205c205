"""PCD, the Point Cloud Library's format: text, binary and compressed, by a reader of our own.

Of the fields, x y z, normals and packed or separate colours are used. The VIEWPOINT is where the sensor stood; its
default (the origin) says so only where the cloud is an image of points, which is in the camera's own frame. Of several
scans the fields vp_x vp_y vp_z (PCL's PointWithViewpoint) say it for each point.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..checks import MAX_POINTS
from ..clouds import PointCloud
from . import gates
from .gates import Damaged, Float64Array, short, table, unit_colours
from .loaded import Raw
from .registry import Format
from .thinning import Thinner

_PLACE = ("vp_x", "vp_y", "vp_z")
MAX_SCANS = 10_000
_KINDS = {"F": "f", "U": "u", "I": "i"}


@dataclass
class _Header:
    names: list[str]
    types: list[str]
    counts: list[int]
    width: int
    height: int
    points: int
    viewpoint: list[float]
    data: str

    @property
    def columns(self) -> list[tuple[str, str, int]]:
        """(name, type, numbers) of each field; padding gets names of its own."""
        named = [name if name != "_" else f"padding {i}" for i, name in enumerate(self.names)]
        if len(set(named)) < len(named):
            raise Damaged("Two of its fields have one name.")
        return list(zip(named, self.types, self.counts, strict=True))

    @property
    def row(self) -> np.dtype[Any]:
        return np.dtype([(n, f"<{t}", (c,)) if c != 1 else (n, f"<{t}") for n, t, c in self.columns])  # type: ignore[misc]

    @property
    def wanted(self) -> list[str]:
        known = ("x", "y", "z", "normal_x", "normal_y", "normal_z", "rgb", "rgba", "r", "g", "b", *_PLACE)
        return [name for name, _, count in self.columns if name in known and count == 1]


def read_pcd(path: Path) -> Raw:
    with path.open("rb") as stream:
        header = _header(stream)
        left = path.stat().st_size - stream.tell()
        thinner = Thinner()
        if not {"x", "y", "z"} <= set(header.wanted):
            raise Damaged("It has no fields x, y and z.")
        if header.data == "ascii":
            if 2 * header.points * sum(header.counts) > left + 1:
                raise short(f"{header.points:,} points", 2 * header.points, left)
            _text(stream, header, thinner)
        elif header.data == "binary":
            if header.points * header.row.itemsize > left:
                raise short(f"{header.points:,} points", header.points * header.row.itemsize, left)
            _binary(stream, header, thinner)
        else:
            _compressed(path, stream, header, thinner, left)
    columns = dict(zip(header.wanted, thinner.result() or [np.zeros(0)] * len(header.wanted), strict=True))
    return _raw(header, columns, list(thinner.note()))


def _header(stream: IO[bytes]) -> _Header:
    found: dict[str, list[str]] = {}
    for _ in range(200):
        line = stream.readline(1 << 16)
        words = line.decode("latin1").partition("#")[0].split()
        if not line:
            break
        if words:
            found[words[0].upper()] = words[1:]
        if words and words[0].upper() == "DATA":
            break
    if "DATA" not in found or not ({"FIELDS", "COLUMNS"} & found.keys()):
        raise Damaged("It does not begin with the fields of a PCD file.")
    names = found.get("FIELDS", found.get("COLUMNS", []))
    sizes = [int(v) for v in found.get("SIZE", ["4"] * len(names))]
    kinds = found.get("TYPE", ["F"] * len(names))
    counts = [int(v) for v in found.get("COUNT", ["1"] * len(names))]
    if not len(names) == len(sizes) == len(kinds) == len(counts) or not 0 < len(names) < 1000:
        raise Damaged("Its header names fields and does not say the size, type and count of each.")
    if any(count < 1 or count > 1 << 16 for count in counts):
        raise Damaged("One of its fields declares an impossible count.")
    types = []
    for kind, size in zip(kinds, sizes, strict=True):
        if kind not in _KINDS or size not in ((4, 8) if kind == "F" else (1, 2, 4, 8)):
            raise Damaged(f"One of its fields has the type {kind[:8]}{size}.")
        types.append(f"{_KINDS[kind]}{size}")
    width, height = int(found.get("WIDTH", ["0"])[0]), int(found.get("HEIGHT", ["1"])[0])
    points = int(found["POINTS"][0]) if "POINTS" in found else width * height
    viewpoint = [float(v) for v in found.get("VIEWPOINT", [])]
    if points < 0 or found["DATA"][:1] not in (["ascii"], ["binary"], ["binary_compressed"]):
        raise Damaged("Its header declares an impossible number of points or kind of data.")
    return _Header(names, types, counts, width, height, points, viewpoint, found["DATA"][0])


def _text(stream: IO[bytes], header: _Header, thinner: Thinner) -> None:
    starts = dict(zip((name for name, _, _ in header.columns), itertools.accumulate([0, *header.counts]), strict=False))
    columns = [starts[name] for name in header.wanted]
    lines = (line for line in stream if line.strip())
    left = header.points
    while left:
        chunk = list(itertools.islice(lines, min(left, gates.CHUNK_ROWS)))
        if not chunk:
            raise Damaged(f"It declares {header.points:,} points and has {header.points - left:,}.")
        left -= len(chunk)
        mask = thinner.keep(len(chunk))
        if mask is not None:
            chunk = list(itertools.compress(chunk, mask.tolist()))
        values = table(chunk, "points", columns)
        thinner.add(*(values[:, i] for i in range(len(columns))))


def _binary(stream: IO[bytes], header: _Header, thinner: Thinner) -> None:
    left = header.points
    while left:
        rows = np.frombuffer(stream.read(min(left, gates.CHUNK_ROWS) * header.row.itemsize), header.row)
        if len(rows) < min(left, gates.CHUNK_ROWS):
            raise Damaged("It ends within its points.")
        left -= len(rows)
        mask = thinner.keep(len(rows))
        thinner.add(*(rows[name] if mask is None else rows[name][mask] for name in header.wanted))


def _compressed(path: Path, stream: IO[bytes], header: _Header, thinner: Thinner, left: int) -> None:
    packed, unpacked = struct.unpack("<II", stream.read(8))
    if packed > left - 8:
        raise short(f"{packed:,} bytes of compressed data", packed, left - 8)
    needed = header.points * header.row.itemsize
    if unpacked != needed:
        raise Damaged(f"Its {header.points:,} points take {needed:,} bytes, not {unpacked:,}.")
    if unpacked > 265 * packed + 64:  # a pair of bytes of LZF stands for 264 at the most
        raise Damaged("It declares more data than its compressed bytes can stand for.")
    if header.points > MAX_POINTS:
        raise gates.too_large(path.name, f"It declares {header.points:,} points in one compressed block.")
    from ._lzf import unpack

    body = unpack(stream.read(packed), unpacked)
    if body is None:
        raise Damaged("Its compressed data are damaged.")
    thinner.keep(header.points)
    at, found = 0, {}
    for name, kind, count in header.columns:  # field after field, not point after point
        size = np.dtype(kind).itemsize * count * header.points
        if name in header.wanted:
            found[name] = np.frombuffer(body, f"<{kind}", header.points, at)
        at += size
    thinner.add(*(found[name] for name in header.wanted))


def _raw(header: _Header, columns: dict[str, NDArray[Any]], notes: list[str]) -> Raw:
    def three(*names: str) -> NDArray[Any] | None:
        return np.stack([columns[n] for n in names], axis=1) if all(n in columns for n in names) else None

    points = three("x", "y", "z")
    assert points is not None
    colours = three("r", "g", "b")
    shown = None if colours is None else unit_colours(colours)
    packed = columns.get("rgb", columns.get("rgba"))
    if packed is not None and shown is None:
        if packed.dtype.kind == "f" and header.data == "ascii":
            # Written as the number that these bits are as a float, or as the whole number itself.
            whole = bool((packed == np.round(packed)).all()) and float(np.abs(packed).max(initial=0)) > 1
            packed = packed.astype(np.uint32) if whole else packed.astype(np.float32)
        bits = np.ascontiguousarray(packed)
        bits = bits.view(np.uint32) if bits.dtype.itemsize == 4 else bits.astype(np.uint32)
        shown = np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=1).astype(np.float32) / np.float32(255)
    viewpoint = None
    if len(header.viewpoint) >= 3 and (any(header.viewpoint[:3]) or header.height > 1):
        viewpoint = np.array(header.viewpoint[:3])
        if not any(header.viewpoint[:3]):
            notes.append("It is an image of points in the camera's frame: the viewpoint is its origin.")
    normals, scans = three("normal_x", "normal_y", "normal_z"), None
    if (seen_from := three(*_PLACE)) is not None and len(seen_from) and bool(np.isfinite(seen_from).all()):
        places, of_points = np.unique(seen_from, axis=0, return_inverse=True)
        if len(places) <= MAX_SCANS:
            viewpoint, scans = places.astype(np.float64), of_points.ravel()
    return Raw(points, normals, None, viewpoint, shown, notes=notes, scans=scans)


def _write(cloud: PointCloud, offset: Float64Array) -> bytes:
    far = bool(offset.any())
    columns: list[tuple[str, str, NDArray[Any]]] = []
    placed = cloud.points.astype(np.float64) + offset if far else cloud.points
    columns += [(name, "<f8" if far else "<f4", placed[:, i]) for i, name in enumerate("xyz")]
    if cloud.normals is not None:
        columns += [(f"normal_{name}", "<f4", cloud.normals[:, i]) for i, name in enumerate("xyz")]
    if cloud.colours is not None:
        red, green, blue = np.round(cloud.colours.clip(0, 1) * 255).astype(np.uint32).T
        columns.append(("rgb", "<u4", red << 16 | green << 8 | blue))
    if cloud.scans is not None and cloud.viewpoint is not None:
        places = (cloud.viewpoint.astype(np.float64) + offset)[cloud.scans]
        columns += [(name, "<f8" if far else "<f4", places[:, i]) for i, name in enumerate(_PLACE)]
    rows = np.empty(len(cloud.points), np.dtype([(name, kind) for name, kind, _ in columns]))
    for name, _, values in columns:
        rows[name] = values
    one = cloud.viewpoint if cloud.scans is None else None
    place = [0.0, 0.0, 0.0] if one is None else [float(v) for v in one + offset]
    header = [
        "# .PCD v0.7 - Point Cloud Data file format", "VERSION 0.7",
        "FIELDS " + " ".join(name for name, _, _ in columns),
        "SIZE " + " ".join(kind[2] for _, kind, _ in columns),
        "TYPE " + " ".join(kind[1].upper() for _, kind, _ in columns),
        "COUNT " + " ".join("1" for _ in columns),
        f"WIDTH {len(rows)}", "HEIGHT 1", "VIEWPOINT " + " ".join(repr(v) for v in place) + " 1 0 0 0",
        f"POINTS {len(rows)}", "DATA binary",
    ]  # fmt: skip
    return "\n".join([*header, ""]).encode() + rows.tobytes()


FORMATS = (
    Format(
        "PCD", (".pcd",), read_pcd, None, _write, most_bytes=gates.MAX_STREAMED_BYTES,
        carries="points, normals, colours, viewpoint",
    ),
)  # fmt: skip
