"""One job and its transitions: what a click, the engine's news and time make of it. No bpy, no clock, no thread of its
own: whoever drives it (session.py) says what has happened and what time it is.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..link.job_thread import JobThread, PreviewArrays, Update
from ..link.mesh_arrays import MeshArrays
from ..link.problem import EngineProblem

if TYPE_CHECKING:
    from ..carried.code import Shape
    from ..scene.read import Scan
    from ..writers.base import JobWriter

CANCEL_GRACE_S = 5.0
"""A cancelled job leaves the list after this long even where the engine says nothing."""

STARTING_ENGINE, QUEUED, RUNNING, CANCELLING = "starting_engine", "queued", "running", "cancelling"
DONE, JOB_FAILED, CANCELLED = "done", "failed", "cancelled"
FINISHED = (DONE, JOB_FAILED, CANCELLED)


@dataclass(eq=False)
class Job:
    """One piece of work for the engine, as the add-on sees it.

    scan: the source object, where there is one.  arrays: makes what travels with the request, on the job's thread; by
    default the scan's.  writer: makes the job's objects; where it is None, one for results in the scan's place is made,
    and a job without a scan makes no objects.  on_done: called on the main thread with the job when it is done, before
    it is remembered for undo.  shapes: the shapes with codes that it was made from.
    """

    title: str
    request: dict[str, Any]
    scan: Scan | None = None
    want_previews: bool = True
    undo: bool = True
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    state: str = STARTING_ENGINE
    stage: str = "Starting the engine"
    fraction: float = 0.0
    eta_s: float | None = None
    message: str = ""
    problem: EngineProblem | None = None
    report: dict[str, Any] = field(default_factory=dict)
    previews_shown: int = 0
    started: float = field(default_factory=time.monotonic)
    first_preview_s: float | None = None
    seconds: float = 0.0
    thread: JobThread | None = None
    writer: JobWriter | None = None
    arrays: Callable[[], Mapping[str, np.ndarray | None]] | None = None
    on_done: Callable[[Job], None] | None = None
    shapes: list[Shape] = field(default_factory=list)
    received: bool = False
    """Whether the engine's part is over and its meshes are here."""
    waiting_meshes: list[tuple[int, MeshArrays]] = field(default_factory=list)
    """Results that are here and not yet in the scene, each with its place among all of them."""
    result_count: int = 0
    """How many results there will be; while that is unknown, how many are asked for."""
    waiting_preview: PreviewArrays | None = None
    last_preview: PreviewArrays | None = None
    cancelled_at: float = 0.0

    @property
    def kind(self) -> str:
        return str(self.request.get("kind", ""))

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def warnings(self) -> list[EngineProblem]:
        """What the engine wants a person to know about the result."""
        return warnings_in(self.report) if self.state == DONE else []

    @property
    def notes(self) -> list[str]:
        """What was left out of what was sent, a sentence each: by the add-on, and by the engine once it is done."""
        own = [*(self.scan.notes if self.scan is not None else ()), *(s.note for s in self.shapes if s.note)]
        return [*own, *notes_in(self.report)] if self.state == DONE else own

    @property
    def results(self) -> list[Any]:
        """The result objects that still exist, best first."""
        return self.writer.objects() if self.writer is not None else []

    # -------------------------------------------------------------------------------------------------- transitions

    def send(self) -> None:
        """The engine is there: the job is on its way."""
        self.state, self.stage = QUEUED, "Sending"

    def take(self, update: Update) -> str:
        """The engine's news. Returns the state in which the job ends by it, '' where it goes on.

        A job that is being cancelled hears nothing but its end, and any end is that of a cancelled one.
        """
        ends = update.state if update.state in (JOB_FAILED, CANCELLED) else ""
        if self.state == CANCELLING:
            return CANCELLED if ends or update.state == DONE else ""
        if ends:
            self.problem = update.problem
            return ends
        self.state = QUEUED if update.state == QUEUED else RUNNING
        self.stage = update.stage or self.stage
        self.message = update.message
        self.eta_s = update.eta_s
        if update.fraction is not None:
            self.fraction = min(max(update.fraction, 0.0), 1.0)
        self.waiting_meshes += update.meshes
        if update.state == DONE:  # the engine's part alone: its results have yet to be written
            self.report, self.waiting_preview = update.report, None
            self.received, self.result_count = True, update.count or 0
            self.stage, self.fraction = "Finishing", 1.0
        return ""

    def begin_cancel(self, now: float) -> None:
        """It was cancelled while the engine works on it: what was on its way to the scene is dropped."""
        self.state, self.stage, self.eta_s, self.cancelled_at = CANCELLING, "Cancelling", None, now
        self.drop()

    def cancelled_in_vain(self, now: float) -> bool:
        """Whether the engine has had long enough to say that the job is cancelled."""
        return self.state == CANCELLING and now - self.cancelled_at > CANCEL_GRACE_S

    def end(self, state: str, now: float) -> None:
        """It is over, one way or another."""
        self.state, self.eta_s = state, None
        self.seconds = now - self.started
        self.stage = {DONE: "Done", CANCELLED: "Cancelled", JOB_FAILED: "Failed"}[state]
        self.waiting_preview = self.last_preview = None
        if state != DONE:
            self.drop()

    def drop(self) -> None:
        """What has arrived and is not yet in the scene is forgotten."""
        self.waiting_meshes = []
        self.waiting_preview = self.last_preview = None

    def hide_preview_for_now(self) -> None:
        """Its preview has left the scene for a moment, and comes back with the next step."""
        self.waiting_preview = self.waiting_preview or self.last_preview


def warnings_in(report: Mapping[str, Any]) -> list[EngineProblem]:
    """The warnings of a job's report, each with its three parts."""
    found = report.get("warnings")
    rows = [row for row in found if isinstance(row, dict) and row.get("what")] if isinstance(found, list) else []
    told = [EngineProblem(*(str(row.get(part) or "") for part in ("code", "what", "why", "remedy"))) for row in rows]
    for problem, row in zip(told, rows, strict=True):
        if isinstance(row.get("up"), str) and row["up"] in _UPRIGHT:
            problem.remedy += f" {_in_blender(problem.code, row['up'])}"
    return told


_UPRIGHT = {"+y": ("X", 90), "-y": ("X", -90), "+x": ("Y", -90), "-x": ("Y", 90), "-z": ("X", 180)}
"""World axis that is up in truth -> about which axis and by how many degrees it is turned to Z."""


def _in_blender(code: str, up: str) -> str:
    """What a warning that names an axis asks a person to do here."""
    about, degrees = _UPRIGHT[up]
    if code == "stood_up":
        return "Here: rotate the object a little about Z before; what a person has turned is left as it stands."
    return f"Here: its {up.upper()} would be up. Rotate it by {degrees} degrees about {about} (R {about} {degrees})."


def notes_in(report: Mapping[str, Any]) -> list[str]:
    """The notes of a job's report: of the job, and of each of several inputs."""
    inputs = report.get("inputs")
    rows = [report, *(row for row in inputs if isinstance(row, dict))] if isinstance(inputs, list) else [report]
    found = [note for row in rows if isinstance(row.get("notes"), list) for note in row["notes"]]
    return [note for note in found if isinstance(note, str) and note]


def engine_stopped(what: str) -> EngineProblem:
    """The engine was stopped by hand before `what` could come to its end."""
    return EngineProblem(
        "engine_stopped", what, "The engine was stopped.", "Run the command again: it starts the engine."
    )
