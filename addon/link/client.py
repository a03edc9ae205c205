"""HTTP client of the Shapewright engine: one blocking call a method, each with a timeout. No bpy, so tested alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .mesh_arrays import MeshArrays, decode_mesh, encode_arrays
from .multipart import Part, form
from .problem import PROTOCOL_VERSION, JobUnknown, bad_answer, check_protocol, problem_from, unreachable

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0
"""For one request and its answer; a large upload or mesh fits in it many times over on one machine."""
EVENT_SILENCE_S = 30.0
"""A stream of events that is silent for this long is opened anew, from the last event seen."""

MAX_JSON_BYTES = 16 << 20
MAX_MESH_BYTES = 2 << 30
MAX_EVENT_LINE = 4 << 20


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
        return self.json("GET", "/v1/info")

    def submit(self, request: Mapping[str, Any], arrays: Mapping[str, np.ndarray | None] | None = None) -> str:
        """`POST /v1/jobs`; returns the job's id."""
        body, content_type = _form_of(request, arrays)
        answer = self.json("POST", "/v1/jobs", body, content_type)
        job_id = answer.get("id") or answer.get("job_id")
        if not isinstance(job_id, str) or not job_id:
            raise bad_answer("It accepted a job without naming it.")
        return job_id

    def jobs(self) -> list[dict[str, Any]]:
        answer = self.json("GET", "/v1/jobs")
        return list(answer.get("jobs", []))

    def job(self, job_id: str) -> dict[str, Any]:
        return self.json("GET", f"/v1/jobs/{job_id}")

    def cancel(self, job_id: str) -> None:
        """`DELETE /v1/jobs/{id}`. A job that is over or unknown is no failure: it does not run."""
        with contextlib.suppress(JobUnknown):
            self.call("DELETE", f"/v1/jobs/{job_id}")

    def mesh(self, job_id: str, number: int) -> MeshArrays:
        """`GET /v1/jobs/{id}/meshes/{n}`, decoded and made ready for Blender."""
        return decode_mesh(self.call("GET", f"/v1/jobs/{job_id}/meshes/{int(number)}", limit=MAX_MESH_BYTES))

    def slide(self, request: Mapping[str, Any], arrays: Mapping[str, np.ndarray | None]) -> MeshArrays:
        """`POST /v1/slide`: the mesh of a moved code, answered beside the queue."""
        body, content_type = _form_of(request, arrays)
        return decode_mesh(self.call("POST", "/v1/slide", body, content_type, MAX_MESH_BYTES))

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
        event_id, event_type = "", ""
        data: list[str] = []
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

    def json(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> dict[str, Any]:
        """One call that is answered with a JSON object."""
        raw = self.call(method, path, body, content_type)
        try:
            parsed = json.loads(raw)
        except ValueError as error:
            raise bad_answer(f"{method} {path} was not answered with JSON ({error}).") from error
        if not isinstance(parsed, dict):
            raise bad_answer(f"{method} {path} was not answered with a JSON object.")
        return parsed

    def call(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "", limit: int = MAX_JSON_BYTES
    ) -> bytes:
        """One call and its answer's bytes. limit: the most that the answer may have."""
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


def _form_of(request: Mapping[str, Any], arrays: Mapping[str, np.ndarray | None] | None) -> tuple[bytes, str]:
    """The form of a request and its arrays: (body, content type)."""
    parts = [Part("request", json.dumps(request).encode("utf-8"), "application/json")]
    if arrays is not None:
        parts.append(Part("arrays", encode_arrays(arrays), "application/octet-stream", "arrays.npz"))
    return form(parts)
