"""The sliders of an object: a shape's code moved along the prior's main directions. The values lie there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import CollectionProperty, FloatProperty

from ...carried import code
from ...link.problem import EngineProblem

BASE, UNFINISHED, RESOLUTION = "shapewright_slider_code", "shapewright_coarse", "shapewright_slider_resolution"
"""Custom properties: the code that the sliders start from (as codes.CODE, of the same shape); whether the mesh is not
yet the fine one; how fine that is."""
FARTHEST = 10.0
"""The engine takes no values beyond."""


_following = False

followers: list[Callable[[bpy.types.Object, bool], None]] = []
"""Who is told that an object's sliders have moved, and whether a command did it."""


def _tell(obj: bpy.types.Object, by_command: bool) -> None:
    for follow in followers:
        follow(obj, by_command)


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
    return obj is not None and BASE in obj and code.has_code(obj) and len(obj.shapewright_sliders) > 0


def offsets(obj: bpy.types.Object) -> tuple[float, ...]:
    """How far the object's sliders are from where they were at first."""
    moved = [slider.value - slider.base for slider in obj.shapewright_sliders]
    return tuple(round(min(max(float(value), -FARTHEST), FARTHEST), 4) for value in moved)


def give_sliders(obj: bpy.types.Object, report: dict[str, Any], resolution: int, device: str) -> None:
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
    code.put_bytes(obj, BASE, obj[code.CODE])
    obj[RESOLUTION] = resolution
    obj["shapewright_device"] = device
    if report.get("class_name"):
        obj[code.CLASS] = str(report["class_name"])
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


def copy_sliders(source: bpy.types.Object, target: bpy.types.Object) -> None:
    """Gives `target` the sliders of `source`, where they stand now, and what else belongs to its code."""
    global _following
    for name in (code.PRIOR, code.PRIOR_HASH, code.CLASS, BASE, RESOLUTION, UNFINISHED, "shapewright_device"):
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
