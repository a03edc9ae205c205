"""STL, by trimesh behind our gates: the declared size against the file's, and the dialects that trimesh stumbles over
(`end solid` in two words, tabs, a binary file with something behind its last triangle). Loose triangles are welded."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..meshes import Mesh
from .gates import Damaged, Float64Array, check_counts, short, whole_text
from .loaded import Raw
from .registry import Format

_HEAD, _ROW = 84, 50


def read_stl(path: Path) -> Raw:
    data = path.read_bytes()
    declared = int.from_bytes(data[80:84], "little") if len(data) >= _HEAD else 0
    if len(data) >= _HEAD and len(data) == _HEAD + _ROW * declared:
        return _binary(path, data, declared)
    text = whole_text(path)
    if text.lstrip()[:5].lower() == b"solid" and b"\0" not in text[:4096]:
        return _text(path, text)
    if len(data) < _HEAD:
        raise Damaged("It is shorter than the header of an STL file.")
    end = _HEAD + _ROW * declared
    if end > len(data):
        raise short(f"{declared:,} triangles", _ROW * declared, len(data) - _HEAD)
    if declared == 0:
        raise Damaged("It declares no triangles.")
    raw = _binary(path, data[:end], declared)
    raw.notes.append(f"{len(data) - end:,} bytes after its last triangle are not used.")
    return raw


def _binary(path: Path, data: bytes, count: int) -> Raw:
    from trimesh.exchange.stl import load_stl_binary

    check_counts(path.name, 3 * count, count)
    if count == 0:
        raise Damaged("It declares no triangles.")
    return _welded(load_stl_binary(io.BytesIO(data))["vertices"])


def _text(path: Path, text: bytes) -> Raw:
    from trimesh.exchange.stl import load_stl_ascii

    # Only what carries geometry goes on: a name may hold any of the words that trimesh looks for.
    kept = [
        line.split(None, 1)[1] for line in text.splitlines() if line.lstrip()[:7].lower() in (b"vertex ", b"vertex\t")
    ]
    if not kept:
        raise Damaged("It has no facets.")
    if len(kept) % 3 or not re.search(rb"end\s*solid", text[-4096:].lower()):
        raise Damaged("It ends in the middle.")
    check_counts(path.name, len(kept), len(kept) // 3)
    if any(len(line.split()) != 3 for line in kept):
        raise Damaged("Its vertices do not have three coordinates.")
    plain = b"solid\n" + b"".join(b"vertex " + line.strip() + b"\n" for line in kept) + b"endsolid\n"
    found = load_stl_ascii(io.BytesIO(plain))
    corners = found.get("vertices")
    if corners is None or len(corners) != len(kept):
        raise Damaged("Its vertices are not rows of numbers.")
    return _welded(np.asarray(corners))


def _welded(corners: NDArray[Any]) -> Raw:
    """(3 F, 3) corners of loose triangles -> shared vertices, in the order in which they first appear."""
    rows = np.ascontiguousarray(corners) + corners.dtype.type(0)  # -0 becomes 0
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * 3))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return Raw(rows[np.sort(first)], None, rank[inverse.ravel()].reshape(-1, 3))


def _write(mesh: Mesh, offset: Float64Array) -> bytes:
    """Single precision is all that the format has: what is far from the origin stays about the offset."""
    rows = np.zeros(len(mesh.faces), np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")]))
    rows["corners"] = mesh.vertices[mesh.faces]
    a, b, c = np.moveaxis(rows["corners"].astype(np.float64), 1, 0)
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    rows["normal"] = np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)
    return b"Shapewright".ljust(80, b" ") + struct.pack("<I", len(rows)) + rows.tobytes()


FORMATS = (Format("STL", (".stl",), read_stl, _write, by="trimesh", carries="points, faces", colours=False),)
