"""Browsing several answers, and the alignment as an empty."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from stage import activate, add_points
from test_extension import RecordingLayout

BOX = np.array([[0, 0, 0], [1, 2, 3], [0.5, 1, 1]], np.float64)
FOUND = [[2, 0, 0, 0.5], [0, 2, 0, 1.0], [0, 0, 2, 1.5], [0, 0, 0, 1]]
ELSEWHERE = [[3, 0, 0, 0.5], [0, 3, 0, 1.0], [0, 0, 3, 1.5], [0, 0, 0, 1]]
REPORT = {
    "alignment": {"matrix": FOUND, "found_by": "pose network"},
    "hypotheses": [{"score": 0.1}, {"score": 0.2}, {"score": 0.3, "alignment": {"matrix": ELSEWHERE}}],
}


@pytest.fixture
def three(emulated: Any) -> list[bpy.types.Object]:
    """A scan at (10, 0, 0) with three hypotheses, and it is active."""
    emulated(meshes=0, report=REPORT)
    obj = add_points(BOX, "Chair")
    obj.location = (10, 0, 0)
    activate(obj)
    bpy.ops.ed.undo_push(message="Before")
    assert bpy.ops.shapewright.complete_shape(hypotheses=3) == {"FINISHED"}
    return [bpy.data.objects[name] for name in ("Chair Complete", "Chair Complete.001", "Chair Complete.002")]


def seen() -> list[str]:
    """Which of the hypotheses can be seen, in the viewport and in a render alike."""
    found = [obj for obj in bpy.data.objects if "shapewright_hypothesis" in obj]
    visible = [obj.name for obj in found if not obj.hide_get()]
    assert visible == [obj.name for obj in found if not obj.hide_render]
    return visible


def draw(cls: Any) -> RecordingLayout:
    assert cls.poll(bpy.context)
    layout = RecordingLayout()
    cls.draw(SimpleNamespace(layout=layout), bpy.context)
    return layout


def test_several_answers_come_as_a_collection_of_which_the_best_is_shown(three):
    assert {c.name for obj in three for c in obj.users_collection} == {"Chair Hypotheses"}
    assert bpy.data.collections["Chair Hypotheses"].name in bpy.context.scene.collection.children
    assert seen() == ["Chair Complete"]
    assert [obj["shapewright_score"] for obj in three] == [0.1, 0.2, 0.3]


def test_a_single_answer_needs_no_collection(emulated):
    emulated()
    add_points(BOX, "Chair")
    bpy.ops.shapewright.complete_shape()
    assert not bpy.data.collections


def test_next_and_previous_go_round(three):
    names = []
    for step in (*["next"] * 3, "previous"):
        assert getattr(bpy.ops.shapewright, f"{step}_hypothesis")() == {"FINISHED"}
        names += seen()
    assert names == ["Chair Complete.001", "Chair Complete.002", "Chair Complete", "Chair Complete.002"]
    assert bpy.context.active_object.name == "Chair", "the scan was active and stays so"


def test_what_is_active_moves_on_with_the_hypothesis_shown(three):
    activate(three[0])
    bpy.ops.shapewright.next_hypothesis()
    assert bpy.context.active_object == three[1] and three[1].select_get() and not three[0].select_get()


def test_keep_removes_the_others_in_one_step(addon, three):
    three[1].scale = (1, 1, 2)
    bpy.ops.shapewright.next_hypothesis()
    bpy.ops.ed.undo_push(message="Shown")
    bpy.ops.shapewright.keep_hypothesis()
    bpy.ops.ed.undo_push(message="Kept")  # in a window the operator's own UNDO does it
    assert {obj.name for obj in bpy.data.objects} == {"Chair", "Chair Complete.001", "Chair Alignment"}
    assert len(bpy.data.meshes) == 2 and not bpy.data.collections
    kept = bpy.data.objects["Chair Complete.001"]
    assert kept.name in bpy.context.scene.collection.objects and not kept.hide_get() and not kept.hide_render
    with pytest.raises(RuntimeError, match="Select a hypothesis"):
        bpy.ops.shapewright.keep_hypothesis()
    bpy.ops.ed.undo()
    assert seen() == ["Chair Complete.001"] and len(bpy.data.collections) == 1
    bpy.ops.shapewright.next_hypothesis()
    assert seen() == ["Chair Complete.002"]


def test_a_copy_made_by_hand_is_not_thrown_away(three):
    activate(three[0])
    bpy.ops.object.duplicate()
    copy = bpy.context.active_object
    copy.name = "My own"
    activate(three[0])
    bpy.ops.shapewright.next_hypothesis()
    bpy.ops.shapewright.keep_hypothesis()
    assert "My own" in bpy.context.scene.objects and "Chair Complete.001" in bpy.context.scene.objects
    assert "Chair Complete" not in bpy.data.objects


def test_one_deleted_or_renamed_by_hand_does_not_matter(three):
    three[1].name = "The odd one"
    bpy.data.objects.remove(three[0])
    bpy.ops.shapewright.next_hypothesis()
    bpy.ops.shapewright.next_hypothesis()
    assert seen() == ["The odd one"]
    activate(bpy.data.objects["Chair"])
    with bpy.context.temp_override(selected_objects=[three[1]]):
        bpy.ops.object.delete()
    bpy.ops.shapewright.next_hypothesis()
    assert "The odd one" not in bpy.data.objects
    assert seen() == ["Chair Complete.002"]


def test_it_goes_on_after_saving_and_opening(three, tmp_path):
    bpy.ops.shapewright.next_hypothesis()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "chair.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "chair.blend"))
    assert seen() == ["Chair Complete.001"]
    bpy.context.view_layer.objects.active = bpy.data.objects["Chair"]
    bpy.ops.shapewright.next_hypothesis()
    assert seen() == ["Chair Complete.002"]
    bpy.ops.shapewright.keep_hypothesis()
    assert "Chair Complete" not in bpy.data.objects


def test_of_two_runs_the_newer_is_browsed_from_the_scan(three):
    bpy.ops.shapewright.complete_shape(hypotheses=3)
    bpy.ops.shapewright.next_hypothesis()
    assert "Chair Complete.004" in seen() and "Chair Complete" in seen()


def test_cancelling_takes_the_collection_back(addon, emulated):
    running = emulated(meshes=200, steps=2)
    obj = add_points(BOX, "Chair")
    scan = addon.read.read_scan(obj, bpy.context.evaluated_depsgraph_get())
    job = running.submit(addon.session.Job("Complete Chair", {"kind": "complete"}, scan))
    while not job.results:
        running.step()
    assert bpy.data.collections and not job.finished
    running.cancel(job)
    assert not bpy.data.collections and set(bpy.data.objects.keys()) == {"Chair"} and len(bpy.data.meshes) == 1


def test_the_panel_counts_and_scores(addon, three):
    bpy.ops.shapewright.next_hypothesis()
    layout = draw(bpy.types.SHAPEWRIGHT_PT_hypotheses)
    assert "2 of 3" in layout.said and any("0.2" in text for text in layout.said)
    offered = {idname for idname, _, _ in layout.operators}
    assert {f"shapewright.{name}_hypothesis" for name in ("next", "previous", "keep")} <= offered
    activate(add_points(BOX, "Other"))
    assert not bpy.types.SHAPEWRIGHT_PT_hypotheses.poll(bpy.context)


# ------------------------------------------------------------------------------------------------------- the alignment


def world(obj: bpy.types.Object) -> np.ndarray:
    bpy.context.view_layer.update()
    return np.array(obj.matrix_world)


def test_the_alignment_found_stands_where_it_was_found(three):
    empty = bpy.data.objects["Chair Alignment"]
    assert empty.type == "EMPTY" and empty.parent == three[0]
    expected = np.array(Matrix.Translation((10, 0, 0))) @ FOUND
    np.testing.assert_allclose(world(empty), expected, atol=1e-5)
    three[0].location.x += 5
    np.testing.assert_allclose(world(empty)[0, 3], expected[0, 3] + 5, atol=1e-5)


def test_it_follows_the_hypothesis_shown(three):
    empty = bpy.data.objects["Chair Alignment"]
    bpy.ops.shapewright.next_hypothesis()
    assert empty.parent == three[1]
    np.testing.assert_allclose(world(empty), np.array(Matrix.Translation((10, 0, 0))) @ FOUND, atol=1e-5)
    bpy.ops.shapewright.next_hypothesis()
    np.testing.assert_allclose(world(empty), np.array(Matrix.Translation((10, 0, 0))) @ ELSEWHERE, atol=1e-5)


def test_moved_it_is_sent_as_the_pose(three):
    empty = bpy.data.objects["Chair Alignment"]
    empty.location.z += 1
    empty.scale *= 2
    activate(empty)
    bpy.ops.shapewright.complete_again(hypotheses=1)
    result = bpy.data.objects["Chair Complete.003"]
    sent = np.array(json.loads(result["shapewright_settings"])["pose"]).reshape(4, 4)
    np.testing.assert_allclose(sent, [[4, 0, 0, 0.5], [0, 4, 0, 1.0], [0, 0, 4, 2.5], [0, 0, 0, 1]], atol=1e-5)
    assert sum("shapewright_alignment" in obj for obj in bpy.data.objects) == 1, "the same empty, to correct it further"
    assert "pose" not in json.loads(three[0]["shapewright_settings"])


def test_locked_it_holds_for_every_further_run(three):
    empty = bpy.data.objects["Chair Alignment"]
    empty["shapewright_locked"] = True
    empty.location.x += 1
    activate(bpy.data.objects["Chair"])
    bpy.ops.shapewright.complete_shape(hypotheses=1)
    sent = json.loads(bpy.data.objects["Chair Complete.003"]["shapewright_settings"])["pose"]
    np.testing.assert_allclose(np.array(sent).reshape(4, 4)[:3, 3], [1.5, 1.0, 1.5], atol=1e-5)
    empty["shapewright_locked"] = False
    bpy.ops.shapewright.complete_shape(hypotheses=1)
    assert "pose" not in json.loads(bpy.data.objects["Chair Complete.004"]["shapewright_settings"])


def test_a_squeezed_alignment_is_refused_with_the_way_out(three):
    empty = bpy.data.objects["Chair Alignment"]
    empty.scale.x *= 1.5
    activate(empty)
    with pytest.raises(RuntimeError, match="one scale for X, Y and Z"):
        bpy.ops.shapewright.complete_again()


def test_deleted_it_can_be_shown_again(addon, three):
    expected = world(bpy.data.objects["Chair Alignment"])
    bpy.data.objects.remove(bpy.data.objects["Chair Alignment"])
    report = json.loads(three[0]["shapewright_report"])
    report["alignment"]["symmetry"] = "mirror plane"
    three[0]["shapewright_report"] = json.dumps(report)
    activate(three[0])
    assert "shapewright.show_alignment" in [
        idname for idname, _, _ in draw(bpy.types.SHAPEWRIGHT_PT_alignment).operators
    ]
    bpy.ops.shapewright.show_alignment()
    np.testing.assert_allclose(world(bpy.data.objects["Chair Alignment"]), expected, atol=1e-5)
    layout = draw(bpy.types.SHAPEWRIGHT_PT_alignment)
    assert "Found by: pose network, mirror plane" in layout.said
    assert "shapewright.complete_again" in [idname for idname, _, _ in layout.operators] and "Lock" in layout.said


def test_without_its_source_it_says_so(three):
    empty = bpy.data.objects["Chair Alignment"]
    bpy.data.objects.remove(bpy.data.objects["Chair"])
    activate(empty)
    with pytest.raises(RuntimeError, match="is gone"):
        bpy.ops.shapewright.complete_again()
