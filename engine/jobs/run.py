"""Run one job in this process. Importing this module does not import torch: each kind's code is loaded when asked."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import InputError
from .types import JobArrays, JobCallbacks, JobResult, Request

RUNNERS: dict[str, str] = {
    "complete": "engine.jobs.complete:run_complete",
    "selftest": "engine.jobs.selftest:run_selftest",
}
"""Kind of job -> 'module:function(request, arrays, callbacks) -> JobResult'."""


def run_job(request: Request, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """Run `request` to its end on this thread. arrays: None for kinds without input.

    Raises InputError (the request is at fault), JobFailed (the engine is), Cancelled.
    """
    target = RUNNERS.get(request.kind)
    if target is None:
        raise InputError(
            "kind_unknown",
            f"The job kind {request.kind!r} is not known.",
            f"This engine knows {', '.join(sorted(RUNNERS))}.",
            "Use an engine of the version that the client was made for.",
        )
    module, function = target.split(":")
    runner: Any = getattr(importlib.import_module(module), function)
    result: JobResult = runner(request, arrays, callbacks)
    return result
