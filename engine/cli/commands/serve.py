"""`serve`: jobs over HTTP, for Blender and other clients."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..inputs import positive


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "serve",
        parents=[common],
        help="answer Blender and other clients over HTTP",
        description="Serve jobs over HTTP. One line of JSON on standard output says where, once the server answers.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1; another one needs --token-file")
    parser.add_argument("--port", type=int, default=0, help="default: 0, any free one")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="read where it exists, else written")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where jobs and results are kept")
    parser.add_argument("--announce", type=Path, metavar="FILE", help="also write the announcement to this file")
    parser.add_argument("--log-file", type=Path, metavar="FILE", help="log there instead of standard error")
    parser.add_argument("--parent-pid", type=int, metavar="PID", help="leave when this process has ended")
    parser.add_argument("--parent-stdin", action="store_true", help="leave when standard input closes")
    parser.add_argument("--job-timeout", type=positive, default=3600.0, metavar="S", help="seconds (default: 3600)")
    parser.add_argument(
        "--train-timeout", type=positive, default=604_800.0, metavar="S", help="of trainings (default: a week)"
    )
    parser.add_argument("--grace", type=positive, default=10.0, metavar="S", help="seconds a cancelled job may take")
    parser.add_argument("--idle-minutes", type=positive, default=30.0, metavar="M", help="then the worker leaves")
    parser.add_argument("--keep-hours", type=positive, default=24.0, metavar="H", help="how long results are kept")
    parser.add_argument("--keep-megabytes", type=positive, default=2048.0, metavar="MB", help="how much is kept")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ...server.options import QueueOptions
    from ...server.serve import ServeOptions, serve

    stop_after = options.idle_minutes * 60
    queue = QueueOptions(
        job_timeout_s=options.job_timeout,
        train_timeout_s=options.train_timeout,
        grace_s=options.grace,
        stop_after_s=stop_after,
        release_after_s=min(300.0, stop_after / 2),
        keep_s=options.keep_hours * 3600,
        keep_bytes=int(options.keep_megabytes * 2**20),
    )
    return serve(
        ServeOptions(
            host=options.host,
            port=options.port,
            token_file=options.token_file,
            data_dir=options.data_dir,
            announce=options.announce,
            parent_pid=options.parent_pid,
            parent_stdin=options.parent_stdin,
            log_file=options.log_file,
            queue=queue,
        )
    )
