"""Reading and writing shapes, and the checks that every array passes before anything is computed from it.

The parsers are the project's own, since a file may come from anywhere: what a header declares is compared with what the
file holds before anything of that size is allocated, nothing is ever unpickled, and whatever is wrong ends in an
InputError with a stable code:

    file_missing, file_is_folder, file_unreadable, file_empty, file_too_large, format_unknown
    file_damaged      not the format that its name says, or cut short
    file_unsupported  a part of its format that is not read here (compressed glTF, binary OFF)
    file_pickled      NumPy data that would have to be executed to be read
    cloud_malformed, cloud_not_finite, cloud_too_small, cloud_too_large, cloud_degenerate
    coordinates_absurd, coordinates_far, viewpoint_invalid
    mesh_too_large, mesh_faces_invalid, mesh_without_area
    output_unwritable

Frames: coordinates come back as the file has them, with one exception. glTF says that y is up, and Blender converts
when it imports and exports; so do we: a GLB is z up once read, and y up again when written.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import math
import os
import re
import secrets
import struct
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.lib.format as npy
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .clouds import FloatArray, PointCloud
from .meshes import IntArray, Mesh, face_areas, vertex_normals

log = logging.getLogger(__name__)

MIN_POINTS = 10
MAX_POINTS = 20_000_000
MAX_FACES = 2 * MAX_POINTS
MAX_TEXT_BYTES = 1 << 30
MAX_BYTES = 1 << 32
MAX_JSON_BYTES = 1 << 26
MAX_COMPRESSION = 300
"""An NPZ member of more than 64 MB that shrank more than this is no scan: it is made to fill the memory."""

MAX_BAD_SHARE = 0.05
MAX_COORDINATE = 1e9
MIN_EXTENT = 1e-9
MIN_EXTENT_TO_DISTANCE = 1e-4
"""Nearer than this ratio of size to distance from the origin, float32 coordinates lose a thousandth of the size."""

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]


@dataclass
class _Raw:
    """What a file holds, unchecked. normals and faces may be None; faces (F, 3)."""

    points: NDArray[Any]
    normals: NDArray[Any] | None = None
    faces: NDArray[Any] | None = None
    viewpoint: NDArray[Any] | None = None


class _Damaged(Exception):
    """A parser's own complaint; becomes InputError 'file_damaged'."""


# --- reading ---------------------------------------------------------------------------------------------------------


def read_shape(path: Path | str) -> PointCloud | Mesh:
    """Reads PLY, OBJ, STL, OFF, GLB, glTF, XYZ, NPY or NPZ: a Mesh where the file has triangles, else a PointCloud.

    Polygons are cut into triangles. A few rows that are not numbers are dropped and the log says how many.
    Raises InputError with one of this module's codes.
    """
    path = Path(path)
    raw = _read_raw(path)
    if raw.faces is not None and len(raw.faces):
        return check_mesh(raw.points, raw.faces, raw.normals, source=path.name)
    return check_cloud(raw.points, raw.normals, raw.viewpoint, source=path.name)


def load_input(path: Path | str) -> tuple[FloatArray, FloatArray | None, IntArray | None, FloatArray | None]:
    """(points (N, 3), normals (N, 3) | None, faces (F, 3) | None, viewpoint (3,) | None), checked as by read_shape."""
    shape = read_shape(path)
    if isinstance(shape, Mesh):
        return shape.vertices, shape.normals, shape.faces, None
    return shape.points, shape.normals, None, shape.viewpoint


def _read_raw(path: Path) -> _Raw:
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            raise InputError(
                "file_is_folder",
                f"{path.name or path} cannot be read.",
                "It is a folder, not a file.",
                "Name a file in it; for a whole folder use the batch script.",
            )
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            "file_missing",
            f"{path.name or path} cannot be read.",
            f"There is no file {path}.",
            "Check the name and the folder.",
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    reader = _READERS.get(suffix)
    if reader is None:
        raise _format_unknown(path, sorted(_READERS))
    if size == 0:
        raise InputError(
            "file_empty", f"{path.name} cannot be read.", "The file is empty.", "Export it again and check its size."
        )
    most = MAX_TEXT_BYTES if suffix in (".xyz", ".obj", ".off") else MAX_BYTES
    if size > most:
        raise _too_large(path, f"It has {size / 2**20:,.0f} MB; at most {most // 2**20:,} MB are read.")
    try:
        return reader(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    except MemoryError:
        raise _too_large(path, "It does not fit into the memory.") from None
    except (_Damaged, ValueError, TypeError, KeyError, IndexError, ArithmeticError, EOFError, struct.error) as error:
        # The second half are what Python raises when hostile bytes reach int(), struct or a JSON tree.
        detail = str(error) if isinstance(error, _Damaged) else f"Its content makes no sense ({type(error).__name__})."
        raise InputError(
            "file_damaged",
            f"{path.name} cannot be read.",
            detail,
            f"Check that it opens elsewhere and really is {suffix[1:].upper()}, then export or copy it again.",
        ) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return InputError(
        "file_unreadable",
        f"{path.name} cannot be read.",
        f"The system says: {reason}.",
        "Check the file's permissions and that its disk is connected.",
    )


def _too_large(path: Path, why: str) -> InputError:
    return InputError(
        "file_too_large",
        f"{path.name} is too large.",
        why,
        f"Reduce it to at most {MAX_POINTS:,} points.",
    )


def _format_unknown(path: Path, known: Sequence[str]) -> InputError:
    suffix = path.suffix
    return InputError(
        "format_unknown",
        f"{path.name} has a format that is not known.",
        f"'{suffix}' is not one of {', '.join(known)}." if suffix else "Its name has no ending that says what it is.",
        "Use one of these formats, PLY where in doubt.",
    )


def _unsupported(path: Path, why: str, remedy: str) -> InputError:
    return InputError("file_unsupported", f"{path.name} cannot be read.", why, remedy)


def _check_counts(path: Path, points: int, faces: int = 0) -> None:
    if points < 0 or faces < 0:
        raise _Damaged("It declares a negative count.")
    if points > MAX_POINTS or faces > MAX_FACES:
        raise _too_large(path, f"It declares {points:,} points and {faces:,} faces.")


def _short(declared: str, needed: int, there: int) -> _Damaged:
    return _Damaged(f"It declares {declared}, which take at least {needed:,} bytes, but only {there:,} follow.")


def _table(lines: Sequence[bytes], what: str) -> Float64Array:
    """Rows of numbers, all with as many columns."""
    if not lines:
        return np.zeros((0, 3))
    try:
        return np.loadtxt(lines, dtype=np.float64, ndmin=2, comments=None, encoding="latin1")
    except ValueError as error:
        raise _Damaged(f"Its {what} are not rows of numbers ({str(error)[:120]}).") from None


def _fans(counts: Int64Array, flat: Int64Array) -> Int64Array:
    """Polygons (counts (P,), their corners one after the other) -> (F, 3) triangles, each polygon a fan."""
    starts = np.cumsum(counts) - counts
    pieces = np.maximum(counts - 2, 0)
    polygon = np.repeat(np.arange(len(counts)), pieces)
    nth = np.arange(len(polygon)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = starts[polygon]
    return np.stack([flat[first], flat[first + nth + 1], flat[first + nth + 2]], axis=1)


def _polygon_lines(lines: Sequence[bytes]) -> Int64Array:
    """Lines 'n i j k ... anything' -> (F, 3) triangles."""
    if not lines:
        return np.zeros((0, 3), np.int64)
    try:
        rows = np.loadtxt(lines, dtype=np.float64, ndmin=2, comments=None, encoding="latin1")
        count = int(rows[0, 0])
        if bool((rows[:, 0] == count).all()) and 3 <= count < rows.shape[1]:
            return _fans(np.full(len(rows), count, np.int64), rows[:, 1 : count + 1].astype(np.int64).ravel())
    except ValueError:
        pass  # rows of different length: polygons of different sizes
    counts, flat = [], []
    for line in lines:
        words = line.split()
        count = int(words[0])
        if not 0 <= count < len(words):
            raise _Damaged(f"A face declares {count} corners and has {len(words) - 1}.")
        counts.append(count)
        flat += words[1 : count + 1]
    return _fans(np.array(counts, np.int64), np.array([int(word) for word in flat], np.int64))


# --- PLY -------------------------------------------------------------------------------------------------------------

_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


@dataclass
class _PlyProperty:
    name: str
    type: str
    count_type: str | None = None  # of a list


@dataclass
class _PlyElement:
    name: str
    count: int
    properties: list[_PlyProperty]

    def least_bytes(self, binary: bool) -> int:
        """What its rows take at the least: empty lists; in text one digit and one separator a number."""
        if not binary:
            return self.count * 2 * max(len(self.properties), 1)
        return self.count * sum(np.dtype(p.count_type or p.type).itemsize for p in self.properties)


def _read_ply(path: Path) -> _Raw:
    with path.open("rb") as stream:
        encoding, elements, viewpoint = _ply_header(stream)
        binary = encoding != "ascii"
        left = path.stat().st_size - stream.tell()
        needed = sum(element.least_bytes(binary) for element in elements)
        if needed > left + 1:  # the last line of a text may lack its end
            declared = ", ".join(f"{element.count:,} {element.name} rows" for element in elements)
            raise _short(declared, needed, left)
        for element in elements:
            _check_counts(path, element.count if element.name == "vertex" else 0, element.count)
        if not binary and left > MAX_TEXT_BYTES:
            raise _too_large(path, f"It has {left / 2**20:,.0f} MB of text; save it as binary PLY.")
        body = stream.read()
    names = [element.name for element in elements]
    if "tristrips" in names and "face" not in names:
        raise _unsupported(path, "Its triangles are stored as strips.", "Save it with plain faces.")
    columns: dict[str, NDArray[Any]] = {}
    faces: Int64Array | None = None
    if binary:
        offset = 0
        for element in elements:
            fields, triangles, offset = _ply_binary(element, body, offset, ">" if "big" in encoding else "<")
            if element.name == "vertex":
                columns = fields
            elif element.name == "face":
                faces = triangles
    else:
        lines = [line for line in body.splitlines() if line.strip()]
        start = 0
        for element in elements:
            rows = lines[start : start + element.count]
            if len(rows) < element.count:
                raise _Damaged(f"It declares {element.count:,} {element.name} rows and has {len(rows):,}.")
            start += element.count
            if element.name == "vertex":
                columns = _ply_text_columns(element, rows)
            elif element.name == "face":
                faces = _ply_text_faces(element, rows)
    if not {"x", "y", "z"} <= columns.keys():
        raise _Damaged("It has no vertices with x, y and z.")
    points = np.stack([columns[axis] for axis in "xyz"], axis=1)
    has_normals = {"nx", "ny", "nz"} <= columns.keys()
    normals = np.stack([columns[f"n{axis}"] for axis in "xyz"], axis=1) if has_normals else None
    return _Raw(points, normals, faces, viewpoint)


def _ply_header(stream: IO[bytes]) -> tuple[str, list[_PlyElement], Float64Array | None]:
    if stream.readline(16).strip() != b"ply":
        raise _Damaged("It does not begin with 'ply'.")
    encoding, viewpoint = "", None
    elements: list[_PlyElement] = []
    for _ in range(1000):
        line = stream.readline(4096)
        words = line.decode("latin1").split()
        if not line:
            break
        match words:
            case ["end_header"]:
                if encoding not in ("ascii", "binary_little_endian", "binary_big_endian"):
                    raise _Damaged("Its header does not say how the numbers are stored.")
                return encoding, elements, viewpoint
            case ["format", encoding, *_]:
                pass
            case ["comment", "viewpoint", x, y, z]:
                viewpoint = np.array([float(x), float(y), float(z)])
            case ["element", name, count]:
                if int(count) < 0:
                    raise _Damaged("It declares a negative count.")
                elements.append(_PlyElement(name, int(count), []))
            case ["property", "list", count_type, item_type, name] if elements:
                elements[-1].properties.append(_PlyProperty(name, _ply_type(item_type), _ply_type(count_type)))
            case ["property", item_type, name] if elements:
                elements[-1].properties.append(_PlyProperty(name, _ply_type(item_type)))
            case ["comment", *_] | ["obj_info", *_] | []:
                pass
            case _:
                raise _Damaged(f"Its header has a line that makes no sense: {' '.join(words)[:80]}")
    raise _Damaged("Its header does not end.")


def _ply_type(name: str) -> str:
    if name not in _PLY_TYPES:
        raise _Damaged(f"Its header names an unknown number type: {name[:40]}")
    return _PLY_TYPES[name]


def _is_corner_list(prop: _PlyProperty) -> bool:
    return prop.count_type is not None and prop.name in ("vertex_indices", "vertex_index")


def _ply_binary(
    element: _PlyElement, body: bytes, offset: int, order: str
) -> tuple[dict[str, NDArray[Any]], Int64Array | None, int]:
    """Columns of the scalar properties (empty where rows differ in length), triangles, and where the element ends."""
    if element.count == 0:
        return {p.name: np.zeros(0) for p in element.properties}, None, offset
    lists = [p for p in element.properties if p.count_type]

    # Rows of equal length, as nearly all files have them: read in one go, then checked.
    at, parts = offset, []
    for p in element.properties:
        length = 1
        if p.count_type:
            parts.append((f"count {p.name}", order + p.count_type))
            length = int(_ply_number(body, at, order + p.count_type))
            at += np.dtype(p.count_type).itemsize
            if not 0 <= length <= len(body):
                raise _Damaged(f"A list declares {length} entries.")
        if length or not p.count_type:
            parts.append((p.name, order + p.type, (length,)) if p.count_type else (p.name, order + p.type))  # type: ignore[arg-type]
        at += length * np.dtype(p.type).itemsize
    row = np.dtype(parts)
    if offset + element.count * row.itemsize <= len(body):
        rows = np.frombuffer(body, row, element.count, offset)
        if all(bool((rows[f"count {p.name}"] == rows[f"count {p.name}"][0]).all()) for p in lists):
            columns = {p.name: rows[p.name] for p in element.properties if not p.count_type}
            triangles = None
            for p in lists:
                if _is_corner_list(p) and p.name in (row.names or ()):
                    corners = rows[p.name].astype(np.int64)
                    triangles = _fans(np.full(len(corners), corners.shape[1], np.int64), corners.ravel())
            return columns, triangles, offset + element.count * row.itemsize
    if not lists:
        raise _short(f"{element.count:,} {element.name} rows", element.count * row.itemsize, len(body) - offset)

    counts: list[int] = []
    flat: list[NDArray[Any]] = []
    at = offset
    for _ in range(element.count):
        for p in element.properties:
            length = 1
            if p.count_type:
                length = int(_ply_number(body, at, order + p.count_type))
                at += np.dtype(p.count_type).itemsize
            size = length * np.dtype(p.type).itemsize
            if length < 0 or at + size > len(body):
                raise _Damaged(f"It ends within its {element.name} rows.")
            if _is_corner_list(p):
                counts.append(length)
                flat.append(np.frombuffer(body, order + p.type, length, at))
            at += size
    if not counts:
        return {}, None, at
    return {}, _fans(np.array(counts, np.int64), np.concatenate(flat).astype(np.int64)), at


def _ply_number(body: bytes, offset: int, kind: str) -> Any:
    if offset + np.dtype(kind).itemsize > len(body):
        raise _Damaged("It ends within a list.")
    return np.frombuffer(body, kind, 1, offset)[0]


def _ply_text_columns(element: _PlyElement, rows: list[bytes]) -> dict[str, NDArray[Any]]:
    if any(p.count_type for p in element.properties):
        raise _Damaged("Its vertices have lists.")
    table = _table(rows, "vertices")
    if len(table) and table.shape[1] < len(element.properties):
        raise _Damaged(f"Its vertices have {table.shape[1]} columns; the header says {len(element.properties)}.")
    return {p.name: table[:, i] for i, p in enumerate(element.properties) if i < table.shape[1]}


def _ply_text_faces(element: _PlyElement, rows: list[bytes]) -> Int64Array | None:
    which = next((i for i, p in enumerate(element.properties) if _is_corner_list(p)), None)
    if which is None:
        return None
    if which > 0:  # numbers or lists before the corners: cut them off
        cut = []
        for line in rows:
            words = line.split()
            at = 0
            for p in element.properties[:which]:
                at += 1 + (int(words[at]) if p.count_type else 0)
            cut.append(b" ".join(words[at:]))
        rows = cut
    return _polygon_lines(rows)


# --- OBJ, OFF, STL, XYZ ----------------------------------------------------------------------------------------------


def _read_obj(path: Path) -> _Raw:
    data = path.read_bytes().replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
    points, normals, faces, vertices_before = [], [], [], []
    for line in data.splitlines():
        line = line.strip()
        if line.startswith((b"v ", b"v\t")):
            points.append(line[2:])
        elif line.startswith(b"vn"):
            normals.append(line[2:])
        elif line.startswith((b"f ", b"f\t")):
            faces.append(line[2:].partition(b"#")[0])
            vertices_before.append((len(points), len(normals)))
    if not points:
        raise _Damaged("It has no lines that begin with 'v'.")
    _check_counts(path, len(points), len(faces))
    table = _table([p.partition(b"#")[0] for p in points] if b"#" in data else points, "vertices")
    if table.shape[1] < 3:
        raise _Damaged(f"Its vertices have {table.shape[1]} coordinates.")
    vertices = table[:, :3]
    directions = _table(normals, "normals") if normals else None
    if directions is not None and directions.shape[1] != 3:
        raise _Damaged(f"Its normals have {directions.shape[1]} coordinates.")
    if not faces:
        matching = directions is not None and len(directions) == len(vertices)
        return _Raw(vertices, directions if matching else None)

    counts, corners, corner_normals = [], [], []
    for line, (v_before, n_before) in zip(faces, vertices_before, strict=True):
        words = line.split()
        counts.append(len(words))
        for word in words:
            parts = word.split(b"/")
            v = int(parts[0])
            corners.append(v - 1 if v > 0 else v_before + v)
            if directions is not None:
                n = int(parts[2]) if len(parts) > 2 and parts[2] else 0
                corner_normals.append(n - 1 if n >= 0 else n_before + n)
    index = np.array(corners, np.int64)
    triangles = _fans(np.array(counts, np.int64), index)
    per_vertex = None
    if directions is not None and min(corner_normals) >= 0 and max(corner_normals) < len(directions):
        # Only normals that are one a vertex: where faces disagree (a crease), the mesh says more than they do.
        if index.min() >= 0 and index.max() < len(vertices):
            which = np.full(len(vertices), -1, np.int64)
            which[index] = corner_normals
            if bool((which[index] == corner_normals).all()) and bool((which >= 0).all()):
                per_vertex = directions[which]
    return _Raw(vertices, per_vertex, triangles)


def _read_off(path: Path) -> _Raw:
    data = path.read_bytes()
    head = re.match(rb"\s*(?:#[^\n]*\n\s*)*(ST)?(C)?(N)?(4)?(n)?OFF\b[ \t]*(BINARY)?", data)
    if head is None:
        raise _Damaged("It does not begin with 'OFF'.")
    if head.group(6):
        raise _unsupported(path, "It is a binary OFF.", "Save it as text OFF or as PLY.")
    if head.group(4) or head.group(5):
        raise _unsupported(path, "Its vertices do not have three coordinates.", "Save it as PLY.")
    body = data[head.end() :]
    if b"#" in body:
        body = re.sub(rb"#[^\n]*", b"", body)
    lines = [line for line in body.splitlines() if line.strip()]
    if not lines or len(lines[0].split()) < 2:
        raise _Damaged("It does not say how many vertices and faces it has.")
    vertex_count, face_count = (int(word) for word in lines[0].split()[:2])
    if vertex_count + face_count > len(lines) - 1:
        raise _Damaged(
            f"It declares {vertex_count:,} vertices and {face_count:,} faces, but only {len(lines) - 1:,} lines follow."
        )
    _check_counts(path, vertex_count, face_count)
    table = _table(lines[1 : 1 + vertex_count], "vertices")
    if table.shape[1] < (6 if head.group(3) else 3):
        raise _Damaged(f"Its vertices have {table.shape[1]} numbers.")
    faces = _polygon_lines(lines[1 + vertex_count : 1 + vertex_count + face_count])
    return _Raw(table[:, :3], table[:, 3:6] if head.group(3) else None, faces)


def _read_stl(path: Path) -> _Raw:
    data = path.read_bytes()
    declared = int.from_bytes(data[80:84], "little") if len(data) >= 84 else 0
    if len(data) >= 84 and len(data) == 84 + 50 * declared:
        return _stl_binary(path, data, declared)
    if data.lstrip()[:5].lower() == b"solid" and b"\0" not in data[:4096]:
        lines = [line.split(None, 1)[1] for line in data.splitlines() if line.lstrip()[:7].lower() == b"vertex "]
        if not lines:
            raise _Damaged("It has no facets.")
        if len(lines) % 3 or b"endsolid" not in data[-4096:].lower():
            raise _Damaged("It ends in the middle.")
        _check_counts(path, len(lines), len(lines) // 3)
        corners = _table(lines, "vertices")
        if corners.shape[1] != 3:
            raise _Damaged(f"Its vertices have {corners.shape[1]} coordinates.")
        return _welded(corners)
    if len(data) < 84:
        raise _Damaged("It is shorter than the header of an STL file.")
    if 84 + 50 * declared > len(data):
        raise _short(f"{declared:,} triangles", 50 * declared, len(data) - 84)
    if declared == 0:
        raise _Damaged("It declares no triangles.")
    log.warning("%s: %d bytes after its last triangle are ignored", path.name, len(data) - 84 - 50 * declared)
    return _stl_binary(path, data, declared)


def _stl_binary(path: Path, data: bytes, count: int) -> _Raw:
    _check_counts(path, 3 * count, count)
    rows = np.frombuffer(data, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")]), count, 84)
    return _welded(rows["corners"].reshape(-1, 3))


def _welded(corners: NDArray[Any]) -> _Raw:
    """(3 F, 3) corners of loose triangles -> shared vertices, in the order in which they first appear."""
    rows = np.ascontiguousarray(corners) + corners.dtype.type(0)  # -0 becomes 0
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * 3))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return _Raw(rows[np.sort(first)], None, rank[inverse.ravel()].reshape(-1, 3))


def _read_xyz(path: Path) -> _Raw:
    data = path.read_bytes()
    if b"\0" in data[:4096]:
        raise _Damaged("It is not text.")
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    data = data.translate(bytes.maketrans(b",;\t", b"   "))
    lines = [line for line in data.splitlines() if line.strip() and not line.lstrip().startswith((b"#", b"//"))]
    if lines and re.fullmatch(rb"\s*\d+\s*", lines[0]) and len(lines) > 1:  # the number of points, as some write it
        if int(lines[0]) > len(lines) - 1:
            raise _Damaged(f"It declares {int(lines[0]):,} points and has {len(lines) - 1:,}.")
        lines = lines[1 : int(lines[0]) + 1]
    if not lines:
        raise _Damaged("It has no rows of numbers.")
    _check_counts(path, len(lines))
    table = _table(lines, "points")
    return _from_columns(table, path.name)


def _from_columns(table: NDArray[Any], name: str) -> _Raw:
    """(N, 3) points or (N, 6) points and normals."""
    if table.ndim != 2 or table.shape[1] not in (3, 6):
        raise _Damaged(f"Its shape is {table.shape}; rows of 3 (points) or 6 numbers (and normals) are expected.")
    if table.shape[1] == 3:
        return _Raw(table)
    normals = table[:, 3:].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        unit = np.abs(np.linalg.norm(normals, axis=1) - 1.0) < 0.05
    if unit.mean() < 0.5:
        log.warning("%s: columns 4 to 6 are not of unit length and are not taken for normals", name)
        return _Raw(table[:, :3])
    return _Raw(table[:, :3], normals)


# --- NPY, NPZ --------------------------------------------------------------------------------------------------------


def _read_npy(path: Path) -> _Raw:
    with path.open("rb") as stream:
        return _from_columns(_npy_array(path, stream, path.stat().st_size, path.name), path.name)


def _npy_array(path: Path, stream: IO[bytes], size: int, name: str) -> NDArray[Any]:
    try:
        version = npy.read_magic(stream)  # type: ignore[no-untyped-call]
        reader: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        # NumPy parses the header as a literal: nothing in it is executed.
        shape, fortran, dtype = reader(stream)
    except ValueError:
        raise _Damaged(f"'{name}' does not begin as NumPy data do.") from None
    if dtype.hasobject:
        raise InputError(
            "file_pickled",
            f"{path.name} cannot be read.",
            f"'{name}' holds Python objects, and reading those would run code from the file.",
            "Save it as plain numbers: numpy.save(name, numpy.asarray(points, dtype=numpy.float32)).",
        )
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise _Damaged(f"'{name}' has the type {dtype}; numbers are expected.")
    if any(n < 0 for n in shape):
        raise _Damaged(f"'{name}' declares the shape {shape}.")
    needed = math.prod(int(n) for n in shape) * dtype.itemsize
    if needed > size - stream.tell():
        raise _short(f"'{name}' {shape}", needed, max(size - stream.tell(), 0))
    if (shape and shape[0] > MAX_FACES) or needed > MAX_BYTES:
        raise _too_large(path, f"'{name}' declares {shape[0]:,} rows.")
    content = stream.read(needed)
    if len(content) != needed:
        raise _Damaged(f"'{name}' ends in the middle.")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _read_npz(path: Path) -> _Raw:
    known = ("points", "vertices", "normals", "faces", "viewpoint")
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
            wanted = {name: m for name, m in members.items() if name in known}
            if not {"points", "vertices"} & wanted.keys():
                if len(members) != 1:
                    raise _Damaged(f"It has none of the arrays 'points' and 'vertices', but {sorted(members)[:8]}.")
                wanted = members
            if sum(m.file_size for m in wanted.values()) > MAX_BYTES:
                raise _too_large(path, "Unpacked it would need more than 4 GB.")
            for name, member in wanted.items():
                if member.file_size > 1 << 26 and member.file_size > MAX_COMPRESSION * max(member.compress_size, 1):
                    raise _Damaged(f"'{name}' is compressed {member.file_size // max(member.compress_size, 1)} times.")
                with archive.open(member) as stream:
                    arrays[name] = _npy_array(path, stream, member.file_size, name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise _Damaged(f"It is not a sound NPZ file ({error}).") from None
    except zlib.error as error:
        raise _Damaged(f"Its compressed data are damaged ({error}).") from None
    if len(arrays) == 1 and not {"points", "vertices"} & arrays.keys():
        return _from_columns(next(iter(arrays.values())), path.name)
    raw = _from_columns(arrays["points"] if "points" in arrays else arrays["vertices"], path.name)
    normals = arrays.get("normals", raw.normals)
    return _Raw(raw.points, normals, arrays.get("faces"), arrays.get("viewpoint"))


# --- GLB, glTF -------------------------------------------------------------------------------------------------------

_GLTF_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_GLTF_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""glTF's y up to z up."""


def _read_glb(path: Path) -> _Raw:
    data = path.read_bytes()
    if data[:4] != b"glTF" or len(data) < 20:
        raise _Damaged("It does not begin with 'glTF'.")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise _unsupported(path, f"It is glTF version {version}.", "Export it again as glTF 2.0.")
    if length > len(data):
        raise _short(f"{length:,} bytes in all", length, len(data))
    tree: Any = None
    binary: memoryview | None = None
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<II", data, at)
        if at + 8 + size > length:
            raise _Damaged("One of its chunks is longer than the file.")
        content = memoryview(data)[at + 8 : at + 8 + size]
        if kind == 0x4E4F534A and tree is None:
            tree = _gltf_json(path, bytes(content))
        elif kind == 0x004E4942 and binary is None:
            binary = content
        at += 8 + size
    if tree is None:
        raise _Damaged("It has no description of its content.")
    return _Gltf(path, tree, binary).read()


def _read_gltf(path: Path) -> _Raw:
    return _Gltf(path, _gltf_json(path, path.read_bytes()), None).read()


def _gltf_json(path: Path, content: bytes) -> dict[str, Any]:
    if len(content) > MAX_JSON_BYTES:
        raise _too_large(path, f"Its description alone has {len(content) / 2**20:,.0f} MB.")
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        raise _Damaged("Its description is not JSON.") from None
    if not isinstance(tree, dict):
        raise _Damaged("Its description is not a JSON object.")
    return tree


class _Gltf:
    """The triangles (or, where there are none, the points) of a glTF tree's scene, z up."""

    def __init__(self, path: Path, tree: dict[str, Any], binary: memoryview | None) -> None:
        self.path, self.tree, self.binary = path, tree, binary
        self.buffers: dict[int, memoryview] = {}

    def read(self) -> _Raw:
        required = set(self.tree.get("extensionsRequired", ()))
        for extension in required & {"KHR_draco_mesh_compression", "EXT_meshopt_compression"}:
            raise _unsupported(self.path, f"It is compressed ({extension}).", "Export it again without compression.")
        vertices: list[Float64Array] = []
        normals: list[Float64Array | None] = []
        faces: list[Int64Array] = []
        loose: list[Float64Array] = []
        loose_normals: list[Float64Array | None] = []
        count = 0
        for mesh, matrix in self._instances():
            for primitive in self.tree["meshes"][mesh]["primitives"]:
                attributes = primitive["attributes"]
                if "POSITION" not in attributes:
                    continue
                local = self._accessor(attributes["POSITION"], 3).astype(np.float64)
                points = local @ matrix[:3, :3].T + matrix[:3, 3]
                linear = matrix[:3, :3]
                turned = None
                if "NORMAL" in attributes and abs(np.linalg.det(linear)) > 0:
                    turned = self._accessor(attributes["NORMAL"], 3).astype(np.float64) @ np.linalg.inv(linear)
                mode = primitive.get("mode", 4)
                if mode == 0:
                    loose.append(points)
                    loose_normals.append(turned)
                    continue
                if mode not in (4, 5, 6):
                    continue  # lines
                if "indices" in primitive:
                    index = self._accessor(primitive["indices"], 1).ravel().astype(np.int64)
                else:
                    index = np.arange(len(points))
                triangles = _primitive_triangles(index, mode)
                if len(triangles) and int(triangles.max()) >= len(points):
                    raise _Damaged("A triangle refers to a vertex that is not there.")
                if np.linalg.det(linear) < 0:
                    triangles = triangles[:, ::-1]
                vertices.append(points)
                normals.append(turned)
                faces.append(triangles + count)
                count += len(points)
                _check_counts(self.path, count, sum(map(len, faces)))
        if faces:
            if loose:
                log.warning("%s: it has triangles and loose points; the points are ignored", self.path.name)
            return _Raw(np.concatenate(vertices), _joined(normals), np.concatenate(faces))
        if loose:
            return _Raw(np.concatenate(loose), _joined(loose_normals))
        raise _Damaged("Its scene has no triangles and no points.")

    def _instances(self) -> list[tuple[int, Float64Array]]:
        """(mesh, 4 x 4 matrix to the z-up scene) of every node of the scene that has a mesh."""
        root = np.eye(4)
        root[:3, :3] = _Z_UP
        nodes = self.tree.get("nodes", [])
        scenes = self.tree.get("scenes")
        if scenes:
            roots = scenes[self.tree.get("scene", 0)].get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", ())}
            roots = [i for i in range(len(nodes)) if i not in children]
        found = []
        seen: set[int] = set()
        waiting = [(node, root) for node in reversed(roots)]
        while waiting:
            number, parent = waiting.pop()
            if number in seen:
                raise _Damaged("Its nodes are not a tree.")
            seen.add(number)
            node = nodes[number]
            matrix = parent @ _node_matrix(node)
            if "mesh" in node:
                found.append((node["mesh"], matrix))
            waiting += [(child, matrix) for child in reversed(node.get("children", []))]
        return found

    def _accessor(self, number: int, width: int) -> NDArray[Any]:
        """(count, width) values. What it declares is compared with its buffer before anything is allocated."""
        accessor = self.tree["accessors"][number]
        if "bufferView" not in accessor or "sparse" in accessor:
            raise _unsupported(self.path, "It has sparse data.", "Export it again with another program.")
        view = self.tree["bufferViews"][accessor["bufferView"]]
        dtype = np.dtype(_GLTF_TYPES[accessor["componentType"]])
        count, offset = int(accessor["count"]), int(accessor.get("byteOffset", 0))
        if _GLTF_WIDTHS[accessor["type"]] != width or count < 0 or offset < 0:
            raise _Damaged("One of its arrays has the wrong shape.")
        buffer = self._buffer(view["buffer"])
        start, length = int(view.get("byteOffset", 0)), int(view["byteLength"])
        stride = int(view.get("byteStride", 0)) or dtype.itemsize * width
        needed = offset + (stride * (count - 1) + dtype.itemsize * width if count else 0)
        if start < 0 or stride < 0 or start + length > len(buffer) or needed > length:
            raise _short(f"an array of {count:,} entries", needed, max(0, min(length, len(buffer) - start)))
        values: NDArray[Any] = np.ndarray((count, width), dtype, buffer, start + offset, (stride, dtype.itemsize))
        if accessor.get("normalized") and dtype.kind in "iu":
            return np.maximum(values / np.iinfo(dtype).max, -1.0)
        return values

    def _buffer(self, number: int) -> memoryview:
        if number not in self.buffers:
            buffer = self.tree["buffers"][number]
            uri = buffer.get("uri")
            if uri is None:
                if self.binary is None or number != 0:
                    raise _Damaged("A buffer has no data.")
                self.buffers[number] = self.binary
            elif uri.startswith("data:"):
                self.buffers[number] = memoryview(base64.b64decode(uri.partition(",")[2]))
            else:
                folder = self.path.parent.resolve()
                file = (folder / urllib.parse.unquote(uri)).resolve()
                if not file.is_relative_to(folder) or not file.is_file():
                    raise _Damaged(f"The file {uri[:80]}, which it names, is not beside it.")
                if file.stat().st_size > MAX_BYTES:
                    raise _too_large(self.path, f"{file.name}, which it names, has more than 4 GB.")
                self.buffers[number] = memoryview(file.read_bytes())
        return self.buffers[number]


def _node_matrix(node: dict[str, Any]) -> Float64Array:
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = (float(v) for v in node.get("rotation", (0, 0, 0, 1)))
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix[:3, :3] = rotation * np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), np.float64)
    return matrix


def _primitive_triangles(index: Int64Array, mode: int) -> Int64Array:
    if mode == 4:
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    if len(index) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == 6:  # fan
        return np.stack([np.full(len(index) - 2, index[0]), index[1:-1], index[2:]], axis=1)
    strip: Int64Array = np.stack([index[:-2], index[1:-1], index[2:]], axis=1)
    strip[1::2] = strip[1::2, [1, 0, 2]]
    return strip


def _joined(parts: list[Float64Array | None]) -> Float64Array | None:
    return None if any(part is None for part in parts) else np.concatenate([part for part in parts if part is not None])


_READERS: dict[str, Callable[[Path], _Raw]] = {
    ".ply": _read_ply,
    ".obj": _read_obj,
    ".stl": _read_stl,
    ".off": _read_off,
    ".glb": _read_glb,
    ".gltf": _read_gltf,
    ".xyz": _read_xyz,
    ".npy": _read_npy,
    ".npz": _read_npz,
}

READABLE = tuple(sorted(_READERS))
"""Suffixes that read_shape knows."""


# --- checks ----------------------------------------------------------------------------------------------------------


def check_cloud(
    points: ArrayLike,
    normals: ArrayLike | None = None,
    viewpoint: ArrayLike | None = None,
    *,
    source: str = "The input",
) -> PointCloud:
    """Points as they came from a file or over the wire -> a cloud that everything after may rely on.

    points: (N, 3), 10 to 20 million, at least 10 of them distinct, not all on one line; finite but for at most 5 % NaN
    rows, which are dropped with a warning.  normals: (N, 3), made unit length; where more than 5 % are zero or NaN they
    are all left out, with a warning, else their points are dropped.  viewpoint: (3,).  source: named in the messages.
    Raises InputError (codes: see this module).
    """
    values = _rows_of_three(points, "points", source)
    if len(values) > MAX_POINTS:
        raise InputError(
            "cloud_too_large",
            f"{source} has too many points.",
            f"It has {len(values):,}; at most {MAX_POINTS:,} are taken.",
            "Thin it out first; a few ten thousand points show a shape well.",
        )
    if len(values) < MIN_POINTS:
        raise _too_small(source, len(values))
    good = _finite_rows(values, source)
    directions = _checked_normals(normals, values, source)
    if directions is not None:
        good &= directions.any(axis=1)
    if not bool(good.all()):
        log.warning("%s: %d of %d points are not numbers and are left out", source, int((~good).sum()), len(good))
        values = values[good]
        directions = None if directions is None else directions[good]
    if len(values) < MIN_POINTS:
        raise _too_small(source, len(values))
    _check_extent(values, source)
    distinct = len(np.unique(values[:1000], axis=0))
    if distinct < MIN_POINTS:
        distinct = len(np.unique(values, axis=0))
    if distinct < MIN_POINTS:
        raise _too_small(source, distinct)
    centred = np.asarray(values, np.float64) - np.asarray(values, np.float64).mean(axis=0)
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(centred.T @ centred), 0.0))
    if spread[1] <= 1e-5 * spread[2]:
        raise InputError(
            "cloud_degenerate",
            f"{source} shows no surface.",
            "All its points lie on one line.",
            "Give points from the surface of an object.",
        )
    return PointCloud(np.ascontiguousarray(values, np.float32), directions, _checked_viewpoint(viewpoint, source))


def check_mesh(
    vertices: ArrayLike, faces: ArrayLike, normals: ArrayLike | None = None, *, source: str = "The input"
) -> Mesh:
    """Triangles as they came from a file or over the wire -> a mesh that everything after may rely on.

    The mesh may be open, broken, or overlap itself. Vertices that are NaN (at most 5 %) are dropped with their faces,
    with a warning; so are normals of which more than 5 % are zero or NaN. Vertices that no face uses stay.
    Raises InputError (codes: see this module).
    """
    values = _rows_of_three(vertices, "vertices", source)
    index = np.asarray(faces)
    if index.ndim != 2 or index.shape[1] != 3 or (len(index) and index.dtype.kind not in "iu"):
        raise _faces_invalid(source, f"The faces have the shape {index.shape} and the type {index.dtype}.")
    if len(values) > MAX_POINTS or len(index) > MAX_FACES:
        raise InputError(
            "mesh_too_large",
            f"{source} has too many triangles.",
            f"It has {len(values):,} vertices and {len(index):,} faces; {MAX_POINTS:,} and {MAX_FACES:,} are the most.",
            "Decimate it first.",
        )
    if len(index) == 0 or len(values) == 0:
        raise _without_area(source)
    if int(index.min()) < 0 or int(index.max()) >= len(values):
        raise _faces_invalid(source, f"Faces refer to vertices outside 0 to {len(values) - 1:,}.")
    good = _finite_rows(values, source)
    directions = _checked_normals(normals, values, source)
    if directions is not None and not bool(directions.any(axis=1).all()):
        # A vertex that no face uses has none; any other gets the one that its faces give it.
        given = directions.any(axis=1)
        directions = np.where(given[:, None], directions, vertex_normals(Mesh(values.astype(np.float32), index)))
    if not bool(good.all()):
        keep = good[index].all(axis=1)
        log.warning(
            "%s: %d vertices are not numbers; they and %d faces are left out",
            source, int((~good).sum()), int((~keep).sum()),
        )  # fmt: skip
        number = np.cumsum(good) - 1
        values, index = values[good], number[index[keep]]
        directions = None if directions is None else directions[good]
        if len(index) == 0:
            raise _without_area(source)
    _check_extent(values[np.unique(index)], source)
    mesh = Mesh(np.ascontiguousarray(values, np.float32), np.ascontiguousarray(index, np.int32), directions)
    # Relative to the size, since a mesh in micrometres is as good as one in metres; below this, all is rounding.
    if not float(face_areas(mesh).sum()) > 1e-6 * float(np.ptp(values[np.unique(index)], axis=0).max()) ** 2:
        raise _without_area(source)
    return mesh


def check_arrays(
    points: ArrayLike,
    normals: ArrayLike | None = None,
    faces: ArrayLike | None = None,
    viewpoint: ArrayLike | None = None,
    *,
    source: str = "The input",
) -> tuple[FloatArray, FloatArray | None, IntArray | None, FloatArray | None]:
    """check_mesh where there are faces, else check_cloud; answers as load_input does."""
    if faces is not None and len(np.asarray(faces)):
        mesh = check_mesh(points, faces, normals, source=source)
        return mesh.vertices, mesh.normals, mesh.faces, _checked_viewpoint(viewpoint, source)
    cloud = check_cloud(points, normals, viewpoint, source=source)
    return cloud.points, cloud.normals, None, cloud.viewpoint


def _rows_of_three(array: ArrayLike, what: str, source: str) -> NDArray[Any]:
    values = np.asarray(array)
    if values.ndim != 2 or values.shape[1] != 3 or values.dtype.kind not in "fiu":
        raise InputError(
            "cloud_malformed",
            f"{source} cannot be used.",
            f"The {what} have the shape {values.shape}, type {values.dtype}; rows of three numbers are expected.",
            "Give x, y and z of each point.",
        )
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _finite_rows(values: NDArray[Any], source: str) -> NDArray[np.bool_]:
    """Rows without NaN. Raises where they are too few, and where any coordinate is infinite or absurd."""
    good: NDArray[np.bool_] = ~np.isnan(values).any(axis=1)
    bad = len(good) - int(good.sum())
    if bad > MAX_BAD_SHARE * len(good):
        raise InputError(
            "cloud_not_finite",
            f"{source} cannot be used.",
            f"{bad:,} of its {len(good):,} points are not numbers (NaN).",
            "Remove the invalid points, or export again without them.",
        )
    with np.errstate(invalid="ignore"):
        largest = float(np.nanmax(np.abs(values)))
    if largest > MAX_COORDINATE:
        raise InputError(
            "coordinates_absurd",
            f"{source} cannot be used.",
            f"It has coordinates as large as {largest:.3g}; at most {MAX_COORDINATE:.0e} makes sense.",
            "Remove the points that are meant as 'no value', or scale the object down.",
        )
    return good


def _check_extent(values: NDArray[Any], source: str) -> None:
    low, high = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
    extent = float((high - low).max())
    distance = float(np.maximum(np.abs(low), np.abs(high)).max())
    if extent <= 0.0:
        raise InputError(
            "cloud_degenerate",
            f"{source} shows no surface.",
            "All its points are at the same place.",
            "Give points from the surface of an object.",
        )
    if extent < MIN_EXTENT:
        raise InputError(
            "coordinates_absurd",
            f"{source} cannot be used.",
            f"It is only {extent:.3g} units large.",
            "Scale the object up.",
        )
    if extent < MIN_EXTENT_TO_DISTANCE * distance:
        raise InputError(
            "coordinates_far",
            f"{source} cannot be used.",
            f"It is {extent:.3g} units large and {distance:.3g} units from the origin: rounding has eaten its details.",
            "Move the object near the origin before exporting it.",
        )


def _checked_normals(normals: ArrayLike | None, points: NDArray[Any], source: str) -> FloatArray | None:
    """(N, 3) unit normals with zero rows where one is unusable, or None where there are none or too few."""
    if normals is None:
        return None
    values = _rows_of_three(normals, "normals", source).astype(np.float64)
    if len(values) != len(points):
        raise InputError(
            "cloud_malformed",
            f"{source} cannot be used.",
            f"It has {len(points):,} points and {len(values):,} normals.",
            "Give one normal a point, or none at all.",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(values, axis=1, keepdims=True)
        usable = np.isfinite(length) & (length > 1e-12)
        unit = np.where(usable, values / np.where(usable, length, 1.0), 0.0).astype(np.float32)
    unusable = len(values) - int(usable.sum())
    if unusable > MAX_BAD_SHARE * len(values):
        log.warning("%s: %d of %d normals are zero or not numbers; all are left out", source, unusable, len(values))
        return None
    return unit


def _checked_viewpoint(viewpoint: ArrayLike | None, source: str) -> FloatArray | None:
    if viewpoint is None:
        return None
    value = np.asarray(viewpoint)
    if value.dtype.kind not in "fiu" or value.shape != (3,) or not bool((np.abs(value) <= MAX_COORDINATE).all()):
        raise InputError(
            "viewpoint_invalid",
            f"{source} cannot be used with this viewpoint.",
            f"The viewpoint is {value.tolist() if value.size <= 8 else value.shape}; three finite numbers are needed.",
            "Give x, y and z of the place from where the object was seen, or leave it out.",
        )
    return value.astype(np.float32)


def _too_small(source: str, count: int) -> InputError:
    return InputError(
        "cloud_too_small",
        f"{source} has too few points.",
        f"It has {count} distinct usable point{'' if count == 1 else 's'}; at least {MIN_POINTS} are needed.",
        "Give more points; a few hundred show a shape, a few thousand its details.",
    )


def _faces_invalid(source: str, why: str) -> InputError:
    return InputError("mesh_faces_invalid", f"{source} cannot be used.", why, "Export the mesh again.")


def _without_area(source: str) -> InputError:
    return InputError(
        "mesh_without_area",
        f"{source} has no surface.",
        "It holds no triangle with an area and finite corners.",
        "Check the file; to use its vertices only, save them as a point cloud (XYZ, or PLY without faces).",
    )


# --- writing ---------------------------------------------------------------------------------------------------------


def write_mesh(path: Path | str, mesh: Mesh) -> None:
    """Writes PLY (binary, with normals where known), OBJ, STL (binary) or GLB, by the suffix.

    The file appears whole or not at all: what stood there before stays until the new one is complete.
    Raises InputError 'format_unknown', 'output_unwritable'.
    """
    path = Path(path)
    writers: dict[str, Callable[[Mesh], bytes]] = {
        ".ply": lambda m: _ply_bytes(m.vertices, m.normals, m.faces, None),
        ".obj": lambda m: _obj_bytes(m.vertices, m.normals, m.faces),
        ".stl": _stl_bytes,
        ".glb": _glb_bytes,
    }
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise _format_unknown(path, sorted(writers))
    _write_atomically(path, writer(mesh))


def write_cloud(path: Path | str, cloud: PointCloud) -> None:
    """Writes points, normals and (PLY, NPZ) viewpoint as PLY, OBJ, XYZ, NPY or NPZ. Otherwise as write_mesh."""
    path = Path(path)
    writers: dict[str, Callable[[PointCloud], bytes]] = {
        ".ply": lambda c: _ply_bytes(c.points, c.normals, None, c.viewpoint),
        ".obj": lambda c: _obj_bytes(c.points, c.normals, None),
        ".xyz": lambda c: _rows(_side_by_side(c)),
        ".npy": lambda c: _npy_bytes(_side_by_side(c)),
        ".npz": _npz_bytes,
    }
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise _format_unknown(path, sorted(writers))
    _write_atomically(path, writer(cloud))


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        try:
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(
            "output_unwritable",
            f"{path.name} cannot be written.",
            f"The system says: {reason}.",
            "Check that the folder exists, may be written to, and that the disk is not full.",
        ) from None


def _ply_bytes(
    points: FloatArray, normals: FloatArray | None, faces: IntArray | None, viewpoint: FloatArray | None
) -> bytes:
    names = ["x", "y", "z"] + (["nx", "ny", "nz"] if normals is not None else [])
    header = ["ply", "format binary_little_endian 1.0"]
    if viewpoint is not None:
        header.append("comment viewpoint " + " ".join(repr(float(v)) for v in viewpoint))
    header += [f"element vertex {len(points)}", *(f"property float {name}" for name in names)]
    columns = points if normals is None else np.concatenate([points, normals], axis=1)
    body = np.ascontiguousarray(columns, "<f4").tobytes()
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        rows = np.empty(len(faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
        rows["count"], rows["corners"] = 3, faces
        body += rows.tobytes()
    return "\n".join([*header, "end_header\n"]).encode("ascii") + body


def _rows(table: NDArray[Any], prefix: str = "") -> bytes:
    """One line a row; nine digits carry a float32 exactly."""
    pattern = prefix + " ".join(["%d" if table.dtype.kind in "iu" else "%.9g"] * table.shape[1])
    return "".join(pattern % tuple(row) + "\n" for row in table.tolist()).encode("ascii")


def _obj_bytes(points: FloatArray, normals: FloatArray | None, faces: IntArray | None) -> bytes:
    content = _rows(points, "v ")
    if normals is not None:
        content += _rows(normals, "vn ")
    if faces is None:
        return content
    one_based = faces.astype(np.int64) + 1
    if normals is None:
        return content + _rows(one_based, "f ")
    return content + "".join(f"f {a}//{a} {b}//{b} {c}//{c}\n" for a, b, c in one_based.tolist()).encode()


def _stl_bytes(mesh: Mesh) -> bytes:
    rows = np.zeros(len(mesh.faces), np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")]))
    rows["corners"] = mesh.vertices[mesh.faces]
    a, b, c = np.moveaxis(rows["corners"].astype(np.float64), 1, 0)
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    rows["normal"] = np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)
    return b"Shapewright".ljust(80, b" ") + struct.pack("<I", len(rows)) + rows.tobytes()


def _glb_bytes(mesh: Mesh) -> bytes:
    arrays = [np.ascontiguousarray(mesh.vertices @ _Z_UP, "<f4")]  # @ R is R transposed, the way back to y up
    accessors: list[dict[str, Any]] = [
        {
            "componentType": 5126,
            "type": "VEC3",
            "count": len(mesh.vertices),
            "min": arrays[0].min(axis=0).tolist(),
            "max": arrays[0].max(axis=0).tolist(),
        }
    ]
    attributes = {"POSITION": 0}
    if mesh.normals is not None:
        arrays.append(np.ascontiguousarray(mesh.normals @ _Z_UP, "<f4"))
        accessors.append({"componentType": 5126, "type": "VEC3", "count": len(mesh.normals)})
        attributes["NORMAL"] = 1
    arrays.append(np.ascontiguousarray(mesh.faces, "<u4").reshape(-1))
    accessors.append({"componentType": 5125, "type": "SCALAR", "count": 3 * len(mesh.faces)})
    views, at = [], 0
    for i, array in enumerate(arrays):
        accessors[i]["bufferView"] = i
        target = 34963 if i == len(arrays) - 1 else 34962
        views.append({"buffer": 0, "byteOffset": at, "byteLength": array.nbytes, "target": target})
        at += array.nbytes  # multiples of four, as glTF asks
    tree = {
        "asset": {"version": "2.0", "generator": "Shapewright"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": len(arrays) - 1}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": at}],
    }
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + at)
    return b"".join(
        [head, struct.pack("<I4s", len(text), b"JSON"), text, struct.pack("<I4s", at, b"BIN\0"), *map(bytes, arrays)]
    )


def _side_by_side(cloud: PointCloud) -> FloatArray:
    """(N, 3), or (N, 6) with normals."""
    return cloud.points if cloud.normals is None else np.concatenate([cloud.points, cloud.normals], axis=1)


def _npy_bytes(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _npz_bytes(cloud: PointCloud) -> bytes:
    arrays = {"points": cloud.points, "normals": cloud.normals, "viewpoint": cloud.viewpoint}
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: array for name, array in arrays.items() if array is not None})
    return stream.getvalue()
