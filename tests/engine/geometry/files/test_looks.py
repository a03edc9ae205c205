"""What a surface looks like, written and read again: colours of vertices, what of them was seen, materials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from engine.geometry.files import load, writable, write_mesh
from engine.geometry.meshes import Material, Mesh, material_colours
from tests.engine.geometry.makers import ball

WOOD, BARE = Material("Dark wood", (0.5, 0.25, 0.0)), Material("bare")


def coloured() -> Mesh:
    mesh = ball()
    colours = np.random.default_rng(0).integers(0, 256, (len(mesh.vertices), 3)) / 255
    return replace(mesh, colours=colours.astype(np.float32), seen=mesh.vertices[:, 0] > 0.1)


def of_two_materials() -> Mesh:
    mesh = ball()
    upper = mesh.vertices[mesh.faces].mean(1)[:, 2] > 3
    return replace(mesh, materials=(WOOD, BARE), face_materials=np.where(upper, 0, 1).astype(np.int32))


def corners(mesh: Mesh) -> np.ndarray:
    return mesh.vertices[mesh.faces]


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".off", ".glb"])
def test_colours_of_vertices_come_back_and_move_nothing(tmp_path: Path, suffix: str) -> None:
    given = coloured()
    write_mesh(tmp_path / f"a{suffix}", given)
    back = load(tmp_path / f"a{suffix}").shape
    assert isinstance(back, Mesh) and np.array_equal(back.vertices, given.vertices)
    assert back.colours is not None and np.allclose(back.colours, given.colours, atol=2e-4)
    write_mesh(tmp_path / f"b{suffix}", replace(given, colours=None, seen=None))
    plain = load(tmp_path / f"b{suffix}").shape
    assert isinstance(plain, Mesh) and np.array_equal(plain.vertices, back.vertices)
    assert np.array_equal(plain.faces, back.faces)


def test_trimesh_sees_the_same_colours(tmp_path: Path) -> None:
    given = coloured()
    for suffix in (".ply", ".obj"):
        write_mesh(tmp_path / f"a{suffix}", given)
        seen = trimesh.load(tmp_path / f"a{suffix}", process=False)
        assert np.abs(seen.visual.vertex_colors[:, :3] / 255 - given.colours).max() < 0.005, suffix


def test_what_was_seen_is_an_attribute_of_ply_and_glb(tmp_path: Path) -> None:
    given = coloured()
    assert given.seen is not None
    for suffix in (".ply", ".glb"):
        write_mesh(tmp_path / f"a{suffix}", given)
    ply = trimesh.load(tmp_path / "a.ply", process=False)
    assert np.array_equal(ply.metadata["_ply_raw"]["vertex"]["data"]["seen"].ravel(), given.seen)
    glb = trimesh.load(tmp_path / "a.glb", process=False, force="mesh")
    assert np.array_equal(glb.vertex_attributes["_SEEN"].ravel(), given.seen)


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_materials_come_back_with_their_faces(tmp_path: Path, suffix: str) -> None:
    given = of_two_materials()
    write_mesh(tmp_path / f"a b{suffix}", given)
    back = load(tmp_path / f"a b{suffix}")
    assert isinstance(back.shape, Mesh) and back.shape.colours is None
    assert [one.name for one in back.materials] == ["Dark wood", "bare"]
    assert back.materials[0].colour == pytest.approx(WOOD.colour, abs=1e-4)
    assert back.face_materials is not None and given.face_materials is not None
    for number in (0, 1):
        ours, theirs = given.face_materials == number, back.face_materials == number
        assert np.array_equal(corners(given)[ours], corners(back.shape)[theirs])
    assert len(back.points) == len(given.vertices), "parts that share a vertex still do"


@pytest.mark.parametrize("suffix", [".ply", ".off"])
def test_a_format_without_materials_has_their_colours(tmp_path: Path, suffix: str) -> None:
    given = of_two_materials()
    write_mesh(tmp_path / f"a{suffix}", given)
    colours = load(tmp_path / f"a{suffix}").colours
    expected = material_colours(given)
    assert colours is not None and expected is not None and np.allclose(colours, expected, atol=0.003)
    assert np.allclose(colours[given.vertices[:, 2] > 3.1], WOOD.colour, atol=0.003)


def test_every_format_writes_a_mesh_with_all_there_is(tmp_path: Path) -> None:
    given = replace(coloured(), materials=(WOOD, BARE), face_materials=of_two_materials().face_materials)
    for suffix in writable("mesh"):
        write_mesh(tmp_path / f"a{suffix}", given)
        back = load(tmp_path / f"a{suffix}").shape
        assert isinstance(back, Mesh) and sorted(map(bytes, corners(back))) == sorted(map(bytes, corners(given)))


def test_colours_are_not_darkened_by_the_materials(tmp_path: Path) -> None:
    given = replace(coloured(), materials=(WOOD,), face_materials=np.zeros(len(ball().faces), np.int32))
    write_mesh(tmp_path / "a.glb", given)
    back = load(tmp_path / "a.glb")
    assert [one.name for one in back.materials] == ["Dark wood"]
    assert back.materials[0].colour == pytest.approx((1, 1, 1)), "glTF multiplies the two"
    assert back.colours is not None and np.allclose(back.colours, given.colours, atol=1e-4)


def test_an_mtl_file_of_somebody_elses_stays(tmp_path: Path) -> None:
    theirs = "newmtl theirs\nKd 0 1 0\n"
    (tmp_path / "a.mtl").write_text(theirs)
    for _ in range(2):
        write_mesh(tmp_path / "a.obj", of_two_materials())
    assert (tmp_path / "a.mtl").read_text() == theirs
    assert load(tmp_path / "a.obj").materials[0].colour == pytest.approx(WOOD.colour, abs=1e-4)
    write_mesh(tmp_path / "b.obj", of_two_materials())
    changed = replace(of_two_materials(), materials=(Material("x", (0, 0, 1)), BARE))
    write_mesh(tmp_path / "b.obj", changed)
    assert load(tmp_path / "b.obj").materials[0].colour == (0, 0, 1), "ours is written anew"
    assert sorted(path.name for path in tmp_path.glob("*.mtl")) == ["a.mtl", "a_shapewright.mtl", "b.mtl"]


def test_names_that_would_be_one_material_are_told_apart(tmp_path: Path) -> None:
    given = replace(of_two_materials(), materials=(Material("a\nb", (1, 0, 0)), Material("a b", (0, 1, 0))))
    write_mesh(tmp_path / "a.obj", given)
    assert [one.colour for one in load(tmp_path / "a.obj").materials] == [(1, 0, 0), (0, 1, 0)]


def test_a_face_that_is_dropped_takes_its_material_along(tmp_path: Path) -> None:
    rows = [f"v {x} {y} 0" for y in range(4) for x in range(4)] + ["v nan 0 0"]
    faces = ["usemtl a", "f 1 2 17", *(f"f {i} {i + 1} {i + 4}" for i in (1, 2, 3)), "usemtl b", "f 5 6 9"]
    (tmp_path / "a.obj").write_text("\n".join([*rows, *faces]))
    loaded = load(tmp_path / "a.obj")
    assert loaded.face_materials is not None and loaded.face_materials.tolist() == [0, 0, 0, 1]
