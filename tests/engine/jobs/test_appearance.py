"""What the input looks like reaches the result of Complete Shape and Fit Shape, by command and over the wire."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from engine.cli import entry as cli
from engine.errors import InputError
from engine.geometry.clouds import PointCloud
from engine.geometry.files import load, write_cloud, write_mesh
from engine.geometry.meshes import Material, Mesh
from engine.jobs.base import JobArrays, JobCallbacks, JobResult
from engine.jobs.kinds import find, parse_request
from engine.jobs.run import run_job
from engine.wire.arrays import checked_arrays, pack_arrays, pack_mesh, unpack_arrays, unpack_mesh
from tests.engine.finish.shapes import box

AXES = np.array([0.4, 0.3, 0.35])
VIEWPOINT = (0.3, -1.6, 0.9)
RED, BLUE = np.float32([1, 0, 0]), np.float32([0, 0, 1])


@pytest.fixture(autouse=True)
def fields_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPEWRIGHT_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture(params=["fit", "complete"])
def settings(request: pytest.FixtureRequest, small_prior_file: Path) -> dict[str, Any]:
    of_kind = {"fit": {}, "complete": {"prior": str(small_prior_file), "viewpoint": VIEWPOINT}}
    return {"kind": request.param, "resolution": 32, "device": "cpu", "seed": 3} | of_kind[request.param]


def egg(view: bool, count: int = 1500) -> JobArrays:
    """An ellipsoid, or one view of it; red where x is above 0, else blue."""
    direction = np.random.default_rng(0).normal(size=(4 * count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points = direction * AXES
    if view:
        points = points[((np.array(VIEWPOINT) - points) * (direction / AXES)).sum(1) > 0]
    points = points[:count].astype(np.float32)
    return JobArrays(points, colours=np.where(points[:, :1] > 0, RED, BLUE))


def run(settings: dict[str, Any], arrays: JobArrays) -> JobResult:
    return run_job(parse_request(settings), arrays, JobCallbacks())


def same_geometry(a: Mesh, b: Mesh) -> bool:
    return np.array_equal(a.vertices, b.vertices) and np.array_equal(a.faces, b.faces)


def test_colours_reach_the_result_and_move_nothing(settings: dict[str, Any], one_thread: None) -> None:
    arrays = egg(view=settings["kind"] == "complete")
    plain, result = run(settings, arrays.shape_alone), run(settings, arrays)
    (mesh,) = result.meshes
    assert same_geometry(mesh, plain.meshes[0])
    assert plain.meshes[0].colours is None and plain.meshes[0].seen is None and plain.report["appearance"] is None
    assert mesh.colours is not None and mesh.seen is not None
    clear = (np.abs(mesh.vertices[:, 0]) > 0.08) & mesh.seen
    assert np.abs(mesh.colours - np.where(mesh.vertices[:, :1] > 0, RED, BLUE))[clear].max() < 0.3
    appearance = json.loads(json.dumps(result.report))["appearance"]
    assert appearance["colours"] and appearance["materials"] == []
    if settings["kind"] == "fit":
        assert mesh.seen.all() and appearance["seen"] == pytest.approx(1)
    else:
        assert mesh.normals is not None
        towards = np.array(VIEWPOINT) - mesh.vertices
        facing = np.einsum("ij,ij->i", mesh.normals, towards / np.linalg.norm(towards, axis=1, keepdims=True))
        away = cKDTree(arrays.points).query(mesh.vertices)[0]  # the points are about 0.02 apart
        assert not mesh.seen[(facing < -0.3) | (away > 0.1)].any() and mesh.seen[(facing > 0) & (away < 0.03)].all()
        assert 0.3 < appearance["seen"] < 0.8
        assert result.report["hypotheses"][0]["seen"] == appearance["seen"]


def two_material_box() -> Mesh:
    mesh = box((-0.4, -0.3, -0.2), (0.4, 0.3, 0.2), cells=4)
    right = mesh.vertices[mesh.faces].mean(1)[:, 0] > 0
    mesh.materials = (Material("oak", (0.5, 0.25, 0.125)), Material("cloth"))
    mesh.face_materials = np.where(right, 0, 1).astype(np.int32)
    return mesh


def of_mesh(mesh: Mesh) -> JobArrays:
    return JobArrays(
        mesh.vertices, None, mesh.faces, colours=mesh.colours, materials=mesh.materials,
        face_materials=mesh.face_materials,
    )  # fmt: skip


def test_materials_reach_the_faces(settings: dict[str, Any], one_thread: None) -> None:
    given = two_material_box()
    arrays = of_mesh(given)
    settings = {key: value for key, value in settings.items() if key != "viewpoint"}
    plain, result = run(settings, arrays.shape_alone), run(settings, arrays)
    mesh = result.meshes[0]
    assert same_geometry(mesh, plain.meshes[0]) and mesh.colours is None and mesh.materials == given.materials
    middle = mesh.vertices[mesh.faces].mean(1)[:, 0]
    clear = np.abs(middle) > 0.05
    assert mesh.face_materials is not None
    assert np.array_equal(mesh.face_materials[clear], np.where(middle > 0, 0, 1)[clear])
    assert result.report["appearance"]["materials"] == ["oak", "cloth"]


def test_a_kept_field_keeps_what_it_looks_like(one_thread: None) -> None:
    given = two_material_box()
    arrays = of_mesh(replace(given, colours=np.where(given.vertices[:, :1] > 0, RED, BLUE)))
    settings = {"kind": "fit", "resolution": 32, "device": "cpu"}
    first = run(settings, arrays)
    again = run_job(
        parse_request(settings | {"reuse": first.report["field_id"], "resolution": 48}), None, JobCallbacks()
    )
    mesh = again.meshes[0]
    assert len(mesh.vertices) > len(first.meshes[0].vertices) and mesh.materials == given.materials
    assert mesh.colours is not None and mesh.seen is not None and mesh.seen.mean() > 0.95
    assert again.report["appearance"]["colours"]


def test_the_floor_does_not_colour_what_stands_on_it(small_prior_file: Path) -> None:
    rng = np.random.default_rng(2)
    thing = egg(view=False, count=4000).points + np.float32([0, 0, 0.35])
    floor = np.c_[rng.uniform(-1.5, 1.5, (6000, 2)), np.zeros(6000)].astype(np.float32)
    arrays = JobArrays(
        np.concatenate([thing, floor]), colours=np.concatenate([np.tile(RED, (4000, 1)), np.tile(BLUE, (6000, 1))])
    )
    result = run({"kind": "complete", "prior": str(small_prior_file), "resolution": 32, "device": "cpu"}, arrays)
    assert result.report["evidence"]["ground"] is not None
    colours = result.meshes[0].colours
    assert colours is not None and (colours[:, 2] < 0.01).mean() > 0.99


# ----------------------------------------------------------------------------------------------------- on the wire


def test_arrays_and_meshes_carry_it_all() -> None:
    given = two_material_box()
    given.colours, given.seen = np.full_like(given.vertices, 0.25), given.vertices[:, 0] > 0
    mesh, _ = unpack_mesh(pack_mesh(given))
    assert mesh.materials == given.materials and np.array_equal(mesh.face_materials, given.face_materials)  # type: ignore[arg-type]
    assert np.array_equal(mesh.colours, given.colours) and np.array_equal(mesh.seen, given.seen)  # type: ignore[arg-type]
    first = of_mesh(replace(given, colours=None))
    first.others = [replace(first, materials=(Material("x"),), face_materials=np.full(len(given.faces), -1, np.int32))]
    back = unpack_arrays(pack_arrays(first))
    assert back.materials == given.materials and back.others[0].materials == (Material("x"),)
    assert back.others[0].face_materials is not None and (back.others[0].face_materials == -1).all()
    checked = checked_arrays(find("blend"), back)
    assert checked.materials == given.materials and np.array_equal(checked.face_materials, given.face_materials)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "damage",
    [
        lambda mesh: {"face_materials": np.zeros(3, np.int32), "material_names": np.array(["a"])},
        lambda mesh: {"face_materials": np.full(len(mesh.faces), 1, np.int32), "material_names": np.array(["a"])},
        lambda mesh: {"face_materials": np.full(len(mesh.faces), -2, np.int32), "material_names": np.array(["a"])},
        lambda mesh: {"face_materials": np.zeros(len(mesh.faces), np.int32)},
        lambda mesh: {"material_names": np.array(["a"])},
        lambda mesh: {
            "face_materials": np.zeros(len(mesh.faces), np.int32), "material_names": np.array(["a"]),
            "material_colours": np.zeros((2, 3), np.float32),
        },
        lambda mesh: {
            "face_materials": np.zeros(len(mesh.faces), np.int32), "material_names": np.array(["a" * 300_000])
        },
    ],
)  # fmt: skip
def test_materials_that_make_no_sense_are_refused(damage: Any) -> None:
    import io

    given, out = two_material_box(), io.BytesIO()
    np.savez(out, points=given.vertices, faces=given.faces, **damage(given))
    with pytest.raises(InputError) as caught:
        unpack_arrays(out.getvalue())
    assert caught.value.code == "arrays_invalid" and "material" in caught.value.why


# -------------------------------------------------------------------------------------------------------- by command


def test_the_command_writes_colours_and_says_where_there_is_no_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = egg(view=False)
    write_cloud(tmp_path / "scan.ply", PointCloud(arrays.points, colours=arrays.colours))
    for suffix in ("ply", "obj", "glb", "stl"):
        target = tmp_path / f"out.{suffix}"
        assert cli.main(["fit", str(tmp_path / "scan.ply"), "-o", str(target), "--resolution", "32"]) == 0
        said = capsys.readouterr().out
        assert ("no room for colours" in said) == (suffix == "stl")
        loaded = load(target)
        if suffix != "stl":
            assert loaded.colours is not None
            clear = np.abs(loaded.points[:, 0]) > 0.08
            assert np.abs(loaded.colours - np.where(loaded.points[:, :1] > 0, RED, BLUE))[clear].max() < 0.3


def test_an_obj_with_its_materials_becomes_one_with_the_same(tmp_path: Path) -> None:
    write_mesh(tmp_path / "in.obj", two_material_box())
    for suffix in ("obj", "glb"):
        target = tmp_path / f"out.{suffix}"
        assert cli.main(["fit", str(tmp_path / "in.obj"), "-o", str(target), "--resolution", "32"]) == 0
        loaded = load(target)
        assert [one.name for one in loaded.materials] == ["oak", "cloth"]
        assert loaded.materials[0].colour == pytest.approx((0.5, 0.25, 0.125), abs=1e-4)
        assert loaded.face_materials is not None and set(loaded.face_materials.tolist()) == {0, 1}
    assert (tmp_path / "out.mtl").is_file()
