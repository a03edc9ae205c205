"""A mesh follows its sliders while one drags.

Dragging asks the engine for a coarse mesh, one question at a time and always about the newest values; when the values
rest, for a fine one. The questions are asked on threads of their own; `step` puts the answers into the scene. Nothing
here keeps a reference to a Blender object.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from ... import session
from ...carried import code
from ...carried.pose import pose_of
from ...link.client import EngineClient
from ...link.connections import FAILED, READY, STARTING
from ...link.mesh_arrays import MeshArrays
from ...link.problem import EngineProblem, fault
from ...scene import write
from ...scene.reference import Reference
from ...ui.choices import DEFAULT_PRIOR
from .values import BASE, RESOLUTION, UNFINISHED, offsets

log = logging.getLogger(__name__)

COARSE = 64
"""Cells along the canonical box while one drags."""
REST_S = 0.35
"""Values that have not changed for this long are meant to stay: Blender tells no add-on when a slider is let go."""
STEP_INTERVAL_S = 0.005
"""While a slider moves, what waits for the next step is felt."""


@dataclass
class _Question:
    """One question to the engine, and its answer once it is there."""

    values: tuple[float, ...]
    resolution: int
    pose: np.ndarray
    """In which the answer comes: canonical frame -> the object's coordinates."""
    asked: float = field(default_factory=time.monotonic)
    answer: MeshArrays | EngineProblem | None = None


@dataclass
class _Drive:
    """An object whose sliders have moved."""

    reference: Reference
    wanted: tuple[float, ...]
    changed: float
    push: bool = False
    """Whether the end of it is to be remembered for undo."""
    question: _Question | None = None
    shown: tuple[tuple[float, ...], int] | None = None


class Sliders:
    """The objects that are being driven. `problem`: why the last one could not be, None where it could."""

    interval_s = STEP_INTERVAL_S

    def __init__(self, running: session.Session) -> None:
        self._session = running
        self.problem: EngineProblem | None = None
        self.seconds: list[float] = []
        """From the question to its mesh, for coarse ones: the newest hundred."""
        self._drives: dict[int, _Drive] = {}

    @property
    def busy(self) -> bool:
        return bool(self._drives)

    def moved(self, obj: bpy.types.Object, at_rest: bool = False, push: bool = False) -> None:
        """The object's sliders have other values now. at_rest: no more of them will follow.

        push: remember the end of it for undo. Of a slider that a person moves Blender itself remembers the value, and
        with it whatever mesh is there when it is let go: going back to that makes it fine again, see `after_undo`.
        """
        values = offsets(obj)
        changed = 0.0 if at_rest else time.monotonic()
        drive = self._drives.get(obj.session_uid)
        if drive is None:
            self._drives[obj.session_uid] = drive = _Drive(Reference.of(obj), values, changed)
        elif drive.wanted != values or at_rest:
            drive.wanted, drive.changed = values, changed
        drive.push = drive.push or push
        self.problem = None
        self._session.engine.start()

    def clear(self) -> None:
        self._drives = {}

    def after_undo(self) -> None:
        """An undo or redo may have brought back a mesh that was still coarse: the object goes on from there."""
        self._drives = {}
        for obj in bpy.data.objects:
            if UNFINISHED in obj and BASE in obj:
                self.moved(obj, at_rest=True)

    def step(self, may_write: bool) -> bool:
        """Puts one answer into the scene and asks what is to be asked next. True where the panels have something new to
        say: of a mesh Blender knows by itself that it has to be drawn."""
        changed = shown = False
        for uid, drive in list(self._drives.items()):
            obj = drive.reference.find(bpy.data.objects)
            if obj is None or BASE not in obj:
                del self._drives[uid]
                continue
            try:
                if drive.question is not None and drive.question.answer is not None and may_write and not shown:
                    shown = self._show(obj, drive)
                if drive.question is None and self._next(obj, drive):
                    del self._drives[uid]
                    changed = True
            except EngineProblem as problem:
                problem = code.missing_prior(problem, [code.named(obj)])
                log.error("Sliders of %s: %s", obj.name, problem)
                self.problem, changed = problem, True
                del self._drives[uid]
        return changed

    def _next(self, obj: bpy.types.Object, drive: _Drive) -> bool:
        """Asks the next question. True where there is none: the mesh is fine, and what the sliders say."""
        engine = self._session.engine
        if engine.state == FAILED and engine.problem is not None:
            raise engine.problem
        if engine.state != READY or engine.client is None:
            if engine.state == STARTING:
                return False
            raise EngineProblem(
                "engine_stopped",
                f"'{obj.name}' was not changed to its end.",
                "The engine was stopped.",
                "Move the slider again: that starts the engine.",
            )
        if obj.data.shape_keys is not None:
            raise EngineProblem(
                "shape_keys",
                f"The sliders of '{obj.name}' do not move it.",
                "It has shape keys, and they would be lost.",
                "Make a variant of it with strength 0, and move that one's sliders.",
            )
        if drive.shown is None and code.why_outdated(obj):
            raise EngineProblem(
                "shape_edited",
                f"The sliders of '{obj.name}' do not move it.",
                "Its mesh was changed since the prior made it, and that would be lost.",
                "Undo the change; or make a variant of it with strength 0, and move that one's sliders.",
            )
        finest = int(obj.get(RESOLUTION, 128))
        rests = time.monotonic() - drive.changed >= REST_S
        if drive.shown is not None and drive.shown[0] == drive.wanted:
            if drive.shown[1] >= finest:
                with contextlib.suppress(KeyError):
                    del obj[UNFINISHED]
                if drive.push:
                    session.push_undo(f"Slide {obj.name}")
                return True
            if not rests:
                return False
        resolution = finest if rests else min(COARSE, finest)
        request, arrays = question_of(obj, drive.wanted, resolution)
        drive.question = _Question(drive.wanted, resolution, arrays["pose"])
        threading.Thread(
            target=_ask,
            args=(engine.client, drive.question, request, arrays),
            name="shapewright-slide",
            daemon=True,
        ).start()
        return False

    def _show(self, obj: bpy.types.Object, drive: _Drive) -> bool:
        assert drive.question is not None
        question, drive.question = drive.question, None
        answer = question.answer
        if isinstance(answer, EngineProblem):
            if answer.code == "superseded":
                return False
            raise answer
        assert answer is not None
        if obj.mode == "EDIT":  # its mesh is Blender's for as long as it is edited
            raise EngineProblem(
                "object_in_edit_mode",
                f"The sliders cannot change '{obj.name}' now.",
                "It is being edited.",
                "Leave Edit Mode and move a slider again.",
            )
        if len(answer.faces) == 0:
            raise EngineProblem(
                "result_empty",
                f"There is no shape where the sliders of '{obj.name}' are.",
                "The prior's field has no surface so far from the shapes that it knows.",
                "Move them back towards the middle, or press Reset.",
            )
        write.fill_mesh(obj.data, answer)
        if answer.code is not None:
            code.store(obj, answer.code, question.pose)
        obj[UNFINISHED] = True
        drive.shown = (question.values, question.resolution)
        if question.resolution == COARSE:
            self.seconds = [*self.seconds[-99:], time.monotonic() - question.asked]
        return True


def _ask(client: EngineClient, question: _Question, request: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    try:
        question.answer = client.slide(request, arrays)
    except EngineProblem as problem:
        question.answer = problem
    except Exception as error:
        log.exception("A slider's question failed")
        question.answer = fault("The add-on failed while it moved a slider.", error)


def question_of(
    obj: bpy.types.Object, values: tuple[float, ...], resolution: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The 'slide' request for an object, in the object's own coordinates, and its arrays."""
    request = {
        "kind": "slide",
        "prior": str(obj.get(code.PRIOR, "") or DEFAULT_PRIOR),
        "prior_sha256": str(obj.get(code.PRIOR_HASH, "")),
        "class_name": str(obj.get(code.CLASS, "")),
        "values": list(values),
        "stream": f"{obj.session_uid}",
        "normals": False,
        "resolution": resolution,
        "device": str(obj.get("shapewright_device", "auto")),
    }
    return request, {"code": code.code_of(obj, BASE), "pose": pose_of(obj)}


def sliders() -> Sliders:
    """The objects that are driven in this Blender."""
    return session.current().companions["sliders"]


def follow(obj: bpy.types.Object, by_command: bool) -> None:
    """An object's sliders have moved, by a command or by hand: its mesh follows."""
    sliders().moved(obj, at_rest=by_command, push=by_command)
    session.drive()
