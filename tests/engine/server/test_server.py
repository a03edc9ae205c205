"""The wire contract, against a real server process over a real socket."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from tests.engine.server.conftest import Client, environment, eventually, is_gone, real_command, server, strange_command

POINTS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
SLOW = {"kind": "selftest", "steps": 600, "step_seconds": 0.1}
QUICK = {"kind": "selftest", "resolution": 64}


def npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def error_of(answer: httpx.Response, status: int, code: str) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert set(error) == {"code", "what", "why", "remedy"} and all(error.values())
    return error


def test_the_server_does_not_import_torch() -> None:
    code = "import engine.server.app, engine.server.serve, engine.cli, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


# ---------------------------------------------------------------------------------------------------------- the gate


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic {token}", "{token}", "Bearer é"])
@pytest.mark.parametrize("path", ["/v1/info", "/v1/jobs", "/v1/jobs/x/events", "/nothing"])
def test_without_the_token_nothing_is_told(strange: Client, header: str | None, path: str) -> None:
    headers = {} if header is None else {"Authorization": header.format(token=strange.token).encode()}
    answer = httpx.get(f"http://127.0.0.1:{strange.port}{path}", headers=headers, trust_env=False)
    error_of(answer, 401, "unauthorized")
    assert answer.headers["shapewright-protocol"] == "1.0"


@pytest.mark.parametrize("version", ["2.0", "0.9", "banana", ""])
def test_another_major_protocol_is_refused_and_both_are_named(strange: Client, version: str) -> None:
    answer = strange.http.get("/v1/info", headers={"Shapewright-Protocol": version})
    error = error_of(answer, 426, "protocol_mismatch")
    assert version in error["why"] and "1.0" in error["why"]


@pytest.mark.parametrize("version", ["1.0", "1.7", "1"])
def test_another_minor_protocol_is_taken(strange: Client, version: str) -> None:
    assert strange.http.get("/v1/info", headers={"Shapewright-Protocol": version}).status_code == 200


def test_token_file_is_the_owners_only(strange: Client) -> None:
    assert len(strange.token) >= 32
    if os.name == "posix":
        assert stat.S_IMODE(strange.token_file.stat().st_mode) == 0o600


def test_info(engine: Client) -> None:
    info = engine.info()
    assert info["name"] == "shapewright" and info["protocol"] == "1.0" and info["version"]
    assert info["pid"] == engine.pid
    assert info["worker"]["state"] in ("starting", "idle", "busy")
    assert info["priors_error"] is None and isinstance(info["priors"], list)
    eventually(lambda: engine.info()["device"] is not None)
    assert engine.info()["device"]["type"] in ("cpu", "cuda", "mps")


# ------------------------------------------------------------------------------------------------------- bad requests


def test_unknown_paths_and_methods(strange: Client) -> None:
    error_of(strange.http.get("/v2/jobs"), 404, "not_found")
    error_of(strange.http.put("/v1/jobs"), 405, "method_not_allowed")
    error_of(strange.http.get("/v1/jobs/none"), 404, "job_not_found")
    error_of(strange.http.get("/v1/jobs/..%2F..%2Fx"), 404, "not_found")
    error_of(strange.http.get("/v1/jobs/none/events"), 404, "job_not_found")
    error_of(strange.http.delete("/v1/jobs/none"), 404, "job_not_found")


def test_bad_requests(strange: Client) -> None:
    cloud = npz(points=POINTS)
    error_of(strange.http.post("/v1/jobs"), 422, "form_invalid")
    error_of(strange.http.post("/v1/jobs", json=QUICK), 422, "form_invalid")
    error_of(strange.http.post("/v1/jobs", content=b"x", headers={"Content-Type": "multipart/form-data"}), 422,
             "form_invalid")  # fmt: skip
    error_of(strange.post("{"), 422, "form_invalid")
    error_of(strange.post("[" * 100_000), 422, "form_invalid")
    error_of(strange.post('{"kind": "selftest", "steps": NaN}'), 422, "request_invalid")
    error_of(strange.post({"kind": "selftest", "colour": 1}), 422, "request_field_unknown")
    error_of(strange.post({"kind": "complete", "resolution": 1000}, cloud), 422, "request_invalid")
    error_of(strange.post({"kind": "complete"}), 422, "form_invalid")
    error_of(strange.post({"kind": "selftest"}, cloud), 422, "form_invalid")
    assert not strange.http.get("/v1/jobs").json()["jobs"] or strange.info()["jobs"]["running"] == 0


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        pytest.param(b"junk", "arrays_invalid", id="junk"),
        pytest.param(npz(points=POINTS)[:-40], "arrays_invalid", id="truncated"),
        pytest.param(npz(points=POINTS.astype(object)), "arrays_invalid", id="pickle"),
        pytest.param(npz(points=np.full((100, 3), np.nan, np.float32)), "cloud_not_finite", id="NaN"),
        pytest.param(npz(points=POINTS[:1]), "cloud_too_small", id="one point"),
        pytest.param(npz(points=np.zeros((0, 3), np.float32)), "cloud_too_small", id="none"),
        pytest.param(npz(points=np.ones((100, 3), np.float32)), "cloud_degenerate", id="all equal"),
        pytest.param(npz(points=POINTS.astype(np.float64) * 1e30), "coordinates_absurd", id="absurd"),
        pytest.param(npz(points=POINTS.astype(np.float64) * 1e300), "coordinates_absurd", id="beyond float32"),
    ],
)
def test_bad_arrays_are_refused_before_they_are_queued(strange: Client, arrays: bytes, code: str) -> None:
    before = {job["id"] for job in strange.http.get("/v1/jobs").json()["jobs"]}
    error_of(strange.post({"kind": "complete"}, arrays), 422, code)
    assert {job["id"] for job in strange.http.get("/v1/jobs").json()["jobs"]} == before


def test_a_body_that_declares_too_much_is_refused_unread(strange: Client) -> None:
    with socket.create_connection(("127.0.0.1", strange.port), 20) as raw:
        raw.sendall(
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {strange.token}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 10000000000\r\n\r\n".encode()
        )
        assert b" 413 " in raw.recv(4096).split(b"\r\n")[0]


# ---------------------------------------------------------------------------------------------------- jobs, for real


def test_a_job_from_its_start_to_its_mesh(engine: Client) -> None:
    job = engine.submit({**QUICK, "name": "Prüfung", "steps": 3, "step_seconds": 0.05})
    events = list(engine.events(job))
    kinds = [event["type"] for event in events]
    assert kinds[0] in ("queued", "started", "progress", "preview") and kinds[-1] == "done"
    numbers = [event["id"] for event in events]
    assert numbers == sorted(set(numbers))
    fractions = [event["fraction"] for event in events if event["type"] == "progress"]
    assert fractions and fractions == sorted(fractions) and fractions[0] >= 0 and fractions[-1] <= 1
    previews = [event for event in events if event["type"] == "preview"]
    assert all(p["vertices"] > 0 and p["faces"] > 0 and p["hypothesis"] == 0 for p in previews)
    shown = engine.job(job)
    assert shown["state"] == "done" and shown["name"] == "Prüfung" and shown["request"]["steps"] == 3
    assert shown["report"]["evaluations"] > 0 and shown["report"]["device"]["type"]

    mesh = engine.mesh(job, shown["meshes"][0])
    assert mesh["vertices"].dtype == np.float32 and mesh["faces"].dtype == np.int32
    assert mesh["normals"].shape == mesh["vertices"].shape
    assert len(mesh["vertices"]) == shown["report"]["vertices"] and mesh["faces"].max() < len(mesh["vertices"])
    # The sphere sits at the top and its normals point away from its centre, so the triangles face outwards.
    top = mesh["vertices"][:, 2] > 0.1
    outwards = mesh["vertices"][top] - np.float32([0, 0, 0.25])
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    assert (np.sum(outwards * mesh["normals"][top], axis=1) > 0.95).all()

    assert engine.delete(job)["state"] == "deleted"
    error_of(engine.http.get(f"/v1/jobs/{job}"), 404, "job_not_found")
    error_of(engine.http.get(f"/v1/jobs/{job}/meshes/1"), 404, "job_not_found")


def test_previews_can_be_fetched_while_the_job_runs(strange: Client) -> None:
    job = strange.submit({**SLOW, "name": "chatty"})
    preview = eventually(lambda: strange.job(job)["preview"])
    eventually(lambda: strange.job(job)["progress"]["stage"] == "Waiting")
    preview = strange.job(job)["preview"]
    assert preview["resolution"] == 307
    assert len(strange.mesh(job, preview["n"])["vertices"]) == preview["vertices"]
    error_of(strange.http.get(f"/v1/jobs/{job}/meshes/1"), 404, "mesh_not_found")  # long replaced
    folder = strange.token_file.parent / "jobs" / job
    assert len(list(folder.glob("mesh_*.npz"))) <= 3
    strange.delete(job)
    assert strange.finish(job)["type"] == "cancelled"
    assert not list(folder.glob("mesh_*.npz"))


def test_arrays_reach_the_job_and_rows_that_are_not_numbers_do_not(strange: Client) -> None:
    points = np.concatenate([POINTS, [[np.nan, 0, 0]]]).astype(np.float32)
    normals = np.tile(np.float32([0, 0, 2]), (len(points), 1))
    job = strange.submit({"kind": "complete", "seed": 41}, npz(points=points, normals=normals))
    done = strange.finish(job)
    assert done["type"] == "done" and done["report"]["seed"] == 41
    mesh = strange.mesh(job, done["meshes"][0])
    np.testing.assert_array_equal(mesh["vertices"], POINTS)
    np.testing.assert_allclose(mesh["normals"], np.tile([0, 0, 1], (len(POINTS), 1)))


def test_two_jobs_wait_for_each_other_and_are_cancelled_alone(engine: Client) -> None:
    first, second, third = engine.submit(SLOW), engine.submit(SLOW), engine.submit(QUICK)
    eventually(lambda: (engine.job(first)["progress"] or {}).get("stage") == "Waiting")
    assert [engine.job(job)["state"] for job in (first, second, third)] == ["running", "queued", "queued"]
    assert engine.wait_for(second, "queued")["position"] == 1
    assert engine.delete(second) == {"id": second, "state": "cancelled"}
    assert engine.job(second)["state"] == "cancelled" and engine.job(first)["state"] == "running"
    worker = engine.worker_pid()
    assert engine.delete(first) == {"id": first, "state": "cancelling"}
    assert engine.finish(first)["type"] == "cancelled"
    assert engine.finish(third)["type"] == "done"
    assert engine.worker_pid() == worker  # it stopped by itself; nobody had to kill it
    assert engine.job(first)["meshes"] == []


def test_events_resume_after_the_last_one_seen(engine: Client) -> None:
    job = engine.submit({**QUICK, "steps": 8, "step_seconds": 0.15})
    seen = []
    for event in engine.events(job):
        seen.append(event)
        if len(seen) == 4:
            break  # the connection drops
    rest = list(engine.events(job, after=seen[-1]["id"]))
    assert rest[0]["id"] > seen[-1]["id"] and rest[-1]["type"] == "done"
    assert list(engine.events(job, after=rest[-1]["id"])) == []
    assert [e["type"] for e in engine.events(job)] == ["queued", "started", "done"]
    assert list(engine.events(job, after=0))[-1] == rest[-1]


def test_silence_is_filled_with_comments(strange: Client) -> None:
    job = strange.submit({"kind": "selftest", "steps": 1, "step_seconds": 30, "name": "deaf"})
    comments = 0
    with strange.http.stream("GET", f"/v1/jobs/{job}/events") as answer:
        for line in answer.iter_lines():
            comments += line == ": keep-alive"
            if comments == 2:
                break
    strange.delete(job)
    assert strange.finish(job)["type"] == "cancelled"


def test_a_client_that_does_not_read_slows_nothing(strange: Client) -> None:
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", strange.port))
        job = strange.submit({"kind": "selftest", "name": "chatty"})
        deaf.sendall(
            f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {strange.token}\r\n\r\n".encode()
        )
        assert strange.finish(job)["type"] == "done"  # though nobody reads from the other connection
        deaf.settimeout(20)
        received = b""
        while b'"type":"done"' not in received:
            part = deaf.recv(65536)
            assert part
            received += part


# ------------------------------------------------------------------------------------------------------------- faults


def test_a_killed_worker_fails_its_job_and_the_next_one_works(engine: Client) -> None:
    job, following = engine.submit(SLOW), engine.submit(QUICK)
    eventually(lambda: (engine.job(job)["progress"] or {}).get("stage") == "Waiting")
    worker = engine.worker_pid()
    psutil.Process(worker).kill()
    last = engine.finish(job)
    assert last["type"] == "failed" and last["error"]["code"] == "worker_died" and last["error"]["remedy"]
    stages = [e["stage"] for e in engine.events(following) if e["type"] == "progress"]
    assert stages[0] == "Starting the engine"  # torch is imported anew, and the client is told
    assert engine.job(following)["state"] == "done"
    assert engine.worker_pid() != worker and is_gone(worker)


def test_a_worker_killed_while_idle_is_replaced(strange: Client) -> None:
    eventually(lambda: strange.info()["worker"]["state"] == "idle")
    worker = strange.worker_pid()
    psutil.Process(worker).kill()
    eventually(lambda: strange.info()["worker"]["pid"] not in (None, worker))
    assert strange.finish(strange.submit(QUICK))["type"] == "done"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("no memory", "out_of_memory"),
        ("no torch memory", "out_of_memory"),
        ("fault", "internal_error"),
        ("refuse", "prior_missing"),
        ("exit", "worker_died"),
        ("frozen", "worker_hung"),
    ],
)
def test_every_fault_becomes_an_error_and_the_queue_goes_on(strange: Client, name: str, code: str) -> None:
    if name == "frozen" and os.name != "posix":
        pytest.skip("uses the C library's sleep")
    job, following = strange.submit({**QUICK, "name": name}), strange.submit(QUICK)
    last = strange.finish(job)
    assert last["type"] == "failed" and last["error"]["code"] == code
    assert all(last["error"].values())
    assert strange.job(job)["error"] == last["error"]
    assert strange.finish(following)["type"] == "done"


def test_a_job_that_ignores_cancelling_costs_its_worker(strange: Client) -> None:
    job, following = strange.submit({**QUICK, "name": "deaf"}), strange.submit(QUICK)
    eventually(lambda: strange.info()["worker"]["state"] == "busy")
    worker = strange.worker_pid()
    eventually(lambda: strange.job(job)["state"] == "running")
    assert strange.delete(job)["state"] == "cancelling"
    assert strange.job(job)["cancelling"]
    assert strange.finish(job)["type"] == "cancelled"
    assert strange.finish(following)["type"] == "done"
    assert strange.worker_pid() != worker
    eventually(lambda: is_gone(worker))


def test_what_libraries_print_does_not_reach_the_pipe(strange: Client) -> None:
    assert strange.finish(strange.submit({**QUICK, "name": "prints"}))["type"] == "done"


def test_reports_are_strict_json(strange: Client) -> None:
    job = strange.submit({**QUICK, "name": "not a number"})
    strange.finish(job)
    text = strange.http.get(f"/v1/jobs/{job}").text
    report = json.loads(text, parse_constant=lambda name: pytest.fail(name))["report"]
    assert report["residual"] == {"median": None, "count": 3}


def test_a_job_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with server(tmp_path, strange_command(tmp_path, "job_timeout_s=0.5")) as client:
        last = client.finish(client.submit(SLOW))
        assert last["type"] == "failed" and last["error"]["code"] == "job_timeout"
        assert client.finish(client.submit(QUICK))["type"] == "done"


def test_an_idle_worker_leaves_and_comes_back(tmp_path: Path) -> None:
    with server(tmp_path, strange_command(tmp_path, "release_after_s=0.2", "stop_after_s=0.6")) as client:
        worker = client.worker_pid()
        eventually(lambda: client.info()["worker"]["state"] == "stopped")
        eventually(lambda: is_gone(worker))
        assert client.finish(client.submit(QUICK))["type"] == "done"


def test_the_queue_has_an_end(tmp_path: Path) -> None:
    with server(tmp_path, strange_command(tmp_path, "max_queued=2")) as client:
        running = client.submit(SLOW)
        eventually(lambda: client.job(running)["state"] == "running")
        client.submit(SLOW), client.submit(SLOW)
        error_of(client.post(SLOW), 429, "queue_full")


# ----------------------------------------------------------------------------------------------------- life and death


def test_results_survive_a_restart_and_a_crash(tmp_path: Path) -> None:
    with server(tmp_path, strange_command(tmp_path)) as client:
        done = client.submit({**QUICK, "name": "kept"})
        last = client.finish(done)
        running, waiting = client.submit(SLOW), client.submit(SLOW)
        resume_at = client.wait_for(running, "progress")["id"]
        worker = client.worker_pid()
        psutil.Process(client.pid).kill()  # no chance to tidy up
        client.process.wait(60)
        eventually(lambda: is_gone(worker))
    with server(tmp_path, strange_command(tmp_path)) as client:
        listed = {job["id"]: job for job in client.http.get("/v1/jobs").json()["jobs"]}
        assert list(listed) == [done, running, waiting]
        assert listed[done]["state"] == "done" and listed[done]["name"] == "kept"
        assert listed[done]["report"] == last["report"]
        for n in listed[done]["meshes"]:
            assert len(client.mesh(done, n)["faces"]) == 1
        assert list(client.events(done))[-1]["meshes"] == last["meshes"]
        for job in (running, waiting):
            assert listed[job]["state"] == "failed" and listed[job]["error"]["code"] == "engine_stopped"
        # A client that was cut off by the crash and resumes learns of the end.
        assert [e["type"] for e in client.events(running, after=resume_at)] == ["failed"]
        assert client.delete(done)["state"] == "deleted"
    with server(tmp_path, strange_command(tmp_path)) as client:
        assert done not in {job["id"] for job in client.http.get("/v1/jobs").json()["jobs"]}


def test_two_servers_share_a_folder_without_taking_each_others_jobs(tmp_path: Path) -> None:
    with server(tmp_path, strange_command(tmp_path)) as one:
        job = one.submit(SLOW)
        eventually(lambda: one.job(job)["state"] == "running")
        other = tmp_path / "two"
        other.mkdir()
        with server(other, strange_command(other, data_dir=tmp_path / "data dür")) as two:
            assert two.http.get("/v1/jobs").json()["jobs"] == []
            assert two.token != one.token and two.http.get("/v1/info").status_code == 200
        assert one.job(job)["state"] == "running"


def test_old_and_bulky_results_are_dropped(tmp_path: Path) -> None:
    with server(tmp_path, strange_command(tmp_path)) as client:
        old, new = client.submit(QUICK), client.submit(QUICK)
        client.finish(old), client.finish(new)
    folder = tmp_path / "data dür" / "jobs"
    state = json.loads((folder / old / "state.json").read_text("utf-8"))
    state |= {stamp: state[stamp] - 48 * 3600 for stamp in ("created", "started", "finished")}
    (folder / old / "state.json").write_text(json.dumps(state), "utf-8")
    with server(tmp_path, strange_command(tmp_path)) as client:
        assert [job["id"] for job in client.http.get("/v1/jobs").json()["jobs"]] == [new]
    assert not (folder / old).exists()
    with server(tmp_path, strange_command(tmp_path, "keep_bytes=10")) as client:
        assert client.http.get("/v1/jobs").json()["jobs"] == []


PARENT = """
import subprocess, sys, time
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
print(server.pid, flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("busy", [False, True])
def test_the_server_leaves_when_its_parent_is_killed(tmp_path: Path, busy: bool) -> None:
    announce = tmp_path / "announce.json"
    code = PARENT.replace("sys.argv[1:]", "[*sys.argv[1:], '--parent-pid', str(__import__('os').getpid())]")
    command = [part for part in real_command(tmp_path) if part != "--parent-stdin"]
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
    )
    try:
        eventually(announce.exists)
        client = Client(json.loads(announce.read_text("utf-8")), parent)
        worker = client.worker_pid()
        if busy:
            job = client.submit(SLOW)
            threading.Thread(target=lambda: _listen(client, job), daemon=True).start()
            eventually(lambda: client.job(job)["state"] == "running")
        before = time.monotonic()
        subprocess.run([sys.executable, "-c", ""], check=True)
        slowness = time.monotonic() - before  # of this machine now: a few hundredths of a second where it is idle
    finally:
        parent.kill()
        parent.wait()
    killed = time.monotonic()
    eventually(lambda: is_gone(client.pid))
    eventually(lambda: is_gone(worker))
    assert time.monotonic() - killed < 5 + 20 * slowness  # the promise of docs/wire.md


def _listen(client: Client, job: str) -> None:
    try:
        for _ in client.events(job):
            pass
    except httpx.HTTPError:
        pass


def test_the_server_leaves_when_its_input_closes(tmp_path: Path) -> None:
    with server(tmp_path, strange_command(tmp_path)) as client:
        worker = client.worker_pid()
        client.submit(SLOW)
        client.process.stdin.close()
        assert client.process.wait(60) == 0
        eventually(lambda: is_gone(worker))
        assert not client.token_file.exists() and not (tmp_path / "announce.json").exists()


def test_a_parent_that_is_gone_already(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [*real_command(tmp_path), "--parent-pid", str(gone.pid)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    assert process.wait(120) == 0
    process.stdin.close()


def test_announcement_and_given_token(tmp_path: Path) -> None:
    token = tmp_path / "my token"
    token.write_text("0123456789abcdef-mine\n", "utf-8")
    if os.name == "posix":
        token.chmod(0o600)
    log = tmp_path / "logs" / "engine.log"
    command = [*real_command(tmp_path), "--token-file", str(token), "--log-file", str(log)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    try:
        line = json.loads(process.stdout.readline())
        assert line["pid"] == process.pid and line["port"] > 0 and line["token_file"] == str(token)
        assert json.loads((tmp_path / "announce.json").read_text("utf-8")) == line
        client = Client(line, process)
        assert client.token == "0123456789abcdef-mine" and client.info()["pid"] == process.pid
    finally:
        process.stdin.close()
        assert process.wait(60) == 0
        process.stdout.close()
    assert token.exists()  # it is not ours to remove
    assert "Leaving" in log.read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--host", "0.0.0.0"], "token_required"),
        (["--port", "99999"], "address_unusable"),
        (["--host", "203.0.113.7", "--token-file", "TOKEN"], "address_unusable"),
        (["--token-file", "SHORT"], "token_invalid"),
        (["--data-dir", "FILE"], "data_dir_unusable"),
        (["--parent-pid", "x"], "usage"),
        (["--grace", "-1"], "usage"),
    ],
)
def test_a_server_that_cannot_start_says_why(tmp_path: Path, options: list[str], code: str) -> None:
    (tmp_path / "TOKEN").write_text("0123456789abcdef-mine", "utf-8")
    (tmp_path / "SHORT").write_text("short", "utf-8")
    (tmp_path / "FILE").write_text("", "utf-8")
    command = [sys.executable, "-m", "engine", "serve", "--json", *options]
    run = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, timeout=120)
    assert run.returncode == 2
    assert json.loads(run.stdout)["error"]["code"] == code
    assert len(run.stderr.decode().strip().splitlines()) == 3


def test_a_port_in_use_is_said(strange: Client, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engine", "serve", "--json", "--port", str(strange.port)]
    run = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, timeout=120)
    assert run.returncode == 2 and json.loads(run.stdout)["error"]["code"] == "address_unusable"


def test_a_broken_installation_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libtorch is gone')", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with server(tmp_path, real_command(tmp_path)) as client:
        last = client.finish(client.submit(QUICK))
        assert last["type"] == "failed" and last["error"]["code"] == "torch_unusable"
        assert "libtorch is gone" in last["error"]["why"]
        assert client.info()["worker"]["state"] == "broken"
