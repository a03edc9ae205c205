"""PLY, by a reader of our own: trimesh's refuses triangles mixed with quads, and lists on vertices.

Text and both byte orders, any number types, lists anywhere, polygons, normals, colours, and the viewpoint: of the
element `camera` as PCL writes it, or of a comment `viewpoint x y z` as we do; of several scans one such comment for
each, in order, and the vertices' property `scan`, from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..clouds import FloatArray, PointCloud
from ..meshes import IntArray, Mesh, material_colours
from . import gates
from .columns import meaning
from .gates import Damaged, Float64Array, Int64Array, check_counts, short, unit_colours
from .loaded import Raw
from .ply_rows import Columns, Element, Header, binary_columns, binary_rows, read_header, text_columns, text_list
from .polygons import triangulated
from .registry import Format
from .thinning import Thinner

_SPLAT = {"f_dc_0", "opacity", "scale_0", "rot_0"}
_SCAN = "scan"
_CORNERS = ("vertex_indices", "vertex_index")


def read_ply(path: Path) -> Raw:
    with path.open("rb") as stream:
        header = read_header(stream)
        _refuse(path, header)
        binary = header.encoding != "ascii"
        left = path.stat().st_size - stream.tell()
        needed = sum(element.least_bytes(binary) for element in header.elements)
        if needed > left + 1:  # the last line of a text may lack its end
            declared = ", ".join(f"{element.count:,} {element.name} rows" for element in header.elements)
            raise short(declared, needed, left)
        has_faces = any(element.name == "face" and element.count for element in header.elements)
        for element in header.elements:
            # A cloud is thinned while reading; what must be held whole is limited.
            streamed = element.name == "vertex" and not has_faces and not (binary and element.lists)
            if not streamed:
                check_counts(path.name, element.count if element.name == "vertex" else 0, element.count)
                if left > (gates.MAX_BYTES if binary else gates.MAX_TEXT_BYTES):
                    raise gates.too_large(
                        path.name, f"It has {left / 2**20:,.0f} MB; save it as binary PLY or thin it."
                    )
        thinner = Thinner()
        read = _read_binary if binary else _read_text
        columns, camera, polygons = read(stream, header, thinner)
    return _raw(header, columns, camera, polygons, thinner)


def _refuse(path: Path, header: Header) -> None:
    names = {element.name: {p.name for p in element.properties} for element in header.elements}
    if "packed_position" in names.get("vertex", set()):
        raise gates.unsupported(
            path.name, "It is a compressed Gaussian splat: positions packed into 32 bits, in chunks.",
            "Export it from its program as an uncompressed PLY, or as a point cloud.",
        )  # fmt: skip
    if "tristrips" in names and "face" not in names:
        raise gates.unsupported(path.name, "Its triangles are stored as strips.", "Save it with plain faces.")


def _wanted(element: Element) -> list[str]:
    """The scalar properties that are used; of a name that stands twice, no row could be read."""
    names = [p.name for p in element.properties]
    if len(set(names)) < len(names):
        raise Damaged(f"Its {element.name} has two properties of one name.")
    scalars = [p.name for p in element.properties if not p.count_type]
    if element.name == "vertex":
        splat = set(scalars) >= _SPLAT
        return [
            name for name in scalars if meaning(name) or name == _SCAN or (splat and name.startswith("f_dc_"))
        ]
    return [name for name in scalars if name.startswith("view")]


Read = tuple[Columns, Columns, tuple[Int64Array, NDArray[Any]] | None]


def _read_binary(stream: IO[bytes], header: Header, thinner: Thinner) -> Read:
    columns: Columns = {}
    camera: Columns = {}
    polygons = None
    elements = list(header.elements)
    # Rows of known length before any list are read from the stream; the rest needs the body in memory.
    while elements and not elements[0].lists:
        element = elements.pop(0)
        wanted = _wanted(element)
        own = thinner if element.name == "vertex" else Thinner()
        if wanted:
            binary_columns(stream, element, header.order, wanted, own)
        else:
            stream.seek(element.least_bytes(True), 1)
        found = dict(zip(wanted, own.result(), strict=False))
        if element.name == "vertex":
            columns = found
        elif element.name == "camera":
            camera = found
        if element.name == "vertex" and not any(later.count for later in elements):
            return columns, camera, None
    body = stream.read()
    at = 0
    for element in elements:
        rows, at = binary_rows(element, body, at, header.order)
        if element.name == "vertex":
            columns = {name: rows.columns[name] for name in _wanted(element)}
        elif element.name == "camera":
            camera = rows.columns
        elif element.name == "face":
            polygons = next((rows.lists[name] for name in _CORNERS if name in rows.lists), None)
    return columns, camera, polygons


def _read_text(stream: IO[bytes], header: Header, thinner: Thinner) -> Read:
    columns: Columns = {}
    camera: Columns = {}
    polygons = None
    lines: Iterator[bytes] = (line for line in stream if line.strip())
    for element in header.elements:
        if element.name == "face":
            rows = [line for _, line in zip(range(element.count), lines, strict=False)]
            if len(rows) < element.count:
                raise Damaged(f"It declares {element.count:,} face rows and has {len(rows):,}.")
            name = next((p.name for p in element.lists if p.name in _CORNERS), None)
            polygons = text_list(rows, element, name) if name else None
            continue
        own = thinner if element.name == "vertex" else Thinner()
        wanted = _wanted(element)
        if wanted:
            text_columns(lines, element, wanted, own)
        elif element.properties:
            for _ in zip(range(element.count), lines, strict=False):
                pass
        found = dict(zip(wanted, own.result(), strict=False))
        if element.name == "vertex":
            columns = found
        elif element.name == "camera":
            camera = found
    return columns, camera, polygons


def _raw(
    header: Header, columns: Columns, camera: Columns, polygons: tuple[Int64Array, NDArray[Any]] | None,
    thinner: Thinner,
) -> Raw:  # fmt: skip
    by_meaning: Columns = {}
    for name, column in columns.items():
        by_meaning.setdefault(meaning(name) or name, column)
    vertex = next((element for element in header.elements if element.name == "vertex"), None)
    points = _three(by_meaning, "x", "y", "z")
    if points is None:
        if vertex is not None and vertex.count == 0 and {"x", "y", "z"} <= {p.name for p in vertex.properties}:
            points = np.zeros((0, 3))
        else:
            raise Damaged("It has no vertices with x, y and z.")
    notes = list(thinner.note())
    normals = _three(by_meaning, "nx", "ny", "nz")
    colours = _three(by_meaning, "red", "green", "blue")
    shown = None if colours is None else unit_colours(colours)
    if "f_dc_0" in by_meaning:
        notes.append(
            "It holds Gaussian splats: their centres were taken for points, most of which lie near the surface."
        )
        normals = None  # splats write zeros
        harmonics = _three(by_meaning, "f_dc_0", "f_dc_1", "f_dc_2")
        # The constant spherical harmonic, 1 / (2 sqrt(pi)) (Kerbl et al. 2023).
        shown = None if harmonics is None else (0.5 + 0.28209479 * harmonics).clip(0, 1).astype(np.float32)
    faces = None
    if polygons is not None:
        faces, _ = triangulated(polygons[0], polygons[1].astype(np.int64), points)
    places = _places(header.comments)
    numbers = by_meaning.get(_SCAN)
    if len(places) > 1 and faces is None:
        if numbers is not None and bool(np.isin(numbers, np.arange(len(places))).all()):
            notes.append(f"It holds {len(places)} scans; each one's points were seen from its own place.")
            return Raw(points, normals, None, np.array(places), shown, notes=notes, scans=numbers.astype(np.int32))
        notes.append(f"It names {len(places)} viewpoints and not which points were seen from where; none is used.")
        return Raw(points, normals, None, None, shown, notes=notes)
    viewpoint = places[0] if len(places) == 1 else _of_camera(camera)
    return Raw(points, normals, faces, viewpoint, shown, notes=notes)


def _three(columns: Columns, *names: str) -> NDArray[Any] | None:
    if not all(name in columns for name in names):
        return None
    return np.stack([columns[name] for name in names], axis=1)


def _places(comments: Sequence[str]) -> list[Float64Array]:
    """Of comments 'viewpoint x y z'."""
    found = []
    for comment in comments:
        words = comment.replace(",", " ").replace(":", " ").split()
        if len(words) == 4 and words[0].lower() in ("viewpoint", "sensor_origin"):
            try:
                found.append(np.array([float(word) for word in words[1:]]))
            except ValueError:
                continue  # a sentence
    return found


def _of_camera(camera: Columns) -> Float64Array | None:
    """Of PCL's camera, which is at zero where nobody set it."""
    place = _three(camera, "view_px", "view_py", "view_pz")
    if place is not None and len(place) and bool(place[0].any()):
        return np.asarray(place[0], np.float64)
    return None


# --- writing ---------------------------------------------------------------------------------------------------------


def _content(
    points: FloatArray, normals: FloatArray | None, colours: FloatArray | None, faces: IntArray | None,
    viewpoint: FloatArray | None, offset: Float64Array, **more: NDArray[Any] | None,
) -> bytes:  # fmt: skip
    """more: further properties of the vertices, numbers each, by name."""
    far = bool(offset.any())
    number = "double" if far else "float"
    fields: list[tuple[str, str, NDArray[Any]]] = []
    placed = points.astype(np.float64) + offset if far else points
    fields += [(name, number, placed[:, i]) for i, name in enumerate("xyz")]
    if normals is not None:
        fields += [(f"n{name}", "float", normals[:, i]) for i, name in enumerate("xyz")]
    if colours is not None:
        bytes_ = np.round(colours.clip(0, 1) * 255).astype(np.uint8)
        fields += [(name, "uchar", bytes_[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    types = {"b": "uchar", "i": "int"}
    fields += [(name, types[column.dtype.kind], column) for name, column in more.items() if column is not None]
    kinds = {"double": "<f8", "float": "<f4", "uchar": "u1", "int": "<i4"}
    rows = np.empty(len(points), np.dtype([(name, kinds[kind]) for name, kind, _ in fields]))
    for name, _, column in fields:
        rows[name] = column
    header = ["ply", "format binary_little_endian 1.0"]
    if viewpoint is not None:
        for place in viewpoint.reshape(-1, 3).astype(np.float64) + offset:
            header.append("comment viewpoint " + " ".join(repr(float(v)) for v in place))
    header += [f"element vertex {len(points)}", *(f"property {kind} {name}" for name, kind, _ in fields)]
    body = rows.tobytes()
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        triangles = np.empty(len(faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
        triangles["count"], triangles["corners"] = 3, faces
        body += triangles.tobytes()
    return "\n".join([*header, "end_header\n"]).encode("ascii") + body


def _write_mesh(mesh: Mesh, offset: Float64Array) -> bytes:
    """With the colours of the materials, for which there is no room, where the vertices have none of their own."""
    colours = material_colours(mesh) if mesh.colours is None else mesh.colours
    return _content(mesh.vertices, mesh.normals, colours, mesh.faces, None, offset, seen=mesh.seen)


def _write_cloud(cloud: PointCloud, offset: Float64Array) -> bytes:
    return _content(cloud.points, cloud.normals, cloud.colours, None, cloud.viewpoint, offset, scan=cloud.scans)


FORMATS = (
    Format(
        "PLY", (".ply",), read_ply, _write_mesh, _write_cloud, most_bytes=gates.MAX_STREAMED_BYTES,
        carries="points, faces, normals, colours, viewpoint",
    ),
)  # fmt: skip
