"""The HTTP client against an emulated engine in this process: contracts, faults, and what a slow reader costs."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from emulated_engine import BOX_FACES, Behaviour, EmulatedEngine


@pytest.fixture
def serve(addon: SimpleNamespace) -> Iterator[Callable[..., tuple[EmulatedEngine, Any]]]:
    engines: list[EmulatedEngine] = []

    def start(**behaviour: Any) -> tuple[EmulatedEngine, Any]:
        engine = EmulatedEngine(Behaviour(**behaviour))
        engines.append(engine)
        return engine, addon.client.EngineClient(engine.port, engine.token)

    yield start
    for engine in engines:
        engine.stop()


def follow(thread: Any, timeout_s: float = 60.0) -> list[Any]:
    """All updates of a job until its end."""
    assert thread.join(timeout_s), "the job's thread did not end"
    updates = []
    while not thread.updates.empty():
        updates.append(thread.updates.get())
    return updates


def run(addon: SimpleNamespace, client: Any, **options: Any) -> list[Any]:
    points = np.array([[0, 0, 0], [1, 2, 3]], np.float32)
    thread = addon.job_thread.JobThread(client, {"kind": "complete"}, lambda: {"points": points}, **options)
    thread.start()
    return follow(thread)


def test_what_is_sent_arrives_as_it_was(addon, serve):
    engine, client = serve()
    rng = np.random.default_rng(1)
    points, faces = rng.normal(size=(500, 3)), rng.integers(0, 500, (99, 3))
    job_id = client.submit(
        {"kind": "complete", "name": "Stuhl ščž 形"}, {"points": points, "normals": None, "faces": faces}
    )
    job = engine.jobs[job_id]
    assert job.request == {"kind": "complete", "name": "Stuhl ščž 形"}
    assert set(job.arrays) == {"points", "faces"}
    assert job.arrays["points"].dtype == np.float32 and job.arrays["faces"].dtype == np.int32
    np.testing.assert_array_equal(job.arrays["points"], points.astype(np.float32))
    np.testing.assert_array_equal(job.arrays["faces"], faces)


def test_a_job_brings_its_states_in_order_and_its_mesh(addon, serve):
    _, client = serve()
    updates = run(addon, client)
    states = [update.state for update in updates]
    assert states[0] == "queued" and states[-1] == "done" and set(states[1:-1]) == {"running"}
    fractions = [u.fraction for u in updates if u.fraction is not None]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    mesh = updates[-1].meshes[0][1]
    np.testing.assert_allclose(mesh.vertices.max(0), [1, 2, 3])
    assert updates[-1].report["prior"]["hash"] == "cafe"


def test_every_mesh_of_several_hypotheses_comes_best_first(addon, serve):
    engine, client = serve(meshes=3)
    assert len(run(addon, client)[-1].meshes) == 3
    fetched = [int(path.rsplit("/", 1)[1]) for _, path in engine.log if "/meshes/" in path]
    assert [number for number in fetched if number >= 100] == [100, 101, 102]  # a preview may still come in between


def test_another_major_protocol_is_refused_and_both_are_named(addon, serve):
    _, client = serve(protocol="2.3")
    with pytest.raises(addon.problem.EngineProblem) as caught:
        client.info()
    assert caught.value.code == "protocol_mismatch"
    assert "2.3" in caught.value.why and addon.problem.PROTOCOL_VERSION in caught.value.why


def test_a_newer_minor_protocol_is_accepted(addon, serve):
    _, client = serve(protocol="1.7")
    assert client.info()["version"] == "9.9.9"


def test_what_is_no_engine_is_told_apart(addon, serve):
    _, client = serve(protocol="")
    with pytest.raises(addon.problem.EngineProblem) as caught:
        client.info()
    assert caught.value.code == "not_an_engine"


def test_a_wrong_token_is_refused_in_three_parts(addon, serve):
    _, client = serve()
    client.token = "other"
    with pytest.raises(addon.problem.EngineProblem) as caught:
        client.info()
    assert caught.value.code == "unauthorized"
    assert caught.value.what and caught.value.why and caught.value.remedy


def test_nobody_listening_is_a_problem_with_a_remedy(addon, serve):
    engine, client = serve()
    engine.stop()
    with pytest.raises(addon.problem.EngineProblem) as caught:
        client.info()
    assert caught.value.code == "engine_unreachable" and caught.value.remedy


def test_an_answer_that_takes_too_long_is_given_up(addon, serve):
    _, client = serve(answer_s=3.0)
    client.answer_timeout_s = 0.2
    with pytest.raises(addon.problem.EngineProblem) as caught:
        client.info()
    assert caught.value.code == "engine_silent"


def test_a_broken_stream_is_resumed_without_loss_or_repetition(addon, serve):
    engine, client = serve(drop_stream_every=2, steps=6)
    updates = run(addon, client)
    assert updates[-1].state == "done"
    assert engine.streams_opened > 2
    messages = [update.message for update in updates if update.message]
    assert messages == [f"step {number}" for number in range(6)]


def test_a_silent_stream_of_a_long_job_is_no_failure(addon, serve, monkeypatch):
    monkeypatch.setattr(addon.client, "EVENT_SILENCE_S", 0.1)
    engine, client = serve(steps=2, step_s=0.7)
    updates = run(addon, client, give_up_after_s=0.3)
    assert updates[-1].state == "done"
    assert engine.streams_opened > 3


def test_comments_keep_a_silent_stream_open(addon, serve, monkeypatch):
    monkeypatch.setattr(addon.client, "EVENT_SILENCE_S", 0.3)
    engine, client = serve(steps=2, step_s=0.7, keep_alive_s=0.05)
    assert run(addon, client)[-1].state == "done"
    assert engine.streams_opened == 1


def test_an_engine_that_dies_fails_the_job_with_a_reason(addon, serve):
    _, client = serve(die_at=2)
    updates = run(addon, client, give_up_after_s=0.3)
    assert updates[-1].state == "failed"
    assert updates[-1].problem.code == "engine_unreachable"


def test_a_failure_of_the_engine_keeps_its_three_parts(addon, serve):
    _, client = serve(fail_at=1)
    problem = run(addon, client)[-1].problem
    assert problem.as_dict() == {
        "code": "made_up", "what": "It failed.", "why": "It was told to.", "remedy": "Tell it otherwise.",
    }  # fmt: skip


@pytest.mark.parametrize("garbage", ["garbage_mesh", "garbage_event"])
def test_garbage_is_a_failure_not_a_crash(addon, serve, garbage):
    _, client = serve(**{garbage: True})
    updates = run(addon, client)
    assert updates[-1].state == "failed" and updates[-1].problem.code == "bad_answer"


def test_a_job_that_the_engine_forgot_fails(addon, serve):
    engine, client = serve(drop_stream_every=1, step_s=0.1)
    thread = addon.job_thread.JobThread(client, {"kind": "selftest"}, None)
    thread.start()
    while not engine.streams_opened:
        time.sleep(0.01)
    engine.jobs.clear()
    assert follow(thread)[-1].problem.code == "job_not_found"


def test_cancelling_ends_the_job(addon, serve):
    engine, client = serve(hang_at=1)
    thread = addon.job_thread.JobThread(client, {"kind": "selftest"}, None)
    thread.start()
    while not any(event["type"] == "progress" for job in engine.jobs.values() for event in job.events):
        time.sleep(0.01)
    thread.cancel()
    assert follow(thread)[-1].state == "cancelled"


def test_cancelling_before_the_job_has_arrived_still_reaches_it(addon, serve):
    _, client = serve(answer_s=0.2, steps=500)
    thread = addon.job_thread.JobThread(client, {"kind": "selftest"}, None)
    thread.start()
    thread.cancel()
    assert follow(thread)[-1].state == "cancelled"


def test_closing_ends_the_threads_of_a_job_that_hangs(addon, serve):
    engine, client = serve(hang_at=1)
    before = threading.active_count()
    thread = addon.job_thread.JobThread(client, {"kind": "selftest"}, None)
    thread.start()
    while not engine.streams_opened:
        time.sleep(0.01)
    thread.close()
    assert thread.join(5.0)
    engine.stop()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [t for t in threading.enumerate() if t.name.startswith("shapewright")]


def test_a_slow_reader_fetches_only_the_newest_preview(addon, serve):
    engine, client = serve(steps=60, step_s=0.005, preview_at=tuple(range(60)), mesh_s=0.1)
    thread = addon.job_thread.JobThread(client, {"kind": "selftest"}, None)
    thread.start()
    follow(thread)
    fetched = [int(path.rsplit("/", 1)[1]) for _, path in engine.log if "/meshes/" in path]
    previews = [number for number in fetched if number < 100]
    assert 1 <= len(previews) < 30
    assert previews == sorted(previews)


def test_previews_can_be_declined(addon, serve):
    engine, client = serve()
    run(addon, client, want_previews=False)
    assert [path for _, path in engine.log if "/meshes/" in path] == ["/v1/jobs/job1/meshes/100"]


def test_a_preview_too_large_to_be_set_in_a_tick_is_not_fetched(addon, serve, monkeypatch):
    monkeypatch.setattr(addon.job_thread, "MAX_PREVIEW_FACES", 11)
    engine, client = serve()  # its meshes have 12 faces
    assert run(addon, client)[-1].state == "done"
    assert [path for _, path in engine.log if "/meshes/" in path] == ["/v1/jobs/job1/meshes/100"]


# ------------------------------------------------------------------------------------------------------------ meshes


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


VERTICES = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zip at all",
        npz(vertices=VERTICES),
        npz(vertices=VERTICES, faces=np.array([[0, 1, 8]], np.int32)),
        npz(vertices=VERTICES, faces=np.array([[0, 1, -1]], np.int32)),
        npz(vertices=VERTICES, faces=np.array([[0.5, 1, 2]])),
        npz(vertices=VERTICES[:, :2], faces=BOX_FACES),
        npz(vertices=np.full((8, 3), np.nan), faces=BOX_FACES),
        npz(vertices=VERTICES, faces=BOX_FACES, normals=VERTICES[:4]),
        npz(vertices=np.array([{"a": 1}] * 8, object), faces=BOX_FACES),
        npz(vertices=VERTICES, faces=BOX_FACES)[:-40],
    ],
)
def test_a_damaged_mesh_is_refused(addon, data):
    with pytest.raises(addon.problem.EngineProblem) as caught:
        addon.mesh_arrays.decode_mesh(data)
    assert caught.value.code == "bad_answer"


def test_edges_are_each_once_and_lead_from_corner_to_corner(addon):
    rng = np.random.default_rng(3)
    faces = np.array([rng.permutation(40)[:3] for _ in range(300)], np.int32)
    mesh = addon.mesh_arrays.MeshArrays.of(rng.normal(size=(40, 3)), faces)
    assert len(np.unique(np.sort(mesh.edges, axis=1), axis=0)) == len(mesh.edges)
    corners, following = mesh.faces.reshape(-1), np.roll(mesh.faces, -1, axis=1).reshape(-1)
    found = np.sort(mesh.edges[mesh.corner_edges], axis=1)
    np.testing.assert_array_equal(found, np.sort(np.stack([corners, following], axis=1), axis=1))


def test_degenerate_and_repeated_triangles_are_left_out(addon):
    faces = np.array([[0, 1, 2], [2, 0, 1], [3, 3, 4], [1, 0, 2], [4, 5, 6]], np.int32)
    mesh = addon.mesh_arrays.MeshArrays.of(VERTICES, faces)
    assert mesh.faces.tolist() == [[0, 1, 2], [4, 5, 6]]
