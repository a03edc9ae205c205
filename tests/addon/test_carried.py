"""What objects carry goes with them: through Apply Scale and the like, renaming, deleting and saving."""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Euler
from stage import activate, add_points
from test_extension import BOX, draw
from test_fit import FIELD
from test_generation import chairs, corners, settle  # noqa: F401  (a fixture)
from test_hypotheses import REPORT, seen, world


def apply(obj: bpy.types.Object, location: bool = False, rotation: bool = False, scale: bool = False) -> None:
    """What a person does with Ctrl+A."""
    activate(obj)
    assert bpy.ops.object.transform_apply(location=location, rotation=rotation, scale=scale) == {"FINISHED"}
    bpy.context.view_layer.update()


def about_middle(obj: bpy.types.Object) -> np.ndarray:
    found = corners(obj)
    return found - found.mean(0)


# ------------------------------------------------------------------------------------------------------- the mesh mark


@pytest.fixture
def mark(addon: SimpleNamespace) -> Any:
    return importlib.import_module(f"{addon.package}.carried.mesh_mark")


def cloud(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)) * [1.0, 0.5, 0.3] + [0.2, 0.0, 0.4]


@pytest.mark.parametrize("count", [4, 8, 65, 3000, 100_000])
def test_a_mesh_moved_as_a_whole_is_known_with_what_moved_it(mark, empty_scene, count):
    obj = add_points(cloud(count))
    mark.leave(obj)
    assert mark.change_of(obj) is mark.UNCHANGED
    expected = np.eye(4)
    for turn in range(3):  # one after another, as float32 has it
        obj.rotation_euler, obj.scale, obj.location = Euler((0.4, turn, 1.0)), (1.7, 1.7, 1.7), (3, -turn, 1)
        bpy.context.view_layer.update()
        expected = np.array(obj.matrix_world) @ expected
        apply(obj, True, True, True)
    change = mark.change_of(obj)
    assert change.similar
    np.testing.assert_allclose(change.matrix, expected, atol=2e-5 * np.abs(expected).max())


def test_stretched_and_mirrored_it_is_known_and_no_similarity(mark, empty_scene):
    for scale in ((1, 2, 3), (-1, 1, 1)):
        obj = add_points(cloud(500))
        mark.leave(obj)
        obj.scale = scale
        apply(obj, scale=True)
        change = mark.change_of(obj)
        assert not change.similar
        np.testing.assert_allclose(change.matrix, np.diag([*scale, 1]), atol=1e-4)


@pytest.mark.parametrize("count", [8, 3000, 100_000])
def test_one_vertex_moved_by_hand_is_noticed_turned_or_not(mark, empty_scene, count):
    obj = add_points(cloud(count))
    mark.leave(obj)
    obj.data.vertices[count // 3].co.y += 0.01
    change = mark.change_of(obj)
    assert change.matrix is None and "moved" in change.why
    obj.rotation_euler.z = 0.7
    apply(obj, rotation=True)
    assert mark.change_of(obj).matrix is None


def test_another_number_of_vertices_is_told(mark, empty_scene):
    obj = add_points(cloud(10))
    mark.leave(obj)
    obj.data.vertices.add(1)
    assert "11 vertices instead of 10" in mark.change_of(obj).why


def test_a_flat_mesh_is_known_too(mark, empty_scene):
    obj = add_points(cloud(200) * [1, 1, 0])
    mark.leave(obj)
    obj.rotation_euler = (0.3, 0.2, 0.1)
    expected = np.array(obj.rotation_euler.to_matrix())
    apply(obj, rotation=True)
    change = mark.change_of(obj)
    assert change.similar
    np.testing.assert_allclose(change.matrix[:3, :3], expected, atol=1e-5)


def test_a_mark_of_a_version_before_still_counts(mark, empty_scene):
    obj = add_points(BOX)
    obj[mark.OLDER] = [3.0, float(np.linalg.norm(BOX, axis=1).sum())]
    assert mark.change_of(obj) is mark.UNCHANGED
    obj.data.vertices[1].co.x += 1
    assert mark.change_of(obj).matrix is None
    del obj[mark.OLDER]
    assert mark.change_of(obj) is None


# -------------------------------------------------------------------------------------------------------------- codes

TURNED = {"rotation_euler": (0.3, -0.5, 1.1)}
MOVES = [TURNED, {"scale": (2, 2, 2)}, {"location": (4, 5, 6)}, {**TURNED, "scale": (3, 3, 3), "location": (1, 2, 3)}]


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_variants_of_an_applied_shape_are_those_of_the_shape_as_it_stood(chairs, move):  # noqa: F811
    obj = chairs[1]
    for name, value in move.items():
        setattr(obj, name, value)
    before = about_middle(obj)
    apply(obj, True, True, True)
    np.testing.assert_allclose(about_middle(obj), before, atol=1e-5)
    assert bpy.ops.shapewright.vary(variants=1) == {"FINISHED"}
    variant = bpy.data.objects["Chair 2 Variant 1"]
    assert json.loads(variant["shapewright_settings"])["prior_sha256"] == "cafe", "by its code"
    np.testing.assert_allclose(about_middle(variant), before, atol=1e-4)


def test_after_an_apply_that_its_code_cannot_follow_the_mesh_is_taken_and_it_is_said_why(addon, chairs):  # noqa: F811
    depsgraph = bpy.context.evaluated_depsgraph_get()
    for obj, scale in zip(chairs, ((1, 1, 2), (-1, 1, 1)), strict=False):
        obj.scale = scale
        apply(obj, scale=True)
        shape = addon.code.read_shape(obj, depsgraph, np.eye(4))
        assert not shape.prior_hash and "mirrored" in shape.note and "its mesh is taken" in shape.note
    chairs[2].data.vertices[0].co.x += 0.1
    assert "moved" in addon.code.read_shape(chairs[2], depsgraph, np.eye(4)).note


def test_sliders_move_an_applied_shape_along_its_own_axes(addon, emulated, chairs):  # noqa: F811
    obj = chairs[0]
    assert bpy.ops.shapewright.show_sliders(count=2) == {"FINISHED"}
    obj.rotation_euler, obj.scale = (0.3, -0.5, 1.1), (2, 2, 2)
    bpy.context.view_layer.update()
    upright = np.array(obj.rotation_euler.to_matrix())[:, 2]
    apply(obj, rotation=True, scale=True)
    tall = np.linalg.norm(corners(obj)[1] - corners(obj)[0])
    obj.shapewright_sliders[0].value += 1.0
    settle(addon)
    assert addon.driving.sliders().problem is None
    edge = corners(obj)[1] - corners(obj)[0]
    np.testing.assert_allclose(edge / np.linalg.norm(edge), upright, atol=1e-5)
    assert np.linalg.norm(edge) > 1.05 * tall
    obj.shapewright_sliders[0].value += 1.0
    settle(addon)
    edge = corners(obj)[1] - corners(obj)[0]
    np.testing.assert_allclose(edge / np.linalg.norm(edge), upright, atol=1e-5)


def test_a_shape_is_copied_from_where_it_stands_to_where_the_other_stands(chairs):  # noqa: F811
    source, target = chairs[1], chairs[0]
    target.rotation_euler.z = 0.8
    wanted = np.array(target.rotation_euler.to_matrix())
    shape = about_middle(source)
    apply(target, rotation=True)
    source.rotation_euler = (0.2, 0.3, 0.4)
    apply(source, rotation=True)
    target.select_set(True)
    bpy.context.view_layer.objects.active = source
    assert bpy.ops.shapewright.copy_code() == {"FINISHED"}
    np.testing.assert_allclose(about_middle(target), shape @ wanted.T, atol=1e-5)


def test_a_shape_that_its_code_does_not_describe_is_not_copied(chairs):  # noqa: F811
    chairs[0].data.vertices[0].co.x += 0.3
    activate(chairs[1])
    chairs[1].select_set(True)
    chairs[0].select_set(True)
    bpy.context.view_layer.objects.active = chairs[0]
    with pytest.raises(RuntimeError, match="was not copied"):
        bpy.ops.shapewright.copy_code()


# ------------------------------------------------------------------------------------------------------------- detail


def fitted() -> bpy.types.Object:
    obj = add_points(BOX, "Scan")
    obj.location = (50, 0, 0)
    bpy.context.view_layer.update()
    assert bpy.ops.shapewright.fit_shape(resolution=32) == {"FINISHED"}
    return bpy.data.objects["Scan Fit"]


def refit(obj: bpy.types.Object) -> np.ndarray:
    activate(obj)
    assert bpy.ops.shapewright.refit_resolution(resolution=64) == {"FINISHED"}
    return corners(obj)


def volume(obj: bpy.types.Object) -> float:
    """Of its mesh; its sign turns over with the faces."""
    points = np.array([vertex.co for vertex in obj.data.vertices])
    a, b, c = points[np.array([tuple(polygon.vertices) for polygon in obj.data.polygons])].swapaxes(0, 1)
    return float((np.cross(a, b) * c).sum() / 6)


@pytest.mark.parametrize("move", [*MOVES, {"scale": (1, 2, 3)}, {"scale": (-1, 1, 1)}], ids=str)
def test_another_detail_of_an_applied_fit_stays_in_its_place(emulated, move):
    emulated(report=FIELD)
    obj = fitted()
    whole = volume(obj)
    for name, value in move.items():
        setattr(obj, name, value)
    expected = refit(obj)
    apply(obj, True, True, True)
    np.testing.assert_allclose(refit(obj), expected, atol=1e-4)
    obj.scale = (2, 2, 2)
    expected = refit(obj)
    apply(obj, True, True, True)
    np.testing.assert_allclose(refit(obj), expected, atol=1e-4, err_msg="and again")
    assert volume(obj) * whole > 0, "and is not inside out"


def test_a_fit_changed_by_hand_gets_no_other_detail_and_it_is_said_why(emulated):
    running = emulated(report=FIELD)
    obj = fitted()
    obj.data.vertices[0].co.x += 0.5
    before = corners(obj)
    activate(obj)
    jobs = len(running.jobs)
    with pytest.raises(RuntimeError, match="changed since it was fitted"):
        bpy.ops.shapewright.refit_resolution(resolution=64)
    np.testing.assert_array_equal(corners(obj), before)
    assert len(running.jobs) == jobs


def test_a_fit_of_a_version_before_gets_another_detail_where_it_stands(emulated):
    emulated(report=FIELD)
    obj = fitted()
    expected = refit(obj)
    for name in [name for name in obj.keys() if name.startswith("shapewright_mesh_") or name.endswith("field_frame")]:  # noqa: SIM118
        del obj[name]
    np.testing.assert_allclose(refit(obj), expected, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------ sources


@pytest.fixture
def answered(emulated: Any) -> bpy.types.Object:
    """A scan with three answers and the alignment of the first."""
    emulated(meshes=0, report=REPORT)
    obj = add_points(BOX, "Chair")
    assert bpy.ops.shapewright.complete_shape(hypotheses=3) == {"FINISHED"}
    return obj


def test_a_renamed_scan_keeps_its_answers_and_another_of_its_name_gets_none(addon, answered):
    answered.name = "The chair of my aunt"
    activate(answered)
    bpy.ops.shapewright.next_hypothesis()
    assert seen() == ["Chair Complete.001"]
    other = add_points(BOX + 5, "Chair")
    assert other.name == "Chair"
    with pytest.raises(RuntimeError, match="Select a hypothesis"):
        bpy.ops.shapewright.next_hypothesis()
    bpy.data.objects.remove(bpy.data.objects["Chair Alignment"])
    activate(bpy.data.objects["Chair Complete.001"])
    assert bpy.ops.shapewright.show_alignment() == {"FINISHED"}
    empty = bpy.data.objects["The chair of my aunt Alignment"]
    assert empty["shapewright_alignment_of"] == answered
    assert bpy.ops.shapewright.complete_again(hypotheses=1) == {"FINISHED"}
    assert "The chair of my aunt Complete" in bpy.data.objects


def test_answers_of_a_version_before_are_found_by_the_name(answered):
    for obj in bpy.data.objects:
        if "shapewright_source_by_pointer" in obj:
            del obj["shapewright_source_by_pointer"]
    activate(answered)
    bpy.ops.shapewright.next_hypothesis()
    assert seen() == ["Chair Complete.001"]


def test_a_renamed_scan_is_found_after_saving_and_opening(answered, tmp_path):
    answered.name = "Renamed"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "chair.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "chair.blend"))
    activate(bpy.data.objects["Renamed"])
    bpy.ops.shapewright.next_hypothesis()
    assert seen() == ["Chair Complete.001"]


def test_a_deleted_scan_does_not_stay_in_the_file_for_its_answers_sake(answered, tmp_path):
    activate(answered)
    bpy.ops.object.delete()
    activate(bpy.data.objects["Chair Complete"])
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "chair.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "chair.blend"))
    assert "Chair" not in bpy.data.objects and "Chair Complete" in bpy.data.objects
    add_points(BOX, "Chair")  # of the same name, and another
    with pytest.raises(RuntimeError, match="Select a hypothesis"):
        bpy.ops.shapewright.next_hypothesis()


def test_a_result_is_appended_without_its_scan(answered, tmp_path):
    path = str(tmp_path / "chair.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.append(directory=f"{path}/Object/", filename="Chair Complete")
    assert set(bpy.data.objects.keys()) == {"Chair Complete"}
    other = add_points(BOX, "Chair")  # of the scan's name, and another
    activate(bpy.data.objects["Chair Complete"])
    bpy.ops.shapewright.show_alignment()
    (empty,) = [obj for obj in bpy.data.objects if obj.type == "EMPTY"]
    assert empty.get("shapewright_alignment_of") != other


def test_a_button_that_names_its_source_does_so_by_the_name_it_has_now(addon, emulated):
    warning = {"code": "x", "what": "What.", "why": "Why.", "remedy": "Use Fit Shape."}
    emulated(report={"warnings": [warning]})
    obj = add_points(BOX, "Statue")
    bpy.ops.shapewright.complete_shape()
    obj.name = "Bust"
    layout = draw(bpy.types.SHAPEWRIGHT_PT_complete)
    assert [given.source for idname, _, given in layout.operators if idname == "shapewright.fit_shape"] == ["Bust"]


def test_the_alignment_of_an_applied_result_is_shown_where_it_was_found(answered):
    expected = world(bpy.data.objects["Chair Alignment"])
    bpy.data.objects.remove(bpy.data.objects["Chair Alignment"])
    result = bpy.data.objects["Chair Complete"]
    result.location, result.scale = (1, 0, 0), (2, 2, 2)
    bpy.context.view_layer.update()
    moved = np.array(result.matrix_world) @ expected
    apply(result, True, True, True)
    bpy.ops.shapewright.show_alignment()
    np.testing.assert_allclose(world(bpy.data.objects["Chair Alignment"]), moved, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------- the front

QUARTER = np.pi / 2


@pytest.mark.parametrize(
    ("rotation", "front"),
    [
        ((0, 0, 0), "evident"),
        ((QUARTER, 0, 0), "evident"),  # an importer stands it up
        ((-QUARTER, 0, 0), "evident"),
        ((np.pi, 0, 0), "evident"),
        ((0.1, -0.05, 0), "evident"),  # levelled by hand
        ((0, 0, 0.3), "given"),
        ((0, 0, np.pi), "given"),
        ((QUARTER, 0, 0.3), "given"),  # stood up by an importer, then turned by a person
        ((QUARTER, 0, -QUARTER), "given"),
    ],
)
def test_only_a_turn_about_the_worlds_z_says_where_it_faces(addon, emulated, rotation, front):
    emulated()
    obj = add_points(BOX, "Chair")
    obj.rotation_euler = rotation
    bpy.context.view_layer.update()
    bpy.ops.shapewright.complete_shape()
    assert json.loads(bpy.data.objects["Chair Complete"]["shapewright_settings"])["front"] == front


def test_the_front_of_an_obj_imported_at_the_defaults_is_doubted(emulated, tmp_path):
    emulated()
    path = tmp_path / "chair.obj"
    path.write_text("o Chair\nv 0 0 0\nv 1 2 3\nv 1 0 1\nf 1 2 3\n")
    assert bpy.ops.wm.obj_import(filepath=str(path)) == {"FINISHED"}
    obj = bpy.data.objects["Chair"]
    assert obj.rotation_euler.x == pytest.approx(QUARTER), "what this is about"
    activate(obj)
    bpy.ops.shapewright.complete_shape()
    assert json.loads(bpy.data.objects["Chair Complete"]["shapewright_settings"])["front"] == "evident"
