"""The add-on's preferences: which engine, on which device, and the buttons to start, stop and test it."""

import textwrap

import bpy
from bpy.props import EnumProperty, StringProperty

from .session import session

DEVICES = (
    ("auto", "Automatic", "The fastest device that the engine finds"),
    ("cuda", "CUDA", "An NVIDIA graphics card"),
    ("mps", "Metal", "The graphics of an Apple computer"),
    ("cpu", "Processor", "No graphics card; works everywhere"),
)


class ShapewrightPreferences(bpy.types.AddonPreferences):
    bl_idname = __package__

    engine_python: StringProperty(
        name="Engine's Python",
        description="Python interpreter (or virtual environment) that the Shapewright engine is installed in. "
        "Empty: the add-on looks for it",
        subtype="FILE_PATH",
    )
    device: EnumProperty(name="Device", description="What the engine computes on", items=DEVICES, default="auto")

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        column = layout.column()
        column.use_property_split = True
        column.prop(self, "engine_python")
        column.prop(self, "device")
        draw_engine(layout, details=True)


def draw_engine(layout: bpy.types.UILayout, details: bool = False) -> None:
    """The engine's state in a line, its problem in three, and its buttons. Only looks: a draw must never wait."""
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
    if not details:
        return
    row = layout.row(align=True)
    row.operator("shapewright.engine_start")
    row.operator("shapewright.engine_stop")
    row.operator("shapewright.engine_test")
    tested = next((job for job in reversed(running.jobs) if job.request.get("kind") == "selftest"), None)
    if tested is not None:
        draw_job(layout, tested)
    if engine.found_by:
        layout.label(text=f"Found by {engine.found_by}", icon="INFO")
    row = layout.row()
    row.label(text=f"Log: {engine.log_path}")
    open_log = row.operator("wm.path_open", text="Open", icon="TEXT")
    open_log.filepath = str(engine.log_path)


def status_text(running: session.Session) -> str:
    engine = running.engine
    if engine.state == "ready":
        device = engine.info.get("device")
        name = device.get("name") or device.get("device") or "" if isinstance(device, dict) else device or ""
        return f"Engine {engine.info.get('version', '')} ready" + (f" ({name})" if name else "")
    return {"starting": "Engine is starting", "failed": "Engine is not running"}.get(engine.state, "Engine is stopped")


def draw_problem(layout: bpy.types.UILayout, problem: Exception) -> None:
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
        # What no prior explains, Fit Shape may: the engine then names it as the remedy.
        if job.scan is not None and any("Fit Shape" in warning.remedy for warning in job.warnings):
            box.operator("shapewright.fit_shape", text="Fit Shape Instead").source = job.scan.source.name
    else:
        box.label(text="Cancelled")


def duration(seconds: float) -> str:
    if seconds >= 90:
        return "{} min {} s".format(*divmod(round(seconds), 60))
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(seconds, 0.1):.1f} s"


def of(context: bpy.types.Context) -> ShapewrightPreferences:
    return context.preferences.addons[__package__].preferences


def register() -> None:
    bpy.utils.register_class(ShapewrightPreferences)


def unregister() -> None:
    bpy.utils.unregister_class(ShapewrightPreferences)
