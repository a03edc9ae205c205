"""Run one job in this process. Importing this module does not import torch: each kind's code is loaded when asked."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from ..errors import EngineError, InputError, JobFailed
from .base import JobArrays, JobCallbacks, JobResult, Request

log = logging.getLogger(__name__)

RUNNERS: dict[str, str] = {
    "complete": "engine.jobs.complete.run:run_complete",
    "fit": "engine.jobs.fit.run:run_fit",
    "selftest": "engine.jobs.selftest.run:run_selftest",
    "generate": "engine.jobs.generate.run:run_generate",
    "vary": "engine.jobs.generate.run:run_vary",
    "blend": "engine.jobs.generate.run:run_blend",
    "arithmetic": "engine.jobs.generate.run:run_arithmetic",
    "directions": "engine.jobs.slide.run:run_directions",
    "slide": "engine.jobs.slide.run:run_slide",
    "train": "engine.jobs.train.run:run_train",
    "gradient": "engine.jobs.gradient.run:run_gradient",
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


def explain(error: BaseException) -> EngineError:
    """What `run_job` raised (Cancelled excepted), with a cause and a remedy. Unforeseen errors go to the log whole."""
    if isinstance(error, EngineError):
        return error
    text = str(error)
    if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
        log.warning("Out of memory: %s", text)
        return JobFailed(
            "out_of_memory",
            "The job ran out of memory.",
            text.splitlines()[0][:300] if text else "The system gave no more memory.",
            "Lower the resolution or the number of hypotheses, close other programs, or choose the device 'cpu'.",
        )
    log.error("The job failed", exc_info=error)
    return JobFailed(
        "internal_error",
        "The job failed through a fault in the engine.",
        f"{type(error).__name__}: {text[:300]}" if text else f"{type(error).__name__}.",
        "Try again; if it happens again, report it with the engine's log.",
    )


def _is_torch_out_of_memory(error: BaseException) -> bool:
    # By name and text: torch may not be imported here, and its CPU allocator raises a bare RuntimeError.
    if type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory", "alloc_cpu")
    )
