"""A small engine that speaks the wire and misbehaves on demand: the add-on's double for what a real one rarely does.

Its completion of any input is the input's bounding box, in the frame that was sent, so that a test can tell whether
place, scale and frame survived. A shape with a code is a box too: as high as the code's first number, carried to its
place by the pose. The shapes that it generates are so high: 1, 1.25, 1.5 and so on, and variants likewise. It runs one
job after the other. Used in this process (`EmulatedEngine`), or as a process of its own in place of `python -m engine`
(`emulated_engine.py serve ...`, behaviour as JSON in the variable EMULATED_ENGINE).
"""

from __future__ import annotations

import dataclasses
import email.parser
import email.policy
import http.server
import io
import json
import os
import sys
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

BOX_FACES = np.array(
    [[0, 2, 3], [0, 3, 1], [4, 5, 7], [4, 7, 6], [0, 1, 5], [0, 5, 4], [2, 6, 7], [2, 7, 3], [0, 4, 6], [0, 6, 2],
     [1, 3, 7], [1, 7, 5]], np.int32,
)  # fmt: skip


@dataclass
class Behaviour:
    """protocol: of the header; '' sends none.  steps, step_s: progress events and the time between them.
    preview_at: after which steps a preview comes.  fail_at: the step at which the job fails.  die_at: the step at which
    the process (or the socket, in-process) dies.  hang_at: the step after which a job neither goes on nor ends.
    drop_stream_every: events after which a stream breaks off.  keep_alive_s: comments in the silence; 0: none.
    garbage_mesh, garbage_event, empty_mesh: what they say.  answer_s, mesh_s: how long every answer, a mesh takes.
    ignore_cancel: a cancelled job goes on.  start_s: how long until the announcement.  meshes: results of a job; 0: as
    many as hypotheses are asked for.  report: what the report holds besides."""

    protocol: str = "1.0"
    steps: int = 4
    step_s: float = 0.01
    preview_at: tuple[int, ...] = (1, 2)
    fail_at: int = -1
    die_at: int = -1
    hang_at: int = -1
    drop_stream_every: int = 0
    keep_alive_s: float = 0.0
    garbage_mesh: bool = False
    garbage_event: bool = False
    empty_mesh: bool = False
    answer_s: float = 0.0
    mesh_s: float = 0.0
    ignore_cancel: bool = False
    start_s: float = 0.0
    meshes: int = 1
    report: dict[str, Any] = field(default_factory=dict)


SETS = ("generate", "vary", "blend")
DIRECTIONS = [
    {"name": "Height", "measure": "height", "effect": {"height": 0.1}, "low": -2.0, "high": 2.0, "value": 0.5},
    {"name": "Width", "measure": "width", "effect": {"width": 0.1}, "low": -1.0, "high": 1.0, "value": 0.0},
]


def encode_box(height: float, pose: np.ndarray) -> bytes:
    """The box of a code whose first number is `height`: 0.5 wide and deep, about the canonical origin."""
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3, indexing="ij")).reshape(3, 8).T * [0.5, 0.5, height]
    vertices = (corners @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)
    code = np.zeros((2, 3, 3, 3), np.float32)
    code[0, 0, 0, 0] = height
    buffer = io.BytesIO()
    np.savez(buffer, vertices=vertices, faces=BOX_FACES, normals=np.zeros_like(vertices), code=code, pose=pose)
    return buffer.getvalue()


def given_shapes(arrays: dict[str, np.ndarray]) -> list[tuple[float, np.ndarray]]:
    """(height, pose) of each shape in a request's arrays; one without a code is as high as its points."""
    found = []
    for number in range(1, 17):
        suffix = f"_{number}" if number > 1 else ""
        if f"code{suffix}" in arrays:
            found.append((float(arrays[f"code{suffix}"].reshape(-1)[0]), arrays[f"pose{suffix}"].astype(np.float64)))
        elif f"points{suffix}" in arrays:
            points = arrays[f"points{suffix}"]
            pose = np.eye(4)
            pose[:3, 3] = (points.min(0) + points.max(0)) / 2
            found.append((float(np.ptp(points[:, 2])), pose))
    return found


def results_of(job: Job) -> int:
    if job.request["kind"] == "blend":
        return (job.request["steps"] + 1) * (len(given_shapes(job.arrays)) - 1) + 1
    return int(job.request["count"])


def shape_of(job: Job, number: int) -> tuple[float, np.ndarray]:
    shapes = given_shapes(job.arrays)
    if job.request["kind"] == "generate":
        return 1.0 + 0.25 * number, np.eye(4)
    if job.request["kind"] == "vary":
        return shapes[0][0] + 0.25 * number, shapes[0][1]
    pair, step = divmod(number, job.request["steps"] + 1)
    if pair == len(shapes) - 1:
        return shapes[-1]
    t = step / (job.request["steps"] + 1)
    (first, pose), (second, other) = shapes[pair], shapes[pair + 1]
    return first + t * (second - first), pose + t * (other - pose)


@dataclass
class Job:
    id: str
    request: dict[str, Any]
    arrays: dict[str, np.ndarray]
    events: list[dict[str, Any]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    cancelled: bool = False

    def say(self, kind: str, **data: Any) -> None:
        with self.changed:
            self.events.append({"type": kind, "id": len(self.events) + 1, **data})
            self.changed.notify_all()

    @property
    def over(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] in ("done", "failed", "cancelled")


class EmulatedEngine:
    """Serves on a free port of 127.0.0.1 until stop(); `jobs` and `log` (method, path) show what it was asked."""

    def __init__(self, behaviour: Behaviour | None = None, token: str = "secret") -> None:
        self.behaviour = behaviour or Behaviour()
        self.token = token
        self.jobs: dict[str, Job] = {}
        self.priors: dict[str, bytes] = {"household": b"", "pets": b""}
        self.log: list[tuple[str, str]] = []
        self.slides: list[dict[str, Any]] = []
        self.streams_opened = 0
        self.kill_process = False
        self._turn = threading.Lock()
        self._stopped = threading.Event()
        engine = self

        class Handler(_Handler):
            owner = engine

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that goes away in the middle is what is being tested

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """The socket closes and every stream breaks off, as when a process dies."""
        self._stopped.set()
        self.server.shutdown()
        self.server.server_close()

    def die(self) -> None:
        if self.kill_process:
            print("emulated: fatal error, as told", file=sys.stderr, flush=True)
            os._exit(7)
        self.stop()

    def add(self, request: dict[str, Any], arrays: dict[str, np.ndarray]) -> Job:
        job = Job(f"job{len(self.jobs) + 1}", request, arrays)
        self.jobs[job.id] = job
        job.say("queued", position=0)
        threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return job

    def _run(self, job: Job) -> None:
        does = self.behaviour
        while not self._turn.acquire(timeout=0.01):
            if job.cancelled:
                job.say("cancelled")
                return
        try:
            job.say("started")
            for step in range(does.steps):
                if step == does.fail_at:
                    job.say("failed", error={"code": "made_up", "what": "It failed.", "why": "It was told to.",
                                             "remedy": "Tell it otherwise."})  # fmt: skip
                    return
                if step == does.die_at:
                    self.die()
                    return
                if step == does.hang_at:
                    while not job.cancelled and not self._stopped.wait(0.01):
                        pass
                if job.cancelled and not does.ignore_cancel:
                    job.say("cancelled")
                    return
                left = does.step_s * (does.steps - step)
                job.say("progress", stage="Working", fraction=step / does.steps, eta_s=left, message=f"step {step}")
                if step in does.preview_at and job.request.get("kind") not in SETS:
                    job.say("preview", n=step, resolution=16 * (step + 1), hypothesis=0, vertices=8, faces=12)
                self._stopped.wait(does.step_s)
            count = results_of(job) if job.request.get("kind") in SETS else 0
            for number in range(count):
                if job.cancelled and not does.ignore_cancel:
                    job.say("cancelled")
                    return
                job.say("mesh", n=100 + number, index=number, about={}, vertices=8, faces=12)
                self._stopped.wait(does.step_s)
            prior = {"name": job.request.get("prior"), "hash": "cafe"}
            report = {"prior": prior, "seed": job.request.get("seed"), **does.report}
            if count:
                report["shapes"] = [{"class_name": job.request.get("class_name") or "chair"}] * count
            elif job.request.get("kind") == "directions":
                report.update(class_name="chair", directions=DIRECTIONS)
            else:
                count = does.meshes or job.request.get("hypotheses", 1)
            if job.request.get("kind") == "train":
                count = 0
                self.priors[job.request["name"]] = b"learnt"
            job.say("done", meshes=[100 + number for number in range(count)], report=report)
        finally:
            self._turn.release()

    def mesh(self, job: Job, number: int) -> bytes:
        if self.behaviour.garbage_mesh:
            return b"PK\x03\x04 this is not a mesh"
        if job.request.get("kind") in SETS:
            return encode_box(*shape_of(job, number - 100))
        if job.request.get("kind") == "gradient":
            points = job.arrays["points"]
            dense = points.min(0) + np.random.default_rng(0).random((job.request["points"], 3)) * np.ptp(points, axis=0)
            up = np.tile(np.float32([0, 0, 1]), (len(dense), 1))
            buffer = io.BytesIO()
            np.savez(buffer, vertices=dense.astype(np.float32), faces=BOX_FACES[:0], normals=up)
            return buffer.getvalue()
        points = job.arrays.get("points", np.array([[0, 0, 0], [1, 1, 1]], np.float32))
        corners = np.array(np.meshgrid(*[[0, 1]] * 3, indexing="ij")).reshape(3, 8).T
        low, high = points.min(0), points.max(0)
        vertices = (low + corners * (high - low)).astype(np.float32)
        faces = BOX_FACES[:0] if self.behaviour.empty_mesh else BOX_FACES
        buffer = io.BytesIO()
        np.savez(buffer, vertices=vertices, faces=faces, normals=np.zeros_like(vertices))
        return buffer.getvalue()


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: EmulatedEngine
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        if self.owner.behaviour.protocol:
            self.send_header("Shapewright-Protocol", self.owner.behaviour.protocol)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _json(self, status: int, value: Any) -> None:
        self._answer(status, json.dumps(value).encode())

    def _error(self, status: int, code: str) -> None:
        self._json(status, {"error": {"code": code, "what": f"What: {code}.", "why": "Why.", "remedy": "Remedy."}})

    def _admitted(self) -> bool:
        self.owner.log.append((self.command, self.path))
        time.sleep(self.owner.behaviour.answer_s)
        if self.headers.get("Authorization") == f"Bearer {self.owner.token}":
            return True
        self._error(401, "unauthorized")
        return False

    def do_GET(self) -> None:
        if not self._admitted():
            return None
        parts = self.path.strip("/").split("/")
        if parts == ["v1", "info"]:
            priors = [
                {"name": name, "classes": ["chair"], "bytes": len(content), "shipped": name == "household"}
                for name, content in self.owner.priors.items()
            ]
            about = {"name": "shapewright", "version": "9.9.9", "protocol": self.owner.behaviour.protocol}
            return self._json(200, {**about, "device": {"type": "cpu", "name": "emulated"}, "priors": priors})
        if parts[1] == "priors":
            content = self.owner.priors.get(urllib.parse.unquote(parts[2]))
            return self._error(404, "prior_not_found") if content is None else self._answer(200, content, "x/y")
        job = self.owner.jobs.get(parts[2]) if len(parts) > 2 else None
        if job is None:
            return self._error(404, "job_not_found")
        if parts[3:] == ["events"]:
            return self._events(job)
        if parts[3:4] == ["meshes"]:
            time.sleep(self.owner.behaviour.mesh_s)
            return self._answer(200, self.owner.mesh(job, int(parts[4])), "application/zip")
        return self._json(200, {"id": job.id, "request": job.request})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._admitted():
            return None
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        parts = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
                 for part in form.iter_parts()}  # fmt: skip
        if self.path == "/v1/priors":
            if parts["file"] == b"damaged":
                return self._error(422, "prior_damaged")
            name = (parts["name"] or b"").decode() or "its own name"
            self.owner.priors[name] = parts["file"]
            return self._json(201, {"name": name})
        arrays: dict[str, np.ndarray] = {}
        if "arrays" in parts:
            arrays = dict(np.load(io.BytesIO(parts["arrays"]), allow_pickle=False))
        request = json.loads(parts["request"])
        if self.path == "/v1/slide":
            time.sleep(self.owner.behaviour.mesh_s)
            if self.owner.behaviour.fail_at >= 0:
                return self._error(422, "prior_missing")
            self.owner.slides.append(request)
            height = float(arrays["code"].reshape(-1)[0]) + 0.1 * sum(request["values"])
            return self._answer(200, encode_box(height, arrays["pose"].astype(np.float64)), "application/zip")
        self._json(201, {"id": self.owner.add(request, arrays).id})
        return None

    def do_DELETE(self) -> None:
        if not self._admitted():
            return
        _, kind, name = self.path.strip("/").split("/")
        if kind == "priors":
            del self.owner.priors[urllib.parse.unquote(name)]
            self._json(200, {"name": urllib.parse.unquote(name), "state": "removed"})
            return
        job = self.owner.jobs.get(name)
        if job is None:
            self._error(404, "job_not_found")
            return
        job.cancelled = True
        self._json(202, {"id": job.id, "state": "cancelling"})

    def _events(self, job: Job) -> None:
        does = self.owner.behaviour
        self.owner.streams_opened += 1
        self.close_connection = True
        self.send_response(200)
        self.send_header("Shapewright-Protocol", does.protocol)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        seen, sent = int(self.headers.get("Last-Event-ID") or 0), 0
        silent_since = time.monotonic()
        while not self.owner._stopped.is_set():
            with job.changed:
                if len(job.events) <= seen:
                    job.changed.wait(0.02)
                fresh = job.events[seen:]
            for event in fresh:
                data = "{not json" if does.garbage_event else json.dumps(event)
                self.wfile.write(f"id: {event['id']}\nevent: {event['type']}\ndata: {data}\n\n".encode())
                self.wfile.flush()
                seen, sent, silent_since = event["id"], sent + 1, time.monotonic()
                if does.drop_stream_every and sent >= does.drop_stream_every:
                    return
            if job.over and seen >= len(job.events):
                return
            if does.keep_alive_s and time.monotonic() - silent_since > does.keep_alive_s:
                self.wfile.write(b": still here\n\n")
                self.wfile.flush()
                silent_since = time.monotonic()


def main() -> None:
    """The part of `python -m engine serve` that an add-on sees."""
    given = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
    asked = json.loads(os.environ.get("EMULATED_ENGINE", "{}"))
    behaviour = dataclasses.replace(Behaviour(), **asked)
    time.sleep(behaviour.start_s)
    engine = EmulatedEngine(behaviour, token="process-secret")
    engine.kill_process = True
    Path(given["--token-file"]).write_text(engine.token + "\n", "utf-8")
    announcement = Path(given["--announce"])
    unfinished = announcement.with_suffix(".part")
    unfinished.write_text(json.dumps({"host": "127.0.0.1", "port": engine.port, "token_file": given["--token-file"],
                                      "pid": os.getpid()}), "utf-8")  # fmt: skip
    unfinished.replace(announcement)
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.2)


if __name__ == "__main__":
    main()
