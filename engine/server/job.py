"""A job as the server knows it: what happened to it, and what a client has to hear."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import storage
from .states import FINISHED

_KEPT = (
    "id", "kind", "name", "request", "state", "created", "started", "finished", "meshes", "report", "error",
    "last_event",
)  # fmt: skip


@dataclass
class Job:
    """state: queued, running, done, failed or cancelled.  events: what a client that connects now has to hear: one
    of each kind of progress and preview, the newest.  meshes: numbers of the results, best first."""

    id: str
    folder: Path
    kind: str
    name: str
    request: dict[str, Any]
    created: float
    state: str = "queued"
    started: float | None = None
    finished: float | None = None
    meshes: list[int] = field(default_factory=list)
    previews: list[int] = field(default_factory=list)
    report: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    last_event: int = 0
    sent: bool = False
    cancel_asked: float | None = None
    began: float = 0.0
    listeners: set[asyncio.Event] = field(default_factory=set)

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    def latest(self, kind: str) -> dict[str, Any] | None:
        return next((event for event in reversed(self.events) if event["type"] == kind), None)

    def as_dict(self) -> dict[str, Any]:
        """The job as `GET /v1/jobs/{id}` shows it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "name": self.name,
            "state": self.state,
            "cancelling": self.cancel_asked is not None and not self.is_finished,
            "created": self.created,
            "started": self.started,
            "finished": self.finished,
            "request": self.request,
            "progress": self.latest("progress"),
            "preview": self.latest("preview"),
            "meshes": self.meshes,
            "report": self.report,
            "error": self.error,
        }

    def as_state(self, owner: dict[str, Any]) -> dict[str, Any]:
        """What is kept of it on disk. owner: the mark of the server process that it belongs to."""
        return {name: getattr(self, name) for name in _KEPT} | {"owner": owner}

    @classmethod
    def from_state(cls, folder: Path, state: dict[str, Any]) -> Job:
        """The job of an earlier server. state: as `states.check_state` has found it right."""
        job = cls(folder=folder, **{name: state[name] for name in _KEPT})
        if job.is_finished:
            job.events = [{"id": job.last_event, **job.final_event()}]
        else:  # its events after the last save had higher numbers than were kept: leap over them all
            job.last_event += 1_000_000
        return job

    def final_event(self) -> dict[str, Any]:
        """What is said once it is finished."""
        event: dict[str, Any] = {"type": self.state}
        if self.state == "done":
            event |= {"report": self.report, "meshes": self.meshes}
        elif self.state == "failed":
            event |= {"error": self.error}
        return event

    def publish(self, event: dict[str, Any]) -> None:
        """Number the event, let it replace the older ones that it makes stale, and wake who listens."""
        self.last_event += 1
        event = {"id": self.last_event, **event}
        kind = event["type"]
        if kind == "progress":
            self.events = [e for e in self.events if e["type"] != "progress"]
        elif kind == "preview":
            self.events = [
                e for e in self.events if e["type"] != "preview" or e["hypothesis"] != event["hypothesis"]
            ]
        elif kind in FINISHED:
            self.events = [e for e in self.events if e["type"] not in ("progress", "preview", "mesh")]
        self.events.append(event)
        self.wake()

    def wake(self) -> None:
        for flag in self.listeners:
            flag.set()

    def end(
        self,
        state: str,
        error: dict[str, str] | None,
        meshes: list[int] | None,
        report: dict[str, Any] | None,
    ) -> None:
        """Set what became of it, remove the files that nobody needs any more, and tell."""
        self.state, self.error, self.report = state, error, report
        self.finished = time.time()
        partial, self.meshes = self.meshes, meshes or []
        for n in [*self.previews, *(set(partial) - set(self.meshes))]:
            storage.unlink(self.mesh_file(n))
        self.previews = []
        storage.unlink(self.folder / "arrays.npz")
        self.publish(self.final_event())

    def mesh_file(self, n: int) -> Path:
        return self.folder / f"mesh_{n}.npz"
