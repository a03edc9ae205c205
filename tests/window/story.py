"""The story that rig.py tells to a windowed Blender: a scan is imported, Complete Shape is clicked, and so on.

Runs inside Blender. It acts as a person would, with simulated mouse and keyboard events, and writes down what it finds
in the scene: `facts` in log.json, which test_window.py judges. Only where it cannot go on does it stop with an error.

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
from mathutils import Euler, Vector
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


def running():
    """The add-on's session."""
    return importlib.import_module(f"{addon().module}.session").current()


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


def operator_under_pointer():
    """The call that the button under the pointer makes, as Python; '' where there is none."""
    with in_view("UI"):
        if not bpy.ops.ui.copy_python_command_button.poll():
            return ""
        bpy.context.window_manager.clipboard = ""
        bpy.ops.ui.copy_python_command_button()
        return bpy.context.window_manager.clipboard


def find_buttons(wanted, most=1, across=0.72):
    """[(x, y), ...] of the sidebar's buttons that call the operator `wanted`, the upper ones first.

    across: where to look, as a part of the sidebar's width.
    """
    sidebar = view3d()[2]
    x = sidebar.x + int(sidebar.width * across)
    places, inside = [], False
    for y in range(sidebar.y + sidebar.height - 6, sidebar.y, -7):
        event(x, y)
        yield
        yield
        hit = operator_under_pointer().startswith(f"bpy.ops.{wanted}(")
        if hit and not inside:
            places.append((x, y - 4))
            if len(places) == most:
                break
        inside = hit
    note(f"buttons of {wanted}", places)
    return places


def find_button(wanted, across=0.72):
    places = yield from find_buttons(wanted, across=across)
    if not places:
        screenshot("button_not_found.png")
        raise LookupError(f"No button in the sidebar calls {wanted}")
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


# ---------------------------------------------------------------------------------------------------------------------
# Chapters


def set_the_stage():
    """An empty scene with both example scans in a collection, and a camera where the chair's scanner stood."""
    for obj in list(bpy.data.objects):
        bpy.data.objects.remove(obj)
    for mesh in list(bpy.data.meshes):
        bpy.data.meshes.remove(mesh)
    scans = bpy.data.collections.new("Scans")
    bpy.context.scene.collection.children.link(scans)
    bpy.context.view_layer.active_layer_collection = bpy.context.view_layer.layer_collection.children["Scans"]
    with in_view():
        for name in ("chair_scan", "table_scan"):
            bpy.ops.wm.ply_import(filepath=str(EXAMPLES / f"{name}.ply"))
    about = json.loads((EXAMPLES / "chair_scan.json").read_text("utf-8"))
    eye = Vector(about["viewpoint"])
    low, high = map(Vector, box_of(bpy.data.objects["chair_scan"]))
    camera = bpy.data.objects.new("Scanner", bpy.data.cameras.new("Scanner"))
    camera.data.display_size = 0.1
    camera.location = eye
    camera.rotation_euler = ((low + high) / 2 - eye).to_track_quat("-Z", "Y").to_euler()
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    bpy.context.scene.shapewright.viewpoint = "CAMERA"
    addon().preferences.device = "cpu"  # on a fast one a person sees no preview grow, and neither would we
    select("chair_scan")
    yield from pause()
    view3d()[1].spaces.active.region_3d.view_rotation = Euler((1.2, 0.0, 0.6)).to_quaternion()
    with in_view():
        bpy.ops.view3d.view_selected()
    yield from pause(30)  # the view moves smoothly
    view3d()[1].spaces.active.region_3d.view_distance *= 1.3
    scan = bpy.data.objects["chair_scan"]
    FACTS["scan"] = {
        "vertices": len(scan.data.vertices),
        "faces": len(scan.data.polygons),
        "box": box_of(scan),
        "height_of_the_whole": about["height"],
        "collections": sorted(collection.name for collection in scan.users_collection),
    }


def open_tab():
    _, area, sidebar, _ = view3d()
    area.spaces.active.show_region_ui = True
    yield from pause(10)
    sidebar.active_panel_category = TAB  # TypeError where there is no such tab
    area.tag_redraw()
    yield from pause(10)
    FACTS["tab"] = sidebar.active_panel_category
    screenshot("1_tab.png")


def rest():
    """The pauses of a window that is redrawn while no job runs, to compare with."""
    WATCH.chapter = "no job"
    for _ in range(40):
        view3d()[1].tag_redraw()
        yield
    WATCH.chapter = None


def complete_the_chair():
    push_undo("one")
    push_undo("two")
    before = scene_state()
    place = yield from find_button("shapewright.complete_shape")
    watch_steps(running())
    yield from rest()
    screenshot("2_before.png")
    clicked = time.monotonic()
    yield from click(place)
    session = running()
    yield from until(lambda: session.jobs, "a job after the click", 60)
    job = session.jobs[-1]
    facts = FACTS["chair"] = {"faces_of_previews": [], "stages": [], "fractions": [], "states": []}

    def look():
        told = {"stages": job.stage, "states": job.state, "fractions": round(job.fraction, 3)}
        for count in previews().values():
            told["faces_of_previews"] = count
        for key, value in told.items():
            if not facts[key] or facts[key][-1] != value:
                facts[key].append(value)
                if key in ("stages", "faces_of_previews"):
                    note(key, value)

    EVERY_TICK.append(look)
    WATCH.chapter = "job"
    taken = []
    for number, name in ((1, "3_first_preview.png"), (2, "4_preview_grown.png")):
        yield from until(lambda number=number: len(facts["faces_of_previews"]) >= number or job.finished, name)
        facts.setdefault("first_preview_seconds", round(time.monotonic() - clicked, 2))
        yield from pause(3)
        taken.append(screenshot(name, wait=False))
    yield from until(lambda: job.finished, "the end of the job")
    EVERY_TICK.remove(look)
    look()
    for picture in filter(None, taken):
        picture.wait()
    WATCH.chapter = None
    facts["state"] = job.state
    facts["problem"] = job.problem.as_dict() if job.problem else None
    facts["seconds"] = round(time.monotonic() - clicked, 2)
    facts["longest_step_seconds"] = round(session.longest_step_seconds, 4)
    LOG["engine_pid"] = session.engine.pid
    yield from pause(20)
    screenshot("5_result.png")
    if job.problem is not None:
        raise RuntimeError(str(job.problem))
    scan = bpy.data.objects["chair_scan"]
    scan.hide_set(True)  # only for the picture: its points lie over the result
    yield from pause(10)
    screenshot("5_result_alone.png")
    scan.hide_set(False)
    select("chair_scan")
    yield from pause()
    facts["results"] = results()
    facts["previews_left"] = previews()
    result = bpy.data.objects[facts["results"][0]]
    facts["result"] = mesh_facts(result)
    eye = bpy.data.objects["Scanner"].location
    facts["agreement"] = agreement(result, bpy.data.objects["chair_scan"], eye)
    after = scene_state()
    for name in facts["results"]:
        facts["mesh_added"] = after["objects"].pop(name)["data"]
        after["meshes"].remove(facts["mesh_added"])
    facts["rest_as_before"] = after == before
    if after != before:
        facts["before"], facts["after"] = before, after


def undo_and_redo():
    """Real Ctrl-Z and Ctrl-Shift-Z over the 3D view."""
    facts = FACTS["undo"] = {}

    def look(when):
        facts[when] = {
            "results": results(),
            "mark": bpy.context.scene.get("story"),
            "scan": "chair_scan" in bpy.data.objects,
            "previews": previews(),
        }

    look("before")
    yield from press("Z", ctrl=True)
    look("after one undo")
    screenshot("6_undone.png")
    yield from press("Z", ctrl=True)
    look("after two undos")
    for _ in range(2):
        yield from press("Z", ctrl=True, shift=True)
    look("after two redos")
    if results():
        facts["result"] = mesh_facts(bpy.data.objects[results()[0]])


def clear_list():
    """Dismisses the finished jobs by their crosses, as a person would."""
    session = running()
    while session.jobs:
        count = len(session.jobs)
        # The cross stands at the right edge of the job's box.
        yield from click((yield from find_button("shapewright.cancel_job", across=0.82)))
        yield from until(lambda count=count: len(session.jobs) < count, "the dismissed job's leaving the list", 60)


def cancel_by_click():
    select("chair_scan")
    settings = bpy.context.scene.shapewright
    settings.resolution, settings.hypotheses, settings.seed = 256, 16, 7
    yield from pause()
    before = scene_state()
    session = running()
    yield from click((yield from find_button("shapewright.complete_shape")))
    yield from until(lambda: session.active, "a job after the click", 60)
    job = session.active[-1]
    yield from until(lambda: previews() or job.finished, "a preview to cancel at")
    facts = FACTS["cancel"] = {"previews_before": previews(), "state_before": job.state}
    place = yield from find_button("shapewright.cancel_job")
    facts["fraction"] = job.fraction
    screenshot("7_before_cancel.png")
    facts["still_running_at_click"] = not job.finished
    yield from click(place)
    facts["previews_at_once"] = previews()
    yield from until(lambda: job.finished, "the end of the cancelled job")
    facts["state"] = job.state
    yield from pause(20)
    after = scene_state()
    facts["scene_as_before"] = after == before
    if after != before:
        facts["before"], facts["after"] = before, after
    facts["engine"] = session.engine.poll()
    screenshot("8_cancelled.png")
    yield from clear_list()


def fail():
    """An object of five points: the engine refuses it, and the panel says so."""
    mesh = bpy.data.meshes.new("Crumbs")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)], [], [])
    crumbs = bpy.data.objects.new("Crumbs", mesh)
    bpy.context.scene.collection.objects.link(crumbs)
    select("Crumbs")
    yield from pause()
    before = scene_state()
    session = running()
    yield from click((yield from find_button("shapewright.complete_shape")))
    yield from until(lambda: session.jobs, "a job after the click", 60)
    job = session.jobs[-1]
    yield from until(lambda: job.finished, "the end of the failing job")
    FACTS["failure"] = {
        "state": job.state,
        "problem": job.problem.as_dict() if job.problem else None,
        "scene_as_before": scene_state() == before,
        "engine": session.engine.poll(),
    }
    yield from pause(10)
    screenshot("9_failed.png")
    yield from clear_list()
    select("chair_scan")
    bpy.data.objects.remove(crumbs)
    bpy.data.meshes.remove(mesh)


def two_jobs():
    """Chair and table are queued; the first is cancelled alone, the second comes to its end."""
    settings = bpy.context.scene.shapewright
    session = running()
    facts = FACTS["two"] = {}
    settings.resolution, settings.hypotheses = 256, 16
    select("chair_scan")
    yield from pause()
    yield from click((yield from find_button("shapewright.complete_shape")))
    yield from until(lambda: len(session.active) == 1, "the first job", 60)
    settings.resolution, settings.hypotheses, settings.viewpoint = 96, 1, "POINT"
    settings.viewpoint_location = json.loads((EXAMPLES / "table_scan.json").read_text("utf-8"))["viewpoint"]
    select("table_scan")
    yield from pause()
    yield from click((yield from find_button("shapewright.complete_shape")))
    yield from until(lambda: len(session.active) == 2, "the second job", 60)
    first, second = session.active
    yield from until(lambda: first.state == "running" and second.state == "queued", "one running and one queued job")
    places = yield from find_buttons("shapewright.cancel_job", 2)
    facts["cancel_buttons"] = len(places)
    facts["states"] = [first.state, second.state]
    screenshot("10_two_jobs.png")
    yield from click(places[0])
    yield from until(lambda: first.finished, "the end of the first job")
    facts["after_cancel"] = [first.state, second.state]
    yield from until(lambda: second.finished, "the end of the second job")
    facts["at_the_end"] = [first.state, second.state]
    facts["problem"] = second.problem.as_dict() if second.problem else None
    yield from pause(20)
    facts["results"] = {name: bpy.data.objects[name].get("shapewright_source") for name in results()}
    facts["previews_left"] = previews()
    for obj in bpy.context.view_layer.objects:
        obj.select_set(obj.name in facts["results"])
        obj.hide_set(obj.name not in facts["results"])
    with in_view():
        bpy.ops.view3d.view_selected()
    yield from pause(30)
    screenshot("11_end.png")


def story():
    yield from set_the_stage()
    yield from open_tab()
    yield from complete_the_chair()
    yield from undo_and_redo()
    yield from clear_list()
    yield from cancel_by_click()
    yield from fail()
    yield from two_jobs()
    LOG["ok"] = True


STORY = story()


def tick():
    WATCH.enter()
    try:
        for look in list(EVERY_TICK):
            look()
        next(STORY)
        WATCH.leave()
        return TICK_S
    except StopIteration:
        pass
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
