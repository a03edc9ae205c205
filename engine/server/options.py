"""How patient the server is, and how much it keeps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class QueueOptions:
    """Times in seconds, sizes in bytes.

    heartbeat_s: a worker silent for longer is hung.  job_timeout_s: no job may take longer, but for trainings, whose
    limit is train_timeout_s.  grace_s: how long a cancelled job may take to stop before its worker is replaced.
    release_after_s, stop_after_s: an idle worker drops its caches, then leaves altogether (only that gives back all of
    a device's memory).  keep_s, keep_bytes: how long and how many finished results stay.
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
