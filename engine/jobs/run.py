"""Run one job in this process. Importing this module does not import torch: each kind's code is loaded when asked."""

from __future__ import annotations

import logging

from ..errors import EngineError, JobFailed
from ..extras import missing
from ..jobs.base import JobArrays, JobCallbacks, JobResult
from .kinds import find
from .request import Request

log = logging.getLogger(__name__)


def run_job(request: Request, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """Run `request` to its end on this thread. arrays: None for kinds without input.

    Raises InputError (the request is at fault), JobFailed (the engine is), Cancelled.
    """
    result = find(request.kind).runner()(request, arrays, callbacks)
    if arrays is not None:  # what the checks left out, before what the job itself did
        result.report["notes"] = [*arrays.notes, *result.report.get("notes", [])]
    if arrays is not None and arrays.offset is not None:
        result.report["offset"] = arrays.offset.tolist()  # where the meshes lie, for whoever has the report alone
    return result


def explain(error: BaseException) -> EngineError:
    """What `run_job` raised (Cancelled excepted), with a cause and a remedy. Unforeseen errors go to the log whole."""
    if isinstance(error, EngineError):
        return error
    text = str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] != __package__.split(".")[0]:
        return missing([error.name], "This cannot be done here yet.")
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
