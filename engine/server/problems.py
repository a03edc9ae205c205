"""What becomes of jobs through no fault of their own, in three parts."""

from __future__ import annotations

from ..errors import InputError, JobFailed

Error = dict[str, str]


def died(status: int) -> Error:
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


def hung(why: str) -> Error:
    return JobFailed(
        "worker_hung",
        "The engine's worker stopped answering.",
        why,
        "Run the job again; a new worker has been started. If it hangs again, choose the device 'cpu'.",
    ).as_dict()


def not_started(error: OSError) -> Error:
    return JobFailed(
        "worker_not_started",
        "The engine cannot start its worker.",
        f"{error}.",
        "Free memory or install the engine again, then run 'shapewright doctor'.",
    ).as_dict()


def took_too_long(seconds: float, is_long: bool) -> Error:
    """is_long: the kind has the long limit, that of trainings."""
    remedy = "Lower the resolution or the hypotheses, or start the engine with a longer --job-timeout."
    if is_long:
        remedy = "Resume the training: it goes on where it was saved. The limit is --train-timeout."
    return JobFailed(
        "job_timeout",
        "The job was stopped.",
        f"It took longer than {seconds:.0f} seconds, the longest that such a job may take.",
        remedy,
    ).as_dict()


def stopped() -> Error:
    return JobFailed(
        "engine_stopped",
        "The job was interrupted.",
        "The engine stopped before the job was finished.",
        "Run the job again.",
    ).as_dict()


def damaged(why: str, kept: str) -> Error:
    return JobFailed(
        "job_damaged",
        "What is kept of the job cannot be read.",
        f"Its state.json is damaged: {why}.",
        f"Run the job again. Its files are kept in jobs/{kept} of the engine's data folder.",
    ).as_dict()


def queue_full(waiting: int) -> InputError:
    return InputError(
        "queue_full",
        "The engine takes no more jobs.",
        f"{waiting} jobs are waiting.",
        "Wait for some of them to finish, or cancel them.",
    )


def job_not_found() -> InputError:
    return InputError(
        "job_not_found",
        "The job is not known.",
        "It was deleted, is older than results are kept, or never existed.",
        "Start the job again.",
    )


def mesh_not_found(n: int) -> InputError:
    return InputError(
        "mesh_not_found",
        f"The job has no mesh number {n} now.",
        "Previews make room for newer ones, and all of them for the result.",
        "Follow the job's events and fetch the newest mesh.",
    )
