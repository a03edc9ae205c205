"""When to lose patience with a worker. Pure: what is to be done is told, the queue does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..jobs.kinds import find
from . import problems
from .job import Job
from .options import QueueOptions
from .worker_process import WorkerProcess


@dataclass
class Verdict:
    """replace: end the worker, which no longer listens; its job fails with `error`.  stop: ask it to leave.
    release: ask it to drop its caches."""

    act: Literal["replace", "stop", "release"]
    error: problems.Error = field(default_factory=dict)


def judge(
    worker: WorkerProcess, job: Job | None, idle_since: float, released: bool, options: QueueOptions, now: float
) -> Verdict | None:
    """What is to be done about the worker, which has `job`. Times: of time.monotonic()."""
    if not worker.ready:
        if now - worker.born > options.start_timeout_s:
            why = f"The worker did not start within {options.start_timeout_s:.0f} seconds."
            return Verdict("replace", problems.hung(why))
        return None
    if job is not None and job.sent:
        return _judge_at_work(worker, job, options, now)
    if job is not None:
        return None
    idle = now - max(idle_since, worker.born)
    if idle > options.stop_after_s:
        return Verdict("stop")
    if idle > options.release_after_s and not released:
        return Verdict("release")
    if now - worker.heard > options.heartbeat_s:
        return Verdict("replace")
    return None


def _judge_at_work(worker: WorkerProcess, job: Job, options: QueueOptions, now: float) -> Verdict | None:
    if job.cancel_asked is not None and now - job.cancel_asked > options.grace_s:
        return Verdict("replace")
    if now - worker.heard > options.heartbeat_s:
        return Verdict("replace", problems.hung(f"The worker was silent for {options.heartbeat_s:.0f} seconds."))
    is_long = find(job.kind).long
    longest = options.train_timeout_s if is_long else options.job_timeout_s
    if now - job.began > longest:
        return Verdict("replace", problems.took_too_long(longest, is_long))
    return None
