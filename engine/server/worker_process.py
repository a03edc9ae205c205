"""The worker as the server sees it: a process, the pipe to it, and the thread that reads what it says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

import psutil

from .messages import read_message, write_message

log = logging.getLogger(__name__)


class WorkerProcess:
    """A worker and the thread that reads its pipe; the callbacks are called on the event loop."""

    def __init__(
        self,
        command: Sequence[str],
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[WorkerProcess, dict[str, Any]], None],
        on_exit: Callable[[WorkerProcess, int], None],
    ) -> None:
        self._loop = loop
        self._on_message = on_message
        self._on_exit = on_exit
        self.ready = False
        self.leaving = False
        self.pid: int | None = None
        self.memory = 0
        self.heard = self.born = time.monotonic()
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, creationflags=flags
        )
        threading.Thread(target=self._read, name="worker-pipe", daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while (message := read_message(self._process.stdout)) is not None:
                self._call(self._on_message, message)
        except (OSError, ValueError) as error:
            log.error("The worker's messages cannot be read: %s", error)
            self.kill()
        self._call(self._on_exit, self._process.wait())

    def _call(self, callback: Callable[[WorkerProcess, Any], None], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: the server is leaving
            self._loop.call_soon_threadsafe(callback, self, value)

    def send(self, message: dict[str, Any]) -> None:
        stream: IO[bytes] | None = self._process.stdin
        assert stream is not None
        with contextlib.suppress(OSError, ValueError):  # it has died: on_exit tells
            write_message(stream, message)

    def stop(self) -> None:
        """Ask it to leave: its input closes."""
        self.leaving = True
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End it and its children at once. (In a Windows venv the interpreter is a child of a launcher.)"""
        try:
            family = [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]
        except psutil.Error:
            family = []
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
