"""Real server processes on real sockets, and a small client."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


class Client:
    """What a server announced, and requests to it with the right token."""

    def __init__(self, announced: dict[str, Any], process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid = announced["pid"]
        self.port = announced["port"]
        self.token_file = Path(announced["token_file"])
        self.token = self.token_file.read_text("utf-8").strip()
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self.token}", "Shapewright-Protocol": "1.0"},
            timeout=120,
            trust_env=False,
        )

    def submit(self, request: dict[str, Any], arrays: bytes | None = None) -> str:
        answer = self.post(request, arrays)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def post(self, request: Any, arrays: bytes | None = None) -> httpx.Response:
        files: dict[str, Any] = {"request": (None, request if isinstance(request, str) else json.dumps(request))}
        if arrays is not None:
            files["arrays"] = ("arrays.npz", arrays)
        return self.http.post("/v1/jobs", files=files)

    def events(self, job: str, after: int | None = None) -> Iterator[dict[str, Any]]:
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        with self.http.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line[6:])

    def finish(self, job: str) -> dict[str, Any]:
        """The last event of the job."""
        last: dict[str, Any] = {}
        for event in self.events(job):
            last = event
        return last

    def wait_for(self, job: str, kind: str) -> dict[str, Any]:
        for event in self.events(job):
            if event["type"] == kind:
                return event
        raise AssertionError(f"no event {kind!r}")

    def job(self, job: str) -> dict[str, Any]:
        return self.http.get(f"/v1/jobs/{job}").json()

    def delete(self, job: str) -> dict[str, Any]:
        return self.http.delete(f"/v1/jobs/{job}").json()

    def mesh(self, job: str, n: int) -> dict[str, np.ndarray]:
        answer = self.http.get(f"/v1/jobs/{job}/meshes/{n}")
        assert answer.status_code == 200, answer.text
        with np.load(io.BytesIO(answer.content), allow_pickle=False) as npz:
            return dict(npz)

    def info(self) -> dict[str, Any]:
        return self.http.get("/v1/info").json()

    def worker_pid(self) -> int:
        return eventually(lambda: self.info()["worker"]["pid"])


def eventually(check: Callable[[], Any], seconds: float = 120.0) -> Any:
    """The first true value of `check`; fails where there is none in time (a limit for hangs, not a measure)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := check():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def environment() -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def server(folder: Path, command: list[str]) -> Iterator[Client]:
    """Start `command`, which announces itself in folder/announce.json; closing its standard input ends it."""
    announce = folder / "announce.json"
    log = (folder / "log.txt").open("ab")
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, env=environment(), cwd=folder
    )
    try:
        eventually(lambda: announce.exists() or process.poll() is not None)
        assert announce.exists(), (folder / "log.txt").read_text("utf-8")
        client = Client(json.loads(announce.read_text("utf-8")), process)
        yield client
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()
        announce.unlink(missing_ok=True)


def real_command(folder: Path, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "engine", "serve", "--parent-stdin",
        "--announce", str(folder / "announce.json"), "--data-dir", str(folder / "data dür"), *options,
    ]  # fmt: skip


def strange_command(folder: Path, *options: str, data_dir: Path | None = None) -> list[str]:
    script = str(HERE / "serve_strange.py")
    return [sys.executable, script, str(folder / "announce.json"), str(data_dir or folder / "data dür"), *options]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The real engine: torch in its worker, the real self-test job."""
    folder = tmp_path_factory.mktemp("engine mit Ümläut")
    with server(folder, real_command(folder)) as client:
        yield client


@pytest.fixture(scope="session")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A real server whose worker's jobs misbehave by name."""
    folder = tmp_path_factory.mktemp("strange")
    with server(folder, strange_command(folder, "grace_s=0.5", "heartbeat_s=3", "keepalive_s=0.3")) as client:
        yield client
