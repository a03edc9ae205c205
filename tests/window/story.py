"""The story of Complete Shape: a scan is imported, Complete Shape is clicked, and so on. test_window.py judges it."""

import json
import sys
import time
from pathlib import Path

import bpy
from mathutils import Euler, Vector

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hands import (
    EVERY_TICK,
    EXAMPLES,
    FACTS,
    LOG,
    WATCH,
    addon,
    agreement,
    box_of,
    click,
    empty_stage,
    find_button,
    find_buttons,
    in_view,
    mesh_facts,
    note,
    open_tab,
    pause,
    press,
    previews,
    push_undo,
    rest,
    results,
    running,
    scene_state,
    screenshot,
    select,
    tell,
    until,
    view3d,
    watch_steps,
)


def set_the_stage():
    """An empty scene with both example scans in a collection, and a camera where the chair's scanner stood."""
    empty_stage()
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
    facts["alignments"] = [name for name in after["objects"] if "shapewright_alignment" in bpy.data.objects[name]]
    for name in facts["alignments"]:
        after["objects"].pop(name)
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
    facts["states"] = [first.state, second.state]  # now: soon the second starts
    places = yield from find_buttons("shapewright.cancel_job", 2)
    facts["cancel_buttons"] = len(places)
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
    yield from open_tab("1_tab.png")
    yield from complete_the_chair()
    yield from undo_and_redo()
    yield from clear_list()
    yield from cancel_by_click()
    yield from fail()
    yield from two_jobs()


tell(story())
