"""Sliders beside the queue, finished meshes one by one, and codes on their way there and back."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from engine.errors import InputError
from engine.geometry.meshes import Mesh
from engine.jobs.base import JobArrays, ShapeCode
from engine.jobs.kinds import find
from engine.wire.arrays import checked_arrays, pack_arrays, pack_mesh, unpack_arrays, unpack_mesh
from tests.engine.server.conftest import Client, eventually, server, strange_command


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server whose worker's jobs do as their names say; a busy machine does not make it think that it hangs."""
    folder = tmp_path_factory.mktemp("slides")
    with server(folder, strange_command(folder)) as client:
        yield client


NO_POINTS = np.zeros((0, 3), np.float32)


def shape_code(seed: int = 0) -> ShapeCode:
    rng = np.random.default_rng(seed)
    return ShapeCode(rng.standard_normal((4, 2, 2, 2)).astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))


def slide(client: Client, arrays: bytes | None = None, **request: Any) -> httpx.Response:
    files: dict[str, Any] = {"request": (None, json.dumps({"kind": "slide", **request}))}
    files["arrays"] = ("arrays.npz", arrays or pack_arrays(JobArrays(NO_POINTS, code=shape_code())))
    return client.http.post("/v1/slide", files=files)


# ---------------------------------------------------------------------------------------------------------- the wire


def test_shapes_with_and_without_codes_travel_together() -> None:
    points = np.random.default_rng(0).random((20, 3)).astype(np.float32)
    faces = np.array([[0, 1, 2]], np.int32)
    sent = JobArrays(NO_POINTS, code=shape_code(), others=[JobArrays(points, None, faces), JobArrays(points)])
    sent.kept, sent.kept_normals = points[:5], points[5:10]
    again = unpack_arrays(pack_arrays(sent))
    assert again.code is not None and np.array_equal(again.code.code, shape_code().code)
    assert np.array_equal(again.code.pose, shape_code().pose) and again.code.pose.dtype == np.float64
    assert len(again.points) == 0 and len(again.others) == 2
    assert np.array_equal(again.others[0].faces, faces) and again.others[1].faces is None
    assert np.array_equal(again.kept, points[:5]) and np.array_equal(again.kept_normals, points[5:10])


def test_a_mesh_takes_its_code_along() -> None:
    mesh = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
    _, code = unpack_mesh(pack_mesh(mesh, shape_code()))
    assert code is not None and np.array_equal(code.code, shape_code().code)
    assert unpack_mesh(pack_mesh(mesh))[1] is None


def members(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"pose": np.eye(4), "points": np.ones((3, 3))}, "without 'code'"),
        ({"code": np.full((2, 2), np.nan)}, "not finite"),
        ({"code": np.zeros((2, 2)), "pose": np.eye(3)}, r"\(4, 4\) is expected"),
        ({"code": np.zeros(2**20 + 1)}, "at most"),
        ({"code": np.zeros(2, np.int32)}, "numbers are expected"),
        ({"points": np.ones((3, 3)), "code_3": np.zeros(4)}, "numbered without gaps"),
        ({"normals": np.ones((3, 3))}, "'points' is missing"),
    ],
)
def test_codes_are_checked(arrays: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        unpack_arrays(members(**arrays))


def test_kinds_take_only_what_they_can_use() -> None:
    points = np.random.default_rng(0).random((20, 3)).astype(np.float32)
    with pytest.raises(InputError, match="takes no 'code'"):
        checked_arrays(find("complete"), JobArrays(NO_POINTS, code=shape_code()))
    with pytest.raises(InputError, match="takes one shape"):
        checked_arrays(find("vary"), JobArrays(points, others=[JobArrays(points)]))
    with pytest.raises(InputError, match="takes no 'kept' points"):
        checked_arrays(find("blend"), JobArrays(points, kept=points, others=[JobArrays(points)]))
    with pytest.raises(InputError):  # neither code nor points
        checked_arrays(find("vary"), JobArrays(NO_POINTS))
    assert checked_arrays(find("vary"), JobArrays(NO_POINTS, code=shape_code(), kept=points)).code is not None


# --------------------------------------------------------------------------------------------------------- the server


def test_finished_meshes_come_one_by_one_and_are_the_results(slow: Client, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    job = slow.submit({"kind": "generate", "name": "several", "prior": str(go_on)})
    first = next(event for event in slow.events(job) if event["type"] == "mesh" and event["index"] == 1)
    assert first["about"] == {"number": 6} and slow.job(job)["state"] == "running"
    got = slow.mesh(job, first["n"])  # while the job goes on
    assert got["code"].shape == (1, 2, 2, 2) and got["pose"][0, 0] == 2.0
    go_on.touch()
    done = slow.finish(job)
    assert done["type"] == "done" and len(done["meshes"]) == 3 and done["meshes"][1] == first["n"]
    assert "code" in slow.mesh(job, done["meshes"][0]) and "code" not in slow.mesh(job, done["meshes"][2])
    assert [event["type"] for event in slow.events(job)][-1] == "done"


def test_a_cancelled_job_drops_what_was_finished(slow: Client, tmp_path: Path) -> None:
    job = slow.submit({"kind": "generate", "name": "several", "prior": str(tmp_path / "never")})
    n = slow.wait_for(job, "mesh")["n"]
    slow.delete(job)
    assert slow.finish(job)["type"] == "cancelled"
    assert slow.job(job)["meshes"] == []
    assert slow.http.get(f"/v1/jobs/{job}/meshes/{n}").status_code == 404


def test_a_newer_step_replaces_the_older_of_its_stream(slow: Client) -> None:
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(slide(slow, name="patient", stream="one")))
    waiting.start()
    # However late the first comes, one of these comes after it; the first alone would never end.
    eventually(lambda: slide(slow, stream="one").status_code == 200 and not waiting.is_alive())
    assert answers[0].status_code == 409 and answers[0].json()["error"]["code"] == "superseded"


def test_a_slider_does_not_wait_for_the_running_job(slow: Client) -> None:
    job = slow.submit({"kind": "selftest", "steps": 1000, "step_seconds": 0.1})
    slow.wait_for(job, "started")
    answer = slide(slow)
    assert answer.status_code == 200 and json.loads(answer.headers["Shapewright-Report"]) == {"seed": 0, "notes": []}
    with np.load(io.BytesIO(answer.content)) as mesh:
        assert mesh["vertices"].shape == (0, 3)
    assert slow.job(job)["state"] == "running"
    slow.delete(job)


def test_slides_fail_with_their_reason(slow: Client) -> None:
    refused = slide(slow, name="refuse")
    assert refused.status_code == 422 and refused.json()["error"]["code"] == "prior_missing"
    assert slide(slow, name="fault").status_code == 500
    died = slide(slow, name="exit")
    assert died.status_code == 500 and died.json()["error"]["code"] == "worker_died"
    assert slide(slow).status_code == 200  # by the worker's successor
    damaged = slide(slow, b"nothing")
    assert damaged.status_code == 422 and damaged.json()["error"]["code"] == "arrays_invalid"
    other = slow.http.post(
        "/v1/slide", files={"request": (None, '{"kind": "selftest"}'), "arrays": ("arrays.npz", b"")}
    )
    assert other.status_code == 422 and "not for 'selftest'" in other.json()["error"]["why"]


def test_the_real_worker_slides_as_the_job_does(engine: Client, generative_prior_file: Path) -> None:
    request = {"kind": "slide", "prior": str(generative_prior_file), "resolution": 24}
    arrays = pack_arrays(JobArrays(NO_POINTS, code=ShapeCode(np.zeros((4, 2, 2, 2), np.float32), np.eye(4))))
    answer = slide(engine, arrays, **request)
    assert answer.status_code == 200, answer.text
    with np.load(io.BytesIO(answer.content)) as npz:
        quick = dict(npz)
    job = engine.submit(request, arrays)
    done = engine.finish(job)
    assert done["type"] == "done", done
    slow = engine.mesh(job, done["meshes"][0])
    assert quick.keys() == slow.keys() and all(np.array_equal(quick[name], slow[name]) for name in quick)
    wrong = slide(engine, **request | {"prior_sha256": "0" * 64})
    assert wrong.status_code == 422 and wrong.json()["error"]["code"] == "prior_missing"
