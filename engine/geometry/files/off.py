"""OFF, by a reader of our own: trimesh's cuts polygons into fans and reads no normals.

A header glued to its counts (`OFF98 192 0`, as ModelNet's are) is read; colours stand behind the coordinates in COFF.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..meshes import Mesh, material_colours
from . import gates
from .gates import Damaged, Float64Array, check_counts, table, unit_colours, whole_text
from .loaded import Raw
from .ply_rows import polygon_lines
from .polygons import triangulated
from .registry import Format
from .writing import rows


def read_off(path: Path) -> Raw:
    data = whole_text(path)
    head = re.match(rb"\s*(?:#[^\n]*\n\s*)*(ST)?(C)?(N)?(4)?(n)?OFF[ \t]*(BINARY)?", data)
    if head is None:
        raise Damaged("It does not begin with 'OFF'.")
    if head.group(6):
        raise gates.unsupported(path.name, "It is a binary OFF.", "Save it as text OFF or as PLY.")
    if head.group(4) or head.group(5):
        raise gates.unsupported(path.name, "Its vertices do not have three coordinates.", "Save it as PLY.")
    body = data[head.end() :]
    if b"#" in body:
        body = re.sub(rb"#[^\n]*", b"", body)
    lines = [line for line in body.splitlines() if line.strip()]
    if not lines or len(lines[0].split()) < 2:
        raise Damaged("It does not say how many vertices and faces it has.")
    vertex_count, face_count = (int(word) for word in lines[0].split()[:2])
    if vertex_count + face_count > len(lines) - 1:
        raise Damaged(
            f"It declares {vertex_count:,} vertices and {face_count:,} faces, but only {len(lines) - 1:,} lines follow."
        )
    check_counts(path.name, vertex_count, face_count)
    values = table(lines[1 : 1 + vertex_count], "vertices")
    with_normals, coloured = bool(head.group(3)), bool(head.group(2))
    if values.shape[1] < 3 + 3 * with_normals:
        raise Damaged(f"Its vertices have {values.shape[1]} numbers.")
    colours = None
    at = 3 + 3 * with_normals
    if coloured and values.shape[1] >= at + 3:
        colours = unit_colours(values[:, at : at + 3])
    counts, flat = polygon_lines(lines[1 + vertex_count : 1 + vertex_count + face_count])
    faces, _ = triangulated(counts, flat, values[:, :3])
    return Raw(values[:, :3], values[:, 3:6] if with_normals else None, faces, None, colours)


def _write(mesh: Mesh, offset: Float64Array) -> bytes:
    vertices = mesh.vertices.astype(np.float64) + offset if offset.any() else mesh.vertices
    threes = np.concatenate([np.full((len(mesh.faces), 1), 3, np.int64), mesh.faces], axis=1)
    colours = material_colours(mesh) if mesh.colours is None else mesh.colours
    head = "OFF"
    if colours is not None:
        head, vertices = "COFF", np.concatenate([vertices, np.round(colours.astype(vertices.dtype), 4)], axis=1)
    return f"{head}\n{len(vertices)} {len(threes)} 0\n".encode() + rows(vertices) + rows(threes)


FORMATS = (
    Format(
        "OFF", (".off",), read_off, _write, most_bytes=gates.MAX_TEXT_BYTES, carries="points, faces, normals, colours"
    ),
)
