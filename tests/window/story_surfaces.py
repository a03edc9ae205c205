"""The story of surfaces and priors of one's own: a scan is fitted, its detail changed, and a small prior is trained."""

import sys
from pathlib import Path

import bpy
import numpy as np
from mathutils import Euler, Vector

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hands import (
    EVERY_TICK,
    FACTS,
    addon,
    agreement,
    click,
    empty_stage,
    event,
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
    running,
    scene_state,
    screenshot,
    select,
    tell,
    until,
    view3d,
)

SCAN, PRIOR = "statue", "my shapes"
NOISE = 0.003


def set_the_stage():
    """Blender's monkey as a scanner would bring it: noisy points alone, those of its chin and neck missing."""
    empty_stage()
    with in_view():
        bpy.ops.mesh.primitive_monkey_add()
    monkey = bpy.context.view_layer.objects.active
    monkey.modifiers.new("Finer", "SUBSURF").levels = 3
    bpy.context.view_layer.update()
    evaluated = monkey.evaluated_get(bpy.context.evaluated_depsgraph_get())
    points = np.array([vertex.co for vertex in evaluated.to_mesh().vertices])
    evaluated.to_mesh_clear()
    rng = np.random.default_rng(0)
    points = points[rng.permutation(len(points))[:20_000]]
    points = points[points[:, 2] > -0.55] + rng.normal(0, NOISE, (int((points[:, 2] > -0.55).sum()), 3))
    empty_stage()
    mesh = bpy.data.meshes.new(SCAN)
    mesh.from_pydata(points.tolist(), [], [])
    bpy.context.scene.collection.objects.link(bpy.data.objects.new(SCAN, mesh))
    bpy.context.view_layer.update()  # else the layer still lists what was removed
    addon().preferences.device = "cpu"
    select(SCAN)
    yield from pause()
    view3d()[1].spaces.active.region_3d.view_rotation = Euler((1.3, 0.0, 0.5)).to_quaternion()
    with in_view():
        bpy.ops.view3d.view_selected()
    yield from pause(30)  # the view moves smoothly
    view3d()[1].spaces.active.region_3d.view_distance *= 1.6
    yield from open_tab("1_tab.png")


def fits():
    return [obj for obj in bpy.data.objects if "shapewright_method" in obj]


def end_of(before):
    """The job that a click has started, once it is over."""
    session = running()
    yield from until(lambda: len(session.jobs) > before, "a job after the click", 60)
    job = session.jobs[-1]
    yield from until(lambda: job.finished, f"the end of '{job.title}'")
    yield from pause(20)
    return job


def outcome(job):
    return {
        "state": job.state,
        "problem": job.problem.as_dict() if job.problem else None,
        "warnings": [warning.code for warning in job.warnings],
        "previews_shown": job.previews_shown,
        "report": {key: job.report.get(key) for key in ("method", "reused", "classes", "quality", "training")},
    }


def fit_the_scan():
    settings = bpy.context.scene.shapewright_fit
    settings.resolution = 96
    push_undo("before")
    before = scene_state()
    yield from click((yield from find_button("shapewright.fit_shape")))
    job = yield from end_of(0)
    facts = FACTS["fit"] = outcome(job)
    screenshot("2_fit.png")
    if job.problem is not None:
        raise RuntimeError(str(job.problem))
    scan = bpy.data.objects[SCAN]
    (result,) = fits()
    facts["result"] = mesh_facts(result)
    facts["agreement"] = agreement(result, scan, Vector((0, -9, 0)))
    facts["previews_left"] = previews()
    after = scene_state()
    after["meshes"].remove(after["objects"].pop(result.name)["data"])
    facts["rest_as_before"] = after == before
    scan.hide_set(True)  # only for the picture: its points lie over the result
    yield from pause(10)
    screenshot("3_fit_alone.png")


def change_the_detail():
    settings = bpy.context.scene.shapewright_fit
    settings.resolution, settings.open_boundaries = 160, True
    select(f"{SCAN} Fit")
    push_undo("fitted")
    yield from pause()
    yield from click((yield from find_button("shapewright.refit_resolution")))
    job = yield from end_of(1)
    facts = FACTS["detail"] = outcome(job)
    if job.problem is not None:
        raise RuntimeError(str(job.problem))
    facts["result"] = mesh_facts(fits()[0])
    facts["number"] = len(fits())
    screenshot("4_detail.png")
    yield from press("Z", ctrl=True)
    facts["faces after an undo"] = len(fits()[0].data.polygons)
    yield from press("Z", ctrl=True, shift=True)
    facts["faces after a redo"] = len(fits()[0].data.polygons)


def wheel(kind, times):
    sidebar = view3d()[2]
    for _ in range(times):
        for value in ("PRESS", "RELEASE"):
            event(sidebar.x + sidebar.width // 2, sidebar.y + sidebar.height // 2, kind, value)
            yield
    yield from pause()


def open_lowest_panel(wanted):
    """Clicks the header of the sidebar's lowest panel, which is closed, until its button is there."""
    for height in (14, 22, 30, 38, 46):
        yield from wheel("WHEELDOWNMOUSE", 60)
        sidebar = view3d()[2]
        yield from click((sidebar.x + int(sidebar.width * 0.35), sidebar.y + height))
        yield from wheel("WHEELDOWNMOUSE", 60)
        places = yield from find_buttons(wanted)
        note(f"panel opened at {height}", places)
        if places:
            return places[0]
    screenshot("panel_not_found.png")
    raise LookupError(f"No panel with {wanted}")


def add_shapes():
    """Two classes of a few shapes each, in subcollections of their own."""
    bpy.data.objects[f"{SCAN} Fit"].hide_set(True)
    top = bpy.data.collections.new("Shapes")
    bpy.context.scene.collection.children.link(top)
    make = {
        "Rings": lambda place, k: bpy.ops.mesh.primitive_torus_add(location=place, minor_radius=0.2 + 0.1 * k),
        "Cones": lambda place, k: bpy.ops.mesh.primitive_cone_add(location=place, depth=1 + k, radius2=0.3 * k),
    }
    for row, (name, add) in enumerate(make.items()):
        collection = bpy.data.collections.new(name)
        top.children.link(collection)
        for k in range(3):
            with in_view():
                add((4 * k, 5 * row, 0), k)
            obj = bpy.context.view_layer.objects.active
            for old in list(obj.users_collection):
                old.objects.unlink(obj)
            collection.objects.link(obj)
    return top


def train():
    top = add_shapes()
    yield from pause()
    with in_view():
        bpy.ops.view3d.view_all()
    yield from pause(30)  # the view moves smoothly
    # Room for the preview, which comes right of the shapes; the sidebar lies over that side of the view.
    view3d()[1].spaces.active.region_3d.view_distance *= 2.2
    settings = bpy.context.scene.shapewright_train
    settings.collection, settings.name, settings.steps = top, PRIOR, 2
    settings.start_from = "household"
    session = running()
    session.jobs.clear()
    before = scene_state()
    place = yield from open_lowest_panel("shapewright.train_prior")
    screenshot("5_train.png")
    seen = {}

    def look():
        seen.update(previews())
        FACTS["train"]["ticks_seen"] += bool(previews())
        if FACTS["train"]["ticks_seen"] == 10:  # drawn by now
            screenshot("6_training.png")

    FACTS["train"] = {"ticks_seen": 0}
    EVERY_TICK.append(look)
    yield from click(place)
    job = yield from end_of(0)
    EVERY_TICK.remove(look)
    yield from until(lambda: not running().calls.busy, "the list of priors", 300)
    FACTS["train"].update(outcome(job), previews=dict(seen))
    if job.problem is not None:
        raise RuntimeError(str(job.problem))
    FACTS["train"]["rest_as_before"] = scene_state() == before
    FACTS["train"]["listed"] = running().prior(PRIOR)
    bpy.context.scene.shapewright.prior = PRIOR
    FACTS["train"]["chosen"] = bpy.context.scene.shapewright.prior


def show_the_card():
    """The panel above the lowest one is the card's; its header is where the lowest one's button was not."""
    session = running()
    session.jobs.clear()
    settings = bpy.context.scene.shapewright_train
    yield from pause()
    yield from wheel("WHEELDOWNMOUSE", 60)
    sidebar = view3d()[2]
    top = (yield from find_button("shapewright.train_prior"))[1]
    for above in (64, 58, 70):  # over the header of Train Prior, which is as high
        yield from click((sidebar.x + int(sidebar.width * 0.35), top + above))
        places = yield from find_buttons("shapewright.export_prior", across=0.65)
        if places:
            break
    FACTS["card"] = {"found": bool(places), "name": settings.name}
    yield from pause(10)
    screenshot("7_card.png")


def story():
    yield from set_the_stage()
    yield from fit_the_scan()
    yield from change_the_detail()
    yield from train()
    yield from show_the_card()


tell(story())
