"""The queue: which jobs there are, what happened to each, and the one worker process that runs them in turn.

Everything here runs on the server's event loop, so there are no locks; the threads that read the worker's pipe hand
their messages over with call_soon_threadsafe. No torch here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from ..errors import EngineError, InputError, JobFailed
from ..jobs.kinds import find
from ..jobs.request import Request
from ..jobs.slide.request import SlideRequest
from . import storage
from .messages import read_message, write_message
from .states import FINISHED

log = logging.getLogger(__name__)

PREVIEWS_KEPT = 3
STARTING = "Starting the engine"
SLIDE_TIMEOUT_S = 120.0


@dataclass
class QueueOptions:
    """Times in seconds, sizes in bytes.

    heartbeat_s: a worker silent for longer is hung.  job_timeout_s: no job may take longer, but for trainings, whose
    limit is train_timeout_s.  grace_s: how long a
    cancelled job may take to stop before its worker is replaced.  release_after_s, stop_after_s: an idle worker drops
    its caches, then leaves altogether (only that gives back all of a device's memory).  keep_s, keep_bytes: how long
    and how many finished results stay.
    """

    heartbeat_s: float = 120.0
    start_timeout_s: float = 300.0
    job_timeout_s: float = 3600.0
    train_timeout_s: float = 7 * 86_400.0
    grace_s: float = 10.0
    release_after_s: float = 300.0
    stop_after_s: float = 1800.0
    keep_s: float = 86_400.0
    keep_bytes: int = 2 * 2**30
    max_queued: int = 64
    keepalive_s: float = 10.0
    worker_command: Sequence[str] = (sys.executable, "-m", "engine.server.worker")


@dataclass
class Job:
    """state: queued, running, done, failed or cancelled.  events: what a client that connects now has to hear: one
    of each kind of progress and preview, the newest.  meshes: numbers of the results, best first."""

    id: str
    folder: Path
    kind: str
    name: str
    request: dict[str, Any]
    created: float
    state: str = "queued"
    started: float | None = None
    finished: float | None = None
    meshes: list[int] = field(default_factory=list)
    previews: list[int] = field(default_factory=list)
    report: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    last_event: int = 0
    sent: bool = False
    cancel_asked: float | None = None
    began: float = 0.0
    listeners: set[asyncio.Event] = field(default_factory=set)

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    def latest(self, kind: str) -> dict[str, Any] | None:
        return next((event for event in reversed(self.events) if event["type"] == kind), None)

    def as_dict(self) -> dict[str, Any]:
        """The job as `GET /v1/jobs/{id}` shows it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "name": self.name,
            "state": self.state,
            "cancelling": self.cancel_asked is not None and not self.is_finished,
            "created": self.created,
            "started": self.started,
            "finished": self.finished,
            "request": self.request,
            "progress": self.latest("progress"),
            "preview": self.latest("preview"),
            "meshes": self.meshes,
            "report": self.report,
            "error": self.error,
        }


@dataclass
class _Slide:
    """A slider's step that somebody waits for."""

    request: SlideRequest
    answer: asyncio.Future[dict[str, Any]]
    sent: bool = False


class WorkerProcess:
    """A worker and the thread that reads its pipe."""

    def __init__(
        self,
        command: Sequence[str],
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[WorkerProcess, dict[str, Any]], None],
        on_exit: Callable[[WorkerProcess, int], None],
    ) -> None:
        self._loop = loop
        self._on_message = on_message
        self._on_exit = on_exit
        self.ready = False
        self.leaving = False
        self.pid: int | None = None
        self.memory = 0
        self.heard = self.born = time.monotonic()
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, creationflags=flags
        )
        threading.Thread(target=self._read, name="worker-pipe", daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while (message := read_message(self._process.stdout)) is not None:
                self._call(self._on_message, message)
        except (OSError, ValueError) as error:
            log.error("The worker's messages cannot be read: %s", error)
            self.kill()
        self._call(self._on_exit, self._process.wait())

    def _call(self, callback: Callable[[WorkerProcess, Any], None], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: the server is leaving
            self._loop.call_soon_threadsafe(callback, self, value)

    def send(self, message: dict[str, Any]) -> None:
        stream: IO[bytes] | None = self._process.stdin
        assert stream is not None
        with contextlib.suppress(OSError, ValueError):  # it has died: on_exit tells
            write_message(stream, message)

    def stop(self) -> None:
        """Ask it to leave: its input closes."""
        self.leaving = True
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End it and its children at once. (In a Windows venv the interpreter is a child of a launcher.)"""
        try:
            family = [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]
        except psutil.Error:
            family = []
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()


class JobQueue:
    def __init__(self, data_dir: Path, options: QueueOptions) -> None:
        self.options = options
        self.jobs_dir = data_dir / "jobs"
        self.jobs: dict[str, Job] = {}
        self.device: dict[str, Any] | None = None
        self.closing = False
        self._mark = storage.process_mark()
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None
        self._worker: WorkerProcess | None = None
        self._broken: dict[str, str] | None = None
        self._early_deaths = 0
        self._idle_since = time.monotonic()
        self._released = False
        self._tasks: list[asyncio.Task[None]] = []
        self._slides: dict[str, _Slide] = {}
        self._slides_folder: tempfile.TemporaryDirectory[str] | None = None

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
            self._wake(job)

    async def close(self) -> None:
        """Stop the worker; a running job is kept as failed, as are queued ones, so that a client can learn of it."""
        self.end_streams()
        for task in self._tasks:
            task.cancel()
        for job in [job for job in self.jobs.values() if not job.is_finished]:
            self._finish(job, "failed", error=_stopped())
        self._fail_slides(_stopped())
        if self._worker is not None:
            self._worker.leaving = True
            self._worker.kill()
        if self._slides_folder is not None:
            self._slides_folder.cleanup()

    # -------------------------------------------------------------------------------------------------------- requests

    def new_folder(self) -> Path:
        """A folder for a job to be: arrays.npz is put there, then `submit` takes it over."""
        return storage.new_folder(self.jobs_dir)

    def check_room(self) -> None:
        if len(self._waiting) >= self.options.max_queued:
            raise InputError(
                "queue_full",
                "The engine takes no more jobs.",
                f"{len(self._waiting)} jobs are waiting.",
                "Wait for some of them to finish, or cancel them.",
            )

    def submit(self, folder: Path, request: Request) -> Job:
        self.check_room()
        settings = request.model_dump(mode="json")
        job = Job(folder.name, folder, request.kind, request.name, settings, time.time())
        storage.write_atomically(folder / "request.json", storage.to_json(settings))
        self.jobs[job.id] = job
        self._waiting.append(job)
        self._publish(job, {"type": "queued", "position": len(self._waiting) - 1 + (self._current is not None)})
        self._save(job)
        self._dispatch()
        return job

    def get(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None:
            raise InputError(
                "job_not_found",
                "The job is not known.",
                "It was deleted, is older than results are kept, or never existed.",
                "Start the job again.",
            )
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
        path = job.folder / f"mesh_{n}.npz"
        if n in job.meshes or n in job.previews:
            return path
        raise InputError(
            "mesh_not_found",
            f"The job has no mesh number {n} now.",
            "Previews make room for newer ones, and all of them for the result.",
            "Follow the job's events and fetch the newest mesh.",
        )

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

    async def slide(self, request: SlideRequest, arrays: bytes) -> tuple[bytes, dict[str, Any]]:
        """The moved shape's mesh (NPZ) and report, beside the queue. Of one stream only the newest request is answered:
        the older ones get InputError 'superseded' at once."""
        if self._slides_folder is None:
            self._slides_folder = tempfile.TemporaryDirectory(prefix="shapewright-slides-", ignore_cleanup_errors=True)
        folder = Path(self._slides_folder.name)
        if request.stream:
            for old_id, old in list(self._slides.items()):
                if old.request.stream == request.stream:
                    self._end_slide(old_id, error=_superseded())
                    if self._worker is not None and old.sent:
                        self._worker.send({"type": "cancel", "id": old_id})
        slide_id = secrets.token_hex(8)
        slide = _Slide(request, asyncio.get_running_loop().create_future())
        self._slides[slide_id] = slide
        try:
            (folder / f"{slide_id}.npz").write_bytes(arrays)
            if self._worker is None:
                self._start_worker()
            self._send_slides()
            if self._worker is None:
                self._fail_slides(self._broken or _stopped())
            self._idle_since, self._released = time.monotonic(), False
            report = await asyncio.wait_for(slide.answer, SLIDE_TIMEOUT_S)
            return (folder / f"{slide_id}_mesh.npz").read_bytes(), report
        except TimeoutError:
            raise JobFailed(
                "worker_hung",
                "The engine's worker stopped answering.",
                f"A slider's step took longer than {SLIDE_TIMEOUT_S:.0f} seconds.",
                "Lower the resolution, or try again when the engine has less to do.",
            ) from None
        finally:
            self._slides.pop(slide_id, None)
            _unlink(folder / f"{slide_id}.npz")
            _unlink(folder / f"{slide_id}_mesh.npz")

    def _send_slides(self) -> None:
        worker = self._worker
        if worker is None or not worker.ready or self._slides_folder is None:
            return
        for slide_id, slide in self._slides.items():
            if not slide.sent and not slide.answer.done():
                slide.sent = True
                settings = slide.request.model_dump(mode="json")
                worker.send({"type": "slide", "id": slide_id, "folder": self._slides_folder.name, "request": settings})

    def _end_slide(self, slide_id: str, *, report: dict[str, Any] | None = None, error: Any = None) -> None:
        slide = self._slides.get(slide_id)
        if slide is None or slide.answer.done():
            return
        if error is not None:
            slide.answer.set_exception(error)
        else:
            slide.answer.set_result(report or {})

    def _fail_slides(self, error: dict[str, str]) -> None:
        for slide_id in list(self._slides):
            self._end_slide(slide_id, error=JobFailed(**error))

    def _on_slid(self, message: dict[str, Any]) -> None:
        if message["id"] not in self._slides and self._slides_folder is not None:  # nobody waits any more
            _unlink(Path(self._slides_folder.name) / f"{message['id']}_mesh.npz")
        elif message.get("cancelled"):
            self._end_slide(message["id"], error=_superseded())
        elif "error" in message:
            error = message["error"]
            internal = error["code"] in ("internal_error", "out_of_memory", "empty_surface", "field_not_finite")
            self._end_slide(message["id"], error=JobFailed(**error) if internal else InputError(**error))
        else:
            self._end_slide(message["id"], report=message["report"])

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

    # ---------------------------------------------------------------------------------------------------------- events

    def _wake(self, job: Job) -> None:
        for flag in job.listeners:
            flag.set()

    def _publish(self, job: Job, event: dict[str, Any]) -> None:
        """Number the event and let it replace the older ones that it makes stale."""
        job.last_event += 1
        event = {"id": job.last_event, **event}
        kind = event["type"]
        if kind == "progress":
            job.events = [e for e in job.events if e["type"] != "progress"]
        elif kind == "preview":
            job.events = [
                e for e in job.events if e["type"] != "preview" or e["hypothesis"] != event["hypothesis"]
            ]
        elif kind in FINISHED:
            job.events = [e for e in job.events if e["type"] not in ("progress", "preview", "mesh")]
        job.events.append(event)
        self._wake(job)

    def _finish(
        self,
        job: Job,
        state: str,
        *,
        error: dict[str, str] | None = None,
        meshes: list[int] | None = None,
        report: dict[str, Any] | None = None,
    ) -> None:
        job.state = state
        job.finished = time.time()
        job.error = error
        partial, job.meshes = job.meshes, meshes or []
        job.report = report
        event: dict[str, Any] = {"type": state}
        if state == "done":
            event |= {"report": report, "meshes": job.meshes}
        elif state == "failed":
            event |= {"error": error}
        for n in [*job.previews, *(set(partial) - set(job.meshes))]:
            _unlink(job.folder / f"mesh_{n}.npz")
        job.previews = []
        _unlink(job.folder / "arrays.npz")
        self._publish(job, event)
        self._save(job)
        if self._current is job:
            self._current = None
            self._idle_since = time.monotonic()
            self._released = False

    def _save(self, job: Job) -> None:
        state = {
            "id": job.id,
            "kind": job.kind,
            "name": job.name,
            "request": job.request,
            "state": job.state,
            "created": job.created,
            "started": job.started,
            "finished": job.finished,
            "meshes": job.meshes,
            "report": job.report,
            "error": job.error,
            "last_event": job.last_event,
            "owner": self._mark,
        }
        try:
            storage.write_state(job.folder, state)
        except OSError as error:  # a full disk: the job itself can go on
            log.error("The state of job %s cannot be kept: %s", job.id, error)

    def _adopt(self, folder: Path, state: dict[str, Any]) -> None:
        job = Job(
            id=state["id"],
            folder=folder,
            kind=state["kind"],
            name=state["name"],
            request=state["request"],
            created=state["created"],
            state=state["state"],
            started=state["started"],
            finished=state["finished"],
            meshes=state["meshes"],
            report=state["report"],
            error=state["error"],
            last_event=state["last_event"],
        )
        self.jobs[job.id] = job
        if job.is_finished:
            event: dict[str, Any] = {"id": job.last_event, "type": job.state}
            if job.state == "done":
                event |= {"report": job.report, "meshes": job.meshes}
            elif job.state == "failed":
                event |= {"error": job.error}
            job.events = [event]
            self._save(job)
            return
        # Its events after the last save had higher numbers than were kept: leap over them all.
        job.last_event += 1_000_000
        for path in storage.job_files(folder):
            if path.name.startswith("mesh_"):
                _unlink(path)
        self._finish(job, "failed", error=_stopped())

    def _list_damaged(self, damaged: storage.DamagedJob) -> None:
        """Show a job that was put aside as failed, for as long as this server runs and results are kept. Its folder is
        no job's any more, so that deleting or sweeping it forgets it and removes nothing."""
        error = JobFailed(
            "job_damaged",
            "What is kept of the job cannot be read.",
            f"Its state.json is damaged: {damaged.why}.",
            f"Run the job again. Its files are kept in jobs/{damaged.kept.name} of the engine's data folder.",
        ).as_dict()
        now = time.time()
        job = Job(damaged.id, damaged.kept, "unknown", "", {}, now, "failed", finished=now, error=error)
        job.last_event = 1_000_000_000  # above whatever a client has seen
        job.events = [{"id": job.last_event, "type": "failed", "error": error}]
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
            self._broken = JobFailed(
                "worker_not_started",
                "The engine cannot start its worker.",
                f"{error}.",
                "Free memory or install the engine again, then run 'shapewright doctor'.",
            ).as_dict()
            if self._current is not None:
                self._finish(self._current, "failed", error=self._broken)

    def _dispatch(self) -> None:
        """Give the next job to the worker, or start one to give it to."""
        while self._current is None and self._waiting and not self.closing:
            job = self._waiting.popleft()
            self._current = job
            job.state = "running"
            job.started = time.time()
            self._publish(job, {"type": "started"})
            self._save(job)
            if self._worker is None:
                self._start_worker()
            if self._worker is not None and not self._worker.ready:
                message = "Loading torch" if self._worker.pid is None else ""
                self._publish(job, _progress(STARTING, message))
        self._send_current()

    def _send_current(self) -> None:
        job, worker = self._current, self._worker
        if job is not None and not job.sent and worker is not None and worker.ready:
            job.sent = True
            job.began = time.monotonic()
            worker.send({"type": "job", "id": job.id, "folder": str(job.folder)})

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
            self._send_slides()
        elif kind == "broken":
            self._broken = message["error"]
        elif kind == "slid":
            self._on_slid(message)
        else:
            self._on_job_message(message)

    def _on_job_message(self, message: dict[str, Any]) -> None:
        job = self._current
        if job is None or message.get("id") != job.id:
            return
        kind = message.pop("type")
        del message["id"]
        if kind == "progress":
            self._early_deaths = 0
            self._publish(job, {"type": kind, **message})
        elif kind == "preview":
            job.previews.append(message["n"])
            while len(job.previews) > PREVIEWS_KEPT:
                _unlink(job.folder / f"mesh_{job.previews.pop(0)}.npz")
            self._publish(job, {"type": kind, **message})
        elif kind == "mesh":
            job.meshes.append(message["n"])
            self._publish(job, {"type": kind, **message})
        elif kind == "done":
            self._early_deaths = 0
            self._finish(job, "done", meshes=message["meshes"], report=message["report"])
            self._dispatch()
        elif kind == "failed":
            self._finish(job, "failed", error=message["error"])
            self._dispatch()
        elif kind == "cancelled":
            self._finish(job, "cancelled")
            self._dispatch()

    def _on_exit(self, worker: WorkerProcess, status: int) -> None:
        if worker is not self._worker:
            return
        self._worker = None
        if self.closing:
            return
        self._fail_slides(self._broken or _died(status))
        if not worker.leaving:
            log.warning("The worker (process %s) ended with status %s", worker.pid, status)
            self._early_deaths += 1
            job = self._current
            if job is not None:
                if job.cancel_asked is not None:
                    self._finish(job, "cancelled")
                else:
                    self._finish(job, "failed", error=self._broken or _died(status))
        # A worker that dies again and again is started only when a job needs it, so that there is no storm.
        if self._waiting:
            self._dispatch()
        elif not worker.leaving and self._early_deaths < 3 and self._broken is None:
            self._start_worker()

    def _replace_worker(self, error: dict[str, str]) -> None:
        """End a worker that no longer listens; its job fails with `error`, or is cancelled where that was asked."""
        worker, job = self._worker, self._current
        self._worker = None
        self._fail_slides(error or _hung("It was silent for too long."))
        if worker is not None:
            worker.leaving = True
            worker.kill()
        if job is not None:
            if job.cancel_asked is not None:
                self._finish(job, "cancelled")
            else:
                self._finish(job, "failed", error=error)
        if not self._waiting:
            self._start_worker()
        self._dispatch()

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
        worker, job, options = self._worker, self._current, self.options
        if worker is None:
            return
        if not worker.ready:
            if now - worker.born > options.start_timeout_s:
                self._replace_worker(_hung(f"The worker did not start within {options.start_timeout_s:.0f} seconds."))
            return
        if job is not None and job.sent:
            if job.cancel_asked is not None and now - job.cancel_asked > options.grace_s:
                log.warning("Job %s did not stop when asked: its worker is replaced", job.id)
                self._replace_worker({})
            elif now - worker.heard > options.heartbeat_s:
                self._replace_worker(_hung(f"The worker was silent for {options.heartbeat_s:.0f} seconds."))
            elif now - job.began > self._longest(job):
                remedy = "Lower the resolution or the hypotheses, or start the engine with a longer --job-timeout."
                if find(job.kind).long:
                    remedy = "Resume the training: it goes on where it was saved. The limit is --train-timeout."
                error = JobFailed(
                    "job_timeout",
                    "The job was stopped.",
                    f"It took longer than {self._longest(job):.0f} seconds, the longest that such a job may take.",
                    remedy,
                )
                self._replace_worker(error.as_dict())
        elif job is None:
            idle = now - max(self._idle_since, worker.born)
            if idle > options.stop_after_s:
                self._worker = None
                worker.stop()
            elif idle > options.release_after_s and not self._released:
                self._released = True
                worker.send({"type": "release"})
            elif now - worker.heard > options.heartbeat_s:
                self._replace_worker({})

    def _longest(self, job: Job) -> float:
        """Seconds that the job may take: a training is meant to take hours."""
        return self.options.train_timeout_s if find(job.kind).long else self.options.job_timeout_s

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


def _progress(stage: str, message: str) -> dict[str, Any]:
    return {"type": "progress", "stage": stage, "fraction": 0.0, "eta_s": None, "message": message}


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # Windows, while a client downloads it: it goes with the folder
        log.info("%s stays for now: %s", path.name, error)


def _died(status: int) -> dict[str, str]:
    if status in (-9, 137):
        why = "Its process was killed, by a person or by the system for lack of memory."
    else:
        why = f"Its process ended with status {status}."
    return JobFailed(
        "worker_died",
        "The engine's worker died while it ran the job.",
        why,
        "Run the job again; a new worker has been started. If it dies again, lower the resolution or read the log.",
    ).as_dict()


def _hung(why: str) -> dict[str, str]:
    return JobFailed(
        "worker_hung",
        "The engine's worker stopped answering.",
        why,
        "Run the job again; a new worker has been started. If it hangs again, choose the device 'cpu'.",
    ).as_dict()


def _superseded() -> EngineError:
    return InputError(
        "superseded",
        "This step of the slider was left out.",
        "A newer one of the same stream came before it was done.",
        "Nothing: the newer one is answered.",
    )


def _stopped() -> dict[str, str]:
    return JobFailed(
        "engine_stopped",
        "The job was interrupted.",
        "The engine stopped before the job was finished.",
        "Run the job again.",
    ).as_dict()


