"""Start the server: token, socket, announcement, and leaving when the parent does."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import secrets
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import QueueOptions
from .storage import default_data_dir, write_atomically

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

log = logging.getLogger(__name__)


@dataclass
class ServeOptions:
    """host, port: where to listen; port 0 = any free one.  token_file: read where it exists, else written.
    announce: a file that gets {"port", "host", "token_file", "pid"} once the server answers.  parent_pid: leave when
    that process does.  parent_stdin: leave when standard input closes.  log_file: where the log goes instead of
    standard error."""

    host: str = "127.0.0.1"
    port: int = 0
    token_file: Path | None = None
    data_dir: Path | None = None
    announce: Path | None = None
    parent_pid: int | None = None
    parent_stdin: bool = False
    log_file: Path | None = None
    queue: QueueOptions = field(default_factory=QueueOptions)


def serve(options: ServeOptions) -> int:
    """Serve until told to leave (signal, parent's end). Returns the exit status. Raises InputError where it cannot
    start."""
    _open_log(options.log_file)
    if options.token_file is None and not _is_loopback(options.host):
        raise InputError(
            "token_required",
            f"The engine does not listen on {options.host} without a token of yours.",
            "Other machines can reach that address, so its clients need a token that you give them.",
            "Write a long random text to a file that only you can read and pass it with --token-file.",
        )
    leave = _Leave()
    _watch_parent(options, leave)

    data_dir = (options.data_dir or default_data_dir()).absolute()
    os.environ["SHAPEWRIGHT_DATA_DIR"] = str(data_dir)  # the worker keeps fitted fields there too
    listening = _bind(options.host, options.port)
    port = int(listening.getsockname()[1])
    generated = options.token_file is None
    token_file = (options.token_file or data_dir / f"token-{port}").absolute()
    token = _prepare_files(data_dir, token_file, generated)
    about = {"host": options.host, "port": port, "token_file": str(token_file), "pid": os.getpid()}

    from .app import create_app

    app = create_app(data_dir, token, options.queue)
    server = _server(app, lambda: _announce(about, options.announce))
    leave.attach(server)
    try:
        server.run(sockets=[listening])
    finally:
        if generated:
            with contextlib.suppress(OSError):
                token_file.unlink()
        if options.announce is not None:
            with contextlib.suppress(OSError):
                options.announce.unlink()
    return 0 if server.started else 3


def _prepare_files(data_dir: Path, token_file: Path, generated: bool) -> str:
    """Make the data folder and read or make the token, anew where the file is `generated`. Raises InputError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if generated:
            token_file.unlink(missing_ok=True)
        return read_or_make_token(token_file)
    except OSError as error:
        raise InputError(
            "data_dir_unusable",
            "The engine cannot write its files.",
            f"{error}.",
            "Choose another folder with --data-dir, or another --token-file.",
        ) from error


def _announce(about: dict[str, Any], file: Path | None) -> None:
    """One line to standard output, and to the file."""
    line = json.dumps(about, ensure_ascii=True)
    if file is not None:
        write_atomically(file, line.encode())
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def _server(app: FastAPI, on_answering: Callable[[], None]) -> uvicorn.Server:
    """on_answering: called once it answers."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                on_answering()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.jobs.end_streams()
            await super().shutdown(sockets=sockets)

    return Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
    )


# ---------------------------------------------------------------------------------------------------------- the parent


class _Leave:
    """Ends the server gently, and after three seconds in any case."""

    def __init__(self) -> None:
        self._server: uvicorn.Server | None = None
        self._asked = False

    def attach(self, server: uvicorn.Server) -> None:
        self._server = server
        if self._asked:
            server.should_exit = True

    def now(self, why: str) -> None:
        if self._asked:
            return
        self._asked = True
        log.info("Leaving: %s", why)
        if self._server is not None:
            self._server.should_exit = True
        timer = threading.Timer(3.0, _end_at_once)
        timer.daemon = True
        timer.start()


def _end_at_once() -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    os._exit(0)


def _watch_parent(options: ServeOptions, leave: _Leave) -> None:
    if options.parent_pid is not None:
        is_alive = _process_watch(options.parent_pid)

        def poll() -> None:
            while is_alive():
                time.sleep(0.5)
            leave.now(f"the parent process {options.parent_pid} has ended")

        threading.Thread(target=poll, name="parent-watch", daemon=True).start()
    if options.parent_stdin:

        def drain() -> None:
            # A duplicate read without Python's buffer: the interpreter's own lock on stdin would hinder its exit.
            descriptor = os.dup(0)
            with contextlib.suppress(OSError):
                while os.read(descriptor, 4096):
                    pass
            leave.now("standard input was closed")

        threading.Thread(target=drain, name="stdin-watch", daemon=True).start()


def _process_watch(pid: int) -> Callable[[], bool]:
    """Is the process that has this number now still running? (The number may be given to another one later.)"""
    import psutil

    try:
        process = psutil.Process(pid)
    except (psutil.Error, ValueError, OverflowError):
        return lambda: False

    def is_alive() -> bool:
        try:
            return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return True  # there, but not ours to look at

    return is_alive


# ------------------------------------------------------------------------------------------------------ token, socket


def read_or_make_token(path: Path) -> str:
    """The token in the file; where there is no file, a new one is written to it, readable by its owner only (on
    Windows by whoever may read the folder, for the default folder the user alone)."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        token = path.read_text("utf-8").strip()
        if len(token) < 16 or not token.isascii() or any(c.isspace() for c in token):
            raise InputError(
                "token_invalid",
                f"The token in '{path.name}' cannot be used.",
                "A token is one line of at least 16 letters, digits or signs.",
                "Delete the file to have a new token written, or put a longer text into it.",
            ) from None
        if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            log.warning("The token file %s can be read by other users: run chmod 600 on it", path)
        return token
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(token + "\n")
    return token


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bind(host: str, port: int) -> socket.socket:
    try:
        if not 0 <= port <= 65535:  # the system would take it modulo 65536
            raise OSError("A port is a number from 0 to 65535")
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":  # on Windows this would let two servers share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
        listening.setblocking(False)
    except (OSError, OverflowError) as error:
        raise InputError(
            "address_unusable",
            f"The engine cannot listen on {host} port {port}.",
            f"{error}.",
            "Choose another --port (0 takes any free one) or --host.",
        ) from error
    return listening


def _open_log(log_file: Path | None) -> None:
    form = "%(asctime)s server %(levelname)s %(name)s: %(message)s"
    if log_file is not None:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise InputError(
                "log_unusable", "The log file cannot be written.", f"{error}.", "Choose another --log-file."
            ) from error
        os.dup2(descriptor, 2)  # the worker inherits it, and what libraries print goes there too
        os.close(descriptor)
    logging.basicConfig(level=logging.INFO, format=form, force=True)
