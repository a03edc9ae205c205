"""What Blender tells a person, from wherever this is called: warnings, steps to undo, panels drawn anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import bpy

from ..link.problem import EngineProblem


@contextlib.contextmanager
def _some_window() -> Iterator[None]:
    """A timer has no window of its own; what is called in here has one, where there is any."""
    windows = bpy.context.window_manager.windows if bpy.context.window_manager else []
    if bpy.context.window is None and len(windows):
        with bpy.context.temp_override(window=windows[0]):
            yield
    else:
        yield


def tell(warning: EngineProblem) -> None:
    """Shows a warning in the status bar and keeps it in Blender's Info log."""
    with _some_window():
        bpy.ops.shapewright.tell(text=str(warning))


def push_undo(message: str) -> None:
    """One step in the undo history."""
    with _some_window():
        if bpy.ops.ed.undo_push.poll():
            bpy.ops.ed.undo_push(message=message)


def redraw_panels() -> None:
    """Asks for a redraw of every sidebar and of the preferences.

    Not of the 3D views themselves: drawing a heavy scene for every bit of progress would slow the window down, and
    Blender redraws them by itself when an object changes.
    """
    manager = bpy.context.window_manager
    for window in manager.windows if manager else []:
        for area in window.screen.areas:
            for region in area.regions:
                if area.type == "PREFERENCES" or (area.type == "VIEW_3D" and region.type == "UI"):
                    region.tag_redraw()
