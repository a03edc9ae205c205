"""The running jobs, and the one engine they run on.

`Session.step()` is all there is to drive: a timer calls it in a window, `wait()` in a loop where there is none (timers
never fire under `blender -b`), and tests as they like. It takes what the job threads have brought and puts it into the
scene; parsing, checking and waiting happen on those threads, and what news make of a job says job.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import bpy

from ..carried import code
from ..link.connections import FAILED, READY, STARTING, Connection
from ..link.job_thread import JobThread
from ..link.problem import EngineProblem, fault
from ..scene import write
from ..writers.in_place import ResultWriter
from . import notices
from .calls import Call, Calls
from .job import CANCEL_GRACE_S, CANCELLED, CANCELLING, DONE, JOB_FAILED, Job, engine_stopped

log = logging.getLogger(__name__)

STEP_BUDGET_S = 0.008
"""After this much work a step leaves the rest to the next one; one mesh more may come on top of it."""
KEEP_FINISHED = 8


class Companion(Protocol):
    """What a feature has driven by the session's step beside the jobs. interval_s: between steps while it is busy."""

    interval_s: float

    @property
    def busy(self) -> bool:
        """Whether there is anything for step() to do soon."""

    def step(self, may_write: bool) -> bool:
        """True where the panels have something new to say."""

    def after_undo(self) -> None:
        """An undo or redo has put another scene in the place of this one."""

    def clear(self) -> None:
        """Another file comes, or the add-on goes: nothing is to be driven any more."""


class Session:
    """Jobs in the order in which they were started, the finished ones among them until they are dismissed.

    companions: what features have driven beside the jobs, each made for this session, by their names.
    """

    def __init__(
        self, engine: Connection, companions: Mapping[str, Callable[[Session], Companion]] | None = None
    ) -> None:
        self.engine = engine
        self.jobs: list[Job] = []
        self.calls = Calls()
        self.longest_step_seconds = 0.0
        """The longest that step() has held the main thread."""
        self.sweep_needed = False
        self.known_priors: list[Any] = []
        """What the engine listed when it last ran; for the panel while it is stopped."""
        self.on_change: Callable[[], None] = lambda: None
        self._turn = 0
        self._engine_state = engine.state
        self.companions = {name: make(self) for name, make in (companions or {}).items()}

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

    def ask(self, call: Call) -> Call:
        """Takes a short call on; starts the engine where none runs. Returns at once."""
        self.calls.begin(call)
        self.engine.start()
        self.on_change()
        return call

    def cancel(self, job: Job) -> None:
        """Stops one job; its preview leaves the scene with this call."""
        if job.finished or job.state == CANCELLING:
            return
        if job.thread is None:
            self._finish(job, CANCELLED)
        else:
            job.thread.cancel()
            job.begin_cancel(time.monotonic())
            if job.writer is not None:
                job.writer.discard()
        self.on_change()

    def dismiss(self, job: Job) -> None:
        """Takes a finished job off the list."""
        if job.finished and job in self.jobs:
            self.jobs.remove(job)
            self.on_change()

    def find(self, job_id: str) -> Job | None:
        return next((job for job in self.jobs if job.id == job_id), None)

    def prior(self, name: str) -> dict[str, Any]:
        """What the engine lists of a prior; {} where it has not run yet or has none of that name."""
        listed = (prior for prior in self.priors if isinstance(prior, dict) and prior.get("name") == name)
        return next(listed, {})

    @property
    def priors(self) -> list[Any]:
        """What the engine lists; while it is stopped, what it listed when it last ran."""
        return self.engine.info.get("priors") or self.known_priors

    @property
    def active(self) -> list[Job]:
        return [job for job in self.jobs if not job.finished]

    @property
    def busy_companions(self) -> list[Companion]:
        return [companion for companion in self.companions.values() if companion.busy]

    @property
    def busy(self) -> bool:
        """Whether there is anything for step() to do soon."""
        return (
            bool(self.active)
            or self.engine.state == STARTING
            or self.sweep_needed
            or self.calls.busy
            or bool(self.busy_companions)
        )

    def use(self, engine: Connection) -> None:
        """Another engine takes the place of this one, with which it and all jobs on it end."""
        self._end(self.active)
        self.engine.stop()
        self.engine = engine
        self.on_change()

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

    def wait_for_answer(self, call: Call) -> Call:
        """Drives the session until a call is answered."""
        while not call.finished:
            self.step()
            time.sleep(0.01)
        return call

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
            changed = write.remove_stray_previews(job.id for job in self.active) > 0 or changed
            for companion in self.companions.values():
                companion.after_undo()
        jobs = self.active
        # Every step begins with another job, so that a busy one does not starve the rest.
        self._turn += 1
        for offset in range(len(jobs)):
            job = jobs[(self._turn + offset) % len(jobs)]
            changed = self._advance(job, may_write, began) or changed
        if self.calls.busy:
            changed = self.calls.step(self) or changed
        for companion in self.busy_companions:
            changed = companion.step(may_write) or changed
        took = time.perf_counter() - began
        self.longest_step_seconds = max(self.longest_step_seconds, took)
        if changed:
            self.on_change()
        return self.busy

    def _advance(self, job: Job, may_write: bool, began: float) -> bool:
        """One job's news. True where something visible has changed."""
        try:
            if job.thread is None:
                return self._try_start(job)
            changed = self._read_updates(job)
            if job.finished:
                return True
            if job.state == CANCELLING:
                if job.cancelled_in_vain(time.monotonic()) or self.engine.state != READY:
                    self._finish(job, CANCELLED)
                return True
            if self.engine.state != READY and not job.received:
                self._fail(job, self.engine.problem or engine_stopped(f"'{job.title}' was not finished."))
                return True
            preview = job.thread.take_preview()
            if preview is not None:
                job.waiting_preview = preview
            if may_write and time.perf_counter() - began < STEP_BUDGET_S:
                changed = self._write(job) or changed
            return changed
        except EngineProblem as problem:
            self._fail(job, problem)
        except Exception as error:
            log.exception("Job '%s' failed in the add-on", job.title)
            self._fail(job, fault(f"'{job.title}' failed in the add-on.", error))
        return True

    def _try_start(self, job: Job) -> bool:
        for other in self.active:  # the engine gets the jobs in the order in which they were asked for
            if other is job:
                break
            if other.thread is None or not other.thread.job_id:
                return False
        if self.engine.state == READY and self.engine.client is not None:
            job.send()
            arrays = job.arrays or (job.scan.arrays if job.scan is not None else None)
            job.thread = JobThread(self.engine.client, job.request, arrays, job.want_previews)
            job.thread.start()
            return True
        if self.engine.state == FAILED and self.engine.problem is not None:
            self._fail(job, self.engine.problem)
            return True
        if self.engine.state != STARTING:  # stopped by hand between the click and now
            self._fail(job, engine_stopped(f"'{job.title}' was not started."))
            return True
        return False

    def _read_updates(self, job: Job) -> bool:
        changed = False
        assert job.thread is not None
        while not job.thread.updates.empty():
            update = job.thread.updates.get()
            changed = True
            ended = job.take(update)
            if ended == JOB_FAILED:
                # Why the connection was lost, not only that it was.
                why = self.engine.problem if self.engine.poll() == FAILED else None
                self._fail(job, why or job.problem)
                return True
            if ended:
                self._finish(job, ended)
                return True
            if update.state != DONE or job.state == CANCELLING:
                continue
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
            notices.push_undo(job.title)

    def _finish(self, job: Job, state: str) -> None:
        job.end(state, time.monotonic())
        if state != DONE and job.writer is not None:
            job.writer.discard()
        for warning in job.warnings if not bpy.app.background else ():
            notices.tell(warning)
        if job.thread is not None:
            job.thread.close()

    def _fail(self, job: Job, problem: EngineProblem | None) -> None:
        if problem is not None:
            problem = code.missing_prior(problem, job.shapes)
        job.problem = problem
        if problem is not None:
            log.error("%s: %s", job.title, problem)
        self._finish(job, JOB_FAILED)

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
                job.hide_preview_for_now()

    def before_load(self) -> None:
        """Another file comes: the jobs of this one end, while their objects can still be removed. A training is of no
        file, and goes on."""
        self._clear_companions()
        self._end(job for job in self.active if job.writer is None or job.writer.expects_results)
        for job in self.active:
            if job.writer is not None:
                job.writer.discard_preview()

    def close(self) -> None:
        """Ends every job and the engine; the session is not used again."""
        self._clear_companions()
        self._end(self.active)
        self.engine.stop(wait=True)

    def _clear_companions(self) -> None:
        for companion in self.companions.values():
            companion.clear()

    def _end(self, jobs: Iterable[Job]) -> None:
        for job in list(jobs):
            self.cancel(job)
            self._finish(job, CANCELLED)
