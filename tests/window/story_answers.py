"""The story of several answers: they are browsed, one is kept, and its alignment is corrected by moving an empty."""

import json
import sys
from pathlib import Path

import bpy
import numpy as np
from mathutils import Euler, Vector

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hands import (
    EXAMPLES,
    FACTS,
    OUT,
    addon,
    box_of,
    click,
    empty_stage,
    event,
    find_button,
    in_view,
    open_tab,
    pause,
    press,
    push_undo,
    rest,
    results,
    running,
    screenshot,
    select,
    tell,
    until,
    view3d,
    watch_steps,
)


def set_the_stage():
    empty_stage()
    with in_view():
        bpy.ops.wm.ply_import(filepath=str(EXAMPLES / "chair_scan.ply"))
    about = json.loads((EXAMPLES / "chair_scan.json").read_text("utf-8"))
    settings = bpy.context.scene.shapewright
    settings.viewpoint, settings.viewpoint_location = "POINT", about["viewpoint"]
    settings.resolution, settings.hypotheses, settings.seed = 64, 4, 1
    addon().preferences.device = "cpu"
    select("chair_scan")
    yield from pause()
    view3d()[1].spaces.active.region_3d.view_rotation = Euler((1.2, 0.0, 0.6)).to_quaternion()
    with in_view():
        bpy.ops.view3d.view_selected()
    yield from pause(30)  # the view moves smoothly
    view3d()[1].spaces.active.region_3d.view_distance *= 1.5
    yield from open_tab("1_tab.png")


def hypotheses():
    return [obj for obj in bpy.data.objects if "shapewright_hypothesis" in obj and obj.users_collection]


def seen():
    return sorted(obj.name for obj in hypotheses() if obj.visible_get())


def state():
    return {
        "seen": seen(),
        "all": sorted(obj.name for obj in hypotheses()),
        "collections": sorted(collection.name for collection in bpy.data.collections),
        "active": bpy.context.view_layer.objects.active.name,
    }


def complete():
    push_undo("before")
    watch_steps(running())
    yield from rest()
    yield from click((yield from find_button("shapewright.complete_shape")))
    session = running()
    yield from until(lambda: session.jobs, "a job after the click", 60)
    job = session.jobs[-1]
    yield from until(lambda: job.finished, "the end of the job")
    if job.problem is not None:
        raise RuntimeError(str(job.problem))
    # The list of jobs would push what is of interest out of the panel.
    yield from click((yield from find_button("shapewright.cancel_job", across=0.82)))
    bpy.data.objects["chair_scan"].hide_set(True)  # its points lie over the results
    select(results()[0])
    yield from pause(20)
    FACTS["complete"] = {
        **state(),
        "scores": [obj.get("shapewright_score") for obj in hypotheses()],
        "boxes": [box_of(obj) for obj in hypotheses()],
        "alignments": [obj.name for obj in bpy.data.objects if "shapewright_alignment" in obj],
    }
    screenshot("2_hypotheses.png")


def browse():
    facts = FACTS["browse"] = {"next": []}
    place = yield from find_button("shapewright.next_hypothesis")
    for _ in FACTS["complete"]["all"]:
        yield from click(place)
        facts["next"].append(seen())
        if len(facts["next"]) == 1:
            screenshot("3_next.png")
    yield from click((yield from find_button("shapewright.previous_hypothesis", across=0.25)))
    facts["previous"] = seen()
    yield from press("Z", ctrl=True)
    facts["after an undo"] = seen()
    yield from press("Z", ctrl=True, shift=True)
    facts["after a redo"] = seen()


def save_and_open():
    path = OUT / "hypotheses.blend"
    with in_view():
        bpy.ops.wm.save_as_mainfile(filepath=str(path))
    yield from pause(10)
    with in_view():
        bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False)
    yield from pause(20)
    FACTS["opened"] = state()
    path.unlink()


def keep():
    facts = FACTS["keep"] = {"before": state()}
    yield from click((yield from find_button("shapewright.next_hypothesis")))
    facts["chosen"] = seen()
    yield from click((yield from find_button("shapewright.keep_hypothesis")))
    yield from pause(10)
    facts["after"] = state()
    screenshot("4_kept.png")
    yield from press("Z", ctrl=True)
    facts["after an undo"] = state()
    yield from press("Z", ctrl=True, shift=True)
    facts["after a redo"] = state()


def type_keys(*keys):
    """A command of the 3D view: (type of key, character) one after the other."""
    main = view3d()[3]
    place = main.x + main.width // 2, main.y + main.height // 2
    event(*place)
    yield from pause(2)
    for kind, character in keys:
        event(*place, kind, "PRESS", **({"unicode": character} if character else {}))
        yield
        event(*place, kind, "RELEASE")
        yield from pause(2)
    yield from pause()


def correct_the_alignment():
    """The empty is moved up by 5 cm with the keys G Z 0 . 0 5 Enter, and the chair completed again with it."""
    empty = next(obj for obj in bpy.data.objects if "shapewright_alignment" in obj)
    facts = FACTS["alignment"] = {"parent": empty.parent.name if empty.parent else None}
    select(empty.name)
    bpy.context.scene.shapewright.hypotheses = 1
    yield from pause()
    found = Vector(empty.matrix_world.translation)
    yield from type_keys(
        ("G", "g"), ("Z", "z"), ("ZERO", "0"), ("PERIOD", "."), ("ZERO", "0"), ("FIVE", "5"), ("RET", "")
    )
    facts["moved"] = list(empty.matrix_world.translation - found)
    before = set(results())
    yield from click((yield from find_button("shapewright.complete_again")))
    session = running()
    yield from until(lambda: session.jobs, "a job after the click", 60)
    job = session.jobs[-1]
    yield from until(lambda: job.finished, "the end of the job")
    facts["state"], facts["problem"] = job.state, job.problem.as_dict() if job.problem else None
    yield from pause(10)
    (made,) = set(results()) - before
    settings = json.loads(bpy.data.objects[made]["shapewright_settings"])
    frame = np.array(json.loads(bpy.data.objects[made]["shapewright_frame"]))
    facts["sent"] = (frame @ np.array(settings["pose"]).reshape(4, 4)).tolist()
    facts["empty"] = [list(row) for row in empty.matrix_world]
    facts["box"] = box_of(bpy.data.objects[made])
    for obj in hypotheses():
        obj.hide_set(obj.name != made)
    yield from pause(10)
    screenshot("5_alignment.png")


def story():
    yield from set_the_stage()
    yield from complete()
    yield from browse()
    yield from save_and_open()
    yield from keep()
    yield from correct_the_alignment()


tell(story())
