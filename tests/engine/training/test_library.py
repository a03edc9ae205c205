"""Shape libraries: forms, splits, twins and the canonical frame."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from engine.geometry.meshes import Mesh
from engine.training.categories import category_of, words_of
from engine.training.library import load_library, write_library
from engine.training.shapes import Shape, canonicalise, split_by_hash
from engine.training.twins import find_twins

CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
CUBE_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]], np.int32,
)  # fmt: skip


def box(*sides: float, at: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    return Mesh((CUBE * np.array(sides) + np.array(at)).astype(np.float32), CUBE_FACES)


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces).astype(np.int32))


def table(leg: float = 0.1) -> Mesh:
    legs = [box(leg, leg, 0.7, at=(x, y, 0)) for x in (0, 1.4 - leg) for y in (0, 0.8 - leg)]
    return joined(box(1.4, 0.8, 0.05, at=(0, 0, 0.7)), *legs)


def stool(seat: float = 0.05) -> Mesh:
    legs = [box(0.05, 0.05, 0.5, at=(x, y, 0)) for x in (0, 0.35) for y in (0, 0.35)]
    return joined(box(0.4, 0.4, seat, at=(0, 0, 0.5)), *legs)


def moved(mesh: Mesh, scale: float = 1.0, matrix: np.ndarray | None = None) -> Mesh:
    vertices = mesh.vertices @ (np.eye(3) if matrix is None else matrix).T
    return Mesh((scale * vertices + 5.0).astype(np.float32), mesh.faces)


def write_obj(path: Path, mesh: Mesh) -> None:
    """As other programs write it: y up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"v {x} {z} {-y}" for x, y, z in mesh.vertices] + [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in mesh.faces]
    path.write_text("\n".join(rows) + "\n")


def test_compact_form_comes_back_as_written(tmp_path: Path) -> None:
    big = Mesh(np.random.default_rng(0).normal(size=(70_000, 3)).astype(np.float32) * 40, CUBE_FACES + 69_990)
    shapes = [
        Shape("made", "table", "first table", "train", "CC0-1.0", 'Ada "A"\tL.', table(), "/a/b.obj"),
        Shape("made", "table", "второй", "validation", "CC-BY-3.0", "Bob", big),
        Shape("made", "stool", "s", "train", "", "", stool()),
    ]
    write_library(tmp_path / "my library", shapes)
    library = load_library(tmp_path / "my library", splits_by_design=False)
    back = {shape.key: shape for shape in library}
    assert set(back) == {shape.key for shape in shapes}
    for shape in shapes:
        again = back[shape.key]
        for name in ("source", "class_name", "split", "licence", "creator", "package_path"):
            assert getattr(again, name) == getattr(shape, name)
        assert again.mesh is not None and shape.mesh is not None
        np.testing.assert_array_equal(again.mesh.faces, shape.mesh.faces)
        step = np.ptp(shape.mesh.vertices, axis=0) / 65535
        assert (np.abs(again.mesh.vertices - shape.mesh.vertices) <= 0.51 * step + 1e-5).all()


def test_library_travels_to_a_worker(tmp_path: Path) -> None:
    write_library(tmp_path, [Shape("made", "stool", "s", mesh=stool())])
    library = load_library(tmp_path)
    library.mesh(0)
    other = pickle.loads(pickle.dumps(library))
    np.testing.assert_array_equal(other.mesh(0).vertices, library.mesh(0).vertices)


def test_nested_libraries_read_as_one(tmp_path: Path) -> None:
    write_library(tmp_path / "a", [Shape("a", "table", "t", mesh=table())])
    write_library(tmp_path / "b" / "c", [Shape("c", "stool", "t", mesh=stool())])
    library = load_library(tmp_path)
    assert [shape.key for shape in library.shapes] == ["a/table/t", "c/stool/t"]
    assert library.indices(categories=["stool"]) == [1]
    assert library.counts() == {"stool": {"train": 1}, "table": {"train": 1}}


def test_plain_folder_of_files(tmp_path: Path) -> None:
    pytest.importorskip("engine.geometry.files")
    root = tmp_path / "meine Möbel"
    for number in range(10):
        write_obj(root / "table" / f"t{number}.obj", box(1, 1 + number, 2))
    write_obj(root / "dragon" / "d.obj", stool())
    library = load_library(root)
    assert len(library) == 11
    tables = [shape for shape in library.shapes if shape.category == "table"]
    assert sum(shape.split == "validation" for shape in tables) == 2
    assert {shape.category for shape in library.shapes} == {"table", "dragon"}
    assert [shape.split for shape in library.shapes] == [shape.split for shape in load_library(root).shapes]
    dragon = library.mesh(library.indices(categories=["dragon"])[0])
    np.testing.assert_allclose(np.ptp(dragon.vertices, axis=0), np.ptp(stool().vertices, axis=0), atol=1e-5)


def test_split_hardly_moves_when_shapes_are_added() -> None:
    shapes = [Shape("s", "chair", f"chair {n}") for n in range(100)]
    before = {shape.name for shape in split_by_hash(shapes) if shape.split == "validation"}
    after = {shape.name for shape in split_by_hash(shapes[:99]) if shape.split == "validation"}
    assert len(before) == 20
    assert len(before ^ after) <= 2


def test_twins_across_splits_leave_training(tmp_path: Path) -> None:
    cushion = joined(stool(), box(0.4, 0.4, 0.02, at=(0, 0, 0.525)))
    shapes = [
        Shape("real", "table", "t1", "train", mesh=table()),
        Shape("real", "table", "t2", "validation", mesh=moved(table(), 30.0)),
        Shape("real", "stool", "bare", "train", mesh=stool()),
        Shape("real", "stool", "cushioned", "validation", mesh=cushion),
        Shape("real", "cabinet", "c", "train", mesh=box(1, 0.5, 2)),
        Shape("generated", "table", "t1", "train", mesh=box(1.0, 1.0, 0.2)),
    ]
    write_library(tmp_path / "lib", shapes)
    cache = tmp_path / "cache"
    for _ in range(2):  # found, then remembered
        library = load_library(tmp_path / "lib", cache_folder=cache)
        splits = {shape.key: shape.split for shape in library.shapes}
        assert splits == {
            "real/table/t1": "excluded",
            "real/table/t2": "validation",
            "real/stool/bare": "excluded",
            "real/stool/cushioned": "validation",
            "real/cabinet/c": "train",
            "generated/table/t1": "train",
        }
        assert len(list(cache.iterdir())) == 1
    next(cache.iterdir()).write_text("not json")
    assert load_library(tmp_path / "lib", cache_folder=cache).twins == library.twins
    unchecked = load_library(tmp_path / "lib", splits_by_design=False)
    assert {shape.split for shape in unchecked.shapes} == {"train", "validation"}


@pytest.mark.parametrize("matrix", [np.diag([-1.0, 1, 1]), np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])])
def test_twins_are_found_mirrored_and_turned(matrix: np.ndarray) -> None:
    corner = joined(box(2, 0.5, 0.6), box(0.5, 1.2, 0.6), box(0.1, 0.2, 1.0, at=(0.2, 0.2, 0)))
    different = joined(box(2, 0.5, 0.6), box(0.5, 1.2, 0.3), box(0.1, 0.2, 1.0, at=(1.2, 0.2, 0)))
    assert find_twins([corner, moved(corner, 0.01, matrix), different], ["a", "b", "c"]) == [(0, 1)]


def test_canonical_frame() -> None:
    mesh = moved(table(), 1e4)
    mesh.vertices = np.concatenate([mesh.vertices, [[1e9, 0, 0]]]).astype(np.float32)  # used by no face
    canonical, transform = canonicalise(mesh)
    low, high = canonical.vertices.min(0), canonical.vertices.max(0)
    np.testing.assert_allclose(low + high, 0, atol=1e-5)
    assert (high - low).max() == pytest.approx(1, abs=1e-5)
    corners = mesh.vertices[mesh.faces]
    np.testing.assert_allclose(
        canonical.vertices[canonical.faces], transform.apply(corners.reshape(-1, 3)).reshape(corners.shape)
    )
    np.testing.assert_allclose(transform.rotation, np.eye(3))


@pytest.mark.parametrize(
    ("mesh", "code"),
    [
        (Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)), "mesh_empty"),
        (Mesh(np.ones((3, 3), np.float32), np.array([[0, 1, 2]], np.int32)), "mesh_degenerate"),
        (Mesh(np.full((3, 3), np.nan, np.float32), np.array([[0, 1, 2]], np.int32)), "mesh_not_finite"),
    ],
)
def test_canonicalise_refuses(mesh: Mesh, code: str) -> None:
    with pytest.raises(InputError) as caught:
        canonicalise(mesh)
    assert caught.value.code == code


def damage_index(folder: Path) -> None:
    index = folder / "index.tsv"
    index.write_text(index.read_text().replace("train", "sometimes"))


def damage_archive(folder: Path) -> None:
    file = folder / "stool.npz"
    file.write_bytes(file.read_bytes()[:-200])


def damage_faces(folder: Path) -> None:
    file = folder / "stool.npz"
    with np.load(file) as archive:
        arrays = dict(archive)
    arrays["faces"] = arrays["faces"] + np.uint16(10_000)
    np.savez(file, **arrays)


@pytest.mark.parametrize("damage", [damage_index, damage_archive, damage_faces, lambda f: (f / "stool.npz").unlink()])
def test_damage_is_named(tmp_path: Path, damage) -> None:
    write_library(tmp_path, [Shape("made", "stool", "s", mesh=stool())])
    damage(tmp_path)
    with pytest.raises(InputError) as caught:
        load_library(tmp_path).mesh(0)
    assert caught.value.code == "library_damaged"


def test_no_library(tmp_path: Path) -> None:
    for folder, code in ((tmp_path / "missing", "library_not_found"), (tmp_path, "library_empty")):
        with pytest.raises(InputError) as caught:
            load_library(folder)
        assert caught.value.code == code


def test_categories() -> None:
    assert category_of("office_chair") == "chair"
    assert category_of("chair", "BlendSwap-CC-0__modernArmchair") == "armchair"
    assert category_of("cabinet_shelf", "Scopia__kids_shelves") == "shelf"
    assert category_of("car") == "car" and category_of("plane") == "aeroplane"
    assert category_of("mug_cup_glass", "Scopia__plate") == "other"
    assert category_of("dragon") == "dragon"


def test_the_words_of_a_category_are_in_its_table_and_those_of_a_library_of_ones_own_nowhere() -> None:
    assert words_of(["sofa", "lamp"]) == {"sofa": {"front_height": "Seat height"}}
    assert words_of(["dragon"]) == {}
