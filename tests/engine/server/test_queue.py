"""The queue's events as a reader sees them, without a server around it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.jobs.request import Request
from engine.jobs.selftest.request import SelftestRequest
from engine.jobs.train.request import TrainRequest
from engine.server.job import Job
from engine.server.options import QueueOptions
from engine.server.queue import JobQueue


def queue_with_job(folder: Path, request: Request | None = None) -> tuple[JobQueue, Job]:
    """A queue with one running job, whose worker is a process that says nothing: the test speaks for it."""
    silent = (sys.executable, "-c", "import sys; sys.stdin.read()")
    queue = JobQueue(folder, QueueOptions(worker_command=silent, keepalive_s=0.05))
    queue.jobs_dir.mkdir(parents=True)
    job = queue.submit(queue.new_folder(), request or SelftestRequest())
    assert job.state == "running"
    return queue, job


def say(queue: JobQueue, job: Job, kind: str, **fields: Any) -> None:
    queue._on_job_message({"type": kind, "id": job.id, **fields})


def preview(queue: JobQueue, job: Job, n: int, hypothesis: int = 0) -> None:
    say(queue, job, "preview", n=n, resolution=32, hypothesis=hypothesis, vertices=1, faces=1)


async def heard(events: AsyncIterator[dict[str, Any] | None]) -> list[dict[str, Any]]:
    """What a reader gets until nothing more comes for a while."""
    found = []
    async for event in events:
        if event is None:
            break
        found.append(event)
    return found


def test_a_slow_reader_gets_the_newest_and_misses_no_end(tmp_path: Path) -> None:
    async def story() -> None:
        queue, job = queue_with_job(tmp_path)
        reader = queue.events(job, 0)
        assert (await anext(reader))["type"] == "queued"
        for n in range(1, 1001):  # meanwhile the reader is busy
            say(queue, job, "progress", stage="Fitting", fraction=n / 1000, eta_s=None, message="")
            preview(queue, job, n, hypothesis=n % 2)
        assert len(job.events) < 10  # nothing piles up
        got = await heard(reader)
        assert [(e["type"], e.get("n")) for e in got if e["type"] == "preview"] == [("preview", 999), ("preview", 1000)]
        assert [e["fraction"] for e in got if e["type"] == "progress" and e["stage"] == "Fitting"] == [1.0]
        assert [e["id"] for e in got] == sorted(e["id"] for e in got)

        late = queue.events(job, got[-1]["id"])
        say(queue, job, "done", meshes=[1001], report={})
        assert [e["type"] for e in await heard(late)] == ["done"]
        assert [e["type"] for e in await heard(queue.events(job, 0))] == ["queued", "started", "done"]
        await queue.close()

    asyncio.run(story())


def test_many_readers_hear_the_same(tmp_path: Path) -> None:
    async def story() -> None:
        queue, job = queue_with_job(tmp_path)
        readers = [asyncio.create_task(last_of(queue, job)) for _ in range(5)]
        await asyncio.sleep(0.01)
        say(queue, job, "failed", error={"code": "x", "what": "a", "why": "b", "remedy": "c"})
        assert {event["id"] for event in await asyncio.gather(*readers)} == {job.last_event}
        assert not job.listeners
        await queue.close()

    async def last_of(queue: JobQueue, job: Job) -> dict[str, Any]:
        return [event async for event in queue.events(job, 0) if event is not None][-1]

    asyncio.run(story())


def test_closing_ends_streams_and_keeps_what_was_interrupted(tmp_path: Path) -> None:
    async def story() -> None:
        queue, job = queue_with_job(tmp_path)
        reader = asyncio.create_task(heard(queue.events(job, 0)))
        await queue.close()
        await asyncio.wait_for(reader, 10)
        assert job.state == "failed" and job.error is not None and job.error["code"] == "engine_stopped"

    asyncio.run(story())


def test_a_sleep_of_the_machine_is_not_held_against_the_worker(tmp_path: Path) -> None:
    async def story() -> None:
        queue, job = queue_with_job(tmp_path)
        worker = queue._worker
        assert worker is not None
        queue._on_message(worker, {"type": "ready", "pid": 1, "device": {}})
        slept = 10 * queue.options.job_timeout_s
        queue._forgive(slept)
        queue._watch_once(worker.heard + 1)
        assert job.state == "running"
        queue._watch_once(worker.heard + queue.options.heartbeat_s + 1)
        assert job.state == "failed" and job.error is not None and job.error["code"] == "worker_hung"
        await queue.close()

    asyncio.run(story())


@pytest.mark.parametrize("request_", [SelftestRequest(), TrainRequest(name="x")])
def test_a_training_has_a_time_limit_of_its_own(request_: Request, tmp_path: Path) -> None:
    async def story() -> None:
        queue, job = queue_with_job(tmp_path, request_)
        worker, options = queue._worker, queue.options
        assert worker is not None and options.train_timeout_s > 24 * options.job_timeout_s
        queue._on_message(worker, {"type": "ready", "pid": 1, "device": {}})
        for seconds in (options.job_timeout_s + 1, options.train_timeout_s + 1):
            worker.heard = job.began + seconds
            queue._watch_once(job.began + seconds)
            is_over = job.kind != "train" or seconds > options.train_timeout_s
            assert job.state == ("failed" if is_over else "running")
        assert job.error is not None and job.error["code"] == "job_timeout"
        assert ("Resume" in job.error["remedy"]) == (job.kind == "train")
        await queue.close()

    asyncio.run(story())


def test_what_was_written_before_is_not_touched_by_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        queue, job = queue_with_job(tmp_path)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("engine.server.storage.write_state", full)
        say(queue, job, "done", meshes=[], report={})
        assert job.state == "done"  # the job is, though its state cannot be kept
        await queue.close()

    asyncio.run(story())
