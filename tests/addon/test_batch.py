"""scripts/batch_complete.py: one row, one mesh and one picture an input; bad files; resuming; exit codes."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from stage import HERE, ROOT, add_points

RNG = np.random.default_rng(2)
POINTS = RNG.uniform((0, 0, 0), (1, 2, 3), (200, 3))
FAR = POINTS + np.array([100, 0, 0])

pytestmark = pytest.mark.usefixtures("empty_scene")


@pytest.fixture(scope="module")
def batch() -> Any:
    place = ROOT / "scripts" / "batch_complete.py"
    spec = importlib.util.spec_from_file_location("batch_complete", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "the input ščž 形").mkdir()
    return tmp_path / "the input ščž 形", tmp_path / "output"


@pytest.fixture
def run(batch: Any, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    """run(*options, **behaviour of the emulated engine) -> exit status."""
    process = batch.EngineProcess

    def emulated(folder: Path, _python: str) -> Any:
        module = sys.modules[process.__module__]
        return process(
            folder, command=module.EngineCommand([sys.executable, str(HERE / "emulated_engine.py")], None, "")
        )

    monkeypatch.setattr(batch, "EngineProcess", emulated)

    def go(*options: str, **behaviour: Any) -> int:
        monkeypatch.setenv("EMULATED_ENGINE", json.dumps(behaviour))
        return batch.main(["--input", str(folders[0]), "--output", str(folders[1]), "--no-previews", *options])

    return go


IN_BLENDERS_PYTHON = """
import importlib.machinery, importlib.util, json, os, sys
import bpy, numpy

class OnlyBlenders:
    # What no Blender has beside it is not there: only its own modules, numpy and the standard library.
    def find_spec(self, name, path=None, target=None):
        found = importlib.machinery.PathFinder.find_spec(name.split(".")[0])
        where = str(found.origin or found.submodule_search_locations) if found else ""
        if "site-packages" in where and os.sep + "bpy" + os.sep not in where and name.split(".")[0] != "numpy":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, OnlyBlenders())
script, emulated, *arguments = sys.argv[1:]
spec = importlib.util.spec_from_file_location("batch_complete", script)
batch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(batch)
module = sys.modules[batch.EngineProcess.__module__]
command = module.EngineCommand([sys.executable, emulated], None, "")
process = batch.EngineProcess
batch.EngineProcess = lambda folder, _python: process(folder, command=command)
status = batch.main(arguments)
sys.stdout.flush()
os._exit(status)
"""


@pytest.mark.parametrize("mode", ["complete", "fit", "generate"])
def test_blenders_own_python_is_enough(folders, tmp_path, mode):
    """Under `blender -b` there is none of the engine's packages."""
    write_xyz(folders[0] / "a.xyz")
    np.save(folders[0] / "b.npy", POINTS)
    script = tmp_path / "in_blender.py"
    script.write_text(IN_BLENDERS_PYTHON)
    given = ["--count", "2"] if mode == "generate" else ["--input", str(folders[0])]
    argv = [sys.executable, str(script), str(ROOT / "scripts" / "batch_complete.py"), str(HERE / "emulated_engine.py")]
    argv += ["--mode", mode, *given, "--output", str(folders[1]), "--no-previews"]
    ran = subprocess.run(
        argv, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "EMULATED_ENGINE": "{}"}
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(list(folders[1].glob("*.ply"))) == 2


def write_xyz(path: Path, points: np.ndarray = POINTS) -> None:
    path.write_text("\n".join(" ".join(map(str, p)) for p in points))


def rows(output: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in (output / "report.jsonl").read_text("utf-8").splitlines()]
    assert len({row["input"] for row in found}) == len(found), "one row an input"
    return {row["input"]: row for row in found}


def read_ply(path: Path) -> tuple[np.ndarray, int]:
    bpy.ops.wm.ply_import(filepath=str(path), forward_axis="Y", up_axis="Z")
    mesh = bpy.context.view_layer.objects.active.data
    return np.array([v.co for v in mesh.vertices]), len(mesh.polygons)


def test_scans_in_subfolders_are_found_and_the_output_mirrors_them(run, folders, capsys):
    source, output = folders
    for name in ("first day", "second day/left"):
        (source / name).mkdir(parents=True)
        write_xyz(source / name / "scan.xyz")
    (source / ".hidden").mkdir()
    write_xyz(source / ".hidden" / "no.xyz")
    assert run() == 0
    done = rows(output)
    assert set(done) == {"first day/scan.xyz", "second day/left/scan.xyz"}
    for name, row in done.items():
        assert row["outputs"][0] == name.replace(".xyz", ".ply") and (output / row["outputs"][0]).is_file()
    capsys.readouterr()
    assert run() == 0 and "2 done before, 0 to do" in capsys.readouterr().out


def test_an_output_within_the_input_is_no_input(batch, tmp_path):
    write_xyz(tmp_path / "scan.xyz")
    output = tmp_path / "results"
    output.mkdir()
    write_xyz(output / "scan.xyz")
    assert batch.find_inputs(tmp_path, output) == ([tmp_path / "scan.xyz"], 0)


def test_every_input_gets_a_mesh_in_its_own_place_and_a_row(run, folders):
    source, output = folders
    write_xyz(source / "scan one.xyz", FAR)
    np.save(source / "scan_two.npy", POINTS)
    assert run("--seed", "5", "--resolution", "64") == 0
    found = rows(output)
    assert {row["status"] for row in found.values()} == {"done"} and len(found) == 2
    vertices, faces = read_ply(output / "scan one.ply")
    np.testing.assert_allclose(vertices.min(0), FAR.min(0), atol=1e-4)
    np.testing.assert_allclose(vertices.max(0), FAR.max(0), atol=1e-4)
    assert faces == 12
    assert found["scan_two.npy"]["report"]["seed"] == 5


def test_a_bad_file_is_reported_and_skipped_and_the_status_says_so(run, folders, capsys):
    source, output = folders
    for name in ("a.xyz", "c.xyz"):
        write_xyz(source / name)
    (source / "b.ply").write_bytes(b"ply\nformat binary_little_endian 1.0\nelement vertex 1000000000\n")
    (source / "empty.npz").write_bytes(b"")
    assert run() == 1
    found = rows(output)
    assert [found[name]["status"] for name in ("a.xyz", "b.ply", "c.xyz", "empty.npz")] == [
        "done", "failed", "done", "failed",
    ]  # fmt: skip
    said = capsys.readouterr().out
    for name in ("b.ply", "empty.npz"):
        error = found[name]["error"]
        assert {"code", "what", "why", "remedy"} == set(error) and all(error.values())
        assert f"{name} FAILED" in said and error["remedy"] in said


@pytest.mark.skipif(importlib.util.find_spec("trimesh") is None, reason="materials need trimesh")
def test_colours_and_materials_go_from_file_to_file(batch: Any, tmp_path: Path) -> None:
    """But for the engine's part: tests/addon/test_appearance.py has that."""
    corners = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    lines = [f"v {x} {y} {z} {x} 0.5 {z}" for x, y, z in [*corners, (5, 5, 5), (6, 5, 5), (5, 6, 5)]]
    quads = ["1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4"]
    faces = ["f 9 10 11", "usemtl oak", *(f"f {q}" for q in quads[:3]), "usemtl cloth", *(f"f {q}" for q in quads[3:])]
    (tmp_path / "a.obj").write_text("\n".join(["mtllib a.mtl", *lines, *faces]))
    (tmp_path / "a.mtl").write_text("newmtl oak\nKd 0.5 0.25 0\nnewmtl cloth\nKd 0 0 1\n")
    loaded = batch.load(tmp_path / "a.obj")
    stage = batch.Stage()
    source, _ = batch.load_into(stage, "a", loaded)
    assert [slot.material and slot.material.name for slot in source.material_slots] == ["oak", "cloth", None]
    scan = batch.read_scan(source, stage.depsgraph())
    arrays = scan.arrays()
    np.testing.assert_allclose(arrays["colours"], loaded.colours, atol=1e-3)
    mesh = batch.MeshArrays.of(
        arrays["points"], arrays["faces"], None, arrays["colours"], arrays["points"][:, 0] > 0, arrays["face_materials"]
    )
    writer = sys.modules[batch.FitWriter.__mro__[1].__module__].ResultWriter(scan)
    result = writer.add_result(mesh, 0, 1)
    batch.write_mesh(tmp_path / "b.obj", batch.mesh_of(result, loaded.materials))
    back = batch.load(tmp_path / "b.obj")
    assert back.materials == loaded.materials
    assert sorted(back.face_materials.tolist()) == sorted(loaded.face_materials.tolist()) == [-1] + 6 * [0] + 6 * [1]
    np.testing.assert_allclose(back.colours, loaded.colours, atol=2e-3)
    found = batch.mesh_of(result)
    np.testing.assert_array_equal(found.seen, found.vertices[:, 0] > 0)
    stage.clear()


def test_several_scans_keep_their_viewpoints(batch: Any, tmp_path: Path) -> None:
    points = POINTS.astype(np.float32)
    scans = (np.arange(len(points)) % 2).astype(np.int32)
    np.savez(tmp_path / "a.npz", points=points, viewpoint=np.float32([[9, 0, 0], [0, 9, 0]]), scans=scans)
    loaded = batch.load(tmp_path / "a.npz")
    stage = batch.Stage()
    source, viewpoint = batch.load_into(stage, "a", loaded)
    assert viewpoint is None
    job = batch.blender_session.Job("a", {}, batch.read_scan(source, stage.depsgraph()))
    batch.add_scans(job, loaded)
    sent = job.scan.arrays()
    np.testing.assert_allclose(sent["points"], points, atol=1e-6)
    np.testing.assert_array_equal(sent["scans"], scans)
    np.testing.assert_array_equal(sent["viewpoints"], [[9, 0, 0], [0, 9, 0]])
    module = sys.modules[batch.MeshArrays.__module__]
    with np.load(io.BytesIO(module.encode_arrays(sent))) as back:
        np.testing.assert_array_equal(back["scans"], scans)
    stage.clear()


def test_a_second_run_does_only_what_is_missing(run, folders, capsys):
    source, output = folders
    for name in ("a.xyz", "b.xyz", "c.xyz"):
        write_xyz(source / name)
    assert run() == 0
    times = {path.name: path.stat().st_mtime_ns for path in output.glob("*.ply")}
    assert run() == 0
    assert "3 done before, 0 to do" in capsys.readouterr().out
    (output / "a.ply").unlink()
    write_xyz(source / "b.xyz", POINTS * 2)
    write_xyz(source / "d.xyz")
    assert run() == 0
    assert "1 done before, 3 to do" in capsys.readouterr().out
    assert (output / "c.ply").stat().st_mtime_ns == times["c.ply"]
    assert set(rows(output)) == {"a.xyz", "b.xyz", "c.xyz", "d.xyz"}


def test_other_settings_and_force_do_it_anew(run, folders, capsys):
    write_xyz(folders[0] / "a.xyz")
    run()
    run("--seed", "1")
    assert "1 to do" in capsys.readouterr().out
    run("--seed", "1", "--force")
    assert "0 done before, 1 to do" in capsys.readouterr().out


def test_a_failure_is_tried_again_by_the_next_run(run, folders):
    write_xyz(folders[0] / "a.xyz")
    assert run(fail_at=1) == 1
    assert rows(folders[1])["a.xyz"]["error"]["code"] == "made_up"
    assert run() == 0
    assert rows(folders[1])["a.xyz"]["status"] == "done"


def test_an_engine_that_dies_costs_one_file_not_the_rest(run, folders):
    for name in ("a.xyz", "b.xyz"):
        write_xyz(folders[0] / name)
    assert run(die_at=1) == 1
    assert {row["error"]["code"] for row in rows(folders[1]).values()} == {"engine_died"}
    assert len(rows(folders[1])) == 2


def test_a_run_killed_in_the_middle_of_a_line_can_be_resumed(run, folders):
    write_xyz(folders[0] / "a.xyz")
    assert run() == 0
    with (folders[1] / "report.jsonl").open("a") as file:
        file.write('{"input": "b.xyz", "stat')
    write_xyz(folders[0] / "b.xyz")
    assert run() == 0
    assert set(rows(folders[1])) == {"a.xyz", "b.xyz"}


def test_inputs_that_differ_only_in_their_ending_do_not_overwrite_each_other(run, folders):
    write_xyz(folders[0] / "chair.xyz")
    np.save(folders[0] / "Chair.npy", POINTS)
    assert run() == 0
    assert {path.name for path in folders[1].glob("*.ply")} == {"chair_xyz.ply", "Chair_npy.ply"}


def test_further_hypotheses_are_written_too(run, folders):
    write_xyz(folders[0] / "a.xyz")
    assert run("--hypotheses", "2", meshes=2) == 0
    assert rows(folders[1])["a.xyz"]["outputs"] == ["a.ply", "a_2.ply"]
    assert (folders[1] / "a_2.ply").is_file()


def test_surfaces_are_fitted_too(run, folders, capsys):
    source, output = folders
    write_xyz(source / "a.xyz", FAR)
    np.save(source / "b.npy", POINTS[:, :2])  # no list of points
    warning = {"code": "w", "what": "A thin sheet closed up.", "why": "w", "remedy": "r"}
    fit = ("--mode", "fit", "--smoothness", "0.2", "--open-boundaries")
    assert run(*fit, report={"method": "auto", "warnings": [warning]}) == 1
    found = rows(output)
    assert found["a.xyz"]["status"] == "done" and found["b.npy"]["status"] == "failed"
    assert found["a.xyz"]["report"]["warnings"] == [warning]
    vertices, faces = read_ply(output / "a.ply")
    np.testing.assert_allclose(vertices.min(0), FAR.min(0), atol=1e-4)
    said = capsys.readouterr().out
    assert faces == 12 and "warning: A thin sheet closed up." in said and "1 of 2 are fitted, 1 failed" in said
    (source / "b.npy").unlink()
    assert run(*fit) == 0 and "1 done before, 0 to do" in capsys.readouterr().out
    run(*fit, "--method", "siren")
    assert "1 to do" in capsys.readouterr().out, "another method gives another surface"
    run("--mode", "complete")
    assert "1 to do" in capsys.readouterr().out


def test_a_fit_asks_what_fit_shape_asks(batch, folders):
    """The engine's own reader of requests, on what the script sends."""
    pytest.importorskip("pydantic")  # Blender's Python need not have what only the engine uses
    from engine.jobs.fit.request import FitRequest
    from engine.jobs.kinds import parse_request

    paths = ["--input", str(folders[0]), "--output", str(folders[1])]
    options = batch.parse([*paths, "--mode", "fit", "--noise", "0.5", "--viewpoint", "-1,2,3"])
    source = add_points(POINTS)
    job = batch.make_job(Path("a.xyz"), source, options.viewpoint, bpy.context.evaluated_depsgraph_get(), options)
    assert parse_request(job.request) == FitRequest(noise=0.5, viewpoint=(-1.0, 2.0, 3.0), name="a.xyz")


def test_every_format_that_can_be_written_can_be_asked_for(batch, folders):
    """A plugin's too."""
    from engine.geometry.files import Format, register, unregister

    paths = ["--input", str(folders[0]), "--output", str(folders[1])]
    own = Format("Own", (".own",), write_mesh=lambda mesh, offset: b"")
    with pytest.raises(SystemExit):
        batch.parse([*paths, "--format", "own"])
    register(own)
    try:
        assert batch.parse([*paths, "--format", "own"]).format == "own"
    finally:
        unregister(own)


def test_the_open_scene_stays_as_it_was(run, folders):
    bpy.ops.mesh.primitive_cube_add()
    before = {kind: len(getattr(bpy.data, kind)) for kind in ("scenes", "objects", "meshes", "materials", "worlds")}
    write_xyz(folders[0] / "a.xyz")
    assert run() == 0
    assert {kind: len(getattr(bpy.data, kind)) for kind in before} == before


@pytest.mark.parametrize(
    "arguments",
    [["--resolution"], ["--mode", "guess"], ["--method", "magic"], ["--align", "sideways"], ["--viewpoint", "1,2"],
     ["--up", "w"]],
)  # fmt: skip
def test_bad_usage_is_status_2(run, folders, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2


def test_one_folder_for_both_is_refused(batch, folders):
    with pytest.raises(SystemExit) as caught:
        batch.main(["--input", str(folders[0]), "--output", str(folders[0])])
    assert caught.value.code == 2


def test_a_preview_shows_the_result(batch, run, folders, monkeypatch):
    surface = POINTS.copy()  # on the two sides of the emulated result that the camera sees, to be seen themselves
    surface[:100, 1], surface[100:, 2] = 0, 3
    write_xyz(folders[0] / "a.xyz", surface * 50 + 1000)
    monkeypatch.setattr(batch, "parse", lambda arguments, parse=batch.parse: _with_previews(parse(arguments)))
    assert run() == 0
    row = rows(folders[1])["a.xyz"]
    assert row["preview"] == "a.png", row.get("preview_error")
    image = bpy.data.images.load(str(folders[1] / "a.png"))
    assert tuple(image.size) == (64, 64)
    pixels = np.array(image.pixels[:]).reshape(64, 64, 4)[..., :3]
    assert pixels[:3].std() < 0.02 < pixels.std(), "a plain border, and something on it"
    assert (pixels[..., 0] - pixels[..., 2] > 0.2).any(), "the orange points of the scan"


def _with_previews(options: Any) -> Any:
    options.no_previews, options.preview_size = False, 64
    return options


@pytest.mark.parametrize("good", [True, False])
def test_as_a_program_it_ends_with_the_right_status(good, folders):
    """The whole of it in a process of its own with the real engine, whose answer here is that the input is no good."""
    source, output = folders
    if not good:
        write_xyz(source / "point.xyz", np.ones((20, 3)))
    python = os.environ.get("SHAPEWRIGHT_ENGINE_PYTHON") or sys.executable
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "batch_complete.py"), "--input", str(source), "--output", str(output),
         "--engine-python", python],
        capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=120,
    )  # fmt: skip
    if good:  # an empty folder
        assert done.returncode == 2 and "nothing to complete" in done.stdout
    else:
        assert done.returncode == 1, done.stdout + done.stderr
        assert rows(output)["point.xyz"]["status"] == "failed"


def test_new_shapes_are_generated_each_with_its_code_and_a_second_run_makes_only_what_is_missing(batch, run, folders):
    output = folders[1]

    def generate(count: int) -> int:
        return batch.main(["--mode", "generate", "--class", "chair", "--count", str(count), "--output", str(output),
                           "--no-previews"])  # fmt: skip

    assert generate(2) == 0
    for number in (0, 1):
        vertices, _ = read_ply(output / f"chair_{number:03d}.ply")
        assert np.ptp(vertices, axis=0) == pytest.approx([0.5, 0.5, 1.0])
        with np.load(output / f"chair_{number:03d}.npz") as code:
            assert code["code"].shape == (2, 3, 3, 3) and str(code["prior_sha256"]) == "cafe"
    written = (output / "chair_001.ply").stat().st_mtime_ns
    assert generate(3) == 0
    assert (output / "chair_001.ply").stat().st_mtime_ns == written and (output / "chair_002.ply").is_file()
    assert set(rows(output)) == {"chair_000", "chair_001", "chair_002"}
    assert [row["report"]["seed"] for row in rows(output).values()] == [0, 0, 0]
