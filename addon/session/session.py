"""The running jobs, and the one engine they run on.

`Session.step()` is all there is to drive: a timer calls it in a window, `wait()` in a loop where there is none (timers
never fire under `blender -b`), and tests as they like. It takes what the job threads have brought and puts it into the
scene; parsing, checking and waiting happen on those threads.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bpy.app.handlers import persistent

from ..carried import code as codes
from ..features.slide import sliding
from ..link.client import EngineProblem, JobThread, MeshArrays, PreviewArrays
from ..link.engine_process import FAILED, READY, STARTING, EngineProcess
from ..scene import read as scene
from ..writers.in_place import JobWriter, ResultWriter
from . import notices

log = logging.getLogger(__name__)

STEP_INTERVAL_S = 0.05
SLIDE_INTERVAL_S = 0.005
"""While a slider moves: what waits for the next step is felt."""
STEP_BUDGET_S = 0.008
"""After this much work a step leaves the rest to the next one; one mesh more may come on top of it."""
CANCEL_GRACE_S = 5.0
"""A cancelled job leaves the list after this long even where the engine says nothing."""
KEEP_FINISHED = 8

STARTING_ENGINE, QUEUED, RUNNING, CANCELLING = "starting_engine", "queued", "running", "cancelling"
DONE, JOB_FAILED, CANCELLED = "done", "failed", "cancelled"
FINISHED = (DONE, JOB_FAILED, CANCELLED)


@dataclass(eq=False)
class Job:
    """One piece of work for the engine, as the add-on sees it.

    scan: the source object, where there is one.  arrays: makes what travels with the request, on the job's thread; by
    default the scan's.  writer: makes the job's objects; where it is None, one for results in the scan's place is made,
    and a job without a scan makes no objects.  on_done: called on the main thread with the job when it is done, before
    it is remembered for undo.
    """

    title: str
    request: dict[str, Any]
    scan: scene.Scan | None = None
    want_previews: bool = True
    undo: bool = True
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    state: str = STARTING_ENGINE
    stage: str = "Starting the engine"
    fraction: float = 0.0
    eta_s: float | None = None
    message: str = ""
    problem: EngineProblem | None = None
    report: dict[str, Any] = field(default_factory=dict)
    previews_shown: int = 0
    started: float = field(default_factory=time.monotonic)
    first_preview_s: float | None = None
    seconds: float = 0.0
    thread: JobThread | None = None
    writer: JobWriter | None = None
    arrays: Callable[[], Mapping[str, np.ndarray | None]] | None = None
    on_done: Callable[[Job], None] | None = None
    shapes: list[codes.Shape] = field(default_factory=list)
    received: bool = False
    """Whether the engine's part is over and its meshes are here."""
    waiting_meshes: list[tuple[int, MeshArrays]] = field(default_factory=list)
    """Results that are here and not yet in the scene, each with its place among all of them."""
    result_count: int = 0
    """How many results there will be; while that is unknown, how many are asked for."""
    waiting_preview: PreviewArrays | None = None
    last_preview: PreviewArrays | None = None
    cancelled_at: float = 0.0

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def warnings(self) -> list[EngineProblem]:
        """What the engine wants a person to know about the result."""
        return notices.warnings_in(self.report) if self.state == DONE else []

    @property
    def results(self) -> list[bpy.types.Object]:
        """The result objects that still exist, best first."""
        found = [ref.find(bpy.data.objects) for _, ref in sorted(self.writer.results.items())] if self.writer else []
        return [obj for obj in found if obj is not None]


class Session:
    """Jobs in the order in which they were started, the finished ones among them until they are dismissed."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self.sliders = sliding.Sliders(engine)
        self.jobs: list[Job] = []
        self.longest_step_seconds = 0.0
        """The longest that step() has held the main thread."""
        self.sweep_needed = False
        self.known_priors: list[Any] = []
        """What the engine listed when it last ran; for the panel while it is stopped."""
        self.on_change: Callable[[], None] = lambda: None
        self._turn = 0
        self._engine_state = engine.state

    # ------------------------------------------------------------------------------------------------ for operators

    def submit(self, job: Job) -> Job:
        """Takes a job on; starts the engine where none runs. Returns at once."""
        if job.writer is None and job.scan is not None:
            job.writer = ResultWriter(job.scan)
        if job.writer is not None:
            job.writer.job_id = job.id
        self._forget_old()
        self.jobs.append(job)
        self.engine.start()
        self.on_change()
        return job

    def cancel(self, job: Job) -> None:
        """Stops one job; its preview leaves the scene with this call."""
        if job.finished or job.state == CANCELLING:
            return
        if job.thread is None:
            self._finish(job, CANCELLED)
        else:
            job.thread.cancel()
            job.state, job.stage, job.eta_s, job.cancelled_at = CANCELLING, "Cancelling", None, time.monotonic()
            self._discard(job)
        self.on_change()

    def dismiss(self, job: Job) -> None:
        """Takes a finished job off the list."""
        if job.finished and job in self.jobs:
            self.jobs.remove(job)
            self.on_change()

    def find(self, job_id: str) -> Job | None:
        return next((job for job in self.jobs if job.id == job_id), None)

    @property
    def active(self) -> list[Job]:
        return [job for job in self.jobs if not job.finished]

    @property
    def busy(self) -> bool:
        """Whether there is anything for step() to do soon."""
        return bool(self.active) or self.engine.state == STARTING or self.sweep_needed or self.sliders.busy

    def wait(self, job: Job, timeout_s: float | None = None) -> Job:
        """Drives the session until the job has ended: the blocking path. Ctrl-C cancels the job and is passed on."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while not job.finished:
                self.step()
                if deadline is not None and time.monotonic() > deadline and not job.finished:
                    self.cancel(job)
                    self._fail(
                        job,
                        EngineProblem(
                            "job_timeout",
                            f"'{job.title}' was given up.",
                            f"It took longer than {timeout_s:.0f} seconds.",
                            "Allow more time, or lower the resolution or the number of hypotheses.",
                        ),
                    )
                if not job.finished:
                    time.sleep(0.01)
        except KeyboardInterrupt:
            self.cancel(job)
            until = time.monotonic() + CANCEL_GRACE_S
            while not job.finished and time.monotonic() < until:
                self.step()
                time.sleep(0.01)
            raise
        return job

    # ------------------------------------------------------------------------------------------------ the poll step

    def step(self) -> bool:
        """Brings the scene up to date. True where another step is wanted soon."""
        began = time.perf_counter()
        changed = False
        if self.engine.poll() != self._engine_state:
            self._engine_state = self.engine.state
            self.known_priors = self.engine.info.get("priors") or self.known_priors
            changed = True
        may_write = not bpy.app.is_job_running("RENDER")  # a render reads the scene that we would write
        if self.sweep_needed and may_write:
            self.sweep_needed = False
            for job in self.active:
                if job.writer is not None and job.state != CANCELLING:
                    job.waiting_meshes = [*job.writer.lost(), *job.waiting_meshes]
            changed = scene.remove_stray_previews(job.id for job in self.active) > 0 or changed
            self.sliders.after_undo()
        jobs = self.active
        # Every step begins with another job, so that a busy one does not starve the rest.
        self._turn += 1
        for offset in range(len(jobs)):
            job = jobs[(self._turn + offset) % len(jobs)]
            changed = self._advance(job, may_write, began) or changed
        if self.sliders.busy:
            changed = self.sliders.step(may_write) or changed
        took = time.perf_counter() - began
        self.longest_step_seconds = max(self.longest_step_seconds, took)
        if changed:
            self.on_change()
        return self.busy

    def _advance(self, job: Job, may_write: bool, began: float) -> bool:
        """One job's news. True where something visible has changed."""
        changed = False
        try:
            if job.thread is None:
                return self._try_start(job)
            changed = self._read_updates(job)
            if job.finished:
                return True
            if job.state == CANCELLING:
                if time.monotonic() - job.cancelled_at > CANCEL_GRACE_S or self.engine.state != READY:
                    self._finish(job, CANCELLED)
                return True
            if self.engine.state != READY and not job.received:
                self._fail(
                    job,
                    self.engine.problem
                    or EngineProblem(
                        "engine_stopped",
                        f"'{job.title}' was not finished.",
                        "The engine was stopped.",
                        "Run the command again: it starts the engine.",
                    ),
                )
                return True
            preview = job.thread.take_preview()
            if preview is not None:
                job.waiting_preview = preview
            if may_write and time.perf_counter() - began < STEP_BUDGET_S:
                changed = self._write(job) or changed
        except EngineProblem as problem:
            self._fail(job, problem)
            changed = True
        except Exception as error:
            log.exception("Job '%s' failed in the add-on", job.title)
            self._fail(
                job,
                EngineProblem(
                    "addon_fault",
                    f"'{job.title}' failed in the add-on.",
                    f"{type(error).__name__}: {error}",
                    "Please report this with the text of Blender's console.",
                ),
            )
            changed = True
        return changed

    def _try_start(self, job: Job) -> bool:
        for other in self.active:  # the engine gets the jobs in the order in which they were asked for
            if other is job:
                break
            if other.thread is None or not other.thread.job_id:
                return False
        if self.engine.state == READY and self.engine.client is not None:
            job.state, job.stage = QUEUED, "Sending"
            arrays = job.arrays or (job.scan.arrays if job.scan is not None else None)
            job.thread = JobThread(self.engine.client, job.request, arrays, job.want_previews)
            job.thread.start()
            return True
        if self.engine.state == FAILED and self.engine.problem is not None:
            self._fail(job, self.engine.problem)
            return True
        if self.engine.state != STARTING:  # stopped by hand between the click and now
            self._fail(
                job,
                EngineProblem(
                    "engine_stopped",
                    f"'{job.title}' was not started.",
                    "The engine was stopped.",
                    "Run the command again: it starts the engine.",
                ),
            )
            return True
        return False

    def _read_updates(self, job: Job) -> bool:
        changed = False
        assert job.thread is not None
        while not job.thread.updates.empty():
            update = job.thread.updates.get()
            changed = True
            if update.state == JOB_FAILED:
                if job.state == CANCELLING:
                    self._finish(job, CANCELLED)
                else:
                    if self.engine.poll() == FAILED and self.engine.problem is not None:
                        update.problem = self.engine.problem  # why the connection was lost, not only that it was
                    self._fail(job, update.problem)
                return True
            if update.state == CANCELLED or (job.state == CANCELLING and update.state == DONE):
                self._finish(job, CANCELLED)
                return True
            if job.state == CANCELLING:
                continue
            job.state = QUEUED if update.state == QUEUED else RUNNING
            job.stage = update.stage or job.stage
            job.message = update.message
            job.eta_s = update.eta_s
            if update.fraction is not None:
                job.fraction = min(max(update.fraction, 0.0), 1.0)
            job.waiting_meshes += update.meshes
            if update.state == DONE:
                job.report, job.waiting_preview = update.report, None
                job.received, job.result_count = True, update.count or 0
                job.stage, job.fraction = "Finishing", 1.0
                if job.writer is None:
                    self._complete(job, job.on_done is not None)
                elif not job.result_count and job.writer.expects_results:
                    raise EngineProblem(
                        "result_empty",
                        f"'{job.title}' has no result.",
                        "The engine finished without a mesh.",
                        "Try again with another seed.",
                    )
        return changed

    def _write(self, job: Job) -> bool:
        """At most one mesh into the scene."""
        if job.writer is None:
            return False
        if job.waiting_meshes:
            number, mesh = job.waiting_meshes.pop(0)
            job.writer.add_result(mesh, number, max(job.result_count, number + 1))
            return True
        if job.received:  # in a step of its own: remembering a large scene for undo takes as long as setting its mesh
            job.writer.discard_preview()
            job.writer.finish(job.request, job.report, self.engine.info)
            self._complete(job, True)
            return True
        if job.waiting_preview is not None:
            preview, job.waiting_preview = job.waiting_preview, None
            job.last_preview = preview
            job.writer.show_preview(preview.mesh)
            job.previews_shown += 1
            if job.first_preview_s is None:
                job.first_preview_s = time.monotonic() - job.started
            return True
        return False

    def _complete(self, job: Job, changed: bool) -> None:
        """The job is done. changed: whether the scene is another one now."""
        if job.on_done is not None:
            job.on_done(job)
        self._finish(job, DONE)
        if changed and job.undo:
            scene.push_undo(job.title)

    def _finish(self, job: Job, state: str) -> None:
        job.state, job.eta_s = state, None
        job.seconds = time.monotonic() - job.started
        job.stage = {DONE: "Done", CANCELLED: "Cancelled", JOB_FAILED: "Failed"}[state]
        job.waiting_preview = job.last_preview = None
        if state != DONE:
            self._discard(job)
        for warning in job.warnings if not bpy.app.background else ():
            notices.tell(warning)
        if job.thread is not None:
            job.thread.close()

    def _fail(self, job: Job, problem: EngineProblem | None) -> None:
        if problem is not None:
            problem = codes.missing_prior(problem, job.shapes)
        job.problem = problem
        if problem is not None:
            log.error("%s: %s", job.title, problem)
        self._finish(job, JOB_FAILED)

    @staticmethod
    def _discard(job: Job) -> None:
        job.waiting_meshes = []
        job.waiting_preview = job.last_preview = None
        if job.writer is not None:
            job.writer.discard()

    def _forget_old(self) -> None:
        finished = [job for job in self.jobs if job.finished]
        for job in finished[: max(0, len(finished) - KEEP_FINISHED + 1)]:
            self.jobs.remove(job)

    # ---------------------------------------------------------------------------------------- what Blender does to us

    def before_save(self) -> None:
        """Previews do not belong into a file: they leave it, and come back with the next step."""
        for job in self.active:
            if job.writer is not None and job.writer.preview is not None:
                job.writer.discard_preview()
                job.waiting_preview = job.waiting_preview or job.last_preview

    def before_load(self) -> None:
        """Another file comes: the jobs of this one end, while their objects can still be removed. A training is of no
        file, and goes on."""
        self.sliders.clear()
        self._end(job for job in self.active if job.writer is None or job.writer.expects_results)
        for job in self.active:
            if job.writer is not None:
                job.writer.discard_preview()

    def close(self) -> None:
        """Ends every job and the engine; the session is not used again."""
        self.sliders.clear()
        self._end(self.active)
        self.engine.stop(wait=True)

    def _end(self, jobs: Iterable[Job]) -> None:
        for job in list(jobs):
            self.cancel(job)
            self._finish(job, CANCELLED)


# ---------------------------------------------------------------------------------------------------------------------
# The session of this Blender

_session: Session | None = None


def current() -> Session:
    """The session of this Blender; made when first asked for."""
    global _session
    if _session is None:
        _session = Session(EngineProcess(engine_folder()))
        _session.on_change = scene.redraw_panels
    return _session


def _on_slider(obj: bpy.types.Object, by_command: bool) -> None:
    current().sliders.moved(obj, at_rest=by_command, push=by_command)
    drive()


sliding.listeners.append(_on_slider)


def configure(engine_python: str) -> None:
    """Takes over the preferences; they hold from the next start of the engine on."""
    current().engine.preferred_python = bpy.path.abspath(engine_python) if engine_python else ""


def engine_folder() -> Path:
    """Where the engine's log and finished jobs lie: the extension's own folder, which survives updates."""
    package = (__package__ or "").rpartition(".")[0]  # the add-on itself, not this room
    if package.startswith("bl_ext."):
        return Path(bpy.utils.extension_path_user(package, path="engine", create=True))
    return Path(bpy.utils.user_resource("DATAFILES", path="shapewright/engine", create=True))


def drive() -> None:
    """Makes sure that a timer steps the session for as long as there is something to do."""
    if not bpy.app.background and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=0.0, persistent=True)


def _tick() -> float | None:
    if _session is None:
        return None
    try:
        if not _session.step():
            return None
        return SLIDE_INTERVAL_S if _session.sliders.busy else STEP_INTERVAL_S
    except Exception:  # a timer that raises is never called again, and every job would hang
        log.exception("Shapewright's step failed")
        return 1.0


@persistent
def _on_undo(*_: object) -> None:
    if _session is not None:
        _session.sweep_needed = True  # not here: Blender is still in the middle of its undo
        drive()


@persistent
def _on_load_pre(*_: object) -> None:
    if _session is not None:
        _session.before_load()


@persistent
def _on_load_post(*_: object) -> None:
    scene.remove_stray_previews(job.id for job in (_session.active if _session is not None else ()))


@persistent
def _on_save_pre(*_: object) -> None:
    if _session is not None:
        _session.before_save()


_HANDLERS = (
    ("undo_post", _on_undo),
    ("redo_post", _on_undo),
    ("load_pre", _on_load_pre),
    ("load_post", _on_load_post),
    ("save_pre", _on_save_pre),
)


def register() -> None:
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Leaves nothing behind: no handler, timer, thread, engine or preview."""
    global _session
    for name, handler in _HANDLERS:
        handlers = getattr(bpy.app.handlers, name)
        while handler in handlers:
            handlers.remove(handler)
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    if _session is not None:
        session, _session = _session, None
        session.close()
