"""HTTP client of the Shapewright engine. Standard library and numpy only: no bpy, so that it is tested alone.

Three things live here: `EngineClient` (one blocking call a method, each with a timeout), `JobThread` (submits one job,
follows its events and brings its newest mesh, all off the main thread) and `EngineProblem` (what, why, remedy).
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import logging
import queue
import socket
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

PROTOCOL_VERSION = "1.0"
"""The wire that this client speaks. An engine whose major number differs is refused."""

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
"""For one request and its answer; a large upload or mesh fits in it many times over on one machine."""
EVENT_SILENCE_S = 30.0
"""A stream of events that is silent for this long is opened anew, from the last event seen."""
GIVE_UP_AFTER_S = 30.0
"""An engine that cannot be reached again for this long has failed the job."""

MAX_JSON_BYTES = 16 << 20
MAX_MESH_BYTES = 2 << 30
MAX_EVENT_LINE = 4 << 20
MAX_PREVIEW_FACES = 400_000
"""Setting a larger mesh would hold Blender's window for more than 20 ms; its result comes soon, and only once."""

FINAL_EVENTS = ("done", "failed", "cancelled")


@dataclass(eq=False)
class EngineProblem(Exception):
    """A failure for a person to read. code: stable and for programs; what happened; why; remedy: what to do now."""

    code: str
    what: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} {self.why} {self.remedy}"

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "what": self.what, "why": self.why, "remedy": self.remedy}


class _JobUnknown(EngineProblem):
    """The engine no longer knows the job: it was replaced by another one, or the job aged out."""


def problem_from(error: object, status: int | None = None) -> EngineProblem:
    """The engine's `{code, what, why, remedy}` as an EngineProblem; anything else becomes a `bad_answer`."""
    if isinstance(error, Mapping) and error.get("what"):
        code = str(error.get("code") or "engine_error")
        kind = _JobUnknown if status == 404 else EngineProblem
        return kind(code, str(error["what"]), str(error.get("why") or ""), str(error.get("remedy") or ""))
    if status == 404:
        return _JobUnknown(
            "not_found",
            "The engine does not have what was asked for.",
            "The job is too old, or another engine has taken its place.",
            "Run the command again.",
        )
    shown = f"HTTP status {status}" if status else repr(error)[:200]
    return bad_answer(f"It answered with {shown} and no explanation.")


def bad_answer(why: str) -> EngineProblem:
    return EngineProblem(
        "bad_answer",
        "The engine's answer could not be understood.",
        why,
        "Restart the engine in the add-on's preferences; update it if this comes back.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Meshes


@dataclass
class MeshArrays:
    """A triangle mesh made ready for Blender off the main thread: setting it there is copying memory.

    vertices: (V, 3) float32.  faces: (F, 3) int32.  normals: (V, 3) float32 or None, as the engine sent them.
    edges: (E, 2) int32, each undirected edge once.  corner_edges: (3F,) int32, the edge that leaves each face corner.
    code: what the prior knows the shape by, float32 of any shape, and pose: (4, 4) float64, canonical frame -> the
    vertices' frame; both None for a mesh without a code.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray | None
    edges: np.ndarray
    corner_edges: np.ndarray
    code: np.ndarray | None = None
    pose: np.ndarray | None = None

    @classmethod
    def of(cls, vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray | None = None) -> MeshArrays:
        """Checks what the engine sent and finds the edges. Raises EngineProblem('bad_answer') for a damaged mesh."""
        vertices = np.ascontiguousarray(vertices, np.float32)
        faces = np.ascontiguousarray(faces, np.int32)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
            raise bad_answer(
                f"A mesh came with vertices {vertices.shape} and faces {faces.shape} instead of (V, 3) and (F, 3)."
            )
        if not np.isfinite(vertices).all():
            raise bad_answer("A mesh came with coordinates that are not finite numbers.")
        if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise bad_answer("A mesh came with faces that name vertices it does not have.")
        # Blender takes neither a face that names a vertex twice nor the same triangle twice (Mesh.validate drops them).
        distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        if not distinct.all():
            faces = faces[distinct]
        faces = _without_twins(faces)
        if normals is not None:
            normals = np.ascontiguousarray(normals, np.float32)
            if normals.shape != vertices.shape:
                raise bad_answer(f"A mesh came with normals {normals.shape} for vertices {vertices.shape}.")
        corners = faces.reshape(-1)
        following = np.roll(faces, -1, axis=1).reshape(-1)
        low = np.minimum(corners, following).astype(np.int64)
        high = np.maximum(corners, following)
        keys, corner_edges = np.unique(low * max(len(vertices), 1) + high, return_inverse=True)
        edges = np.stack([keys // max(len(vertices), 1), keys % max(len(vertices), 1)], axis=1).astype(np.int32)
        return cls(vertices, faces, normals, edges, corner_edges.reshape(-1).astype(np.int32))


def _without_twins(faces: np.ndarray) -> np.ndarray:
    """Drops every further triangle over the same three vertices. Hardly any mesh has one: hashes tell first."""
    ordered = np.sort(faces, axis=1).astype(np.uint64)
    keys = (ordered[:, 0] * np.uint64(0x9E3779B97F4A7C15)) ^ (ordered[:, 1] << np.uint64(32)) ^ ordered[:, 2]
    if len(np.unique(keys)) == len(keys):
        return faces
    _, first = np.unique(ordered, axis=0, return_index=True)
    return np.ascontiguousarray(faces[np.sort(first)])


def encode_arrays(arrays: Mapping[str, np.ndarray | None]) -> bytes:
    """NPZ bytes of the arrays that are not None, in the types of the wire: float32, int32 for faces, float64 for poses.

    A name may end in the number of a shape ('faces_2').
    """
    types = {"faces": np.int32, "pose": np.float64}
    kept = {
        name: np.ascontiguousarray(value, types.get(name.split("_")[0], np.float32))
        for name, value in arrays.items()
        if value is not None
    }
    buffer = io.BytesIO()
    np.savez(buffer, **kept)
    return buffer.getvalue()


def decode_mesh(data: bytes) -> MeshArrays:
    """NPZ bytes -> MeshArrays. Never unpickles. Raises EngineProblem('bad_answer') where the bytes are not a mesh."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            wanted = ("vertices", "faces", "normals", "code", "pose")
            arrays = {name: archive[name] for name in wanted if name in archive.files}
        vertices, faces = arrays["vertices"], arrays["faces"]
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise bad_answer(f"A mesh could not be read ({type(error).__name__}: {error}).") from error
    if vertices.dtype.kind not in "fiu" or faces.dtype.kind not in "iu":
        raise bad_answer(f"A mesh came with vertices of type {vertices.dtype} and faces of type {faces.dtype}.")
    normals = arrays.get("normals")
    if normals is not None and (normals.dtype.kind != "f" or normals.size == 0):
        normals = None
    mesh = MeshArrays.of(vertices, faces, normals)
    code, pose = arrays.get("code"), arrays.get("pose")
    if code is not None:
        if code.dtype.kind != "f" or not np.isfinite(code).all():
            raise bad_answer("A code came that does not consist of finite numbers.")
        if pose is None or pose.dtype.kind != "f" or pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise bad_answer("A code came without the pose that belongs to it.")
        mesh.code, mesh.pose = np.ascontiguousarray(code, np.float32), np.array(pose, np.float64)
    return mesh


# ---------------------------------------------------------------------------------------------------------------------
# Calls


@dataclass
class Event:
    """One event of a job. id: for resuming.  data: the JSON object, `type` included."""

    id: str
    type: str
    data: dict[str, Any]


@dataclass
class EngineClient:
    """Talks to one engine. Every method blocks, has a timeout and raises EngineProblem; call it off the main thread."""

    port: int
    token: str
    host: str = "127.0.0.1"
    answer_timeout_s: float = ANSWER_TIMEOUT_S

    def info(self) -> dict[str, Any]:
        """`GET /v1/info`: version, protocol, priors, devices. Refuses an engine of another major protocol version."""
        return self._json("GET", "/v1/info")

    def submit(self, request: Mapping[str, Any], arrays: Mapping[str, np.ndarray | None] | None = None) -> str:
        """`POST /v1/jobs`; returns the job's id."""
        body, content_type = _form(request, arrays)
        answer = self._json("POST", "/v1/jobs", body, content_type)
        job_id = answer.get("id") or answer.get("job_id")
        if not isinstance(job_id, str) or not job_id:
            raise bad_answer("It accepted a job without naming it.")
        return job_id

    def jobs(self) -> list[dict[str, Any]]:
        answer = self._json("GET", "/v1/jobs")
        return list(answer.get("jobs", []))

    def job(self, job_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/jobs/{job_id}")

    def cancel(self, job_id: str) -> None:
        """`DELETE /v1/jobs/{id}`. A job that is over or unknown is no failure: it does not run."""
        with contextlib.suppress(_JobUnknown):
            self._call("DELETE", f"/v1/jobs/{job_id}")

    def mesh(self, job_id: str, number: int) -> MeshArrays:
        """`GET /v1/jobs/{id}/meshes/{n}`, decoded and made ready for Blender."""
        return decode_mesh(self._call("GET", f"/v1/jobs/{job_id}/meshes/{int(number)}", limit=MAX_MESH_BYTES))

    def slide(self, request: Mapping[str, Any], arrays: Mapping[str, np.ndarray | None]) -> MeshArrays:
        """`POST /v1/slide`: the mesh of a moved code, answered beside the queue."""
        body, content_type = _form(request, arrays)
        return decode_mesh(self._call("POST", "/v1/slide", body, content_type, MAX_MESH_BYTES))

    def events(
        self, job_id: str, last_event_id: str = "", on_open: Callable[[socket.socket], None] | None = None
    ) -> Iterator[Event]:
        """One connection's worth of `GET /v1/jobs/{id}/events`, from after `last_event_id`.

        Ends when the engine closes the stream; raises EngineProblem when the connection breaks or stays silent for
        EVENT_SILENCE_S. `on_open` is given the socket, so that another thread can interrupt the wait.
        """
        headers = {"Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        connection = self._connect(EVENT_SILENCE_S)
        stream = connection.sock  # http.client forgets it once the answer has begun
        try:
            response = self._exchange(connection, "GET", f"/v1/jobs/{job_id}/events", None, headers)
            if response.status != 200:
                self._raise_for(response)
            if on_open is not None:
                on_open(stream)
            yield from self._read_events(response)
        finally:
            connection.close()

    def _read_events(self, response: http.client.HTTPResponse) -> Iterator[Event]:
        event_id, event_type, data = "", "", []
        while True:
            try:
                line = response.readline(MAX_EVENT_LINE)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise unreachable(error) from error
            if not line:
                return
            if not line.endswith(b"\n") and len(line) >= MAX_EVENT_LINE:
                raise bad_answer("An event of the engine is larger than any it should send.")
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if text == "":
                if data:
                    yield self._event(event_id, event_type, "\n".join(data))
                event_type, data = "", []
                continue
            name, _, value = text.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if name == "id":
                event_id = value
            elif name == "event":
                event_type = value
            elif name == "data":
                data.append(value)

    @staticmethod
    def _event(event_id: str, event_type: str, data: str) -> Event:
        try:
            parsed = json.loads(data)
        except ValueError as error:
            raise bad_answer(f"An event was not JSON ({error}).") from error
        if not isinstance(parsed, dict):
            raise bad_answer("An event was not a JSON object.")
        kind = parsed.get("type") or event_type
        if not isinstance(kind, str) or not kind:
            raise bad_answer("An event came without its type.")
        return Event(event_id, kind, parsed)

    def _json(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> dict[str, Any]:
        raw = self._call(method, path, body, content_type)
        try:
            parsed = json.loads(raw)
        except ValueError as error:
            raise bad_answer(f"{method} {path} was not answered with JSON ({error}).") from error
        if not isinstance(parsed, dict):
            raise bad_answer(f"{method} {path} was not answered with a JSON object.")
        return parsed

    def _call(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "", limit: int = MAX_JSON_BYTES
    ) -> bytes:
        connection = self._connect(self.answer_timeout_s)
        try:
            headers = {"Content-Type": content_type} if content_type else {}
            response = self._exchange(connection, method, path, body, headers)
            if response.status >= 300:
                self._raise_for(response)
            try:
                content = response.read(limit + 1)
            except (OSError, http.client.HTTPException) as error:
                raise unreachable(error) from error
            if response.length:  # bytes that the answer promised and did not bring
                raise unreachable(ConnectionError("the answer broke off"))
            if len(content) > limit:
                raise bad_answer(f"The answer to {method} {path} is larger than {limit >> 20} MB.")
            return content
        finally:
            connection.close()

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=CONNECT_TIMEOUT_S)
        try:
            connection.connect()
        except OSError as error:
            raise unreachable(error) from error
        assert connection.sock is not None
        connection.sock.settimeout(timeout_s)
        return connection

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self.token}", "Shapewright-Protocol": PROTOCOL_VERSION, **headers}
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, headers)
            # A broken pipe: refused before the upload was read. The answer that says why may still be there.
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(error) from error
        check_protocol(response.getheader("Shapewright-Protocol"), f"{self.host}:{self.port}")
        return response

    @staticmethod
    def _raise_for(response: http.client.HTTPResponse) -> None:
        error: object = None
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            parsed = json.loads(response.read(MAX_JSON_BYTES))
            error = parsed.get("error") if isinstance(parsed, dict) else None
        raise problem_from(error, response.status)


def _form(request: Mapping[str, Any], arrays: Mapping[str, np.ndarray | None] | None) -> tuple[bytes, str]:
    """A multipart form of request and arrays: (body, content type)."""
    boundary = uuid.uuid4().hex
    parts = [("request", "application/json", json.dumps(request).encode("utf-8"))]
    if arrays is not None:
        parts.append(("arrays", "application/octet-stream", encode_arrays(arrays)))
    body = bytearray()
    for name, content_type, content in parts:
        filename = "" if name == "request" else f'; filename="{name}.npz"'
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n'
            f"Content-Type: {content_type}\r\n\r\n"
        ).encode("ascii")
        body += content + b"\r\n"
    body += f"--{boundary}--\r\n".encode("ascii")
    return bytes(body), f"multipart/form-data; boundary={boundary}"


def unreachable(error: Exception) -> EngineProblem:
    if isinstance(error, TimeoutError):
        return EngineProblem(
            "engine_silent",
            "The engine did not answer in time.",
            "It is busy or stuck.",
            "Try again; if this comes back, stop and start the engine in the add-on's preferences.",
        )
    return EngineProblem(
        "engine_unreachable",
        "The engine cannot be reached.",
        f"The connection failed ({error or type(error).__name__}).",
        "Start the engine again in the add-on's preferences; its log file says why it left.",
    )


def check_protocol(version: str | None, address: str) -> None:
    """Raises EngineProblem where what answers is no Shapewright engine, or one of another major protocol version."""
    if not version:
        raise EngineProblem(
            "not_an_engine",
            f"What answers at {address} is not a Shapewright engine.",
            "Its answer does not name the protocol.",
            "Stop and start the engine in the add-on's preferences.",
        )
    if version.split(".")[0] != PROTOCOL_VERSION.split(".")[0]:
        raise EngineProblem(
            "protocol_mismatch",
            "The add-on and the engine do not speak the same version.",
            f"The add-on speaks protocol {PROTOCOL_VERSION}, the engine {version}.",
            "Install the add-on and the engine of the same release.",
        )


# ---------------------------------------------------------------------------------------------------------------------
# A job, followed off the main thread


@dataclass
class Update:
    """News of a job for the main thread. state: '' where it did not change.

    meshes: those that have come with this news, each with its place among the results; count: how many results there
    are in all, once that is known.
    """

    state: str = ""
    stage: str = ""
    fraction: float | None = None
    eta_s: float | None = None
    message: str = ""
    problem: EngineProblem | None = None
    meshes: list[tuple[int, MeshArrays]] = field(default_factory=list)
    count: int | None = None
    report: dict[str, Any] = field(default_factory=dict)


@dataclass
class PreviewArrays:
    mesh: MeshArrays
    resolution: int


class JobThread:
    """Submits one job and follows it to its end on daemon threads; the main thread polls `updates` and `take_preview`.

    arrays: called on the thread, for points that are slow to make ready; None for a job without any.

    States that `updates` brings: 'queued', 'running', then exactly one of 'done', 'failed', 'cancelled'. Of several
    results each comes as soon as it is finished, and only once.
    A slow reader never piles up meshes: only the newest preview announced is fetched, and only the newest one fetched
    is kept. Previews are those of the first hypothesis, up to MAX_PREVIEW_FACES.
    """

    def __init__(
        self,
        client: EngineClient,
        request: Mapping[str, Any],
        arrays: Callable[[], Mapping[str, np.ndarray | None]] | None,
        want_previews: bool = True,
        give_up_after_s: float = GIVE_UP_AFTER_S,
    ) -> None:
        self.client = client
        self.job_id = ""
        self.updates: queue.SimpleQueue[Update] = queue.SimpleQueue()
        self.previews_fetched = 0
        self._request = dict(request)
        self._arrays = arrays
        self._want_previews = want_previews
        self._give_up_after_s = give_up_after_s
        self._preview: PreviewArrays | None = None
        self._wanted: dict[str, Any] | None = None
        self._wanted_changed = threading.Condition()
        self._closed = threading.Event()
        self._cancel = threading.Event()
        self._stream: socket.socket | None = None
        self._brought: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="shapewright-job", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take_preview(self) -> PreviewArrays | None:
        """The newest preview that has arrived since the last call."""
        preview, self._preview = self._preview, None
        return preview

    def cancel(self) -> None:
        """Asks the engine to stop the job; returns at once. The end comes as an update like any other."""
        if not self._cancel.is_set():
            self._cancel.set()
            if self.job_id:
                self._send_cancel_in_background()

    def close(self) -> None:
        """Stops following. The job itself goes on unless it was cancelled."""
        self._closed.set()
        with self._wanted_changed:
            self._wanted_changed.notify_all()
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def join(self, timeout_s: float) -> bool:
        """True where the thread has ended within the time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _send_cancel_in_background(self) -> None:
        def send() -> None:
            try:
                self.client.cancel(self.job_id)
            except EngineProblem as problem:
                log.warning("Cancelling job %s: %s", self.job_id, problem)

        threading.Thread(target=send, name="shapewright-cancel", daemon=True).start()

    def _run(self) -> None:
        try:
            try:
                arrays = self._arrays() if self._arrays is not None else None
                self.job_id = self.client.submit(self._request, arrays)
            finally:
                self._arrays = arrays = None  # the engine has them now; a scan can be large
            if self._cancel.is_set():
                self.client.cancel(self.job_id)
            self._follow()
        except EngineProblem as problem:
            self.updates.put(Update(state="failed", problem=problem))
        except Exception as error:  # a fault of ours must reach the person, not vanish with the thread
            log.exception("Following a job failed")
            self.updates.put(
                Update(
                    state="failed",
                    problem=EngineProblem(
                        "addon_fault",
                        "The add-on failed while it followed the job.",
                        f"{type(error).__name__}: {error}",
                        "Please report this with the text of Blender's console.",
                    ),
                )
            )
        finally:
            self.close()

    def _follow(self) -> None:
        fetcher: threading.Thread | None = None
        last_event_id = ""
        lost_since: float | None = None
        pause_s = 0.1
        while not self._closed.is_set():
            try:
                self._stream = None
                for event in self.client.events(self.job_id, last_event_id, self._opened):
                    if event.type == "preview" and self._wants(event.data):
                        with self._wanted_changed:
                            self._wanted = event.data
                            self._wanted_changed.notify_all()
                        if fetcher is None:
                            fetcher = threading.Thread(target=self._fetch_previews, daemon=True)
                            fetcher.start()
                    if self._handle(event):
                        return
                    # Only now: an event whose mesh could not be fetched comes again with the next connection.
                    last_event_id, lost_since, pause_s = event.id or last_event_id, None, 0.1
                    if self._closed.is_set():
                        return
                problem: EngineProblem | None = None  # closed in an orderly way, yet before the job's end
            except _JobUnknown:
                raise
            except EngineProblem as caught:
                if caught.code not in ("engine_unreachable", "engine_silent"):
                    raise
                problem = caught
            if self._closed.is_set():
                return
            if problem is not None and problem.code == "engine_silent" and self._stream is not None:
                lost_since = None  # it took the connection and has nothing to tell: a long job, not a lost engine
                continue
            now = time.monotonic()
            lost_since = lost_since if lost_since is not None else now
            if now - lost_since > self._give_up_after_s:
                raise problem or EngineProblem(
                    "engine_silent",
                    "The engine no longer says how the job is doing.",
                    "Its stream of events ends again and again before the job does.",
                    "Stop and start the engine in the add-on's preferences, then run the command again.",
                )
            self._closed.wait(pause_s)
            pause_s = min(2.0 * pause_s, 2.0)

    def _wants(self, preview: Mapping[str, Any]) -> bool:
        return (
            self._want_previews
            and not preview.get("hypothesis")
            and ((_number(preview.get("faces")) or 0) <= MAX_PREVIEW_FACES)
        )

    def _opened(self, stream: socket.socket) -> None:
        self._stream = stream

    def _handle(self, event: Event) -> bool:
        """Passes one event on. True at the job's end."""
        data = event.data
        if event.type == "queued":
            self.updates.put(Update(state="queued", stage="Waiting for its turn"))
        elif event.type == "started":
            self.updates.put(Update(state="running"))
        elif event.type == "progress":
            self.updates.put(
                Update(
                    state="running",
                    stage=str(data.get("stage") or ""),
                    fraction=_number(data.get("fraction")),
                    eta_s=_number(data.get("eta_s")),
                    message=str(data.get("message") or ""),
                )
            )
        elif event.type == "done":
            numbers = data.get("meshes") or []
            if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
                raise bad_answer("It finished the job without naming its meshes.")
            missing = [index for index in range(len(numbers)) if index not in self._brought]
            meshes = [(index, self.client.mesh(self.job_id, numbers[index])) for index in missing]
            report = data.get("report")
            report = report if isinstance(report, dict) else {}
            self.updates.put(Update(state="done", fraction=1.0, meshes=meshes, count=len(numbers), report=report))
        elif event.type == "mesh":
            index, number = data.get("index"), data.get("n")
            if not isinstance(index, int) or not isinstance(number, int):
                raise bad_answer("It finished a mesh without naming it.")
            if index not in self._brought:  # after a lost connection an event may come twice
                self.updates.put(Update(state="running", meshes=[(index, self.client.mesh(self.job_id, number))]))
                self._brought.add(index)
        elif event.type == "failed":
            self.updates.put(Update(state="failed", problem=problem_from(data.get("error"))))
        elif event.type == "cancelled":
            self.updates.put(Update(state="cancelled"))
        return event.type in FINAL_EVENTS

    def _fetch_previews(self) -> None:
        while True:
            with self._wanted_changed:
                while self._wanted is None and not self._closed.is_set():
                    self._wanted_changed.wait()
                if self._closed.is_set():
                    return
                wanted, self._wanted = self._wanted, None
            try:
                assert wanted is not None
                mesh = self.client.mesh(self.job_id, int(wanted["n"]))
                self.previews_fetched += 1
                self._preview = PreviewArrays(mesh, int(wanted.get("resolution") or 0))
            except (EngineProblem, KeyError, ValueError, TypeError) as problem:
                # The engine may have dropped a preview that a newer one replaced; the result does not depend on it.
                log.info("A preview was not fetched: %s", problem)


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    return None
