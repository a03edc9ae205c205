"""Eyes and hands for the stories that rig.py tells to a windowed Blender, and the timer that tells them.

Runs inside Blender. A story acts as a person would, with simulated mouse and keyboard events, and writes down what it
finds in the scene: `FACTS` in log.json, which a test then judges. Only where it cannot go on does it stop with an
error.

A story is a generator: each `yield` hands control back to Blender until the next tick of a timer. Buttons are found
without knowing where they are: the pointer hovers down the sidebar, and Blender is asked which operator is under it.
"""

import contextlib
import importlib
import json
import os
import subprocess
import time
import traceback
from pathlib import Path

import bmesh
import bpy
import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree

OUT = Path(os.environ["STORY_OUT"])
EXAMPLES = Path(os.environ["STORY_ROOT"]) / "examples"
SCREENSHOTS = os.environ.get("STORY_SCREENSHOTS", "blender")
TAB = "Shapewright"
TICK_S = 0.02
PATIENCE_S = 1800.0
"""For anything that the engine does: a busy machine is slow, and nothing here is a test of speed."""

FACTS = {}
LOG = {"ok": False, "blender": bpy.app.version_string, "facts": FACTS, "steps": []}
START = time.monotonic()


def note(what, value=None):
    LOG["steps"].append([round(time.monotonic() - START, 2), what, value])


def addon():
    return next(found for found in bpy.context.preferences.addons if found.module.endswith(".shapewright"))


def module(name):
    """A module of the add-on."""
    return importlib.import_module(f"{addon().module}.{name}")


def running():
    """The add-on's session."""
    return module("session").current()


# ---------------------------------------------------------------------------------------------------------------------
# The main thread's pauses


class Watch:
    """How long the main thread was away between two ticks, beyond the tick's own interval.

    A pause holds all that Blender did meanwhile: the add-on's step, drawing the window in software, and waiting for a
    busy processor. So the same is measured with no job running, while the window is redrawn as often: the difference
    is what a job costs. What the story itself did in a tick does not count.
    """

    def __init__(self):
        self.chapter = None
        self.left = None
        self.entered = 0.0
        self.pauses = {}
        self.slow = []

    def enter(self):
        self.entered = time.perf_counter()
        if self.left is None or self.chapter is None:
            return
        pause = max(self.entered - self.left - TICK_S, 0.0)
        self.pauses.setdefault(self.chapter, []).append(pause)
        if pause > 0.1 and self.chapter == "job" and len(self.slow) < 300:
            self.slow.append([round(time.monotonic() - START, 2), round(pause, 3)])

    def leave(self):
        self.left = time.perf_counter()
        if self.chapter == "job" and self.left - self.entered > 0.1:
            self.slow.append([round(time.monotonic() - START, 2), round(self.left - self.entered, 3), "the story"])

    def summary(self):
        found = {}
        for chapter, pauses in self.pauses.items():
            ordered = sorted(pauses)
            found[chapter] = {
                "ticks": len(ordered),
                "median_seconds": round(ordered[len(ordered) // 2], 4),
                "p95_seconds": round(ordered[int(len(ordered) * 0.95)], 4),
                "longest_seconds": round(ordered[-1], 4),
            }
        return found


WATCH = Watch()
EVERY_TICK = []
"""Functions to call in each tick, whatever the story is just doing: what comes and goes by itself is not missed."""
STEPS = {"count": 0, "longest_seconds": 0.0, "longest_processor_seconds": 0.0, "at": ""}


def watch_steps(session):
    """Measures the add-on's step from outside: by the clock, and in processor time, which no busy machine changes."""
    step = session.step

    def measured():
        active = session.active
        at = active[0].stage if active else ""
        clock, processor = time.perf_counter(), time.thread_time()
        try:
            return step()
        finally:
            took = time.thread_time() - processor
            STEPS["count"] += 1
            STEPS["longest_seconds"] = max(STEPS["longest_seconds"], round(time.perf_counter() - clock, 4))
            if took > STEPS["longest_processor_seconds"]:
                STEPS.update(longest_processor_seconds=round(took, 4), at=at)

    session.step = measured


# ---------------------------------------------------------------------------------------------------------------------
# Eyes and hands


def view3d():
    """(window, area, sidebar region, main region) of the largest 3D view."""
    window = bpy.context.window_manager.windows[0]
    area = max((a for a in window.screen.areas if a.type == "VIEW_3D"), key=lambda a: a.width * a.height)
    regions = {region.type: region for region in area.regions}
    return window, area, regions["UI"], regions["WINDOW"]


@contextlib.contextmanager
def in_view(kind="WINDOW"):
    window, area, sidebar, main = view3d()
    with bpy.context.temp_override(
        window=window, screen=window.screen, area=area, region=sidebar if kind == "UI" else main
    ):
        yield


def event(x, y, kind="MOUSEMOVE", value="NOTHING", **modifiers):
    view3d()[0].event_simulate(type=kind, value=value, x=int(x), y=int(y), **modifiers)


def pause(ticks=5):
    for _ in range(ticks):
        yield


def until(condition, what, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"In vain for {seconds:.0f} s: {what}")
        yield


def press(kind, **modifiers):
    """A key, with the pointer over the 3D view."""
    main = view3d()[3]
    x, y = main.x + main.width // 3, main.y + main.height // 3
    event(x, y)
    yield from pause(2)
    for value in ("PRESS", "RELEASE"):
        event(x, y, kind, value, **modifiers)
        yield from pause(2)
    yield from pause()


def click(place):
    event(*place)
    yield from pause(2)
    for value in ("PRESS", "RELEASE"):
        event(*place, "LEFTMOUSE", value)
        yield
    yield from pause()


def drag(place, distance, steps=24, each=lambda: None, wait=3):
    """Presses at a place, moves `distance` pixels to the right and lets go; after every move it waits `wait` ticks and
    calls `each`."""
    x, y = place
    event(x, y)
    yield from pause(2)
    event(x, y, "LEFTMOUSE", "PRESS")
    yield from pause(2)
    for step in range(1, steps + 1):
        event(x + distance * step / steps, y)
        yield from pause(wait)
        each()
    event(x + distance, y, "LEFTMOUSE", "RELEASE")
    yield from pause()


def operator_under_pointer():
    """The call that the button under the pointer makes, as Python; '' where there is none."""
    with in_view("UI"):
        if not bpy.ops.ui.copy_python_command_button.poll():
            return ""
        bpy.context.window_manager.clipboard = ""
        bpy.ops.ui.copy_python_command_button()
        return bpy.context.window_manager.clipboard


def property_under_pointer():
    """The data path of the property under the pointer; '' where there is none."""
    with in_view("UI"):
        if not bpy.ops.ui.copy_data_path_button.poll():
            return ""
        bpy.context.window_manager.clipboard = ""
        bpy.ops.ui.copy_data_path_button()
        return bpy.context.window_manager.clipboard


def find_buttons(wanted, most=1, across=0.72, below=None):
    """[(x, y), ...] of the sidebar's buttons that call the operator `wanted`, the upper ones first.

    across: where to look, as a part of the sidebar's width.  below: from which height down.  A name with '[' or without
    '.' is that of a property.
    """

    def found():
        if "[" in wanted or "." not in wanted:
            return wanted in property_under_pointer()
        return operator_under_pointer().startswith(f"bpy.ops.{wanted}(")

    sidebar = view3d()[2]
    x = sidebar.x + int(sidebar.width * across)
    places, inside = [], False
    for y in range(sidebar.y + sidebar.height - 6 if below is None else below, sidebar.y, -7):
        event(x, y)
        yield
        yield
        hit = found()
        if hit and not inside:
            places.append((x, y - 4))
            if len(places) == most:
                break
        inside = hit
    note(f"buttons of {wanted}", places)
    return places


def find_button(wanted, across=0.72):
    """The uppermost of them; scrolls through the sidebar where it is not in sight."""
    places = yield from find_buttons(wanted, across=across)
    for wheel in (*["WHEELUPMOUSE"] * 4, *["WHEELDOWNMOUSE"] * 8):
        if places:
            break
        sidebar = view3d()[2]
        for _ in range(6):
            for value in ("PRESS", "RELEASE"):
                event(sidebar.x + sidebar.width // 2, sidebar.y + sidebar.height // 2, wheel, value)
                yield
        yield from pause()
        places = yield from find_buttons(wanted, across=across)
    if not places:
        screenshot("button_not_found.png")
        raise LookupError(f"No button in the sidebar is for {wanted}")
    return places[0]


def screenshot(name, wait=True):
    """What a person sees: nothing is redrawn for it. wait: else the process that takes it is returned."""
    note("screenshot", name)
    if SCREENSHOTS != "import":
        with in_view():
            bpy.ops.screen.screenshot(filepath=str(OUT / name), check_existing=False)
        return None
    # Blender's own come out black under Xvfb: ask the X server.
    taking = subprocess.Popen(["import", "-window", "root", str(OUT / name)])
    if wait:
        taking.wait()
    return taking


def scene_state():
    """All that a job could leave behind in the scene, comparable."""
    objects = {}
    for obj in bpy.data.objects:
        objects[obj.name] = {
            "type": obj.type,
            "data": obj.data.name if obj.data else None,
            "matrix": [round(value, 6) for row in obj.matrix_world for value in row],
            "collections": sorted(collection.name for collection in obj.users_collection),
            "selected": obj.select_get(),
            "visible": obj.visible_get(),
            "properties": sorted(obj.keys()),
        }
    active = bpy.context.view_layer.objects.active
    return {
        "objects": objects,
        "active": active.name if active else None,
        "meshes": sorted(mesh.name for mesh in bpy.data.meshes),
        "collections": sorted(collection.name for collection in bpy.data.collections),
    }


def points_of(obj):
    """(N, 3) vertices of a mesh object in the world."""
    points = np.empty(3 * len(obj.data.vertices), np.float32)
    obj.data.vertices.foreach_get("co", points)
    matrix = np.array(obj.matrix_world)
    return points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def box_of(obj):
    """[lowest corner, highest corner] of a mesh object in the world."""
    points = points_of(obj)
    return [points.min(0).round(5).tolist(), points.max(0).round(5).tolist()]


def mesh_facts(obj):
    mesh = obj.data
    smooth = np.empty(len(mesh.polygons), bool)
    mesh.polygons.foreach_get("use_smooth", smooth)
    edited = bmesh.new()
    edited.from_mesh(mesh)
    open_edges = sum(len(edge.link_faces) != 2 for edge in edited.edges)
    volume = edited.calc_volume(signed=True)
    edited.free()
    return {
        "name": obj.name,
        "faces": len(mesh.polygons),
        "flat_faces": int(np.count_nonzero(~smooth)),
        "edges": len(mesh.edges),
        "open_edges": open_edges,
        "volume": volume,
        "box": box_of(obj),
        "collections": sorted(collection.name for collection in obj.users_collection),
        "visible": obj.visible_get(),
        "properties": {key: value for key, value in obj.items() if isinstance(value, str | int | float)},
    }


def agreement(result, scan, eye):
    """How the result's surface lies to what was seen: distances of the scan's points to it, and the part of the sight
    lines that it blocks well before the point that was seen at their end."""
    faces = [tuple(face.vertices) for face in result.data.polygons]
    tree = BVHTree.FromPolygons(points_of(result).tolist(), faces)
    points = points_of(scan)
    points = [Vector(point) for point in points[:: max(len(points) // 2000, 1)].tolist()]
    distances = sorted(tree.find_nearest(point)[3] for point in points)
    blocked = 0
    for point in points:
        length = (point - eye).length
        hit = tree.ray_cast(eye, (point - eye) / length, length - 0.05)
        blocked += hit[0] is not None
    return {
        "points": len(points),
        "median_distance": round(distances[len(distances) // 2], 5),
        "p95_distance": round(distances[int(len(distances) * 0.95)], 5),
        "blocked_part": round(blocked / len(points), 4),
    }


def previews():
    """{object's name: faces} of the previews in the scene."""
    return {obj.name: len(obj.data.polygons) for obj in bpy.data.objects if "shapewright_preview" in obj}


def results():
    return [obj.name for obj in bpy.data.objects if "shapewright_prior" in obj]


def push_undo(mark):
    """A step in the history that can be recognised."""
    bpy.context.scene["story"] = mark
    with in_view():
        bpy.ops.ed.undo_push(message=mark)


def select(name):
    for obj in bpy.context.view_layer.objects:
        obj.select_set(obj.name == name)
    bpy.context.view_layer.objects.active = bpy.data.objects[name]


def empty_stage():
    for obj in list(bpy.data.objects):
        bpy.data.objects.remove(obj)
    for mesh in list(bpy.data.meshes):
        bpy.data.meshes.remove(mesh)


def open_tab(name):
    """Opens the sidebar's tab, and takes a picture of it under that name."""
    _, area, sidebar, _ = view3d()
    area.spaces.active.show_region_ui = True
    yield from pause(10)
    sidebar.active_panel_category = TAB  # TypeError where there is no such tab
    area.tag_redraw()
    yield from pause(10)
    FACTS["tab"] = sidebar.active_panel_category
    screenshot(name)


def rest():
    """The pauses of a window that is redrawn while no job runs, to compare with."""
    WATCH.chapter = "no job"
    for _ in range(40):
        view3d()[1].tag_redraw()
        yield
    WATCH.chapter = None


# ---------------------------------------------------------------------------------------------------------------------
# Telling


def tell(story):
    """Tells a story from the next moment on: writes log.json at its end, and leaves Blender."""

    def tick():
        WATCH.enter()
        try:
            for look in list(EVERY_TICK):
                look()
            next(story)
            WATCH.leave()
            return TICK_S
        except StopIteration:
            LOG["ok"] = True
        except Exception:
            LOG["error"] = traceback.format_exc()
            with contextlib.suppress(Exception):
                screenshot("error.png")
        with contextlib.suppress(Exception):
            session = running()
            LOG["engine_pid"] = session.engine.pid or LOG.get("engine_pid")
            LOG["main_thread"] = {
                "longest_step_seconds": round(session.longest_step_seconds, 4),
                "steps": STEPS,
                "pauses": WATCH.summary(),
                "slow": WATCH.slow,
            }
        (OUT / "log.json").write_text(json.dumps(LOG, indent=1), "utf-8")
        bpy.ops.wm.quit_blender()
        return None

    bpy.context.preferences.view.show_splash = False  # at once: it would lie over the window
    bpy.app.timers.register(tick, first_interval=1.0, persistent=True)
