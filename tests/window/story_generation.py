"""The story of new shapes: ten chairs are generated, two of them blended, and one is changed with a slider."""

import json
import sys
from pathlib import Path

import bpy
import numpy as np
from mathutils import Euler

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hands import (
    EVERY_TICK,
    FACTS,
    LOG,
    OUT,
    WATCH,
    addon,
    box_of,
    click,
    drag,
    empty_stage,
    find_button,
    find_buttons,
    in_view,
    mesh_facts,
    open_tab,
    pause,
    press,
    push_undo,
    rest,
    running,
    scene_state,
    screenshot,
    select,
    tell,
    until,
    view3d,
    watch_steps,
)
from shapes import BLENDED, COUNT, RESOLUTION, SEED, STEPS, STRENGTH, local_points, save_shapes


def set_the_stage():
    empty_stage()
    settings = bpy.context.scene.shapewright_generation
    settings.count, settings.resolution, settings.seed, settings.steps = COUNT, RESOLUTION, SEED, STEPS
    settings.variants, settings.strength = 1, STRENGTH
    addon().preferences.device = "cpu"
    yield from open_tab("1_tab.png")
    session = running()
    with in_view():
        bpy.ops.shapewright.engine_start()
    yield from until(lambda: session.engine.poll() == "ready", "the engine", 600)
    yield from pause(5)
    settings.class_name = "chair"  # known only once the engine has named its classes
    watch_steps(session)
    yield from rest()


def coded():
    return [obj for obj in bpy.data.objects if "shapewright_code" in obj]


def look_at(*objects, far=1.25):
    for obj in bpy.context.view_layer.objects:
        obj.select_set(obj in objects)
    bpy.context.view_layer.objects.active = objects[-1]
    view3d()[1].spaces.active.region_3d.view_rotation = Euler((1.2, 0.0, 0.45)).to_quaternion()
    with in_view():
        bpy.ops.view3d.view_selected()
    yield from pause(30)  # the view moves smoothly
    view3d()[1].spaces.active.region_3d.view_distance *= far
    yield from pause()


def finished(session, job):
    yield from until(lambda: job.finished, f"the end of '{job.title}'")
    if job.problem is not None:
        raise RuntimeError(str(job.problem))
    LOG["engine_pid"] = session.engine.pid
    # The list of jobs would push what is of interest out of the panel.
    yield from click((yield from find_button("shapewright.cancel_job", across=0.82)))


def generate():
    facts = FACTS["generate"] = {"appeared": []}
    push_undo("before")
    session = running()
    place = yield from find_button("shapewright.generate")

    def look():
        count = len(coded())
        if not facts["appeared"] or facts["appeared"][-1] != count:
            facts["appeared"].append(count)

    EVERY_TICK.append(look)
    WATCH.chapter = "job"
    yield from click(place)
    yield from until(lambda: session.jobs, "a job after the click", 60)
    job = session.jobs[-1]
    yield from until(lambda: len(coded()) >= COUNT // 2 or job.finished, "half of the shapes")
    if coded():
        yield from look_at(*coded())
    screenshot("2_half.png")
    yield from until(lambda: job.finished, "the end of the job")
    EVERY_TICK.remove(look)
    WATCH.chapter = None
    yield from finished(session, job)
    facts["seconds"] = round(job.seconds, 1)
    facts["shapes"] = [mesh_facts(obj) for obj in coded()]
    yield from look_at(*coded())
    screenshot("3_ten.png")
    facts["names"] = sorted(obj.name for obj in coded())
    save_shapes(OUT / "window_generate.npz", coded())
    facts["report"] = job.report.get("duplicates")
    yield from press("Z", ctrl=True)
    facts["undos"] = 1
    while coded() and facts["undos"] < 5:  # looking at them has selected them, which is a step too
        yield from press("Z", ctrl=True)
        facts["undos"] += 1
    facts["after undo"] = [obj.name for obj in coded()]
    facts["collections after undo"] = [collection.name for collection in bpy.data.collections]
    for _ in range(facts["undos"]):
        yield from press("Z", ctrl=True, shift=True)
    facts["after redo"] = sorted(obj.name for obj in coded())


def cancel():
    """Generate once more, and Cancel in the middle."""
    session = running()
    before = scene_state()
    settings = bpy.context.scene.shapewright_generation
    settings.count, settings.resolution = 100, 128  # the hand takes its time to find the button
    place = yield from find_button("shapewright.generate")
    yield from click(place)
    yield from until(lambda: session.jobs, "a job after the click", 60)
    settings.count, settings.resolution = COUNT, RESOLUTION
    job = session.jobs[-1]
    yield from until(lambda: len(coded()) >= COUNT + 2 or job.finished, "two shapes of it")
    facts = FACTS["cancel"] = {"shown": len(coded()) - COUNT}
    screenshot("4_cancel.png")
    (button,) = yield from find_buttons("shapewright.cancel_job", across=0.82, below=place[1])
    yield from click(button)
    facts["left at once"] = scene_state() == before
    yield from until(lambda: job.finished, "the end of the cancelled job", 60)
    facts["state"], facts["left"] = job.state, scene_state() == before
    yield from finished_or_gone(session)


def finished_or_gone(session):
    if session.jobs:
        yield from click((yield from find_button("shapewright.cancel_job", across=0.82)))


def blend():
    facts = FACTS["blend"] = {}
    session = running()
    before = {obj.name for obj in coded()}
    first, second = (bpy.data.objects[name] for name in BLENDED)
    facts["of"] = sorted([first.name, second.name], key=lambda name: bpy.data.objects[name].location.x)
    facts["heights of both"] = [height(bpy.data.objects[name]) for name in facts["of"]]
    yield from look_at(first, second)
    yield from click((yield from find_button("shapewright.blend")))
    yield from until(lambda: session.jobs, "a job after the click", 60)
    job = session.jobs[-1]
    yield from finished(session, job)
    made = sorted((obj for obj in coded() if obj.name not in before), key=lambda obj: obj.location.x)
    facts["shapes"] = [mesh_facts(obj) for obj in made]
    save_shapes(OUT / "window_blend.npz", made)
    facts["places"] = [list(obj.location) for obj in made]
    for other in coded():
        other.hide_set(other not in (*made, first, second))
    yield from look_at(*made, first, second, far=1.1)
    screenshot("5_blend.png")
    facts["names"] = [obj.name for obj in made]


def vary():
    session = running()
    before = {obj.name for obj in coded()}
    yield from look_at(bpy.data.objects[BLENDED[0]])
    yield from click((yield from find_button("shapewright.vary")))
    yield from until(lambda: session.jobs, "a job after the click", 60)
    yield from finished(session, session.jobs[-1])
    made = [obj for obj in coded() if obj.name not in before]
    FACTS["vary"] = {"names": [obj.name for obj in made]}
    save_shapes(OUT / "window_vary.npz", made)


def height(obj):
    low, high = box_of(obj)
    return high[2] - low[2]


def shape_of(obj):
    """What tells one mesh of an object from another."""
    points = local_points(obj)
    return [len(points), *np.concatenate([points.min(0), points.max(0), points.std(0)]).round(4).tolist()]


def slide():
    facts = FACTS["slide"] = {"values": [], "meshes": [], "faces": []}
    session = running()
    name = BLENDED[1]
    obj = bpy.data.objects[name]
    for other in coded():
        other.hide_set(other != obj)
    yield from look_at(obj, far=1.6)
    yield from click((yield from find_button("shapewright.show_sliders")))
    yield from until(lambda: session.jobs, "a job after the click", 60)
    yield from finished(session, session.jobs[-1])
    sliders = bpy.data.objects[name].shapewright_sliders
    facts["sliders"] = [slider.name for slider in sliders]
    chosen = facts["slider"] = next((s.name for s in sliders if "height" in s.name.lower()), sliders[0].name)
    index = facts["sliders"].index(chosen)
    push_undo("before the slide")
    facts["before"] = shape_of(obj)
    place = yield from find_button(f"shapewright_sliders[{index}]", across=0.5)
    screenshot("6_sliders.png")

    def look():
        now = bpy.data.objects[name]
        facts["values"].append(round(now.shapewright_sliders[index].value, 3))
        found = shape_of(now)
        if not facts["meshes"] or facts["meshes"][-1] != found:
            facts["meshes"].append(found)
            facts["faces"].append(len(now.data.polygons))

    WATCH.chapter = "slide"
    yield from drag(place, 70, steps=30, each=look)
    WATCH.chapter = None
    screenshot("7_dragged.png")
    yield from until(lambda: not session.companions["sliders"].busy, "the fine mesh", 300)
    look()
    yield from pause(10)
    screenshot("8_slid.png")
    facts["after"] = shape_of(bpy.data.objects[name])
    facts["seconds"] = [round(value, 3) for value in session.companions["sliders"].seconds]
    facts["problem"] = str(session.companions["sliders"].problem or "")
    for when, shift in (("after undo", False), ("after redo", True)):
        yield from press("Z", ctrl=True, shift=shift)
        yield from until(lambda: not session.busy, f"the mesh {when}", 300)
        facts[when] = shape_of(bpy.data.objects[name])
    settings = json.loads(bpy.data.objects[name]["shapewright_settings"])
    facts["kind"] = settings["kind"]
    select(name)


def story():
    yield from set_the_stage()
    yield from generate()
    yield from cancel()
    yield from vary()
    yield from blend()
    yield from slide()


tell(story())
