"""Drawing shared by panels and preferences. Only looks: a draw must never wait."""

import textwrap

import bpy

from .. import session
from ..link.problem import EngineProblem


def draw_engine(layout: bpy.types.UILayout) -> None:
    """The engine's state in a line, its problem in three, and its buttons."""
    running = session.current()
    engine = running.engine
    state = engine.poll()
    row = layout.row(align=True)
    row.label(
        text=status_text(running),
        icon={"ready": "CHECKMARK", "failed": "ERROR", "starting": "SORTTIME"}.get(state, "PAUSE"),
    )
    if state in ("ready", "starting"):
        row.operator("shapewright.engine_stop", text="", icon="CANCEL")
    else:
        row.operator("shapewright.engine_start", text="", icon="PLAY")
    if engine.problem is not None:
        draw_problem(layout, engine.problem)


def status_text(running: session.Session) -> str:
    engine = running.engine
    if engine.state == "ready":
        device = engine.info.get("device")
        name = device.get("name") or device.get("device") or "" if isinstance(device, dict) else device or ""
        return f"Engine {engine.info.get('version', '')} ready" + (f" ({name})" if name else "")
    return {"starting": "Engine is starting", "failed": "Engine is not running"}.get(engine.state, "Engine is stopped")


def draw_problem(layout: bpy.types.UILayout, problem: EngineProblem) -> None:
    """What, why and remedy, each on as many lines as it needs: a label does not wrap."""
    column = layout.box().column(align=True)
    for number, text in enumerate((problem.what, problem.why, problem.remedy)):
        draw_text(column, text, "ERROR" if number == 0 else "BLANK1")


def draw_text(column: bpy.types.UILayout, text: str, icon: str = "BLANK1") -> None:
    """A text on as many lines as it needs, the icon beside the first one."""
    for number, line in enumerate(textwrap.wrap(text, characters_across(bpy.context.region))):
        column.label(text=line, icon=icon if number == 0 else "BLANK1")


def characters_across(region: bpy.types.Region | None) -> int:
    """How many characters of a text fit beside the icon in a box of the region; a guess from their usual width."""
    if region is None:
        return 44
    free = region.width / max(bpy.context.preferences.system.ui_scale, 0.1) - 95
    return min(max(int(free / 5.9), 20), 100)


def draw_job(layout: bpy.types.UILayout, job: session.Job) -> None:
    """One job: its bar with stage and time left, and its Cancel; once it is over, how it went."""
    box = layout.box()
    # The name gets more room than the button, and the bar the whole width: its text is the longest.
    row = box.row(align=True) if job.finished else box.split(factor=0.72, align=True)
    row.label(
        text=job.title, icon={"done": "CHECKMARK", "failed": "ERROR", "cancelled": "CANCEL"}.get(job.state, "SORTTIME")
    )
    if not job.finished:
        row.operator("shapewright.cancel_job", text="Cancel").job_id = job.id
        text = job.stage if job.eta_s is None else f"{job.stage}: {duration(job.eta_s)} left"
        box.progress(factor=job.fraction, type="BAR", text=text)
        if job.message:
            box.label(text=job.message)
        return
    row.operator("shapewright.cancel_job", text="", icon="X").job_id = job.id
    if job.problem is not None:
        draw_problem(box, job.problem)
    elif job.state == "done":
        box.label(text=f"Done in {duration(job.seconds)}")
        for warning in job.warnings:
            draw_problem(box, warning)
        column = box.column(align=True)
        for note in job.notes:
            draw_text(column, note, "INFO")
        # What no prior explains, Fit Shape may: the engine then names it as the remedy.
        source = job.scan.source.find(bpy.data.objects) if job.scan is not None else None
        if source is not None and any("Fit Shape" in warning.remedy for warning in job.warnings):
            box.operator("shapewright.fit_shape", text="Fit Shape Instead").source = source.name
    else:
        box.label(text="Cancelled")


def duration(seconds: float) -> str:
    if seconds >= 90:
        return "{} min {} s".format(*divmod(round(seconds), 60))
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(seconds, 0.1):.1f} s"
