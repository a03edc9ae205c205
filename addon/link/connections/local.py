"""An engine on this machine, started for this Blender and gone with it. Standard library only: no bpy.

`EngineProcess` is a small state machine whose slow parts run on daemon threads: start() and stop() return at once, and
poll() (cheap, called from the main thread) says where things stand.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..client import EngineClient
from ..engine_command import EngineCommand, find_engine
from ..problem import EngineProblem
from . import FAILED, READY, STARTING, STOPPED, ConnectionKind, Fact, Setting

log = logging.getLogger(__name__)

START_TIMEOUT_S = 90.0
"""A cold disk and a virus scanner can make Python's first imports slow; two seconds is the usual time."""
STOP_TIMEOUT_S = 5.0
LOG_KEEP_BYTES = 4 << 20


class EngineProcess:
    """One engine, started for this Blender and gone with it.

    folder: where its log, announcement, token and finished jobs lie; made when needed.
    command: None finds one at the start (see find_engine, which `preferred_python` is given to).
    """

    def __init__(
        self,
        folder: Path,
        preferred_python: str = "",
        command: EngineCommand | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self.folder = Path(folder)
        self.preferred_python = preferred_python
        self.command = command
        self.start_timeout_s = start_timeout_s
        self.state = STOPPED
        self.problem: EngineProblem | None = None
        self.info: dict[str, Any] = {}
        self.client: EngineClient | None = None
        self.pid: int | None = None
        self.found_by = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._generation = 0
        self._lock = threading.Lock()

    @property
    def log_path(self) -> Path:
        return self.folder / "engine.log"

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Takes over the preferences; they hold from the next start on."""
        self.preferred_python = str(settings.get("engine_python") or "")

    def facts(self) -> list[Fact]:
        found = [Fact(f"Found by {self.found_by}")] if self.found_by else []
        return [*found, Fact(f"Log: {self.log_path}", self.log_path)]

    def start(self) -> None:
        """Begins to start the engine; returns at once. Nothing happens where it starts or runs already."""
        self.poll()
        with self._lock:
            if self.state in (STARTING, READY):
                return
            self._generation += 1
            self.state, self.problem, self.client, self.pid = STARTING, None, None, None
            generation = self._generation
        threading.Thread(target=self._start, args=(generation,), name="shapewright-engine-start", daemon=True).start()

    def poll(self) -> str:
        """The state now; notices that the engine has left by itself. Cheap."""
        process = self._process
        if self.state == READY and process is not None and process.poll() is not None:
            with self._lock:
                if self.state == READY:
                    self.state, self.client, self.pid = FAILED, None, None
                    self.problem = EngineProblem(
                        "engine_died",
                        "The engine stopped unexpectedly.",
                        _exit_reason(process.returncode) + self._log_tail(),
                        f"Run the command again: the engine is then started anew. Its log file is {self.log_path}.",
                    )
        return self.state

    def stop(self, wait: bool = False) -> None:
        """Ends the engine. wait: only return when it has left (at most twice STOP_TIMEOUT_S)."""
        with self._lock:
            self._generation += 1
            process, self._process = self._process, None
            self.state, self.problem, self.client, self.pid, self.info = STOPPED, None, None, None, {}
        ending = self._end(process)
        if wait and ending is not None:
            ending.join(2 * STOP_TIMEOUT_S)

    @staticmethod
    def _end(process: subprocess.Popen[bytes] | None) -> threading.Thread | None:
        if process is None or process.poll() is not None:
            return None

        def end() -> None:
            with contextlib.suppress(OSError):
                process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                log.warning("The engine (pid %s) did not leave when asked; it is killed.", process.pid)
                with contextlib.suppress(OSError):
                    process.kill()
                process.wait()

        thread = threading.Thread(target=end, name="shapewright-engine-stop", daemon=True)
        thread.start()
        return thread

    def _start(self, generation: int) -> None:
        process: subprocess.Popen[bytes] | None = None
        # Several Blenders may share this folder, and each start leaves nothing for the next to mistake for its own.
        mark = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        announcement, token = self.folder / f"announce-{mark}.json", self.folder / f"token-{mark}"
        try:
            command = self.command or find_engine(self.preferred_python)
            process = self._launch(command, announcement, token)
            with self._lock:
                if generation == self._generation:
                    self._process = process
            client = self._await_announcement(process, announcement, generation)
            info = client.info() if client is not None else {}
            with self._lock:
                if generation != self._generation or client is None:
                    raise _Overtaken
                self.client, self.info, self.pid, self.found_by = client, info, process.pid, command.found_by
                self.state = READY
        except _Overtaken:
            self._end(process)
        except EngineProblem as problem:
            self._failed(generation, process, problem)
        except Exception as error:
            log.exception("Starting the engine failed")
            self._failed(
                generation,
                process,
                EngineProblem(
                    "engine_start_failed",
                    "The engine could not be started.",
                    f"{type(error).__name__}: {error}",
                    "Check the path of the engine's Python in the add-on's preferences.",
                ),
            )
        finally:
            for read in (announcement, token):  # the engine keeps its token in memory, and so do we
                with contextlib.suppress(OSError):
                    read.unlink(missing_ok=True)

    def _failed(self, generation: int, process: subprocess.Popen[bytes] | None, problem: EngineProblem) -> None:
        self._end(process)
        with self._lock:
            if generation == self._generation:
                self.state, self.problem, self._process = FAILED, problem, None

    def _launch(self, command: EngineCommand, announcement: Path, token: Path) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            if self.log_path.stat().st_size > LOG_KEEP_BYTES:
                self.log_path.replace(self.log_path.with_suffix(".old.log"))
        argv = [
            *command.argv,
            "serve",
            "--port",
            "0",
            "--announce",
            str(announcement),
            "--token-file",
            str(token),
            "--parent-pid",
            str(os.getpid()),
            "--data-dir",
            str(self.folder),
        ]
        # Blender's own Python settings are not the engine's.
        foreign = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")
        environment = {name: value for name, value in os.environ.items() if name not in foreign}
        environment.update(PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8", PYTHONUTF8="1")
        options: dict[str, Any] = {}
        if os.name == "nt":
            options["creationflags"] = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore
        else:
            options["start_new_session"] = True  # Ctrl-C in Blender's terminal is Blender's; the parent watch ends it
        with self.log_path.open("ab") as log_file:
            log_file.write(f"\n--- {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(argv)}\n".encode())
            log_file.flush()
            self._log_start = log_file.tell()
            try:
                return subprocess.Popen(
                    argv,
                    cwd=command.cwd,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log_file,
                    stderr=log_file,
                    **options,
                )
            except OSError as error:
                raise EngineProblem(
                    "engine_start_failed",
                    "The engine could not be started.",
                    f"{argv[0]}: {error.strerror or error}.",
                    "Check the path of the engine's Python in the add-on's preferences.",
                ) from error

    def _await_announcement(
        self, process: subprocess.Popen[bytes], announcement: Path, generation: int
    ) -> EngineClient | None:
        deadline = time.monotonic() + self.start_timeout_s
        while generation == self._generation:
            if process.poll() is not None:
                raise EngineProblem(
                    "engine_start_failed",
                    "The engine left while it was starting.",
                    _exit_reason(process.returncode) + self._log_tail(),
                    "Check that the path of the engine's Python in the add-on's preferences is one that Shapewright is "
                    f"installed in. The log file is {self.log_path}.",
                )
            client = _read_announcement(announcement)
            if client is not None:
                return client
            if time.monotonic() > deadline:
                raise EngineProblem(
                    "engine_start_failed",
                    "The engine did not become ready.",
                    f"It said nothing for {self.start_timeout_s:.0f} seconds.{self._log_tail()}",
                    f"Start it again; the log file is {self.log_path}.",
                )
            time.sleep(0.05)
        raise _Overtaken

    def _log_tail(self, lines: int = 3) -> str:
        """The last words of this engine, for the 'why' of a message."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(getattr(self, "_log_start", 0), file.seek(0, os.SEEK_END) - 4096))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        said = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
        return f" Its last words: {' / '.join(said)}." if said else ""


class _Overtaken(Exception):
    """A stop() came while the engine was starting."""


def _exit_reason(code: int) -> str:
    return f"It was ended by signal {-code}." if code < 0 else f"It left with exit code {code}."


def _read_announcement(path: Path) -> EngineClient | None:
    """The engine's port and token once it has written both; None while it has not (or is just writing)."""
    try:
        announced = json.loads(path.read_text("utf-8"))
        token = Path(announced["token_file"]).read_text("utf-8").strip()
        port = int(announced["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return EngineClient(port, token, str(announced.get("host") or "127.0.0.1")) if token and 0 < port < 65536 else None


CONNECTION = ConnectionKind(
    "local",
    "This Machine",
    "The engine runs beside Blender, is started with the first job and ends with Blender",
    EngineProcess,
    (
        Setting(
            "engine_python",
            "Engine's Python",
            "Python interpreter (or virtual environment) that the Shapewright engine is installed in. "
            "Empty: the add-on looks for it",
            "file",
        ),
    ),
)
