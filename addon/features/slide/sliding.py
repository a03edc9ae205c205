"""Sliders: a shape's code moved along the prior's main directions, its mesh following while one drags.

The sliders' values lie with the object. Dragging asks the engine for a coarse mesh, one question at a time and always
about the newest values; when the values rest, for a fine one. The questions are asked on threads of their own; `step`
puts the answers into the scene. Nothing here keeps a reference to a Blender object.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from bpy.props import CollectionProperty, FloatProperty

from ...carried import code as codes
from ...link.client import EngineClient, EngineProblem, MeshArrays
from ...link.engine_process import FAILED, READY, STARTING, EngineProcess
from ...scene import read as scene

log = logging.getLogger(__name__)

COARSE = 64
"""Cells along the canonical box while one drags."""
REST_S = 0.35
"""Values that have not changed for this long are meant to stay: Blender tells no add-on when a slider is let go."""

BASE, UNFINISHED, RESOLUTION = "shapewright_slider_code", "shapewright_coarse", "shapewright_slider_resolution"
"""Custom properties: the code that the sliders start from (as codes.CODE, of the same shape); whether the mesh is not
yet the fine one; how fine that is."""
FARTHEST = 10.0
"""The engine takes no values beyond."""


@dataclass
class _Question:
    """One question to the engine, and its answer once it is there."""

    values: tuple[float, ...]
    resolution: int
    asked: float = field(default_factory=time.monotonic)
    answer: MeshArrays | EngineProblem | None = None


@dataclass
class _Drive:
    """An object whose sliders have moved."""

    reference: scene.Reference
    wanted: tuple[float, ...]
    changed: float
    push: bool = False
    """Whether the end of it is to be remembered for undo."""
    question: _Question | None = None
    shown: tuple[tuple[float, ...], int] | None = None


class Sliders:
    """The objects that are being driven. `problem`: why the last one could not be, None where it could."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self.problem: EngineProblem | None = None
        self.meshes_shown = 0
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
            self._drives[obj.session_uid] = drive = _Drive(scene.Reference.of(obj), values, changed)
        elif drive.wanted != values or at_rest:
            drive.wanted, drive.changed = values, changed
        drive.push = drive.push or push
        self.problem = None
        self.engine.start()

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
                problem = codes.missing_prior(problem, [codes.named(obj)])
                log.error("Sliders of %s: %s", obj.name, problem)
                self.problem, changed = problem, True
                del self._drives[uid]
        return changed

    def _next(self, obj: bpy.types.Object, drive: _Drive) -> bool:
        """Asks the next question. True where there is none: the mesh is fine, and what the sliders say."""
        if self.engine.state == FAILED and self.engine.problem is not None:
            raise self.engine.problem
        if self.engine.state != READY or self.engine.client is None:
            if self.engine.state == STARTING:
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
        if drive.shown is None and not codes.fits_mesh(obj):
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
                    scene.push_undo(f"Slide {obj.name}")
                return True
            if not rests:
                return False
        drive.question = _Question(drive.wanted, finest if rests else min(COARSE, finest))
        request, arrays = question_of(obj, drive.question.values, drive.question.resolution)
        threading.Thread(
            target=_ask,
            args=(self.engine.client, drive.question, request, arrays),
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
        scene.fill_mesh(obj.data, answer)
        if answer.code is not None:
            codes.store(obj, answer.code, codes.local_pose(obj))
        obj[UNFINISHED] = True
        drive.shown = (question.values, question.resolution)
        self.meshes_shown += 1
        if question.resolution == COARSE:
            self.seconds = [*self.seconds[-99:], time.monotonic() - question.asked]
        return True


def _ask(
    client: EngineClient, question: _Question, request: dict[str, Any], arrays: dict[str, np.ndarray | None]
) -> None:
    try:
        question.answer = client.slide(request, arrays)
    except EngineProblem as problem:
        question.answer = problem
    except Exception as error:  # a fault of ours must reach the person, not vanish with the thread
        log.exception("A slider's question failed")
        question.answer = EngineProblem(
            "addon_fault",
            "The add-on failed while it moved a slider.",
            f"{type(error).__name__}: {error}",
            "Please report this with the text of Blender's console.",
        )


def question_of(
    obj: bpy.types.Object, values: tuple[float, ...], resolution: int
) -> tuple[dict[str, Any], dict[str, np.ndarray | None]]:
    """The 'slide' request for an object, in the object's own coordinates, and its arrays."""
    request = {
        "kind": "slide",
        "prior": str(obj.get(codes.PRIOR, "") or "household"),
        "prior_sha256": str(obj.get(codes.PRIOR_HASH, "")),
        "class_name": str(obj.get(codes.CLASS, "")),
        "values": list(values),
        "stream": f"{obj.session_uid}",
        "normals": False,
        "resolution": resolution,
        "device": str(obj.get("shapewright_device", "auto")),
    }
    return request, {"code": codes.code_of(obj, BASE), "pose": codes.local_pose(obj)}


# ---------------------------------------------------------------------------------------------------------------------
# The sliders of an object

_following = False

listeners: list[Callable[[bpy.types.Object, bool], None]] = []
"""Whom the sliders tell that they have moved, and whether a command did it: the session, from its first moment on."""


def _tell(obj: bpy.types.Object, by_command: bool) -> None:
    for listener in listeners:
        listener(obj, by_command)


def _on_value(self: ShapewrightSlider, context: bpy.types.Context) -> None:
    """A slider was moved: its object follows, and so do the other selected objects that have the same slider."""
    global _following
    obj = self.id_data
    if _following or BASE not in obj:
        return
    _following = True
    try:
        driven = [obj]
        for other in context.selected_objects if context is not None else ():
            twin = other.shapewright_sliders.get(self.name) if other != obj and BASE in other else None
            if twin is not None:
                twin.value = twin.base + (self.value - self.base)
                driven.append(other)
    finally:
        _following = False
    for moved in driven:
        _tell(moved, by_command=False)


class ShapewrightSlider(bpy.types.PropertyGroup):
    """One direction of the prior. value: where the shape is, base: where it was at first (standard deviations);
    low, high: the sensible range of value - base."""

    __annotations__ = {
        "value": FloatProperty(
            name="Value",
            description="Where the shape lies along this direction, in standard deviations of its class",
            soft_min=-3,
            soft_max=3,
            step=5,
            precision=2,
            update=_on_value,
        ),
        "base": FloatProperty(),
        "low": FloatProperty(default=-2),
        "high": FloatProperty(default=2),
    }


def has_sliders(obj: bpy.types.Object | None) -> bool:
    return obj is not None and BASE in obj and codes.has_code(obj) and len(obj.shapewright_sliders) > 0


def offsets(obj: bpy.types.Object) -> tuple[float, ...]:
    """How far the object's sliders are from where they were at first."""
    moved = [slider.value - slider.base for slider in obj.shapewright_sliders]
    return tuple(round(min(max(float(value), -FARTHEST), FARTHEST), 4) for value in moved)


def give(obj: bpy.types.Object, report: dict[str, Any], resolution: int, device: str) -> None:
    """Gives an object the sliders that a 'directions' report names; they start from the code it has now."""
    global _following
    directions = report.get("directions")
    if not isinstance(directions, list) or not directions:
        raise EngineProblem(
            "directions_none",
            f"There are no sliders for '{obj.name}'.",
            "Its prior knows no directions for its class.",
            "Take a shape of another class, or another prior.",
        )
    codes.put_bytes(obj, BASE, obj[codes.CODE])
    obj[RESOLUTION] = resolution
    obj["shapewright_device"] = device
    if report.get("class_name"):
        obj[codes.CLASS] = str(report["class_name"])
    _following = True
    try:
        obj.shapewright_sliders.clear()
        for number, direction in enumerate(directions):
            slider = obj.shapewright_sliders.add()
            slider.name = str(direction.get("name") or f"Direction {number + 1}")
            slider.base = slider.value = float(direction.get("value") or 0.0)
            slider.low = float(direction.get("low") if direction.get("low") is not None else -2.0)
            slider.high = float(direction.get("high") if direction.get("high") is not None else 2.0)
    finally:
        _following = False


def copy(source: bpy.types.Object, target: bpy.types.Object) -> None:
    """Gives `target` the sliders of `source`, where they stand now, and what else belongs to its code."""
    global _following
    for name in (codes.PRIOR, codes.PRIOR_HASH, codes.CLASS, BASE, RESOLUTION, UNFINISHED, "shapewright_device"):
        if name in target:
            del target[name]
        if name in source:
            target[name] = source[name]
    _following = True
    try:
        target.shapewright_sliders.clear()
        for slider in source.shapewright_sliders:
            added = target.shapewright_sliders.add()
            for name in ("name", "value", "base", "low", "high"):
                setattr(added, name, getattr(slider, name))
    finally:
        _following = False


def set_values(obj: bpy.types.Object, moved: dict[str, float]) -> None:
    """Sets several sliders (by name, as offsets from where they were at first) with one new shape at their end."""
    global _following
    _following = True
    try:
        for slider in obj.shapewright_sliders:
            if slider.name in moved:
                slider.value = slider.base + moved[slider.name]
    finally:
        _following = False
    _tell(obj, by_command=True)


def register() -> None:
    bpy.utils.register_class(ShapewrightSlider)
    bpy.types.Object.shapewright_sliders = CollectionProperty(type=ShapewrightSlider)


def unregister() -> None:
    del bpy.types.Object.shapewright_sliders
    bpy.utils.unregister_class(ShapewrightSlider)
