"""The extension with the engine of this checkout, a process of its own, over a real socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Vector
from mathutils.bvhtree import BVHTree
from stage import ROOT, activate, add_points, engine_python, step_until

PATIENCE_S = 300.0
"""The first job waits for the engine to import torch, which a busy machine makes slow."""


def selftest(addon: Any, running: Any, **request: Any) -> Any:
    asked = {"kind": "selftest", "resolution": 48, "device": "cpu", **request}
    return running.submit(addon.session.Job("Self-test", asked))


def test_the_engine_starts_and_its_test_passes(real_engine):
    assert bpy.ops.shapewright.engine_test() == {"FINISHED"}
    assert real_engine.engine.info["name"] == "shapewright"
    job = real_engine.jobs[-1]
    assert job.state == "done" and job.report["kind"] == "selftest" and job.report["faces"] > 100


def test_two_jobs_queue_and_each_is_cancelled_alone(addon, real_engine):
    long = {"steps": 2000, "step_seconds": 0.05}
    first, second, third = (selftest(addon, real_engine, **asked) for asked in (long, long, {}))
    step_until(real_engine, lambda: first.stage == "Waiting", PATIENCE_S)
    assert second.state == "queued"
    real_engine.cancel(second)
    step_until(real_engine, lambda: second.finished)
    assert second.state == "cancelled" and not first.finished
    real_engine.cancel(first)
    step_until(real_engine, lambda: first.finished)
    assert first.state == "cancelled"
    assert real_engine.wait(third, PATIENCE_S).state == "done"


def test_previews_and_result_come_as_sound_meshes(addon, real_engine):
    """The self-test through the scene's side too, as a stand-in for any job that sends meshes."""
    obj = add_points([(0, 0, 0), (1, 1, 1)])
    obj.location = (3, 4, 5)
    bpy.context.view_layer.update()
    scan = addon.read.read_scan(obj, bpy.context.evaluated_depsgraph_get())
    scan.arrays = None
    request = {"kind": "selftest", "resolution": 128, "device": "cpu"}
    job = real_engine.wait(real_engine.submit(addon.session.Job("Self-test", request, scan)), PATIENCE_S)
    assert job.state == "done", job.problem
    mesh = job.results[0].data
    assert not mesh.validate(verbose=True) and len(mesh.polygons) == job.report["faces"]
    assert tuple(job.results[0].location) == (3, 4, 5)
    assert mesh.vertices[0].normal.length == pytest.approx(1, abs=1e-5)
    assert len(bpy.data.objects) == 2 and len(bpy.data.meshes) == 2


def test_a_request_that_the_engine_refuses_fails_with_its_reason(addon, real_engine):
    job = real_engine.wait(selftest(addon, real_engine, resolution=100_000), PATIENCE_S)
    assert job.state == "failed" and job.problem.code == "request_invalid" and "100000" in job.problem.why


def test_degenerate_input_fails_with_its_reason_and_leaves_the_scene_alone(real_engine):
    add_points([(1, 1, 1)] * 100)
    with pytest.raises(RuntimeError) as caught:
        bpy.ops.shapewright.complete_shape()
    assert len(str(caught.value)) > 40
    assert set(bpy.data.objects.keys()) == {"Scan"} and len(bpy.data.meshes) == 1


def test_a_scan_is_completed_in_its_place_and_scale(real_engine):
    """The real thing: the example scan, three times its size and far from the origin, with the default prior."""
    bpy.ops.wm.ply_import(filepath=str(ROOT / "examples" / "chair_scan.ply"), forward_axis="Y", up_axis="Z")
    scan = bpy.context.view_layer.objects.active
    scan.scale, scan.location = (3, 3, 3), (200, -100, 5)
    bpy.context.view_layer.update()
    facts = json.loads((ROOT / "examples" / "chair_scan.json").read_text("utf-8"))
    viewpoint = scan.matrix_world @ Vector(facts["viewpoint"])
    bpy.ops.ed.undo_push(message="Before")
    assert bpy.ops.shapewright.complete_shape(
        resolution=48, seed=1, device="cpu", viewpoint="POINT", viewpoint_location=viewpoint
    ) == {"FINISHED"}
    job = real_engine.jobs[-1]
    assert job.previews_shown >= 1 and job.state == "done"
    result = bpy.data.objects[f"{scan.name} Complete"]
    assert result["shapewright_prior"] == "household" and len(result["shapewright_prior_hash"]) == 64
    assert result["shapewright_seed"] == 1 and result["shapewright_engine_version"]
    assert not result.data.validate()
    size = max(scan.dimensions)
    surface = BVHTree.FromObject(result, bpy.context.evaluated_depsgraph_get())
    to_result = result.matrix_world.inverted() @ scan.matrix_world
    distances = sorted(surface.find_nearest(to_result @ v.co)[3] for v in list(scan.data.vertices)[::20])
    assert distances[len(distances) // 2] < 0.01 * size, "what was seen lies on the surface"
    assert max(result.dimensions) < 1.5 * size
    name = scan.name
    bpy.ops.ed.undo()
    assert set(bpy.data.objects.keys()) == {name}, "one undo takes it away"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_engine_killed_in_the_middle_fails_the_job_and_the_next_one_works(addon, real_engine):
    job = selftest(addon, real_engine, steps=2000, step_seconds=0.05)
    step_until(real_engine, lambda: job.stage == "Waiting", PATIENCE_S)
    os.kill(real_engine.engine.pid, signal.SIGKILL)
    step_until(real_engine, lambda: job.finished)
    assert job.state == "failed" and job.problem.code == "engine_died" and "signal 9" in job.problem.why
    assert real_engine.wait(selftest(addon, real_engine), PATIENCE_S).state == "done"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_worker_killed_in_the_middle_fails_the_job_and_the_next_one_works(addon, real_engine):
    job = selftest(addon, real_engine, steps=2000, step_seconds=0.05)
    step_until(real_engine, lambda: job.stage == "Waiting", PATIENCE_S)
    os.kill(real_engine.engine.client.info()["worker"]["pid"], signal.SIGKILL)
    step_until(real_engine, lambda: job.finished)
    assert job.state == "failed" and job.problem.code == "worker_died"
    assert real_engine.wait(selftest(addon, real_engine), PATIENCE_S).state == "done"


@pytest.mark.skipif(os.name == "nt", reason="asks for a process in the way of POSIX")
def test_stopping_leaves_no_process_behind(addon, real_engine):
    real_engine.wait(selftest(addon, real_engine), PATIENCE_S)
    worker = real_engine.engine.client.info()["worker"]["pid"]
    process = real_engine.engine._process
    real_engine.engine.stop(wait=True)
    assert process.poll() is not None
    deadline = time.monotonic() + 10
    while alive(worker):
        assert time.monotonic() < deadline, "the worker is still there"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return not (state.is_file() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


# ------------------------------------------------------------------------------------------------- shapes from a prior


@pytest.fixture(scope="session")
def ellipsoids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small prior that can generate, made by the engine's Python."""
    folder = tmp_path_factory.mktemp("priors")
    make = (
        "import sys, pathlib; sys.path[:0] = ['.', 'tests/engine']; from conftest import write_generative_prior; "
        "write_generative_prior(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([engine_python(), "-c", make, str(folder / "generative.safetensors")], cwd=ROOT, check=True)
    return folder


@pytest.fixture
def generative(ellipsoids: Path, monkeypatch: pytest.MonkeyPatch, real_engine: Any) -> Any:
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(ellipsoids))
    return real_engine


def coded() -> list[bpy.types.Object]:
    return sorted((obj for obj in bpy.data.objects if "shapewright_code" in obj), key=lambda obj: obj.name)


def vertices_of(obj: bpy.types.Object) -> np.ndarray:
    return np.array([vertex.co for vertex in obj.data.vertices])


def test_one_seed_gives_the_same_shapes_while_polled_while_waited_for_and_from_the_command_line(
    addon, generative, tmp_path
):
    asked = {"prior": "generative", "class_name": "plate", "count": 3, "resolution": 32, "seed": 5, "device": "cpu"}
    assert bpy.ops.shapewright.generate(**asked) == {"FINISHED"}
    waited_for = [vertices_of(obj) for obj in coded()]
    assert [obj["shapewright_class"] for obj in coded()] == ["plate"] * 3
    codes = [bytes(obj["shapewright_code"]) for obj in coded()]
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)

    # As in a window: the operator returns at once, and a timer calls step().
    writer = addon.side_by_side.SetWriter("Set", "Shape", np.eye(4), addon.side_by_side.grid(3, 1.0))
    request = {"kind": "generate", "temperature": 0.9, **asked}
    job = generative.submit(addon.session.Job("Generate", request, writer=writer))
    step_until(generative, lambda: job.finished, PATIENCE_S)
    polled = [vertices_of(obj) for obj in coded()]

    command = [engine_python(), "-m", "engine", "generate", "-o", str(tmp_path), "--prior", "generative", "--class",
               "plate", "-n", "3", "--seed", "5", "--resolution", "32", "--device", "cpu"]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    files = sorted(tmp_path.glob("*.ply"))
    assert len(files) == 3
    for number, path in enumerate(files):
        bpy.ops.wm.ply_import(filepath=str(path), forward_axis="Y", up_axis="Z")
        written = vertices_of(bpy.context.view_layer.objects.active)
        np.testing.assert_allclose(polled[number], waited_for[number], atol=1e-6)
        low, high = written.min(0), written.max(0)
        base = np.array([*(low + high)[:2] / 2, low[2]])  # the origin of an object, not of a file
        np.testing.assert_allclose(written - base, waited_for[number], atol=1e-5)
        with np.load(path.with_suffix(".npz")) as archive:
            assert archive["code"].astype("<f4").tobytes() == codes[number]


def test_a_variant_keeps_the_selected_part_a_blend_leads_from_one_to_the_other_and_a_slider_slides(addon, generative):
    asked = {"prior": "generative", "resolution": 32, "device": "cpu"}
    bpy.ops.shapewright.generate(class_name="ball", count=2, seed=1, **asked)
    first, second = coded()
    for vertex in first.data.vertices:
        vertex.select = vertex.co.z < first.dimensions.z / 2  # it stands on its origin
    activate(first)
    bpy.ops.shapewright.vary(variants=2, strength=0.5, keep="SELECTED", **asked)
    tree = [BVHTree.FromObject(bpy.data.objects[f"Ball 1 Variant {n}"], bpy.context.evaluated_depsgraph_get())
            for n in (1, 2)]  # fmt: skip
    lower = [v.co for v in first.data.vertices if v.co.z < first.dimensions.z / 2 - 0.1]
    for found in tree:
        distances = sorted(found.find_nearest(point)[3] for point in lower)
        assert distances[len(distances) // 2] < 0.01
    activate(first)
    second.select_set(True)
    second.location.x = 3
    bpy.ops.shapewright.blend(steps=1, **asked)
    ends = [bpy.data.objects[f"Ball 1 to Ball 2 Blend {n}"] for n in (1, 2, 3)]
    for end, original in ((ends[0], first), (ends[2], second)):
        assert tuple(end.dimensions) == pytest.approx(tuple(original.dimensions), abs=0.03)
    activate(first)
    second.select_set(True)
    bpy.ops.shapewright.blend(steps=2, layout="KEYS", **asked)
    keyed = bpy.data.objects["Ball 1 to Ball 2 Blend"]
    last = np.array([point.co for point in keyed.data.shape_keys.key_blocks[-1].points])
    assert len(keyed.data.shape_keys.key_blocks) == 4
    assert tuple(np.ptp(last, axis=0)) == pytest.approx(tuple(second.dimensions), abs=0.03)
    activate(first)
    before = tuple(first.dimensions)
    assert bpy.ops.shapewright.show_sliders(count=3, device="cpu", resolution=32) == {"FINISHED"}
    assert len(first.shapewright_sliders) == 3
    first.shapewright_sliders[0].value += 1.5
    step_until(generative, lambda: not addon.driving.sliders().busy, PATIENCE_S)
    assert addon.driving.sliders().problem is None
    bpy.context.view_layer.update()
    assert np.abs(np.array(first.dimensions) - before).max() > 0.02
