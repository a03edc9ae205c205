"""OBJ: geometry by a reader of our own, materials and their pictures by trimesh.

trimesh's OBJ reader cuts polygons into fans (wrong for concave ones), fails where only some vertices have colours, and
loses the vertex behind a byte-order mark; what it does well is MTL files and textures.
OBJ says nothing about axes: y is up, as Blender, phones and photogrammetry have it, unless the user says otherwise.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clouds import FloatArray
from ..meshes import Material, Mesh
from . import gates
from .appearance import picture_colours
from .gates import Damaged, Float64Array, Int64Array, check_counts, table, unit_colours, whole_text
from .loaded import Raw
from .polygons import triangulated
from .registry import Companion, Format
from .writing import rows

log = logging.getLogger(__name__)

LIBRARY_HEAD = "# Shapewright: materials of the OBJ file of the same name\n"
"""The first line of an MTL file of ours, by which we know that it may be written anew."""


@dataclass
class _Lines:
    """The lines of a file that say something, sorted by what they begin with, without it."""

    points: list[bytes] = field(default_factory=list)
    normals: list[bytes] = field(default_factory=list)
    textures: list[bytes] = field(default_factory=list)
    faces: list[bytes] = field(default_factory=list)
    before: list[tuple[int, int, int]] = field(default_factory=list)  # points, normals, textures before each face
    materials: list[str] = field(default_factory=list)
    face_materials: list[int] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)
    curved: bool = False


def _sorted(data: bytes) -> _Lines:
    found = _Lines()
    numbers: dict[str, int] = {}
    current = -1
    for line in data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines():
        line = line.strip()
        if not line or line[:1] == b"#":
            continue
        head = line[:2]
        if head in (b"v ", b"v\t"):
            found.points.append(line[2:].partition(b"#")[0] if b"#" in line else line[2:])
        elif head == b"vn":
            found.normals.append(line[2:].partition(b"#")[0])
        elif head == b"vt":
            found.textures.append(line[2:].partition(b"#")[0])
        elif head in (b"f ", b"f\t"):
            found.faces.append(line[2:].partition(b"#")[0])
            found.before.append((len(found.points), len(found.normals), len(found.textures)))
            found.face_materials.append(current)
        elif line.startswith(b"usemtl"):
            name = line[6:].strip().decode("utf-8", "replace")
            current = numbers.setdefault(name, len(numbers))
        elif line.startswith(b"mtllib"):
            found.libraries.append(line[6:].strip().decode("utf-8", "replace"))
        elif line.startswith((b"curv", b"surf", b"cstype")):
            found.curved = True
    found.materials = list(numbers)
    return found


def read_obj(path: Path) -> Raw:
    lines = _sorted(whole_text(path))
    if not lines.points:
        raise Damaged("It has no lines that begin with 'v'.")
    check_counts(path.name, len(lines.points), len(lines.faces))
    vertices = _vertices(lines.points)
    colours, notes = _colours(lines.points)
    normals = table(lines.normals, "normals", (0, 1, 2)) if lines.normals else None
    if not lines.faces:
        if lines.curved:
            raise gates.unsupported(
                path.name, "It holds curved surfaces (NURBS), no polygons.", "Convert them to a mesh before exporting."
            )
        matching = normals is not None and len(normals) == len(vertices)
        return Raw(vertices, normals if matching else None, None, None, colours, notes=notes)
    counts, corners, corner_textures, corner_normals = _corners(lines)
    faces, polygon = triangulated(counts, corners, vertices)
    known: dict[str, Any] = {}
    if lines.materials and lines.libraries:
        known, more = _library(path, lines)
        notes += more
    materials = tuple(Material(name, _base_colour(known.get(name))) for name in lines.materials)
    of_faces = np.array(lines.face_materials, np.int32)[polygon] if materials else None
    if colours is None and of_faces is not None and any("image" in known.get(name, ()) for name in lines.materials):
        textures = table(lines.textures, "texture coordinates", (0, 1)) if lines.textures else None
        uv = None if textures is None else _one_a_vertex(textures, corners, corner_textures, len(vertices))
        colours = _picture_colours(known, materials, faces, of_faces, uv, len(vertices))
    per_vertex = None if normals is None else _agreed(normals, corners, corner_normals, len(vertices))
    return Raw(vertices, per_vertex, faces, None, colours, materials, of_faces, notes)


def _vertices(points: list[bytes]) -> Float64Array:
    try:
        return table(points, "vertices", (0, 1, 2))
    except Damaged:
        width = min(len(point.split()) for point in points)
        if width < 3:
            raise Damaged(f"Its vertices have {width} coordinates.") from None
        raise


def _colours(points: list[bytes]) -> tuple[NDArray[np.float32] | None, list[str]]:
    """Of 'v x y z r g b', where some vertices may have none: those are white."""
    has = np.fromiter((len(point.split()) >= 6 for point in points), bool, len(points))
    if not bool(has.any()):
        return None, []
    given = table([point for point, some in zip(points, has.tolist(), strict=True) if some], "colours", (3, 4, 5))
    colours = np.ones((len(points), 3), np.float32)
    colours[has] = unit_colours(given)
    if bool(has.all()):
        return colours, []
    return colours, [f"Only {int(has.sum()):,} of its {len(has):,} vertices have colours; the others are white."]


def _corners(lines: _Lines) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """(P,) corners a polygon, and of all corners the vertex, texture coordinate and normal, from 0; below 0: none, or
    (of vertices) out of range."""
    counts, found = [], ([], [], [])  # type: ignore[var-annotated]
    nothing = -(1 << 40)
    for line, (points, normals, textures) in zip(lines.faces, lines.before, strict=True):
        words = line.split()
        counts.append(len(words))
        for word in words:
            parts = word.split(b"/")
            v = int(parts[0])
            found[0].append(v - 1 if v > 0 else points + v)
            t = int(parts[1]) if len(parts) > 1 and parts[1] else 0
            found[1].append(t - 1 if t > 0 else textures + t if t else nothing)
            n = int(parts[2]) if len(parts) > 2 and parts[2] else 0
            found[2].append(n - 1 if n > 0 else normals + n if n else nothing)
    corners, texture, normal = (np.array(part, np.int64) for part in found)
    return np.array(counts, np.int64), corners, texture, normal


def _agreed(normals: Float64Array, corners: Int64Array, which: Int64Array, count: int) -> Float64Array | None:
    """(V, 3) normals where the faces say one a vertex. Where they differ (a crease) the mesh says more than they do."""
    if (
        int(which.min()) < 0
        or int(which.max()) >= len(normals)
        or int(corners.min()) < 0
        or int(corners.max()) >= count
    ):
        return None
    chosen = np.full(count, -1, np.int64)
    chosen[corners] = which
    if not bool((chosen[corners] == which).all()) or not bool((chosen >= 0).all()):
        return None
    return np.asarray(normals[chosen])


def _one_a_vertex(values: Float64Array, corners: Int64Array, which: Int64Array, count: int) -> Float64Array | None:
    """(V, 2) any one of the texture coordinates that a vertex's corners have; None where some have none."""
    good = (which >= 0) & (which < len(values)) & (corners >= 0) & (corners < count)
    chosen = np.full(count, -1, np.int64)
    chosen[corners[good]] = which[good]
    used = np.unique(corners[(corners >= 0) & (corners < count)])
    if len(used) == 0 or int(chosen[used].min()) < 0:
        return None
    return np.asarray(values[np.maximum(chosen, 0)])


def _library(path: Path, lines: _Lines) -> tuple[dict[str, Any], list[str]]:
    """Name -> what the file's libraries say of the material; nothing, and why, where one of them is not there."""
    from trimesh.exchange import obj as exchange

    parse: Any = exchange.parse_mtl
    known: dict[str, Any] = {}
    beside = gates.Beside(path)
    for library in lines.libraries[:16]:
        try:
            known |= parse(beside.get(library), resolver=beside)
        except (Damaged, OSError, ValueError):
            return {}, [f"Its materials are in {library[:80]}, which is not beside it; their colours are not known."]
    return known, []


def _base_colour(material: Any) -> tuple[float, float, float] | None:
    diffuse = None if material is None else material.get("diffuse")
    if diffuse is None or len(np.atleast_1d(diffuse)) < 3:
        return None
    colour = np.asarray(diffuse, np.float64)[:3]
    if not bool(np.isfinite(colour).all()):
        return None
    r, g, b = (colour / (255.0 if float(colour.max()) > 1.0 else 1.0)).clip(0, 1).tolist()
    return r, g, b


def _picture_colours(
    known: dict[str, Any],
    materials: tuple[Material, ...],
    faces: Int64Array,
    of_faces: NDArray[np.int32],
    uv: Float64Array | None,
    count: int,
) -> NDArray[np.float32] | None:
    """(V, 3) colours of the materials' pictures, and of those without one their own; None where no picture is used."""
    if uv is None or int(faces.min(initial=0)) < 0 or int(faces.max(initial=0)) >= count:
        return None
    colours = np.ones((count, 3), np.float32)
    pictured = False
    for number, material in enumerate(materials):
        used = np.unique(faces[of_faces == number])
        picture = known.get(material.name, {}).get("image")
        seen = None if picture is None else picture_colours(uv[used], picture)
        if seen is not None:
            colours[used], pictured = seen, True
        elif material.colour is not None:
            colours[used] = material.colour
    return colours if pictured else None


def _content(
    points: FloatArray, normals: FloatArray | None, colours: FloatArray | None, offset: Float64Array
) -> bytes:
    placed: NDArray[Any] = points.astype(np.float64) + offset if offset.any() else points
    if colours is not None:
        placed = np.concatenate([placed, np.round(colours, 4)], axis=1)
    content = rows(placed, "v ")
    return content if normals is None else content + rows(normals, "vn ")


def _write_mesh(mesh: Mesh, offset: Float64Array) -> bytes:
    content = _content(mesh.vertices, mesh.normals, mesh.colours, offset)
    places = None
    if mesh.uvs is not None:
        distinct, number = np.unique(mesh.uvs.reshape(-1, 2), axis=0, return_inverse=True)
        content += rows(distinct, "vt ")
        places = number.reshape(-1, 3) + 1
    groups: list[tuple[bytes, NDArray[np.bool_] | slice]] = [(b"", slice(None))]
    if mesh.face_materials is not None:
        numbers = range(-1, len(mesh.materials))
        groups = [(_use(mesh, number), mesh.face_materials == number) for number in numbers]
    for head, which in groups:
        one_based = mesh.faces[which].astype(np.int64) + 1
        if len(one_based):
            flat = None if places is None else places[which]
            content += head + _corners_written(one_based, flat, mesh.normals is not None)
    return content


def _corners_written(vertices: NDArray[np.int64], places: NDArray[np.int64] | None, normals: bool) -> bytes:
    """Faces (F, 3) of 1-based vertices. places: the UVs at their corners (F, 3).  normals: whether there are any."""
    if places is None and not normals:
        return rows(vertices, "f ")
    if places is None:
        return "".join(f"f {a}//{a} {b}//{b} {c}//{c}\n" for a, b, c in vertices.tolist()).encode()
    form = "f {0}/{3}/{0} {1}/{4}/{1} {2}/{5}/{2}\n" if normals else "f {0}/{3} {1}/{4} {2}/{5}\n"
    return "".join(form.format(*row) for row in np.column_stack([vertices, places]).tolist()).encode()


def _use(mesh: Mesh, number: int) -> bytes:
    return b"" if number < 0 else f"usemtl {_names(mesh)[number]}\n".encode()


def _names(mesh: Mesh) -> list[str]:
    """Of the materials, each on one line and none twice: what has the same name is one material to a reader."""
    names: list[str] = []
    for material in mesh.materials:
        name = " ".join(material.name.split()) or "material"
        names.append(name if name not in names else f"{name} {len(names) + 1}")
    return names


def _write_library(mesh: Mesh) -> bytes:
    """The MTL file that goes with a mesh that has materials; nothing for one without."""
    if mesh.face_materials is None:
        return b""
    text = LIBRARY_HEAD
    for name, material in zip(_names(mesh), mesh.materials, strict=True):
        r, g, b = material.colour or (0.8, 0.8, 0.8)
        text += f"\nnewmtl {name}\nKd {r:.6g} {g:.6g} {b:.6g}\nd 1\nillum 1\n"
    return text.encode()


def _naming_library(content: bytes, name: str) -> bytes:
    return f"mtllib {name}\n".encode() + content


FORMATS = (
    Format(
        "OBJ", (".obj",), read_obj, _write_mesh,
        lambda cloud, offset: _content(cloud.points, cloud.normals, cloud.colours, offset),
        companion=Companion(".mtl", LIBRARY_HEAD, _write_library, _naming_library),
        most_bytes=gates.MAX_TEXT_BYTES, up="+y", by="own; MTL and textures: trimesh",
        carries="points, faces, normals, colours, materials, UVs (written)",
    ),
)  # fmt: skip
