"""A job, followed off the main thread. No bpy.

`JobThread` submits one job, follows its events and brings its newest mesh; the main thread polls it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .client import EngineClient, Event
from .mesh_arrays import MeshArrays
from .problem import EngineProblem, JobUnknown, bad_answer, fault, problem_from

log = logging.getLogger(__name__)

GIVE_UP_AFTER_S = 30.0
"""An engine that cannot be reached again for this long has failed the job."""
MAX_PREVIEW_FACES = 400_000
"""Setting a larger mesh would hold Blender's window for more than 20 ms; its result comes soon, and only once."""

FINAL_EVENTS = ("done", "failed", "cancelled")


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
        self._interrupt()

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
        except Exception as error:
            log.exception("Following a job failed")
            found = fault("The add-on failed while it followed the job.", error)
            self.updates.put(Update(state="failed", problem=found))
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
            except JobUnknown:
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
            and ((finite_number(preview.get("faces")) or 0) <= MAX_PREVIEW_FACES)
        )

    def _opened(self, stream: socket.socket) -> None:
        self._stream = stream
        if self._closed.is_set():  # while it was being opened: close() had nothing to interrupt
            self._interrupt()

    def _interrupt(self) -> None:
        """Ends the wait for the next event."""
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

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
                    fraction=finite_number(data.get("fraction")),
                    eta_s=finite_number(data.get("eta_s")),
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
                self._preview = PreviewArrays(mesh, int(wanted.get("resolution") or 0))
            except (EngineProblem, KeyError, ValueError, TypeError) as problem:
                # The engine may have dropped a preview that a newer one replaced; the result does not depend on it.
                log.info("A preview was not fetched: %s", problem)


def finite_number(value: object) -> float | None:
    """The value where it is a finite number, else None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    return None
