"""What a person can do, one folder a feature. A folder in here that defines `FEATURE` is found by itself.

A feature's folder holds all that it is: what it asks the engine (operators), what can be set (settings), what is drawn
(panels), what comes of it (a writer). Its `__init__.py` hands that to Blender:

    FEATURE = Feature(
        order=45,
        kinds=("polish",),
        operators=(SHAPEWRIGHT_OT_polish,),
        panels=(SHAPEWRIGHT_PT_polish,),
        settings={"shapewright_polish": (polish_settings,)},
    )

An operator that gives the engine a job derives from `job_operator.JobOperator` and makes a `session.Job`; its writer
derives from `writers.base.JobWriter`, or is one of the two in writers/. No other file has to know of the feature.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import bpy
from bpy.props import PointerProperty

from .. import preferences, registry, session

Definitions = Callable[[], dict[str, Any]]
"""Makes the definitions of some settings, {name: bpy.props....}: anew for each class that has them."""


@dataclass(frozen=True)
class Feature:
    """One feature, as the registry takes it.

    order: where its panels stand in the tab: those of a lower number above. The features here take tens.
    kinds: the kinds of jobs that it gives the engine; its panel shows them, or the panel that its own lies in.
    operators, panels: their classes, in the order of registration; a panel comes after the one that it lies in.
    settings: {a property of the scene: functions that make its definitions}. Features may share a group: each names the
    functions of the settings that it reads, and what several name is there once. The identifiers lie in people's files.
    companions: what the session drives beside its jobs, by names.
    draw_in_preferences: draws what it has to say in the add-on's preferences.
    register, unregister: for what is none of these.
    """

    order: int
    kinds: tuple[str, ...] = ()
    operators: tuple[type, ...] = ()
    panels: tuple[type, ...] = ()
    settings: Mapping[str, tuple[Definitions, ...]] = field(default_factory=dict)
    companions: Mapping[str, Callable[[session.Session], session.Companion]] = field(default_factory=dict)
    draw_in_preferences: Callable[[bpy.types.UILayout], None] | None = None
    register: Callable[[], None] = lambda: None
    unregister: Callable[[], None] = lambda: None


_registered: list[Feature] = []
_groups: dict[str, type] = {}


def found() -> dict[str, Feature]:
    """All features that there are, by the names of their folders, in the order of their panels."""
    features = registry.discover(sys.modules[__name__], "FEATURE")
    return dict(sorted(features.items(), key=lambda item: (item[1].order, item[0])))


def kinds_shown_in(panel: str) -> set[str]:
    """The kinds of jobs that a panel (its idname) shows: those of its feature, and of the features whose panels lie in
    it, which may be folded up."""
    shown = set()
    for feature in _registered:
        for cls in feature.panels:
            if panel in (getattr(cls, "bl_idname", ""), getattr(cls, "bl_parent_id", "")):
                shown.update(feature.kinds)
    return shown


def groups_of(features: Mapping[str, Feature]) -> dict[str, dict[str, Any]]:
    """{property of the scene: the definitions of its settings}, from all features that add to it.

    Raises ValueError where two of a group's settings have one name.
    """
    makers: dict[str, dict[Definitions, str]] = {}
    for name, feature in features.items():
        for group, functions in feature.settings.items():
            for function in functions:
                makers.setdefault(group, {}).setdefault(function, name)
    groups: dict[str, dict[str, Any]] = {}
    for group, functions in makers.items():
        definitions = groups.setdefault(group, {})
        for function, name in functions.items():
            for setting, definition in function().items():
                if setting in definitions:
                    raise ValueError(f"the feature '{name}' has a setting '{setting}', which '{group}' has already")
                definitions[setting] = definition
    return groups


def register() -> None:
    try:
        _register(found())
    except Exception:
        unregister()  # nothing is left of an add-on that cannot be enabled
        raise


def _register(features: Mapping[str, Feature]) -> None:
    for group, definitions in groups_of(features).items():
        cls = type(f"SHAPEWRIGHT_PG_{group}", (bpy.types.PropertyGroup,), {"__annotations__": definitions})
        bpy.utils.register_class(cls)
        setattr(bpy.types.Scene, group, PointerProperty(type=cls))
        _groups[group] = cls
    for feature in features.values():
        feature.register()
        _registered.append(feature)
        session.COMPANIONS.update(feature.companions)
        if feature.draw_in_preferences is not None:
            preferences.SECTIONS.append(feature.draw_in_preferences)
        for panel in feature.panels:
            panel.bl_order = feature.order
        for cls in (*feature.operators, *feature.panels):
            bpy.utils.register_class(cls)


def unregister() -> None:
    while _registered:
        feature = _registered.pop()
        for cls in reversed((*feature.operators, *feature.panels)):
            if getattr(cls, "is_registered", False):
                bpy.utils.unregister_class(cls)
        feature.unregister()
        for name in feature.companions:
            session.COMPANIONS.pop(name, None)
        if feature.draw_in_preferences in preferences.SECTIONS:
            preferences.SECTIONS.remove(feature.draw_in_preferences)
    while _groups:
        group, cls = _groups.popitem()
        delattr(bpy.types.Scene, group)
        bpy.utils.unregister_class(cls)
