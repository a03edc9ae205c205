"""What the engine wants a person to know about a result that it gave nevertheless."""

from __future__ import annotations

from typing import Any

import bpy

from ..link.client import EngineProblem


def warnings_in(report: dict[str, Any]) -> list[EngineProblem]:
    """The warnings of a job's report, each with its three parts."""
    found = report.get("warnings")
    rows = [row for row in found if isinstance(row, dict) and row.get("what")] if isinstance(found, list) else []
    return [EngineProblem(*(str(row.get(part) or "") for part in ("code", "what", "why", "remedy"))) for row in rows]


def tell(warning: EngineProblem) -> None:
    """Shows a warning in the status bar and keeps it in Blender's Info log, from wherever this is called."""
    windows = bpy.context.window_manager.windows if bpy.context.window_manager else []
    if bpy.context.window is None and len(windows):
        with bpy.context.temp_override(window=windows[0]):
            bpy.ops.shapewright.tell(text=str(warning))
    else:
        bpy.ops.shapewright.tell(text=str(warning))
