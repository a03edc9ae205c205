"""The queue: which jobs there are, what happened to each, and the one worker process that runs them in turn.

Everything here runs on the server's event loop, so there are no locks; the threads that read the worker's pipe hand
their messages over with call_soon_threadsafe. No torch here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ..jobs.request import Request
from . import problems, storage, watchdog
from .job import Job
from .options import QueueOptions
from .slides import Slides
from .worker_process import WorkerProcess

log = logging.getLogger(__name__)

PREVIEWS_KEPT = 3
STARTING = "Starting the engine"


class JobQueue:
    """jobs: by their ids, oldest first.  device: what the worker runs on, None until it has told."""

    def __init__(self, data_dir: Path, options: QueueOptions) -> None:
        self.options = options
        self.jobs_dir = data_dir / "jobs"
        self.jobs: dict[str, Job] = {}
        self.device: dict[str, Any] | None = None
        self.closing = False
        self.slides = Slides(self._send, self._engage)
        self._mark = storage.process_mark()
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None
        self._worker: WorkerProcess | None = None
        self._broken: problems.Error | None = None
        self._early_deaths = 0
        self._idle_since = time.monotonic()
        self._released = False
        self._tasks: list[asyncio.Task[None]] = []

    # ------------------------------------------------------------------------------------------------ life of the queue

    async def open(self) -> None:
        """Adopt what dead servers left, start the worker and the watchdog."""
        self.jobs_dir.mkdir(parents=True, exist_ok=True)
        adoptable, damaged = storage.read_adoptable(self.jobs_dir)
        for folder, state in adoptable:
            try:
                self._adopt(folder, state)
            except Exception:  # one job, whatever is the matter with it, does not keep the others from being served
                log.exception("Job %s cannot be adopted and stays as it is", folder.name)
                self.jobs.pop(folder.name, None)
        for job in damaged:
            self._list_damaged(job)
        self._sweep()
        self._start_worker()
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._sweep_often())]

    def end_streams(self) -> None:
        """Let every event stream end, so that connections can close."""
        self.closing = True
        for job in self.jobs.values():
            job.wake()

    async def close(self) -> None:
        """Stop the worker; a running job is kept as failed, as are queued ones, so that a client can learn of it."""
        self.end_streams()
        for task in self._tasks:
            task.cancel()
        for job in [job for job in self.jobs.values() if not job.is_finished]:
            self._finish(job, "failed", error=problems.stopped())
        self.slides.close()
        if self._worker is not None:
            self._worker.leaving = True
            self._worker.kill()

    # -------------------------------------------------------------------------------------------------------- requests

    def new_folder(self) -> Path:
        """A folder for a job to be: arrays.npz is put there, then `submit` takes it over."""
        return storage.new_folder(self.jobs_dir)

    def check_room(self) -> None:
        """Raises InputError 'queue_full'."""
        if len(self._waiting) >= self.options.max_queued:
            raise problems.queue_full(len(self._waiting))

    def submit(self, folder: Path, request: Request) -> Job:
        self.check_room()
        settings = request.model_dump(mode="json")
        job = Job(folder.name, folder, request.kind, request.name, settings, time.time())
        storage.write_atomically(folder / "request.json", storage.to_json(settings))
        self.jobs[job.id] = job
        self._waiting.append(job)
        job.publish({"type": "queued", "position": len(self._waiting) - 1 + (self._current is not None)})
        self._save(job)
        self._dispatch()
        return job

    def get(self, job_id: str) -> Job:
        """Raises InputError 'job_not_found'."""
        job = self.jobs.get(job_id)
        if job is None:
            raise problems.job_not_found()
        return job

    def delete(self, job: Job) -> str:
        """Cancel a job that is queued or running, forget one that is finished. Returns the state that it is in now:
        'cancelled', 'cancelling' or 'deleted'."""
        if job.is_finished:
            self.jobs.pop(job.id, None)
            storage.remove_folder(job.folder)
            return "deleted"
        if job in self._waiting:
            self._waiting.remove(job)
            self._finish(job, "cancelled")
            return "cancelled"
        if not job.sent:  # the worker is still starting and knows nothing of it
            self._finish(job, "cancelled")
            self._dispatch()
            return "cancelled"
        if job.cancel_asked is None and self._worker is not None:
            job.cancel_asked = time.monotonic()
            self._worker.send({"type": "cancel", "id": job.id})
        return "cancelling"

    def mesh_file(self, job: Job, n: int) -> Path:
        """Raises InputError 'mesh_not_found'."""
        if n in job.meshes or n in job.previews:
            return job.mesh_file(n)
        raise problems.mesh_not_found(n)

    async def events(self, job: Job, after: int) -> AsyncIterator[dict[str, Any] | None]:
        """Events with a number above `after` until the job is finished; None where nothing happened for a while. What
        a slow reader misses are progress and previews that newer ones have replaced."""
        flag = asyncio.Event()
        job.listeners.add(flag)
        try:
            while not self.closing:
                flag.clear()
                event = next((event for event in job.events if event["id"] > after), None)
                if event is not None:
                    after = event["id"]
                    yield event
                    continue
                if job.is_finished:
                    return
                try:
                    await asyncio.wait_for(flag.wait(), self.options.keepalive_s)
                except TimeoutError:
                    yield None
        finally:
            job.listeners.discard(flag)

    def describe_worker(self) -> dict[str, Any]:
        worker = self._worker
        if worker is None:
            state = "broken" if self._broken else "stopped"
        elif not worker.ready:
            state = "starting"
        else:
            state = "busy" if self._current is not None else "idle"
        return {
            "state": state,
            "pid": worker.pid if worker else None,
            "memory": worker.memory if worker else 0,
            "error": self._broken,
        }

    def counts(self) -> dict[str, int]:
        return {
            "queued": len(self._waiting),
            "running": int(self._current is not None),
            "finished": sum(job.is_finished for job in self.jobs.values()),
        }

    # -------------------------------------------------------------------------------------------------- jobs, their end

    def _finish(
        self,
        job: Job,
        state: str,
        *,
        error: problems.Error | None = None,
        meshes: list[int] | None = None,
        report: dict[str, Any] | None = None,
    ) -> None:
        job.end(state, error, meshes, report)
        self._save(job)
        if self._current is job:
            self._current = None
            self._idle_since = time.monotonic()
            self._released = False

    def _lose_current(self, error: problems.Error) -> None:
        """The running job's worker is gone: it fails, or is cancelled where that was asked."""
        if self._current is not None:
            if self._current.cancel_asked is not None:
                self._finish(self._current, "cancelled")
            else:
                self._finish(self._current, "failed", error=error)

    def _save(self, job: Job) -> None:
        try:
            storage.write_state(job.folder, job.as_state(self._mark))
        except OSError as error:  # a full disk: the job itself can go on
            log.error("The state of job %s cannot be kept: %s", job.id, error)

    def _adopt(self, folder: Path, state: dict[str, Any]) -> None:
        job = Job.from_state(folder, state)
        self.jobs[job.id] = job
        if job.is_finished:
            self._save(job)
            return
        for path in storage.job_files(folder):
            if path.name.startswith("mesh_"):
                storage.unlink(path)
        self._finish(job, "failed", error=problems.stopped())

    def _list_damaged(self, damaged: storage.DamagedJob) -> None:
        """Show a job that was put aside as failed, for as long as this server runs and results are kept. Its folder is
        no job's any more, so that deleting or sweeping it forgets it and removes nothing."""
        error = problems.damaged(damaged.why, damaged.kept.name)
        now = time.time()
        job = Job(damaged.id, damaged.kept, "unknown", "", {}, now, "failed", finished=now, error=error)
        job.last_event = 1_000_000_000  # above whatever a client has seen
        job.events = [{"id": job.last_event, **job.final_event()}]
        self.jobs[job.id] = job

    # ---------------------------------------------------------------------------------------------------------- worker

    def _start_worker(self) -> None:
        if self._worker is not None or self.closing:
            return
        self._broken = None
        loop = asyncio.get_running_loop()
        try:
            self._worker = WorkerProcess(self.options.worker_command, loop, self._on_message, self._on_exit)
        except OSError as error:
            log.error("The worker cannot be started: %s", error)
            self._broken = problems.not_started(error)
            if self._current is not None:
                self._finish(self._current, "failed", error=self._broken)

    def _engage(self) -> problems.Error | None:
        """See that there is a worker for something beside the queue; the error that prevents it."""
        self._start_worker()
        self._idle_since, self._released = time.monotonic(), False
        return None if self._worker is not None else self._broken or problems.stopped()

    def _send(self, message: dict[str, Any]) -> bool:
        """Whether there was a worker to send it to."""
        if self._worker is None or not self._worker.ready:
            return False
        self._worker.send(message)
        return True

    def _dispatch(self) -> None:
        """Give the next job to the worker, or start one to give it to."""
        while self._current is None and self._waiting and not self.closing:
            job = self._waiting.popleft()
            self._current = job
            job.state = "running"
            job.started = time.time()
            job.publish({"type": "started"})
            self._save(job)
            if self._worker is None:
                self._start_worker()
            if self._worker is not None and not self._worker.ready:
                job.publish(_starting("Loading torch" if self._worker.pid is None else ""))
        self._send_current()

    def _send_current(self) -> None:
        job = self._current
        if job is not None and not job.sent and self._send({"type": "job", "id": job.id, "folder": str(job.folder)}):
            job.sent = True
            job.began = time.monotonic()

    def _on_message(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        if worker is not self._worker or self.closing:
            return
        worker.heard = time.monotonic()
        kind = message["type"]
        if kind == "heartbeat":
            worker.pid, worker.memory = message["pid"], message["memory"]
        elif kind == "ready":
            worker.ready = True
            worker.pid = message["pid"]
            self.device = message["device"]
            self._send_current()
            self.slides.send_waiting()
        elif kind == "broken":
            self._broken = message["error"]
        elif kind == "slid":
            self.slides.on_answer(message)
        else:
            self._on_job_message(message)

    def _on_job_message(self, message: dict[str, Any]) -> None:
        job = self._current
        if job is None or message.get("id") != job.id:
            return
        kind = message.pop("type")
        del message["id"]
        if kind in ("progress", "done"):
            self._early_deaths = 0
        if kind == "preview":
            job.previews.append(message["n"])
            while len(job.previews) > PREVIEWS_KEPT:
                storage.unlink(job.mesh_file(job.previews.pop(0)))
        elif kind == "mesh":
            job.meshes.append(message["n"])
        if kind in ("progress", "preview", "mesh"):
            job.publish({"type": kind, **message})
        elif kind == "done":
            self._finish(job, "done", meshes=message["meshes"], report=message["report"])
        elif kind == "failed":
            self._finish(job, "failed", error=message["error"])
        elif kind == "cancelled":
            self._finish(job, "cancelled")
        if job.is_finished:
            self._dispatch()

    def _on_exit(self, worker: WorkerProcess, status: int) -> None:
        if worker is not self._worker:
            return
        self._worker = None
        if self.closing:
            return
        error = self._broken or problems.died(status)
        self.slides.fail(error)
        if not worker.leaving:
            log.warning("The worker (process %s) ended with status %s", worker.pid, status)
            self._early_deaths += 1
            self._lose_current(error)
        # A worker that dies again and again is started only when a job needs it, so that there is no storm.
        if self._waiting:
            self._dispatch()
        elif not worker.leaving and self._early_deaths < 3 and self._broken is None:
            self._start_worker()

    def _replace_worker(self, error: problems.Error) -> None:
        """End a worker that no longer listens; its job fails with `error`, or is cancelled where that was asked."""
        worker, self._worker = self._worker, None
        self.slides.fail(error or problems.hung("It was silent for too long."))
        if worker is not None:
            worker.leaving = True
            worker.kill()
        self._lose_current(error)
        if not self._waiting:
            self._start_worker()
        self._dispatch()

    # -------------------------------------------------------------------------------------------------------- watching

    async def _watch(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.25)
            now = time.monotonic()
            if now - last > 5.0:  # the machine slept, and the worker with it: that is nobody's fault
                self._forgive(now - last)
            last = now
            try:
                self._watch_once(now)
            except Exception:
                log.exception("The watchdog failed")

    def _forgive(self, seconds: float) -> None:
        if self._worker is not None:
            self._worker.heard += seconds
            self._worker.born += seconds
        if self._current is not None:
            self._current.began += seconds

    def _watch_once(self, now: float) -> None:
        worker = self._worker
        if worker is None:
            return
        verdict = watchdog.judge(worker, self._current, self._idle_since, self._released, self.options, now)
        if verdict is None:
            return
        if verdict.act == "replace":
            log.warning("The worker is replaced: %s", verdict.error.get("why", "it did not stop when asked"))
            self._replace_worker(verdict.error)
        elif verdict.act == "stop":
            self._worker = None
            worker.stop()
        else:
            self._released = True
            worker.send({"type": "release"})

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(60)
            try:
                self._sweep()
            except Exception:
                log.exception("Old results cannot be removed")

    def _sweep(self) -> None:
        """Drop finished jobs that are too old, then the oldest while they are too many bytes."""
        finished = sorted((job for job in self.jobs.values() if job.is_finished), key=lambda job: job.finished or 0)
        sizes = {job.id: storage.folder_size(job.folder) for job in finished}
        total = sum(sizes.values())
        for job in finished:
            too_old = time.time() - (job.finished or 0) > self.options.keep_s
            if too_old or total > self.options.keep_bytes:
                total -= sizes[job.id]
                self.jobs.pop(job.id, None)
                storage.remove_folder(job.folder)


def _starting(message: str) -> dict[str, Any]:
    return {"type": "progress", "stage": STARTING, "fraction": 0.0, "eta_s": None, "message": message}
