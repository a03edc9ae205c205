"""The files of a library: the compact form, a class a file, and plain meshes in folders."""

from __future__ import annotations

import csv
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry.meshes import Mesh
from .shapes import Shape, split_by_hash

INDEX_COLUMNS = ("source", "class", "name", "split", "licence", "creator", "model_in_package", "faces")


MESH_SUFFIXES = (".ply", ".obj", ".stl", ".off", ".glb", ".gltf")


@dataclass
class Place:
    """Where a mesh lies: entry `entry` of an npz, or a whole file (entry -1)."""

    path: Path
    entry: int


def collect(folder: Path, shapes: list[Shape], places: list[Place], plain: list[Path]) -> None:
    """Depth first, in name order: indexed folders into shapes and places, unindexed mesh files into plain."""
    index = folder / "index.tsv"
    if index.is_file():
        read_index(index, shapes, places)
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_dir():
            if not index.is_file() or (child / "index.tsv").is_file():
                collect(child, shapes, places, plain)
        elif child.suffix.lower() in MESH_SUFFIXES and not index.is_file():
            plain.append(child)


def read_index(index: Path, shapes: list[Shape], places: list[Place]) -> None:
    with index.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    entries: dict[str, dict[str, list[int]]] = {}  # class -> name -> entries not yet named by a line, last one first
    for number, row in enumerate(rows, start=2):
        class_name, name = row.get("class") or "", row.get("name") or ""
        if not class_name or not name:
            raise damaged(index, f"Line {number} has no class or no name.")
        split = row.get("split") or "train"
        if split not in ("train", "validation", "excluded"):
            raise damaged(index, f"Line {number} has the split {split!r}; it is train, validation or excluded.")
        shape = Shape(
            source=row.get("source") or index.parent.name,
            class_name=class_name,
            name=name,
            split=split,
            licence=row.get("licence") or "",
            creator=row.get("creator") or "",
            package_path=row.get("model_in_package") or "",
        )
        if row.get("file"):
            path = index.parent / str(row["file"])
            if not path.is_file() or not path.resolve().is_relative_to(index.parent.resolve()):
                raise damaged(index, f"Line {number} names the file {row['file']}, which is not in the library.")
            place = Place(path, -1)
        else:
            path = index.parent / f"{class_name}.npz"
            if class_name not in entries:
                entries[class_name] = defaultdict(list)
                for entry, entry_name in reversed(list(enumerate(read_class_file(path, only="names")["names"]))):
                    entries[class_name][str(entry_name)].append(entry)
            if not entries[class_name].get(name):
                raise damaged(index, f"Line {number} names {name}, which is not in {path.name} (as often).")
            place = Place(path, entries[class_name][name].pop())
        shapes.append(shape)
        places.append(place)


def plain_shapes(root: Path, files: Sequence[Path]) -> list[Shape]:
    shapes = []
    for file in files:
        relative = file.relative_to(root)
        class_name = relative.parent.name or "shape"
        name = relative.stem if len(relative.parts) <= 2 else "__".join((*relative.parts[:-2], relative.stem))
        if any(other != file and other.stem == file.stem and other.parent == file.parent for other in files):
            name = f"{name}_{file.suffix[1:].lower()}"
        shapes.append(Shape(root.name, class_name, name, licence="unknown"))
    return split_by_hash(shapes)


def read_mesh_file(path: Path) -> Mesh:
    from ..geometry.files import read_shape

    shape = read_shape(path)
    if not isinstance(shape, Mesh):
        raise InputError(
            "mesh_empty",
            f"{path.name} cannot be part of a shape library.",
            "It holds points but no faces.",
            "Remove it from the folder, or fit a surface to it first.",
        )
    return shape


_ARRAYS = ("names", "vertices", "faces", "box", "vertex_start", "face_start")


def read_class_file(path: Path, only: str | None = None) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in ((only,) if only else _ARRAYS)}
    except FileNotFoundError:
        raise damaged(path, "The index names the class, but its file is not there.") from None
    except Exception as error:  # zipfile, numpy and zlib each have their own way to find a file damaged
        raise damaged(path, f"It cannot be read: {error}.") from error
    if only is None:
        count = len(arrays["names"])
        for key, total in (("vertex_start", len(arrays["vertices"])), ("face_start", len(arrays["faces"]))):
            start = arrays[key]
            if start.shape != (count + 1,) or start[0] != 0 or start[-1] != total or (np.diff(start) < 0).any():
                raise damaged(path, f"Its {key} does not fit its other arrays.")
        if arrays["box"].shape != (count, 2, 3) or arrays["vertices"].shape[1:] != (3,):
            raise damaged(path, "Its arrays have the wrong shapes.")
    return arrays


def unpack(arrays: dict[str, NDArray[Any]], entry: int, path: Path) -> Mesh:
    first, last = arrays["vertex_start"][entry : entry + 2]
    low, high = arrays["box"][entry].astype(np.float64)
    vertices = low + arrays["vertices"][first:last] / 65535.0 * (high - low)
    faces = arrays["faces"][slice(*arrays["face_start"][entry : entry + 2])].astype(np.int32)
    if len(faces) and int(faces.max()) >= last - first:
        raise damaged(path, f"A face of {arrays['names'][entry]} names a vertex that does not exist.")
    return Mesh(vertices.astype(np.float32), faces)


def write_class_file(path: Path, shapes: Sequence[Shape]) -> None:
    vertices, faces, boxes = [], [], []
    for shape in shapes:
        assert shape.mesh is not None
        points = np.asarray(shape.mesh.vertices, np.float64)
        box = (
            np.array([points.min(0), points.max(0)]).astype(np.float32) if len(points) else np.zeros((2, 3), np.float32)
        )
        low, high = box.astype(np.float64)
        side = np.where(high > low, high - low, 1.0)
        vertices.append(np.rint(((points - low) / side).clip(0, 1) * 65535).astype(np.uint16))
        faces.append(np.asarray(shape.mesh.faces, np.int64).reshape(-1, 3))
        boxes.append(box)
    narrow = max(len(v) for v in vertices) <= 65536
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        np.savez_compressed(
            file,
            names=np.array([shape.name for shape in shapes]),
            vertices=np.concatenate(vertices),
            faces=np.concatenate(faces).astype(np.uint16 if narrow else np.uint32),
            box=np.array(boxes),
            vertex_start=np.cumsum([0, *map(len, vertices)]).astype(np.int64),
            face_start=np.cumsum([0, *map(len, faces)]).astype(np.int64),
        )
    os.replace(file.name, path)


def damaged(path: Path, why: str) -> InputError:
    return InputError(
        "library_damaged",
        f"The shape library file {path.name} is damaged.",
        why,
        "Rebuild the library with scripts/build_dataset, or correct the file.",
    )
