"""GLB written: one mesh, a primitive for each of its materials, y up."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..meshes import Material, Mesh, cut_at_seams
from .gates import Float64Array
from .gltf_arrays import Z_UP


def write_glb(mesh: Mesh, offset: Float64Array) -> bytes:
    """An offset becomes the node's translation, which JSON carries in double precision; the mesh's own frame its
    translation and rotation."""
    own = np.eye(4)
    if mesh.own_frame is not None:
        own = mesh.own_frame
        normals = None if mesh.normals is None else (mesh.normals @ own[:3, :3]).astype(np.float32)
        local = ((mesh.vertices - own[:3, 3]) @ own[:3, :3]).astype(np.float32)
        mesh = replace(mesh, vertices=local, normals=normals)
    uvs: NDArray[np.float32] | None = None
    if mesh.uvs is not None:
        mesh, uvs = cut_at_seams(mesh)
    arrays: list[NDArray[Any]] = [
        np.ascontiguousarray(mesh.vertices @ Z_UP, "<f4")
    ]  # @ R is R transposed: back to y up
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
        attributes["NORMAL"] = len(arrays)
        arrays.append(np.ascontiguousarray(mesh.normals @ Z_UP, "<f4"))
        accessors.append({"componentType": 5126, "type": "VEC3", "count": len(mesh.normals)})
    if mesh.colours is not None:
        attributes["COLOR_0"] = len(arrays)
        arrays.append(np.ascontiguousarray(_linear(mesh.colours), "<f4"))
        accessors.append({"componentType": 5126, "type": "VEC3", "count": len(mesh.colours)})
    if mesh.seen is not None:
        attributes["_SEEN"] = len(arrays)  # of the names that begin so glTF says that they are a program's own
        arrays.append(np.ascontiguousarray(mesh.seen, "<f4"))
        accessors.append({"componentType": 5126, "type": "SCALAR", "count": len(mesh.seen)})
    if uvs is not None:
        attributes["TEXCOORD_0"] = len(arrays)
        arrays.append(np.ascontiguousarray(np.column_stack([uvs[:, 0], 1 - uvs[:, 1]]), "<f4"))  # v downwards
        accessors.append({"componentType": 5126, "type": "VEC2", "count": len(uvs)})
    corners = len(arrays)
    primitives: list[dict[str, Any]] = []
    for number, faces in _by_material(mesh):
        primitives.append({"attributes": attributes, "indices": len(arrays)})
        if number >= 0:
            primitives[-1]["material"] = number
        arrays.append(np.ascontiguousarray(faces, "<u4").reshape(-1))
        accessors.append({"componentType": 5125, "type": "SCALAR", "count": 3 * len(faces)})
    views, at = [], 0
    for i, array in enumerate(arrays):
        accessors[i]["bufferView"] = i
        target = 34963 if i >= corners else 34962
        views.append({"buffer": 0, "byteOffset": at, "byteLength": array.nbytes, "target": target})
        at += array.nbytes  # multiples of four, as glTF asks
    node: dict[str, Any] = {"mesh": 0}
    if (offset + own[:3, 3]).any():
        node["translation"] = ((offset + own[:3, 3]) @ Z_UP).tolist()
    if (own[:3, :3] != np.eye(3)).any():
        node["rotation"] = _quaternion(Z_UP.T @ own[:3, :3] @ Z_UP)
    tree = {
        "asset": {"version": "2.0", "generator": "Shapewright"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [{"primitives": primitives}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": at}],
    }
    if mesh.face_materials is not None:
        tree["materials"] = [_material(one, mesh.colours is None) for one in mesh.materials]
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + at)
    return b"".join(
        [head, struct.pack("<I4s", len(text), b"JSON"), text, struct.pack("<I4s", at, b"BIN\0"), *map(bytes, arrays)]
    )


def _by_material(mesh: Mesh) -> list[tuple[int, NDArray[np.int32]]]:
    """(material or -1, its faces), those without faces left out."""
    if mesh.face_materials is None:
        return [(-1, mesh.faces)]
    groups = [(number, mesh.faces[mesh.face_materials == number]) for number in range(-1, len(mesh.materials))]
    return [(number, faces) for number, faces in groups if len(faces)]


def _material(material: Material, coloured: bool) -> dict[str, Any]:
    """coloured: with its base colour. Colours of vertices are multiplied by it, so where there are any it is white."""
    factor = [1.0, 1.0, 1.0, 1.0]
    if coloured and material.colour is not None:
        factor[:3] = _linear(np.array([material.colour]))[0].tolist()
    physical = {"baseColorFactor": factor, "metallicFactor": 0.0, "roughnessFactor": 0.8}
    return {"name": material.name, "pbrMetallicRoughness": physical}


def _quaternion(rotation: NDArray[np.float64]) -> list[float]:
    """(x, y, z, w) of a rotation: the largest eigenvector of a matrix of its entries (Bar-Itzhack 2000). SciPy has it;
    Blender's Python, which writes too, has no SciPy."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    entries = [[a - e - i, d + b, g + c, h - f], [d + b, e - a - i, h + f, c - g],
               [g + c, h + f, i - a - e, d - b], [h - f, c - g, d - b, a + e + i]]  # fmt: skip
    return [float(value) for value in np.linalg.eigh(np.array(entries))[1][:, -1]]


def _linear(colours: NDArray[Any]) -> NDArray[np.float64]:
    """(N, 3) sRGB to linear (IEC 61966-2-1), as glTF has them. Not by trimesh: Blender's Python writes without it."""
    values = np.asarray(colours, np.float64)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
