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
import hashlib
import json
import logging
import os
import re
import tempfile
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..errors import InputError
from ..folders import user_cache_folder
from ..geometry.meshes import Mesh
from ..geometry.transforms import Similarity

log = logging.getLogger(__name__)

INDEX_COLUMNS = ("source", "class", "name", "split", "licence", "creator", "model_in_package", "faces")
MESH_SUFFIXES = (".ply", ".obj", ".stl", ".off", ".glb", ".gltf")
SCENE = "scene"
"""Source of the shapes that came from a person's own scene."""
OTHER = "other"
"""Category of shapes that no prior is trained on: they are several things in one."""

# (class in the index, pattern searched in the shape's name, category): the first line that fits wins, an empty pattern
# always fits. A class that no line names is its own category, so a user's own classes need no entry here.
CATEGORY_TABLE: tuple[tuple[str, str, str], ...] = (
    ("chair", r"arm_?chair|fotel|relaxchair", "armchair"),
    ("chair", r"bar_chair", "stool"),
    ("chair", r"", "chair"),
    ("office_chair", r"", "chair"),
    ("bar_chair", r"", "stool"),
    ("stool", r"", "stool"),
    ("armchair", r"", "armchair"),
    ("sofa", r"", "sofa"),
    ("table", r"bedsidetable", "cabinet"),
    ("table", r"desk|office|dressing", "desk"),
    ("table", r"", "table"),
    ("table_dining", r"", "table"),
    ("table_coffee", r"", "table"),
    ("table_side", r"", "table"),
    ("table_cocktail", r"", "table"),
    ("desk", r"", "desk"),
    ("bed", r"", "bed"),
    ("bookcase", r"", "shelf"),
    ("shelf_cell", r"", "shelf"),
    ("shelf_large", r"", "shelf"),
    ("tvstand", r"", "shelf"),
    ("cabinet_shelf", r"shel[fv]|bookcase|tvstand", "shelf"),
    ("cabinet_shelf", r"", "cabinet"),
    ("cabinet", r"", "cabinet"),
    ("lamp_desk", r"", "lamp"),
    ("lamp_floor", r"", "lamp"),
    ("lamp", r"", "lamp"),
    ("cup", r"", "mug"),
    ("mug_cup_glass", r"plate", OTHER),
    ("mug_cup_glass", r"cocktail|wine", "wineglass"),
    ("mug_cup_glass", r"", "mug"),
    ("wineglass", r"", "wineglass"),
    ("bowl", r"", "bowl"),
    ("vase", r"", "vase"),
    ("vase_jar_bowl", r"bowl", "bowl"),
    ("vase_jar_bowl", r"vase|jar", "vase"),
    ("vase_jar_bowl", r"pottery", "pot"),
    ("vase_jar_bowl", r"cosmeticspot", "jar"),
    ("vase_jar_bowl", r"", OTHER),
    ("bottle", r"", "bottle"),
    ("pot", r"", "pot"),
    ("jar", r"", "jar"),
    ("plane", r"", "aeroplane"),
)

BESIDE = frozenset(
    (
        "aeroplane", "animal", "bicycle", "boat", "building", "bus", "car", "clothing", "column", "exterior", "fence",
        "figure", "food", "motorcycle", "plant", "playground", "rock", "ship", "spaceship", "sport", "staircase",
        "tank", "tractor", "train", "truck", "vehicle_other",
    )
)  # fmt: skip
"""Categories that a prior of household things learns beside them, in a share of the draws of their own (see
`engine.training.prior_training.select`), so that it knows a car when it sees one."""


def category_of(class_name: str, name: str = "") -> str:
    """The class a prior learns for a shape of index class `class_name` called `name`; `OTHER` where none is learnt."""
    lowered = name.lower()
    for index_class, pattern, category in CATEGORY_TABLE:
        if index_class == class_name and re.search(pattern, lowered):
            return category
    return class_name


@dataclass
class Shape:
    """One shape and where it came from.

    class_name: as in the index.  split: 'train', 'validation' or 'excluded' (a training twin of a validation shape).
    mesh: in the shape's own frame and scale (z up, front -y), or None while only the record is wanted.
    package_path: the file inside the package it was taken from, for the credits.
    """

    source: str
    class_name: str
    name: str
    split: str = "train"
    licence: str = ""
    creator: str = ""
    mesh: Mesh | None = None
    package_path: str = ""

    @property
    def category(self) -> str:
        """The class a prior learns, from `CATEGORY_TABLE`. What that leaves out is as good as any other class in a
        library of one's own."""
        found = category_of(self.class_name, self.name)
        return self.class_name if found == OTHER and self.source == SCENE else found

    @property
    def key(self) -> str:
        """Unique in a library: 'source/class/name'."""
        return f"{self.source}/{self.class_name}/{self.name}"


@dataclass
class _Place:
    """Where a mesh lies: entry `entry` of an npz, or a whole file (entry -1)."""

    path: Path
    entry: int


@dataclass
class Library:
    """Records in memory, meshes on disk. `shapes[i].mesh` is None: ask `mesh(i)`, or iterate for filled-in shapes.

    twins: pairs of indices of shapes that are the same design (see `find_twins`); empty where not looked for.
    """

    folder: Path
    shapes: list[Shape]
    twins: list[tuple[int, int]] = field(default_factory=list)
    _places: list[_Place] = field(default_factory=list, repr=False)
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
        place = self._places[index]
        if place.entry < 0:
            return _read_mesh_file(place.path)
        return _unpack(self._class_file(place.path), place.entry, place.path)

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
        arrays = _read_class_file(path)
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
    places: list[_Place] = []
    plain: list[Path] = []
    _collect(folder, shapes, places, plain)
    for file, shape in zip(plain, _plain_shapes(folder, plain), strict=True):
        shapes.append(shape)
        places.append(_Place(file, -1))
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
    library = Library(folder, shapes, _places=places)
    if splits_by_design:
        library.twins = _remembered_twins(library, cache_folder)
        _exclude_twins(library)
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


def canonicalise(mesh: Mesh) -> tuple[Mesh, Similarity]:
    """Bounding box centred at 0, longest side 1 (axes untouched: z up, front -y), and the transform that did it.

    Only vertices that a face uses count, and only those are kept. InputError where there is no surface with a size.
    """
    used = np.unique(mesh.faces)
    vertices = np.asarray(mesh.vertices, np.float64)[used]
    if len(used) < 3 or not np.isfinite(vertices).all():
        raise InputError(
            "mesh_empty" if len(used) < 3 else "mesh_not_finite",
            "The mesh cannot be brought to the canonical frame.",
            "It has no faces." if len(used) < 3 else "Some of its coordinates are not finite numbers.",
            "Check the file in a modelling program.",
        )
    low, high = vertices.min(0), vertices.max(0)
    longest = float((high - low).max())
    if not longest > 0:
        raise InputError(
            "mesh_degenerate",
            "The mesh cannot be brought to the canonical frame.",
            "All of its vertices lie in one point.",
            "Check the file in a modelling program.",
        )
    transform = Similarity(scale=1.0 / longest, translation=-(low + high) / (2.0 * longest))
    renumber = np.zeros(len(mesh.vertices), np.int32)
    renumber[used] = np.arange(len(used), dtype=np.int32)
    normals = None if mesh.normals is None else mesh.normals[used]
    return Mesh(transform.apply(vertices), renumber[mesh.faces], normals), transform


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
        _write_class_file(root / f"{class_name}.npz", members)
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


def split_by_hash(shapes: Sequence[Shape], fraction: float = 0.2) -> list[Shape]:
    """The shapes with `fraction` of each class set aside for validation: by a hash of the name, so that the choice is
    the same on every machine and hardly moves when shapes are added. The rest is 'train'."""
    by_class: dict[str, list[Shape]] = defaultdict(list)
    for shape in shapes:
        by_class[shape.class_name].append(shape)
    held_out: set[str] = set()
    for members in by_class.values():
        ranked = sorted(members, key=lambda shape: hashlib.sha256(shape.name.encode()).hexdigest())
        held_out.update(shape.key for shape in ranked[: round(fraction * len(ranked))])
    return [replace(shape, split="validation" if shape.key in held_out else "train") for shape in shapes]


# Twins ---------------------------------------------------------------------------------------------------------------

TWIN_DISTANCE = 0.014
"""Mean distance of the surfaces (fraction of the longest side, both ways) below which two shapes are one design."""
TWIN_PART_DISTANCE = 0.009
"""The same in one direction only: one shape is the other with something added (a cushion, a drawer)."""
_TWIN_VERSION = 1


def find_twins(meshes: Sequence[Mesh], names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (i < j) of meshes that are one design: canonical surfaces, one of them possibly turned by quarter turns
    about z or mirrored, that nearly coincide, or of which one nearly contains the other.

    Deterministic: sampling is seeded by `names`. O(n^2) comparisons of boxes, few of surfaces.
    """
    sparse: list[NDArray[np.float64]] = []
    trees: list[cKDTree] = []
    sides: list[NDArray[np.float64]] = []
    for mesh, name in zip(meshes, names, strict=True):
        canonical, _ = canonicalise(mesh)
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        points = _surface_points(canonical, 24_000, np.random.default_rng(seed))
        sparse.append(points[:600])
        trees.append(cKDTree(points))
        sides.append(np.ptp(np.asarray(canonical.vertices, np.float64), axis=0))
    boxes = np.array(sides).reshape(-1, 3)
    pairs = []
    for i in range(len(meshes)):
        for j in range(i + 1, len(meshes)):
            if any(
                _coincide(sparse[i], sparse[j] @ turn.T, trees[i], trees[j], turn)
                for turn in _TURNS
                if np.abs(np.abs(turn) @ boxes[j] - boxes[i]).max() < 0.06
            ):
                pairs.append((i, j))
    return pairs


_QUARTER = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
_TURNS = [
    np.linalg.matrix_power(_QUARTER, turns) @ mirror
    for turns in range(4)
    for mirror in (np.eye(3), np.diag([-1.0, 1, 1]))
]


def _coincide(
    mine: NDArray[np.float64], other: NDArray[np.float64], tree: cKDTree, other_tree: cKDTree, turn: NDArray[np.float64]
) -> bool:
    """Whether `mine` (points on the surface in `tree`) and `other` (points on the surface in `other_tree`, turned by
    `turn`) lie on one surface."""
    back_turned = mine @ turn  # x @ turn = turn^-1 x
    # A look at a few points settles most pairs: twins, and wholes beside their parts, have most points close.
    if max(np.median(other_tree.query(back_turned[:40])[0]), np.median(tree.query(other[:40])[0])) > 4 * TWIN_DISTANCE:
        return False
    there = float(other_tree.query(back_turned)[0].mean())
    back = float(tree.query(other)[0].mean())
    return max(there, back) < TWIN_DISTANCE or min(there, back) < TWIN_PART_DISTANCE


def _surface_points(mesh: Mesh, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(count, 3) points uniform by area. (Not engine.geometry.sampling: the twins must not change when that does.)"""
    corners = np.asarray(mesh.vertices, np.float64)[mesh.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    cumulative = np.cumsum(area)
    if not cumulative[-1] > 0:
        lone: NDArray[np.float64] = corners[rng.integers(len(corners), size=count), 0]
        return lone
    chosen = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right").clip(max=len(area) - 1)
    u, v = rng.random((2, count, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    a, b, c = corners[chosen, 0], corners[chosen, 1], corners[chosen, 2]
    points: NDArray[np.float64] = a + u * (b - a) + v * (c - a)
    return points


def _remembered_twins(library: Library, cache_folder: Path | None) -> list[tuple[int, int]]:
    """Twins among the shapes of each source that has both training and validation shapes."""
    splits: dict[str, set[str]] = defaultdict(set)
    for shape in library.shapes:
        splits[shape.source].add(shape.split)
    concerned = [i for i, shape in enumerate(library.shapes) if {"train", "validation"} <= splits[shape.source]]
    if not concerned:
        return []
    digest = hashlib.sha256(f"{_TWIN_VERSION} {TWIN_DISTANCE} {TWIN_PART_DISTANCE}".encode())
    for file in sorted({library._places[i].path for i in concerned}):
        stat = file.stat()
        digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    for i in concerned:
        digest.update(f"{library.shapes[i].key}\n".encode())
    folder = cache_folder or user_cache_folder()
    file = folder / f"twins-{digest.hexdigest()[:20]}.json"
    by_key = {library.shapes[i].key: i for i in concerned}
    try:
        pairs = [(by_key[a], by_key[b]) for a, b in json.loads(file.read_text(encoding="utf-8"))]
        log.debug("twins read from %s", file)
        return pairs
    except (OSError, ValueError, KeyError, TypeError):
        pass
    log.info("looking for twins among %d shapes of %s", len(concerned), library.folder)
    by_source: dict[str, list[int]] = defaultdict(list)
    for i in concerned:
        by_source[library.shapes[i].source].append(i)
    pairs = []
    for members in by_source.values():
        meshes = {}
        for i in members:
            try:
                meshes[i] = library.mesh(i)
                canonicalise(meshes[i])
            except InputError:  # nothing to compare; whoever wants the mesh is told why it is none
                meshes.pop(i, None)
        known = list(meshes)
        found = find_twins(list(meshes.values()), [library.shapes[i].key for i in known])
        pairs += [(known[a], known[b]) for a, b in found]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps([(library.shapes[a].key, library.shapes[b].key) for a, b in pairs], indent=0))
        os.replace(partial, file)
    except OSError as error:
        log.warning("the twins could not be remembered in %s (%s): they are looked for again next time", folder, error)
    return pairs


def _exclude_twins(library: Library) -> None:
    group = list(range(len(library)))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for a, b in library.twins:
        group[root(a)] = root(b)
    held_out = {root(i) for i, shape in enumerate(library.shapes) if shape.split == "validation"}
    for i, shape in enumerate(library.shapes):
        if shape.split == "train" and root(i) in held_out:
            shape.split = "excluded"


# Files ---------------------------------------------------------------------------------------------------------------


def _collect(folder: Path, shapes: list[Shape], places: list[_Place], plain: list[Path]) -> None:
    """Depth first, in name order: indexed folders into shapes and places, unindexed mesh files into plain."""
    index = folder / "index.tsv"
    if index.is_file():
        _read_index(index, shapes, places)
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_dir():
            if not index.is_file() or (child / "index.tsv").is_file():
                _collect(child, shapes, places, plain)
        elif child.suffix.lower() in MESH_SUFFIXES and not index.is_file():
            plain.append(child)


def _read_index(index: Path, shapes: list[Shape], places: list[_Place]) -> None:
    with index.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    entries: dict[str, dict[str, list[int]]] = {}  # class -> name -> entries not yet named by a line, last one first
    for number, row in enumerate(rows, start=2):
        class_name, name = row.get("class") or "", row.get("name") or ""
        if not class_name or not name:
            raise _damaged(index, f"Line {number} has no class or no name.")
        split = row.get("split") or "train"
        if split not in ("train", "validation", "excluded"):
            raise _damaged(index, f"Line {number} has the split {split!r}; it is train, validation or excluded.")
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
                raise _damaged(index, f"Line {number} names the file {row['file']}, which is not in the library.")
            place = _Place(path, -1)
        else:
            path = index.parent / f"{class_name}.npz"
            if class_name not in entries:
                entries[class_name] = defaultdict(list)
                for entry, entry_name in reversed(list(enumerate(_read_class_file(path, only="names")["names"]))):
                    entries[class_name][str(entry_name)].append(entry)
            if not entries[class_name].get(name):
                raise _damaged(index, f"Line {number} names {name}, which is not in {path.name} (as often).")
            place = _Place(path, entries[class_name][name].pop())
        shapes.append(shape)
        places.append(place)


def _plain_shapes(root: Path, files: Sequence[Path]) -> list[Shape]:
    shapes = []
    for file in files:
        relative = file.relative_to(root)
        class_name = relative.parent.name or "shape"
        name = relative.stem if len(relative.parts) <= 2 else "__".join((*relative.parts[:-2], relative.stem))
        if any(other != file and other.stem == file.stem and other.parent == file.parent for other in files):
            name = f"{name}_{file.suffix[1:].lower()}"
        shapes.append(Shape(root.name, class_name, name, licence="unknown"))
    return split_by_hash(shapes)


def _read_mesh_file(path: Path) -> Mesh:
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


def _read_class_file(path: Path, only: str | None = None) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in ((only,) if only else _ARRAYS)}
    except FileNotFoundError:
        raise _damaged(path, "The index names the class, but its file is not there.") from None
    except Exception as error:  # zipfile, numpy and zlib each have their own way to find a file damaged
        raise _damaged(path, f"It cannot be read: {error}.") from error
    if only is None:
        count = len(arrays["names"])
        for key, total in (("vertex_start", len(arrays["vertices"])), ("face_start", len(arrays["faces"]))):
            start = arrays[key]
            if start.shape != (count + 1,) or start[0] != 0 or start[-1] != total or (np.diff(start) < 0).any():
                raise _damaged(path, f"Its {key} does not fit its other arrays.")
        if arrays["box"].shape != (count, 2, 3) or arrays["vertices"].shape[1:] != (3,):
            raise _damaged(path, "Its arrays have the wrong shapes.")
    return arrays


def _unpack(arrays: dict[str, NDArray[Any]], entry: int, path: Path) -> Mesh:
    first, last = arrays["vertex_start"][entry : entry + 2]
    low, high = arrays["box"][entry].astype(np.float64)
    vertices = low + arrays["vertices"][first:last] / 65535.0 * (high - low)
    faces = arrays["faces"][slice(*arrays["face_start"][entry : entry + 2])].astype(np.int32)
    if len(faces) and int(faces.max()) >= last - first:
        raise _damaged(path, f"A face of {arrays['names'][entry]} names a vertex that does not exist.")
    return Mesh(vertices.astype(np.float32), faces)


def _write_class_file(path: Path, shapes: Sequence[Shape]) -> None:
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


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        "library_damaged",
        f"The shape library file {path.name} is damaged.",
        why,
        "Rebuild the library with scripts/build_dataset, or correct the file.",
    )
