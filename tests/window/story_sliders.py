"""How long a slider's step takes in a real window, and where the time goes: scripts/benchmark_sliders tells this."""

import json
import sys
import threading
import time
from pathlib import Path

import bpy
from mathutils import Euler

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hands import (
    EVERY_TICK,
    FACTS,
    LOG,
    addon,
    drag,
    empty_stage,
    find_button,
    in_view,
    module,
    open_tab,
    pause,
    running,
    screenshot,
    tell,
    until,
    view3d,
)
from shapes import CLASS, SEED

RESOLUTIONS = (32, 64, 128)
MOVES = 60
STEPS = []
"""One dictionary a question: moments (asked, answered, shown, filled, drawn; seconds) and the engine's own times."""


def instrument(session):
    """Takes the times from outside: what is measured is the add-on as it is."""
    driving, write, client = module("features.slide.driving"), module("scene.write"), session.engine.client
    ask, exchange, fill = driving._ask, client._exchange, write.fill_mesh
    own = threading.local()

    def measured_ask(client, question, request, arrays):
        own.step = question.step = {"asked": time.perf_counter(), "resolution": question.resolution}
        ask(client, question, request, arrays)
        own.step["answered"] = time.perf_counter()

    def measured_exchange(*given):
        response = exchange(*given)
        if getattr(own, "step", None) is not None:
            report = json.loads(response.getheader("Shapewright-Report") or "{}")
            own.step.update(engine=report.get("timings", {}), faces=report.get("faces"))
            own.step["headers"] = time.perf_counter()
        return response

    def measured_fill(mesh, answer, *given):
        began = time.perf_counter()
        fill(mesh, answer, *given)
        SHOWN.append((began, time.perf_counter()))

    def measured_show(self, obj, drive):
        question, before = drive.question, len(SHOWN)
        changed = show(self, obj, drive)
        if len(SHOWN) > before:
            step = question.step
            step["shown"], step["filled"] = SHOWN[-1]
            step["done"] = time.perf_counter()
            STEPS.append(step)
        return changed

    show = driving.Sliders._show
    driving._ask, client._exchange, write.fill_mesh = measured_ask, measured_exchange, measured_fill
    driving.Sliders._show = measured_show


SHOWN = []


def note_drawn():
    """The first tick after a mesh was shown: what Blender makes of it, and the drawing of it, lie between."""
    if STEPS and "drawn" not in STEPS[-1]:
        STEPS[-1]["drawn"] = time.perf_counter()


def story():
    empty_stage()
    addon().preferences.device = "cpu"
    bpy.context.preferences.system.viewport_aa = "OFF"  # drawn by the processor, it would count several times
    yield from open_tab("1_tab.png")
    session = running()
    with in_view():
        bpy.ops.shapewright.engine_start()
    yield from until(lambda: session.engine.poll() == "ready", "the engine", 600)
    LOG["engine_pid"] = session.engine.pid
    with in_view():
        bpy.ops.shapewright.generate(class_name=CLASS, count=1, seed=SEED, resolution=64, device="cpu")
    yield from until(lambda: session.jobs and session.jobs[-1].finished, "a chair")
    obj = next(obj for obj in bpy.data.objects if "shapewright_code" in obj)
    for other in bpy.context.view_layer.objects:
        other.select_set(other == obj)
    bpy.context.view_layer.objects.active = obj
    with in_view():
        bpy.ops.shapewright.show_sliders(count=4, device="cpu")
    yield from until(lambda: session.jobs[-1].finished and len(obj.shapewright_sliders), "its sliders")
    with in_view():
        for job in list(session.jobs):
            session.dismiss(job)
    view3d()[1].spaces.active.region_3d.view_rotation = Euler((1.2, 0.0, 0.45)).to_quaternion()
    with in_view():
        bpy.ops.view3d.view_selected()
    yield from pause(30)
    instrument(session)
    place = yield from find_button("shapewright_sliders[0]", across=0.5)
    driving = module("features.slide.driving")
    EVERY_TICK.append(note_drawn)
    for resolution in RESOLUTIONS:
        driving.COARSE = resolution
        obj["shapewright_slider_resolution"] = resolution
        distance = 60
        for direction in (1, -1):  # there and back again: the first moves warm up
            yield from drag(place, direction * distance, MOVES, wait=1)
            if direction == 1 and resolution == 64:
                screenshot("2_dragged.png")
            yield from until(lambda: not session.companions["sliders"].busy, "the mesh at rest", 300)
    EVERY_TICK.remove(note_drawn)
    FACTS["steps"] = STEPS
    FACTS["problem"] = str(session.companions["sliders"].problem or "")
    redraws = []
    for _ in range(40):  # the window alone
        began = time.perf_counter()
        view3d()[1].tag_redraw()
        yield
        redraws.append(time.perf_counter() - began)
    FACTS["redraw"] = sorted(redraws)[20]


tell(story())
