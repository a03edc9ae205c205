"""The extension with the engine of this checkout, a process of its own, over a real socket."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import bpy
import pytest
from mathutils import Vector
from mathutils.bvhtree import BVHTree
from stage import ROOT, add_points, step_until

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
    scan = addon.scene.read_scan(obj, bpy.context.evaluated_depsgraph_get())
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
