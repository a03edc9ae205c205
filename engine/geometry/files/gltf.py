"""glTF and GLB: the tree and its arrays by a reader of our own, pictures and colours by trimesh, Draco by DracoPy.

trimesh's glTF reader takes sparse and quantised arrays for what they are not (zeros, integers) without a word, so what
it would be given would have to be decoded before. Here every array is compared with its buffer before anything is
allocated, and a file may name only files beside it. z up once read: glTF's y is up, and Blender's importer turns too.
"""

from __future__ import annotations

import importlib.util
import io
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..meshes import Material
from . import gates
from .appearance import picture_colours
from .gates import Damaged, Float64Array, Int64Array, check_counts, short, too_large, unsupported
from .gltf_arrays import Z_UP, Arrays
from .gltf_writing import write_glb
from .loaded import Raw
from .registry import Format

MAX_JSON_BYTES = 1 << 26
DRACO = "KHR_draco_mesh_compression"
READ = {DRACO, "KHR_mesh_quantization"}
"""Extensions about the shape that are read. Others about it are refused where they are required; those about materials,
pictures, lights and animations change nothing."""


def read_glb(path: Path) -> Raw:
    data = path.read_bytes()
    if data[:4] != b"glTF" or len(data) < 20:
        raise Damaged("It does not begin with 'glTF'.")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise unsupported(path.name, f"It is glTF version {version}.", "Export it again as glTF 2.0.")
    if length > len(data):
        raise short(f"{length:,} bytes in all", length, len(data))
    tree: Any = None
    binary: memoryview | None = None
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<II", data, at)
        if at + 8 + size > length:
            raise Damaged("One of its chunks is longer than the file.")
        content = memoryview(data)[at + 8 : at + 8 + size]
        if kind == 0x4E4F534A and tree is None:
            tree = _json(path, bytes(content))
        elif kind == 0x004E4942 and binary is None:
            binary = content
        at += 8 + size
    if tree is None:
        raise Damaged("It has no description of its content.")
    return _Reader(path, tree, binary).read()


def read_gltf(path: Path) -> Raw:
    return _Reader(path, _json(path, gates.whole_text(path)), None).read()


def _json(path: Path, content: bytes) -> dict[str, Any]:
    if len(content) > MAX_JSON_BYTES:
        raise too_large(path.name, f"Its description alone has {len(content) / 2**20:,.0f} MB.")
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        raise Damaged("Its description is not JSON.") from None
    if not isinstance(tree, dict):
        raise Damaged("Its description is not a JSON object.")
    return tree


@dataclass
class _Pieces:
    """What the primitives of one kind (triangles or points) add up to."""

    points: list[Float64Array] = field(default_factory=list)
    normals: list[Float64Array | None] = field(default_factory=list)
    colours: list[NDArray[np.float32] | None] = field(default_factory=list)
    faces: list[Int64Array] = field(default_factory=list)
    materials: list[NDArray[np.int32]] = field(default_factory=list)
    own_colours: bool = False
    """Whether any colours say more than the materials' base colours do."""
    count: int = 0

    def raw(self, materials: tuple[Material, ...], notes: list[str]) -> Raw:
        normals = (
            None if any(n is None for n in self.normals) else np.concatenate([n for n in self.normals if n is not None])
        )
        colours = None
        if any(colour is not None for colour in self.colours) and (self.own_colours or not materials):
            filled = [np.ones((len(p), 3), np.float32) if c is None else c
                      for p, c in zip(self.points, self.colours, strict=True)]  # fmt: skip
            colours = np.concatenate(filled)
        faces = np.concatenate(self.faces) if self.faces else None
        numbers = np.concatenate(self.materials) if self.materials and materials else None
        return Raw(np.concatenate(self.points), normals, faces, None, colours, materials, numbers, notes)


class _Reader:
    """The triangles (or, where there are none, the points) of a glTF tree's scene, z up."""

    def __init__(self, path: Path, tree: dict[str, Any], binary: memoryview | None) -> None:
        self.path, self.tree = path, tree
        self.arrays = Arrays(path, tree, binary)
        self.pictures: dict[int, Any] = {}
        self.pictured = any("baseColorTexture" in m.get("pbrMetallicRoughness", {}) for m in tree.get("materials", []))
        self.pictured |= any("COLOR_0" in p["attributes"] for m in tree.get("meshes", []) for p in m["primitives"])

    def read(self) -> Raw:
        for extension in sorted(set(self.tree.get("extensionsRequired", ())) - READ):
            if any(word in extension.lower() for word in ("mesh", "gaussian", "voxel", "primitive", "compression")):
                remedy = "Export it again without this extension."
                raise unsupported(self.path.name, f"It cannot be read without the extension {extension[:80]}.", remedy)
        surface, loose = _Pieces(), _Pieces()
        for mesh, matrix in self._instances():
            there: dict[tuple[int, ...], tuple[int, int]] = {}
            for primitive in self.tree["meshes"][mesh]["primitives"]:
                self._add(primitive, matrix, surface, loose, there)
        materials = tuple(
            Material(str(m.get("name", f"material {i}")), _base_colour(m))
            for i, m in enumerate(self.tree.get("materials", []))
        )
        notes: list[str] = []
        if surface.faces:
            if loose.count:
                notes.append(f"It has triangles and {loose.count:,} loose points; the points are not used.")
            return surface.raw(materials, notes)
        if loose.count:
            return loose.raw((), notes)
        raise Damaged("Its scene has no triangles and no points.")

    def _add(
        self, primitive: dict[str, Any], matrix: Float64Array, surface: _Pieces, loose: _Pieces,
        there: dict[tuple[int, ...], tuple[int, int]],
    ) -> None:  # fmt: skip
        """there: arrays of vertices -> where the points of a primitive that has them begin, and how many they are.
        Parts of one surface, a material each, share theirs, and stay one surface."""
        attributes = primitive["attributes"]
        mode = primitive.get("mode", 4)
        if "POSITION" not in attributes or mode not in (0, 4, 5, 6):
            return  # lines
        unpacked = self._draco(primitive)
        arrays = (attributes["POSITION"], attributes.get("NORMAL", -1), attributes.get("COLOR_0", -1))
        shared = unpacked is None and mode != 0 and ("COLOR_0" in attributes or not self.pictured)
        if shared and arrays in there and "indices" in primitive:
            again = self.arrays.values(primitive["indices"], 1).ravel().astype(np.int64)
            self._triangles(primitive, again, *there[arrays], matrix, surface)
            return
        if unpacked is None:
            local = self.arrays.values(attributes["POSITION"], 3).astype(np.float64)
            given = self.arrays.values(attributes["NORMAL"], 3) if "NORMAL" in attributes else None
            index = self.arrays.values(primitive["indices"], 1).ravel() if "indices" in primitive else None
        else:
            local, given, index = unpacked
        linear = matrix[:3, :3]
        points = local @ linear.T + matrix[:3, 3]
        turned = None
        if given is not None and bool(given.any()) and abs(np.linalg.det(linear)) > 0:
            if len(given) != len(points):
                raise Damaged("A primitive has not as many normals as positions.")
            turned = given.astype(np.float64) @ np.linalg.inv(linear)
        into = loose if mode == 0 else surface
        check_counts(self.path.name, into.count + len(points), sum(map(len, into.faces)))
        colours, own = (None, False) if unpacked is not None else self._colours(primitive, len(points))
        into.own_colours |= own or mode == 0
        if mode != 0:
            corners = np.arange(len(points)) if index is None else index.astype(np.int64)
            self._triangles(primitive, corners, into.count, len(points), matrix, into)
        if shared:
            there[arrays] = into.count, len(points)
        into.points.append(points)
        into.normals.append(turned)
        into.colours.append(colours)
        into.count += len(points)

    def _triangles(
        self, primitive: dict[str, Any], corners: Int64Array, start: int, count: int, matrix: Float64Array,
        into: _Pieces,
    ) -> None:  # fmt: skip
        """The triangles of a primitive whose `count` points begin at `start`."""
        triangles = _triangles(corners, primitive.get("mode", 4))
        if len(triangles) and int(triangles.max()) >= count:
            raise Damaged("A triangle refers to a vertex that is not there.")
        if np.linalg.det(matrix[:3, :3]) < 0:
            triangles = triangles[:, ::-1]
        check_counts(self.path.name, into.count, sum(map(len, into.faces)) + len(triangles))
        into.faces.append(triangles + start)
        into.materials.append(np.full(len(triangles), primitive.get("material", -1), np.int32))

    def _draco(self, primitive: dict[str, Any]) -> tuple[Float64Array, NDArray[Any] | None, NDArray[Any]] | None:
        """Positions, normals and corners of a primitive that is there in compressed form only; None: it is not."""
        extension = primitive.get("extensions", {}).get(DRACO)
        accessor = self.tree["accessors"][primitive["attributes"]["POSITION"]]
        if extension is None or "bufferView" in accessor:
            return None
        if importlib.util.find_spec("DracoPy") is None:
            raise gates.package_missing(self.path, "Compression by Draco", ["DracoPy"])
        import DracoPy

        count = int(accessor["count"])
        check_counts(self.path.name, count)
        try:
            found = DracoPy.decode(bytes(self.arrays.view(extension["bufferView"])))
        except Exception:
            raise Damaged("Its data are said to be compressed by Draco, and are not.") from None
        points = np.asarray(found.points, np.float64)
        normals = getattr(found, "normals", None)
        normals = None if normals is None or len(normals) != len(points) else np.asarray(normals)
        return points, normals, np.asarray(getattr(found, "faces", np.zeros((0, 3))), np.int64).ravel()

    def _colours(self, primitive: dict[str, Any], count: int) -> tuple[NDArray[np.float32] | None, bool]:
        """(N, 3) sRGB: the vertices' own, else the material's picture, else its colour; None where it has none. And
        whether that is more than the material's colour."""
        from trimesh.visual.color import linear_to_srgb

        attributes = primitive["attributes"]
        if "COLOR_0" in attributes:
            width = 4 if self.tree["accessors"][attributes["COLOR_0"]]["type"] == "VEC4" else 3
            linear = self.arrays.values(attributes["COLOR_0"], width)[:, :3].astype(np.float64)
            if len(linear) != count:
                raise Damaged("A primitive has not as many colours as positions.")
            return np.asarray(linear_to_srgb(np.nan_to_num(linear).clip(0, 1)), np.float32), True
        if "material" not in primitive:
            return None, False
        material = self.tree["materials"][primitive["material"]]
        physical = material.get("pbrMetallicRoughness", {})
        texture = physical.get("baseColorTexture")
        if texture is not None and f"TEXCOORD_{int(texture.get('texCoord', 0))}" in attributes:
            uv = self.arrays.values(attributes[f"TEXCOORD_{int(texture.get('texCoord', 0))}"], 2).astype(np.float64)
            picture = self._picture(int(texture["index"]))
            if picture is not None and len(uv) == count:
                return picture_colours(uv * [1, -1] + [0, 1], picture), True
        colour = _base_colour(material)
        return (None if colour is None else np.tile(np.array(colour, np.float32), (count, 1))), False

    def _picture(self, texture: int) -> Any:
        """The picture of a texture, opened but not decoded, or None: the shape matters more than its colour."""
        if texture not in self.pictures:
            from PIL import Image

            self.pictures[texture] = None
            source = self.tree["textures"][texture].get("source")
            if source is not None:
                image = self.tree["images"][source]
                try:
                    content = (
                        self.arrays.view(image["bufferView"])
                        if "bufferView" in image
                        else self.arrays.uri(image["uri"])
                    )
                    self.pictures[texture] = Image.open(io.BytesIO(bytes(content)))
                except (Damaged, OSError, KeyError, ValueError, SyntaxError, Image.DecompressionBombError):
                    pass
        return self.pictures[texture]

    def _instances(self) -> list[tuple[int, Float64Array]]:
        """(mesh, 4 x 4 matrix to the z-up scene) of every node of the scene that has a mesh."""
        root = np.eye(4)
        root[:3, :3] = Z_UP
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
                raise Damaged("Its nodes are not a tree.")
            seen.add(number)
            node = nodes[number]
            matrix = parent @ _node_matrix(node)
            if "mesh" in node:
                found.append((node["mesh"], matrix))
            waiting += [(child, matrix) for child in reversed(node.get("children", []))]
        return found


def _base_colour(material: dict[str, Any]) -> tuple[float, float, float] | None:
    """sRGB, of a glTF material that says it."""
    from trimesh.visual.color import linear_to_srgb

    factor = material.get("pbrMetallicRoughness", {}).get("baseColorFactor")
    if factor is None:
        return None
    r, g, b = linear_to_srgb(np.nan_to_num([float(v) for v in factor[:3]]).clip(0, 1)).tolist()
    return r, g, b


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


def _triangles(index: Int64Array, mode: int) -> Int64Array:
    if mode == 4:
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    if len(index) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == 6:  # fan
        return np.stack([np.full(len(index) - 2, index[0]), index[1:-1], index[2:]], axis=1)
    strip: Int64Array = np.stack([index[:-2], index[1:-1], index[2:]], axis=1)
    strip[1::2] = strip[1::2, [1, 0, 2]]
    return strip


FORMATS = (
    Format("GLB", (".glb",), read_glb, write_glb, by="own; pictures: trimesh; Draco: DracoPy",
           carries="points, faces, normals, colours, materials, UVs (written)"),
    Format("glTF", (".gltf",), read_gltf, by="own; pictures: trimesh; Draco: DracoPy",
           carries="points, faces, normals, colours, materials"),
)  # fmt: skip
