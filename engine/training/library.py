"""Shape libraries: folders of meshes with an index, and the splits a prior is trained and judged on.

Two forms are read, and both may be nested (a folder of libraries is a library):

*compact*: ``index.tsv`` (source, class, name, split, licence, creator, model_in_package, faces) beside one
``CLASS.npz`` a class, with the vertices quantised to 16 bit in each shape's own bounding box. See `write_library`.

*plain*: mesh files in folders. The folder a file lies in names its class; an ``index.tsv`` with a ``file`` column may
say more.

Meshes come back in their own frame and scale (z up, front -y); `canonicalise` brings them to the canonical one. Nothing
is repaired here: shapes may be open, overlapping or partly inside out.
"""

from __future__ import annotations

import csv
import os
import re
import tempfile
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import InputError
from ..geometry.meshes import Mesh
from .class_files import (
    INDEX_COLUMNS,
    MESH_SUFFIXES,
    Place,
    collect,
    plain_shapes,
    read_class_file,
    read_mesh_file,
    unpack,
    write_class_file,
)
from .shapes import Shape
from .twins import exclude_twins, remembered_twins


@dataclass
class Library:
    """Records in memory, meshes on disk. `shapes[i].mesh` is None: ask `mesh(i)`, or iterate for filled-in shapes.

    twins: pairs of indices of shapes that are the same design (see `find_twins`); empty where not looked for.
    """

    folder: Path
    shapes: list[Shape]
    twins: list[tuple[int, int]] = field(default_factory=list)
    places: list[Place] = field(default_factory=list, repr=False)
    _open: OrderedDict[Path, dict[str, NDArray[Any]]] = field(default_factory=OrderedDict, repr=False)

    def __len__(self) -> int:
        return len(self.shapes)

    def __iter__(self) -> Iterator[Shape]:
        """Shapes with their meshes, one in memory at a time (and the class file it came from)."""
        for index, shape in enumerate(self.shapes):
            yield replace(shape, mesh=self.mesh(index))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}  # worker processes open the class files themselves

    def mesh(self, index: int) -> Mesh:
        """Mesh `index` in its own frame and scale (z up, front -y). InputError where its file is damaged."""
        place = self.places[index]
        if place.entry < 0:
            return read_mesh_file(place.path)
        return unpack(self._class_file(place.path), place.entry, place.path)

    def indices(
        self,
        *,
        split: str | None = None,
        categories: Iterable[str] | None = None,
        sources: Iterable[str] | None = None,
    ) -> list[int]:
        """Indices of the shapes of that split, those categories and those sources (None: any)."""
        wanted = None if categories is None else set(categories)
        allowed = None if sources is None else set(sources)
        return [
            index
            for index, shape in enumerate(self.shapes)
            if (split is None or shape.split == split)
            and (wanted is None or shape.category in wanted)
            and (allowed is None or shape.source in allowed)
        ]

    def counts(self) -> dict[str, dict[str, int]]:
        """{category: {split: number of shapes}}, for cards and logs."""
        table: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for shape in self.shapes:
            table[shape.category][shape.split] += 1
        return {category: dict(table[category]) for category in sorted(table)}

    def _class_file(self, path: Path) -> dict[str, NDArray[Any]]:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        arrays = read_class_file(path)
        self._open[path] = arrays
        while len(self._open) > 4:  # a class unpacked is up to 100 MB
            self._open.popitem(last=False)
        return arrays


def load_library(path: str | Path, *, splits_by_design: bool = True, cache_folder: Path | None = None) -> Library:
    """Read the records of a library, compact or plain, nested or not; meshes stay on disk until asked for.

    splits_by_design: where two shapes of a source are the same design (surfaces nearly coincide) and one of them is for
    validation, the training one is marked 'excluded'. Finding them takes about 20 s for 300 shapes and is remembered in
    `cache_folder` (default: the user's cache folder).
    Raises InputError where there is no library at `path` or it is damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(
            "library_not_found",
            f"There is no shape library at {folder}.",
            "The folder does not exist." if not folder.exists() else "It is a file, not a folder.",
            "Give the folder that holds the meshes or the index.tsv, or build one with scripts/build_dataset.",
        )
    shapes: list[Shape] = []
    places: list[Place] = []
    plain: list[Path] = []
    collect(folder, shapes, places, plain)
    for file, shape in zip(plain, plain_shapes(folder, plain), strict=True):
        shapes.append(shape)
        places.append(Place(file, -1))
    if not shapes:
        raise InputError(
            "library_empty",
            f"The shape library at {folder} holds no shapes.",
            f"No index.tsv and no mesh file ({', '.join(MESH_SUFFIXES)}) was found in it or below it.",
            "Put mesh files into it (a subfolder a class), or build one with scripts/build_dataset.",
        )
    seen: set[str] = set()
    for shape in shapes:
        if shape.key in seen:
            raise InputError(
                "library_duplicate",
                f"The shape library at {folder} names {shape.key} twice.",
                "Every shape needs its own source, class and name.",
                "Rename one of them, or remove one of the two libraries.",
            )
        seen.add(shape.key)
    library = Library(folder, shapes, places=places)
    if splits_by_design:
        library.twins = remembered_twins(shapes, [place.path for place in places], library.mesh, cache_folder)
        exclude_twins(shapes, library.twins)
    return library


def read_keys(file: Path) -> list[str]:
    """Keys of shapes ('source/class/name') from a text file, one a line; lines that begin with # say something else.
    InputError where it cannot be read."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "keys_unreadable",
            f"The list of shapes {file} cannot be read.",
            f"{error}.",
            "Give a text file with source/class/name one a line.",
        ) from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def write_library(folder: str | Path, shapes: Iterable[Shape]) -> Path:
    """Write shapes (with meshes) in the compact form; returns the index. An existing library there is replaced.

    Vertices are quantised to 16 bit in each shape's box: an error of at most 1 / 131070 of a side.
    One file a class, each complete or absent, the index last: a library that was cut short is not taken for whole.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    by_class: dict[str, list[Shape]] = defaultdict(list)
    for shape in shapes:
        if shape.mesh is None:
            raise InputError(
                "shape_without_mesh",
                f"The shape {shape.key} cannot be written.",
                "Its record carries no mesh.",
                "Iterate over the library (which loads the meshes) instead of passing its records.",
            )
        if not re.fullmatch(r"[\w.-]+", shape.class_name):
            raise InputError(
                "class_name_unusable",
                f"The class name {shape.class_name!r} cannot be written.",
                "It becomes a file name, so only letters, digits, '_', '-' and '.' may stand in it.",
                "Rename the class.",
            )
        by_class[shape.class_name].append(shape)
    index = root / "index.tsv"
    index.unlink(missing_ok=True)
    for class_name, members in sorted(by_class.items()):
        write_class_file(root / f"{class_name}.npz", members)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", dir=root, delete=False) as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        table.writerow(INDEX_COLUMNS)
        for _, members in sorted(by_class.items()):
            for shape in members:
                assert shape.mesh is not None
                row = (shape.source, shape.class_name, shape.name, shape.split, shape.licence, shape.creator)
                table.writerow((*row, shape.package_path, len(shape.mesh.faces)))
    os.replace(file.name, index)
    return index
