"""One damaged state.json costs one job at most: whatever stands in it, the engine starts, serves the others and keeps
the damaged one's files."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.server.options import QueueOptions
from engine.server.queue import JobQueue
from tests.engine.server.conftest import Client, server, strange_command
from tests.engine.server.test_storage import tree, write

QUICK = {"kind": "selftest", "name": "quick"}
NONSENSE = {
    "a text": '"text"',
    "an empty text": '""',
    "NaN": "NaN",
    "infinity": "-Infinity",
    "beyond all bounds": "1e999",
    "below all bounds": "-1e999",
    "large": "1e308",
    "an integer of 400 digits": "9" * 400,
    "an integer of 9000 digits": "9" * 9000,
    "negative": "-1",
    "zero": "0",
    "a fraction": "1.5",
    "true": "true",
    "null": "null",
    "an empty list": "[]",
    "an empty object": "{}",
    "a list of texts": '["1"]',
    "a list of NaN": "[NaN]",
    "a list of bounds": "[1e999]",
    "a list of negatives": "[-1]",
    "a list of truths": "[true]",
    "a list of 300 lists": "[" * 300 + "]" * 300,
    "a list of 100000 lists": "[" * 100_000 + "]" * 100_000,
    "300 objects": '{"a":' * 300 + "1" + "}" * 300,
    "half a surrogate pair": '"\\ud800"',
    "half a surrogate pair as a key": '{"\\udfff": 1}',
    "numbers for texts": '{"code": 1, "what": 2, "why": 3, "remedy": 4}',
    "NUL": '"\\u0000"',
    "nothing at all": "",
}
FIELDS = ("id", "kind", "name", "request", "state", "created", "started", "finished", "meshes", "report", "error",
          "last_event", "owner")  # fmt: skip


def job_id(number: int) -> str:
    return f"20260102T030405-{number:012x}"


def good_state(number: int) -> dict[str, Any]:
    return {
        "id": job_id(number), "kind": "selftest", "name": f"job {number}", "request": {"kind": "selftest"},
        "state": "done", "created": 1.9e9 + number, "started": 1.9e9 + number, "finished": 1.9e9 + number,
        "meshes": [1], "report": {"faces": 1}, "error": None, "last_event": 7, "owner": {"pid": 0, "started": 0.0},
    }  # fmt: skip


def store(jobs: Path, number: int, state: str | bytes) -> Path:
    folder = jobs / job_id(number)
    folder.mkdir(parents=True)
    (folder / "state.json").write_bytes(state.encode("utf-8") if isinstance(state, str) else state)
    write(folder / "mesh_1.npz", f"mesh of {number}")
    return folder


def with_field(number: int, field: str, text: str) -> str:
    """A good state whose `field` is the JSON `text`, or is not there where that is empty."""
    state = good_state(number)
    if not text:
        del state[field]
        return json.dumps(state)
    return json.dumps({**state, field: "HERE"}).replace('"HERE"', text)


def whole_states() -> dict[str, bytes]:
    """Files that are damaged as a whole."""
    good = json.dumps(good_state(0)).encode()
    return {
        "empty": b"",
        "cut short": good[:-20],
        "binary": bytes(range(256)) * 20,
        "zeros": b"\0" * 4096,
        "not UTF-8": good.replace(b"selftest", b"selftest\xff"),
        "UTF-16": good.decode().encode("utf-16"),
        "a list": b"[]",
        "null": b"null",
        "a number": b"1e999",
        "another id": good,
        "deep": b"[" * 1_000_000,
        "huge": b'{"a": "' + b"x" * (20 * 2**20) + b'"}',
        "huge and empty": b" " * (17 * 2**20) + good,
    }


async def with_queue(data_dir: Path) -> tuple[JobQueue, list[dict[str, Any]]]:
    """A queue that has started on `data_dir` and left again, and what it listed."""
    silent = (sys.executable, "-c", "import sys; sys.stdin.read()")
    queue = JobQueue(data_dir, QueueOptions(worker_command=silent, keepalive_s=0.05, keep_s=1e12))
    await queue.open()
    listed = [job.as_dict() for job in queue.jobs.values()]
    for job in queue.jobs.values():  # every stream ends, and with the job's end
        assert [event["type"] async for event in queue.events(job, 0) if event is not None] == [job.state]
    await queue.close()
    return queue, listed


def check_listed(listed: list[dict[str, Any]]) -> None:
    """As the route sends it, and as clients may rely on it."""
    json.dumps(listed, ensure_ascii=False, allow_nan=False).encode("utf-8")
    for job in listed:
        assert isinstance(job["kind"], str) and isinstance(job["name"], str) and isinstance(job["request"], dict)
        assert job["state"] in ("done", "failed", "cancelled")
        for stamp in (job["created"], job["finished"], job["started"] or 0.0):
            assert isinstance(stamp, int | float) and not isinstance(stamp, bool) and 0 <= stamp < 1e12
        assert all(type(number) is int and number >= 0 for number in job["meshes"])
        assert isinstance(job["report"], dict) if job["state"] == "done" else job["report"] is None or job["report"]
        if job["state"] == "failed":
            assert job["error"].keys() == {"code", "what", "why", "remedy"} and all(job["error"].values())


def test_every_field_may_hold_every_nonsense(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    jobs = tmp_path / "jobs"
    cases = [(field, kind) for field in FIELDS for kind in NONSENSE]
    for number, (field, kind) in enumerate(cases):
        store(jobs, number, with_field(number, field, NONSENSE[kind]))
    good = len(cases)
    store(jobs, good, json.dumps(good_state(good)))
    before = tree(jobs)
    with caplog.at_level(logging.WARNING):
        _, listed = asyncio.run(with_queue(tmp_path))
    check_listed(listed)
    by_id = {job["id"]: job for job in listed}
    assert by_id.keys() == {job_id(number) for number in range(good + 1)}, "every job is told of, none is lost"
    assert by_id[job_id(good)]["state"] == "done" and by_id[job_id(good)]["name"] == f"job {good}"
    told = caplog.text
    taken: set[tuple[str, str]] = set()
    for number, case in enumerate(cases):
        folder, kept = jobs / job_id(number), jobs / f"{job_id(number)}.damaged"
        job = by_id[job_id(number)]
        if job["error"] is not None and job["error"]["code"] == "job_damaged":
            assert not folder.exists() and kept.name in job["error"]["remedy"] and kept.name in told, case
            assert tree(kept) == {
                path.replace(folder.name, kept.name): content for path, content in before.items()
                if path.startswith(f"{folder}{os.sep}")
            }, "kept as it was"  # fmt: skip
        else:
            assert folder.is_dir() and (folder / "mesh_1.npz").exists(), case
            taken.add(case)
    assert not {field for field, _ in taken} & {"id", "state", "finished"}
    assert ("name", "an empty text") in taken and ("meshes", "an empty list") in taken and ("owner", "null") in taken
    unsendable = {kind for kind in NONSENSE if kind.startswith(("NaN", "infinity", "beyond", "below", "half", "300"))}
    assert not {kind for _, kind in taken} & {*unsendable, "a list of NaN", "a list of bounds", "a list of 300 lists",
                                              "a list of 100000 lists", "an integer of 9000 digits"}  # fmt: skip


def test_files_that_are_damaged_as_a_whole(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    cases = whole_states()
    for number, content in enumerate(cases.values(), 1):
        store(jobs, number, content)
    store(jobs, 100, json.dumps(good_state(100)))
    _, listed = asyncio.run(with_queue(tmp_path))
    check_listed(listed)
    codes = {job["id"]: job["error"] and job["error"]["code"] for job in listed}
    assert codes == {**{job_id(n): "job_damaged" for n in range(1, len(cases) + 1)}, job_id(100): None}
    for number, content in enumerate(cases.values(), 1):
        assert (jobs / f"{job_id(number)}.damaged" / "state.json").read_bytes() == content
    write(jobs / job_id(100) / "state.json", json.dumps(good_state(100)))  # as if this process had ended
    _, again = asyncio.run(with_queue(tmp_path))
    assert [job["id"] for job in again] == [job_id(100)], "told once; the next start says nothing of it"


def test_a_second_damaged_job_of_the_same_name_is_kept_beside_the_first(tmp_path: Path) -> None:
    for content in ("first", "second", "third"):
        store(tmp_path / "jobs", 1, content)
        asyncio.run(with_queue(tmp_path))
    kept = sorted((tmp_path / "jobs").iterdir())
    assert [folder.name.partition(".")[2] for folder in kept] == ["damaged", "damaged-2", "damaged-3"]
    assert [(folder / "state.json").read_text("utf-8") for folder in kept] == ["first", "second", "third"]


def test_a_real_server_starts_lists_and_works(tmp_path: Path) -> None:
    jobs = tmp_path / "data dür" / "jobs"
    damaged = ["{", with_field(2, "finished", '"yesterday"'), with_field(3, "created", "NaN"),
               with_field(4, "last_event", "1e999"), with_field(5, "name", '"\\ud800"'),
               with_field(6, "request", NONSENSE["300 objects"]), b"\xff\xfe\x00"]  # fmt: skip
    for number, state in enumerate(damaged, 1):
        store(jobs, number, state)
    store(jobs, 50, json.dumps(good_state(50)))
    with server(tmp_path, strange_command(tmp_path, "keep_s=1e12")) as client:
        answer = client.http.get("/v1/jobs")
        assert answer.status_code == 200
        listed = {job["id"]: job for job in answer.json()["jobs"]}
        assert listed.keys() == {*(job_id(n) for n in range(1, len(damaged) + 1)), job_id(50)}
        assert listed[job_id(50)]["state"] == "done" and listed[job_id(1)]["error"]["code"] == "job_damaged"
        assert [event["type"] for event in client.events(job_id(1))] == ["failed"]
        assert client.delete(job_id(1))["state"] == "deleted"
        assert client.http.get(f"/v1/jobs/{job_id(1)}").status_code == 404
        assert (jobs / f"{job_id(1)}.damaged" / "mesh_1.npz").exists(), "forgotten, but kept"
        assert client.finish(client.submit(QUICK))["type"] == "done"
    assert len(list(jobs.glob("*.damaged"))) == len(damaged)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders")
def test_a_state_that_is_a_pipe_or_a_folder_blocks_nothing(tmp_path: Path) -> None:
    jobs = tmp_path / "data dür" / "jobs"
    for number in (1, 2):
        (jobs / job_id(number)).mkdir(parents=True)
    os.mkfifo(jobs / job_id(1) / "state.json")
    (jobs / job_id(2) / "state.json").mkdir()
    with server(tmp_path, strange_command(tmp_path)) as client:
        assert client.http.get("/v1/jobs").json()["jobs"] == []
    assert (jobs / job_id(1) / "state.json").is_fifo() and (jobs / job_id(2) / "state.json").is_dir()


def test_what_could_not_be_listed_is_refused_before_it_is_a_job(strange: Client) -> None:
    for field, text in (("name", '"\\ud800"'), ("settings", NONSENSE["300 objects"]), ("x", "[" * 100_000)):
        request = f'{{"kind": "train", "{field}": {text}}}'
        answer = strange.http.post("/v1/jobs", data={"request": request})
        assert answer.status_code == 422 and answer.json()["error"]["code"] == "form_invalid", answer.text
    assert strange.http.get("/v1/jobs").status_code == 200
