"""The engine in the preferences: its state, its buttons, how it was found, its log."""

import bpy

from ... import session
from ...ui.drawing import draw_engine, draw_job


def draw_in_preferences(layout: bpy.types.UILayout) -> None:
    draw_engine(layout)
    row = layout.row(align=True)
    row.operator("shapewright.engine_start")
    row.operator("shapewright.engine_stop")
    row.operator("shapewright.engine_test")
    running = session.current()
    tested = next((job for job in reversed(running.jobs) if job.kind == "selftest"), None)
    if tested is not None:
        draw_job(layout, tested)
    for fact in running.engine.facts():
        row = layout.row()
        row.label(text=fact.text, icon="NONE" if fact.path else "INFO")
        if fact.path is not None:
            row.operator("wm.path_open", text="Open", icon="TEXT").filepath = str(fact.path)
