"""Jobs, short calls, and the one engine that they run on. What the rooms above need of it is named here."""

from .blender import COMPANIONS, current, drive, engine_folder, register, unregister, use_preferences
from .calls import Call
from .job import (
    CANCELLED,
    CANCELLING,
    DONE,
    FINISHED,
    JOB_FAILED,
    QUEUED,
    RUNNING,
    STARTING_ENGINE,
    Job,
    engine_stopped,
)
from .notices import push_undo
from .session import KEEP_FINISHED, Companion, Session

__all__ = [
    "CANCELLED",
    "CANCELLING",
    "COMPANIONS",
    "DONE",
    "FINISHED",
    "JOB_FAILED",
    "KEEP_FINISHED",
    "QUEUED",
    "RUNNING",
    "STARTING_ENGINE",
    "Call",
    "Companion",
    "Job",
    "Session",
    "current",
    "drive",
    "engine_folder",
    "engine_stopped",
    "push_undo",
    "register",
    "unregister",
    "use_preferences",
]
