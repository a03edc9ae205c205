"""Generate, Variants, Blend and Sliders, with an emulated engine whose shapes are boxes as high as their codes say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Euler
from stage import activate, add_object, add_points, step_until
from test_extension import RecordingLayout

BOX = np.array([[0, 0, 0], [1, 2, 3], [0.5, 1, 1]], np.float64)


def made() -> list[bpy.types.Object]:
    """The shapes of the newest collection, in order."""
    objects = [obj for obj in bpy.data.objects if "shapewright_code" in obj]
    return sorted(objects, key=lambda obj: int(obj.name.split()[-1].split(".")[0]))


def corners(obj: bpy.types.Object) -> np.ndarray:
    bpy.context.view_layer.update()
    return np.array([obj.matrix_world @ vertex.co for vertex in obj.data.vertices])


def height(obj: bpy.types.Object) -> float:
    return float(np.ptp(corners(obj)[:, 2]))


def code_of(obj: bpy.types.Object) -> np.ndarray:
    return np.frombuffer(obj["shapewright_code"], "<f4").reshape(list(obj["shapewright_code_shape"]))


@pytest.fixture
def chairs(emulated: Any) -> list[bpy.types.Object]:
    """Three generated shapes, 1, 1.25 and 1.5 high; the first is active."""
    emulated()
    bpy.ops.ed.undo_push(message="Before")
    assert bpy.ops.shapewright.generate(class_name="chair", count=3) == {"FINISHED"}
    objects = made()
    activate(objects[0])
    return objects


def settle(addon: Any) -> None:
    step_until(addon.session.current(), lambda: not addon.session.current().busy)


# ------------------------------------------------------------------------------------------------------------ generate


def test_generated_shapes_stand_on_a_grid_at_the_cursor_in_their_own_collection(emulated):
    emulated()
    bpy.context.scene.cursor.location = (5, 6, 7)
    assert bpy.ops.shapewright.generate(class_name="chair", count=5, size=2.0, seed=3) == {"FINISHED"}
    objects = made()
    assert [obj.name for obj in objects] == [f"Chair {number}" for number in range(1, 6)]
    assert {c.name for obj in objects for c in obj.users_collection} == {"Generated Chair"}
    places = [obj.location.xy - objects[0].location.xy for obj in objects]
    assert [tuple(place) for place in places] == [(0, 0), (2.5, 0), (5, 0), (0, 2.5), (2.5, 2.5)]
    for number, obj in enumerate(objects):
        assert corners(obj)[:, 2].min() == pytest.approx(7, abs=1e-5), "each stands on the ground"
        assert height(obj) == pytest.approx(2 * (1 + 0.25 * number), rel=1e-5)
        assert tuple(obj.scale) == (1, 1, 1)
    assert objects[0].location.x == pytest.approx(5) and objects[0].location.y == pytest.approx(6)


def test_each_shape_carries_its_code_class_and_prior(chairs):
    for number, obj in enumerate(chairs):
        assert code_of(obj).shape == (2, 3, 3, 3) and code_of(obj).flat[0] == pytest.approx(1 + 0.25 * number)
        assert obj["shapewright_class"] == "chair" and obj["shapewright_prior_hash"] == "cafe"
        settings = json.loads(obj["shapewright_settings"])
        assert settings["kind"] == "generate" and settings["count"] == 3


def test_shapes_appear_one_after_another(addon, emulated):
    running = emulated(step_s=0.05)
    bpy.ops.shapewright.engine_start()
    operator = addon.session.Job(
        "Generate",
        {"kind": "generate", "count": 6, "class_name": ""},
        writer=addon.side_by_side.SetWriter("Set", "Shape", np.eye(4), addon.side_by_side.grid(6, 1.0)),
    )
    job = running.submit(operator)
    seen = set()
    while not job.finished:
        running.step()
        seen.add(len(job.results))
    assert seen >= {1, 2, 3, 4, 5, 6} and job.state == "done"


def test_one_undo_takes_all_of_them_away(chairs):
    bpy.ops.ed.undo()
    assert not bpy.data.objects and not bpy.data.collections
    bpy.ops.ed.redo()
    assert len(made()) == 3


def test_cancelling_in_the_middle_leaves_nothing(addon, emulated):
    running = emulated(step_s=0.1)
    writer = addon.side_by_side.SetWriter("Set", "Shape", np.eye(4), addon.side_by_side.grid(50, 1.0))
    job = running.submit(addon.session.Job("Generate", {"kind": "generate", "count": 50}, writer=writer))
    step_until(running, lambda: len(job.results) >= 2)
    running.cancel(job)
    assert not bpy.data.objects and not bpy.data.collections and not bpy.data.meshes
    step_until(running, lambda: job.finished)
    assert job.state == "cancelled" and not bpy.data.objects


def test_an_undo_in_the_middle_loses_no_shape(addon, emulated):
    running = emulated(step_s=0.1)
    obj = add_points(BOX)
    bpy.ops.ed.undo_push(message="One")
    obj.location.x = 5
    bpy.ops.ed.undo_push(message="Two")
    writer = addon.side_by_side.SetWriter("Set", "Shape", np.eye(4), addon.side_by_side.grid(6, 1.0))
    job = running.submit(addon.session.Job("Generate", {"kind": "generate", "count": 6}, writer=writer))
    step_until(running, lambda: len(job.results) >= 3)
    bpy.ops.ed.undo()
    running.wait(job, 60)
    assert sorted(o.name for o in bpy.data.collections["Set"].objects) == [f"Shape {n}" for n in range(1, 7)]
    assert len(bpy.data.objects) == 7


def test_a_broken_connection_neither_loses_nor_doubles_a_shape(emulated):
    emulated(drop_stream_every=2)
    bpy.ops.shapewright.generate(count=7)
    assert [obj.name for obj in made()] == [f"Shape {n}" for n in range(1, 8)]


def test_codes_survive_saving_appending_and_copying(chairs, tmp_path):
    expected, pose = code_of(chairs[1]).copy(), list(chairs[1]["shapewright_pose"])
    activate(chairs[1])
    bpy.ops.object.duplicate()
    np.testing.assert_array_equal(code_of(bpy.context.active_object), expected)
    path = str(tmp_path / "chairs.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.append(directory=f"{path}/Object/", filename="Chair 2")
    found = bpy.data.objects["Chair 2"]
    np.testing.assert_array_equal(code_of(found), expected)
    assert list(found["shapewright_pose"]) == pose
    activate(found)
    bpy.context.view_layer.update()
    assert bpy.ops.shapewright.vary(variants=2) == {"FINISHED"}


# ------------------------------------------------------------------------------------------------------------ variants


def test_variants_stand_beside_their_shape_with_its_rotation(chairs):
    source = chairs[0]
    source.location, source.rotation_euler = (3, 4, 5), Euler((0, 0, 0.7))
    activate(source)
    assert bpy.ops.shapewright.vary(variants=3, strength=0.3) == {"FINISHED"}
    found = [bpy.data.objects[f"Chair 1 Variant {n}"] for n in (1, 2, 3)]
    assert {c.name for obj in found for c in obj.users_collection} == {"Chair 1 Variants"}
    for number, obj in enumerate(found):
        assert obj.rotation_euler.z == pytest.approx(0.7)
        assert obj.location.y == pytest.approx(4) and obj.location.x > source.location.x
        assert height(obj) == pytest.approx(1 + 0.25 * number, rel=1e-5)
        assert corners(obj)[:, 2].mean() == pytest.approx(corners(source)[:, 2].mean(), abs=1e-5)
    sent = json.loads(found[0]["shapewright_settings"])
    assert sent["prior_sha256"] == "cafe" and sent["strength"] == pytest.approx(0.3)
    assert "shapewright_code" in found[2], "a variant can be varied again"


def test_a_scaled_shape_keeps_its_size(chairs):
    chairs[0].scale = (2, 2, 2)
    activate(chairs[0])
    bpy.ops.shapewright.vary(variants=1)
    assert height(bpy.data.objects["Chair 1 Variant 1"]) == pytest.approx(2, rel=1e-5)


def test_a_mesh_without_a_code_is_sent_as_it_stands(emulated):
    emulated()
    obj = add_points(BOX, "Thing")
    obj.location, obj.scale = (10, 0, 0), (1, 1, 2)
    activate(obj)
    assert bpy.ops.shapewright.vary(variants=2) == {"FINISHED"}
    first = bpy.data.objects["Thing Variant 1"]
    assert height(first) == pytest.approx(6, rel=1e-5), "in the world's size"
    assert "prior_sha256" not in json.loads(first["shapewright_settings"])
    assert first.location.x > 10


@pytest.mark.parametrize("keep", ["SELECTED", "GROUP"])
def test_the_part_to_keep_is_sent(addon, emulated, keep):
    emulated()
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    cube.location = (7, 0, 0)
    top = [vertex.index for vertex in cube.data.vertices if vertex.co.z > 0]
    if keep == "GROUP":
        cube.vertex_groups.new(name="Top").add(top, 1.0, "REPLACE")
    else:
        for polygon in cube.data.polygons:
            polygon.select = False
        for vertex in cube.data.vertices:
            vertex.select = vertex.index in top
    bpy.context.view_layer.update()
    from_world = np.eye(4)
    from_world[:3, 3] = (-7, 0, 0)
    vary = __import__(f"{addon.package}.features.vary.kept", fromlist=["kept"])
    points, normals = vary.kept_part(cube, keep, from_world)
    assert len(points) > 1000 and points[:, 2] == pytest.approx(1)
    assert np.abs(points[:, :2]).max() <= 1 + 1e-5 and np.ptp(points[:, 0]) > 1.9
    assert normals[100:] == pytest.approx(np.tile([0, 0, 1], (len(normals) - 100, 1)), abs=1e-5)
    assert bpy.ops.shapewright.vary(variants=1, keep=keep) == {"FINISHED"}


def test_nothing_to_keep_is_said(emulated):
    emulated()
    bpy.ops.mesh.primitive_cube_add()
    for vertex in bpy.context.object.data.vertices:
        vertex.select = False
    with pytest.raises(RuntimeError, match="No vertex is selected"):
        bpy.ops.shapewright.vary(keep="SELECTED")
    with pytest.raises(RuntimeError, match="no vertex group"):
        bpy.ops.shapewright.vary(keep="GROUP")


def test_a_missing_prior_is_named(addon, chairs):
    problem = addon.problem.EngineProblem("prior_missing", "What.", "Why.", "Remedy.")
    shape = addon.code.read_shape(chairs[0], bpy.context.evaluated_depsgraph_get(), np.eye(4))
    named = addon.code.missing_prior(problem, [shape])
    assert "household" in named.why and "cafe" in named.why and "Chair 1" in named.what


def test_a_damaged_code_is_refused_with_the_way_out(chairs):
    chairs[0]["shapewright_code"] = b"nonsense"
    activate(chairs[0])
    with pytest.raises(RuntimeError, match="Remove the custom property"):
        bpy.ops.shapewright.vary()


def test_a_shape_changed_by_hand_is_taken_as_it_is_now(addon, chairs):
    chairs[0].scale = (1, 1, 3)
    activate(chairs[0])
    bpy.ops.object.transform_apply(location=False, rotation=False, scale=True)
    assert bpy.ops.shapewright.vary(variants=1) == {"FINISHED"}
    variant = bpy.data.objects["Chair 1 Variant 1"]
    assert height(variant) == pytest.approx(3, rel=1e-5)
    assert "prior_sha256" not in json.loads(variant["shapewright_settings"])


# --------------------------------------------------------------------------------------------------------------- blend


def select(*objects: bpy.types.Object) -> None:
    activate(objects[-1])
    for obj in objects:
        obj.select_set(True)


def test_a_blend_stands_in_a_row_from_one_shape_to_the_other(chairs):
    select(chairs[0], chairs[2])
    chairs[0].location.x, chairs[2].location.x = -1, 4
    bpy.context.view_layer.update()
    assert bpy.ops.shapewright.blend(steps=3) == {"FINISHED"}
    found = [bpy.data.objects[f"Chair 1 to Chair 3 Blend {n}"] for n in range(1, 6)]
    assert [height(obj) for obj in found] == pytest.approx([1, 1.125, 1.25, 1.375, 1.5], rel=1e-5)
    places = [obj.location.x for obj in found]
    assert places == sorted(places) and len({round(b - a, 4) for a, b in itertools.pairwise(places)}) == 1
    assert all(obj.location.y < -0.1 for obj in found), "before the shapes, not inside them"
    assert {c.name for obj in found for c in obj.users_collection} == {"Chair 1 to Chair 3 Blend"}


def test_a_blend_on_the_timeline_shows_one_shape_at_a_time(chairs):
    for number, obj in enumerate(chairs):
        obj.location.x = number
    select(*chairs)
    bpy.context.scene.frame_set(11)
    assert bpy.ops.shapewright.blend(steps=1, layout="TIMELINE", hold=4) == {"FINISHED"}
    found = sorted((obj for obj in bpy.data.objects if " Blend " in obj.name), key=lambda obj: obj.name)
    assert len(found) == 5

    def seen(frame: int) -> list[float]:
        bpy.context.scene.frame_set(frame)
        visible = [obj for obj in found if not obj.hide_viewport]
        assert visible == [obj for obj in found if not obj.hide_render]
        return [round(height(obj), 4) for obj in visible]

    assert [seen(frame) for frame in (1, 11, 14, 15, 19, 23, 27, 99)] == [
        [1.0], [1.0], [1.0], [1.125], [1.25], [1.375], [1.5], [1.5],
    ]  # fmt: skip
    assert len({tuple(np.round(obj.location, 5)) for obj in found}) == 1


def test_a_blend_as_shape_keys_is_one_object_that_turns_from_shape_to_shape(addon, chairs):
    select(chairs[0], chairs[2])
    bpy.context.scene.frame_set(21)
    before = len(bpy.data.objects)
    assert bpy.ops.shapewright.blend(steps=3, layout="KEYS", hold=4) == {"FINISHED"}
    assert len(bpy.data.objects) == before + 1
    obj = bpy.data.objects["Chair 1 to Chair 3 Blend"]
    assert json.loads(obj["shapewright_settings"])["one_mesh"] is True
    assert [key.name for key in obj.data.shape_keys.key_blocks] == ["Basis", "Step 2", "Step 3", "Step 4", "Step 5"]

    def seen(frame: int) -> float:
        bpy.context.scene.frame_set(frame)
        shown = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
        return round(float(np.ptp([vertex.co.z for vertex in shown.data.vertices])), 3)

    assert [seen(frame) for frame in (1, 21, 25, 29, 33, 37, 99)] == [1, 1, 1.125, 1.25, 1.375, 1.5, 1.5]
    assert seen(21) < seen(23) < seen(25), "and between the steps too"
    bpy.context.scene.frame_set(21)
    np.testing.assert_array_equal(code_of(obj), code_of(chairs[0]))
    bpy.ops.ed.undo()
    assert "Chair 1 to Chair 3 Blend" not in bpy.data.objects and len(bpy.data.objects) == before


def test_sliders_leave_shape_keys_alone(addon, chairs):
    select(chairs[0], chairs[2])
    assert bpy.ops.shapewright.blend(steps=1, layout="KEYS") == {"FINISHED"}
    obj = bpy.data.objects["Chair 1 to Chair 3 Blend"]
    activate(obj)
    assert bpy.ops.shapewright.show_sliders() == {"FINISHED"}
    obj.shapewright_sliders["Height"].value = 2.5
    settle(addon)
    assert addon.driving.sliders().problem.code == "shape_keys"
    assert len(obj.data.shape_keys.key_blocks) == 3


def test_a_blend_needs_two(chairs):
    with pytest.raises(RuntimeError, match="Select two"):
        bpy.ops.shapewright.blend()


def test_shapes_of_different_priors_are_not_blended(chairs):
    chairs[1]["shapewright_prior_hash"], chairs[1]["shapewright_prior"] = "beef", "pets"
    select(chairs[0], chairs[1])
    with pytest.raises(RuntimeError, match=r"pets.*beef"):
        bpy.ops.shapewright.blend()


# ------------------------------------------------------------------------------------------------------------- sliders


@pytest.fixture
def driven(chairs: list[bpy.types.Object]) -> bpy.types.Object:
    assert bpy.ops.shapewright.show_sliders() == {"FINISHED"}
    return chairs[0]


def test_sliders_are_the_priors_directions(driven):
    assert [(s.name, round(s.value, 3)) for s in driven.shapewright_sliders] == [("Height", 0.5), ("Width", 0.0)]
    assert height(driven) == pytest.approx(1)


def test_a_moved_slider_moves_the_mesh_in_place(addon, driven):
    material = bpy.data.materials.new("Wood")
    driven.data.materials.append(material)
    mesh, place = driven.data.name, tuple(driven.location)
    driven.shapewright_sliders["Height"].value = 2.5
    settle(addon)
    assert height(driven) == pytest.approx(1.2, rel=1e-4)
    assert code_of(driven).flat[0] == pytest.approx(1.2), "the code goes with the mesh"
    assert driven.data.name == mesh and driven.data.materials[0] == material and tuple(driven.location) == place
    driven.shapewright_sliders["Width"].value = -1.0
    settle(addon)
    assert height(driven) == pytest.approx(1.1, rel=1e-4), "both count from where the shape began"


def test_dragging_asks_for_the_newest_values_only_and_ends_fine(addon, emulated, chairs, monkeypatch):
    bpy.ops.shapewright.show_sliders()
    asked: list[tuple[tuple[float, ...], int]] = []
    ask = addon.driving._ask

    def noted(client: Any, question: Any, request: Any, arrays: Any) -> None:
        asked.append((question.values, question.resolution))
        ask(client, question, request, arrays)

    monkeypatch.setattr(addon.driving, "_ask", noted)
    running, obj = addon.session.current(), chairs[0]
    for number in range(60):
        obj.shapewright_sliders["Height"].value = 0.5 + 0.05 * number
        running.step()
    settle(addon)
    values = [value[0] for value, _ in asked]
    assert values == sorted(values) and values[-1] == pytest.approx(2.95, abs=1e-3)
    resolutions = [resolution for _, resolution in asked]
    assert resolutions[-1] == 128 and set(resolutions[:-1]) == {64}
    assert height(obj) == pytest.approx(1.295, rel=1e-4)


def test_selected_shapes_are_driven_together(addon, chairs):
    select(chairs[1], chairs[0])
    assert bpy.ops.shapewright.show_sliders() == {"FINISHED"}
    chairs[0].shapewright_sliders["Height"].value = 1.5
    settle(addon)
    assert [round(height(obj), 3) for obj in chairs] == [1.1, 1.35, 1.5]


def test_reset_and_randomise(addon, driven):
    assert bpy.ops.shapewright.randomise_sliders(seed=4) == {"FINISHED"}
    moved = [s.value for s in driven.shapewright_sliders]
    assert moved[0] != 0.5 and abs(moved[0] - 0.5) <= 2 and abs(moved[1]) <= 1
    assert height(driven) != pytest.approx(1, abs=1e-4)
    assert bpy.ops.shapewright.reset_sliders() == {"FINISHED"}
    assert height(driven) == pytest.approx(1) and driven.shapewright_sliders["Height"].value == pytest.approx(0.5)


def test_one_undo_takes_a_randomised_shape_back(addon, driven):
    bpy.ops.ed.undo_push(message="Before")
    bpy.ops.shapewright.randomise_sliders(seed=4)
    moved = height(driven)
    bpy.ops.ed.undo()
    settle(addon)
    obj = bpy.data.objects["Chair 1"]
    assert height(obj) == pytest.approx(1) and obj.shapewright_sliders["Height"].value == pytest.approx(0.5)
    bpy.ops.ed.redo()
    assert height(bpy.data.objects["Chair 1"]) == pytest.approx(moved) != pytest.approx(1)


def test_one_undo_takes_a_slide_back_and_redo_makes_it_fine_again(addon, driven):
    """In a window Blender remembers the moment at which the slider is let go: the mesh is still coarse then."""
    running = addon.session.current()
    bpy.ops.ed.undo_push(message="Before")
    for value in (2.5, 4.5):
        bpy.data.objects["Chair 1"].shapewright_sliders["Height"].value = value
        step_until(running, lambda: addon.values.UNFINISHED in bpy.data.objects["Chair 1"])
        bpy.ops.ed.undo_push(message="Value")
        settle(addon)
    seen = [round(height(bpy.data.objects["Chair 1"]), 3)]
    for step in ("undo", "undo", "redo", "redo"):
        getattr(bpy.ops.ed, step)()
        settle(addon)
        obj = bpy.data.objects["Chair 1"]
        assert addon.values.UNFINISHED not in obj
        seen.append(round(height(obj), 3))
    assert seen == [1.4, 1.2, 1.0, 1.2, 1.4]


def test_sliders_survive_saving(addon, emulated, driven, tmp_path):
    driven.shapewright_sliders["Height"].value = 2.5
    settle(addon)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "slid.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "slid.blend"))
    obj = bpy.data.objects["Chair 1"]
    assert obj.shapewright_sliders["Height"].value == pytest.approx(2.5)
    obj.shapewright_sliders["Height"].value = 0.5
    settle(addon)
    assert height(obj) == pytest.approx(1, rel=1e-4)


def test_a_code_is_copied_to_another_object_which_keeps_its_place_and_size(addon, chairs, driven):
    driven.shapewright_sliders["Height"].value = 2.5
    settle(addon)
    other = chairs[2]
    place = tuple(other.location)
    select(other, driven)
    assert bpy.ops.shapewright.copy_code() == {"FINISHED"}
    assert height(other) == pytest.approx(1.2, rel=1e-4) and tuple(other.location) == place
    np.testing.assert_array_equal(code_of(other), code_of(driven))
    activate(other)
    other.shapewright_sliders["Height"].value = 0.5
    settle(addon)
    assert height(other) == pytest.approx(1, rel=1e-4) and height(driven) == pytest.approx(1.2, rel=1e-4)


def test_what_goes_wrong_while_sliding_is_shown(addon, driven, monkeypatch):
    problem = addon.problem.EngineProblem("prior_missing", "What.", "Why.", "Remedy.")

    def fail(*_: Any) -> None:
        raise problem

    monkeypatch.setattr(addon.client.EngineClient, "slide", fail)
    driven.shapewright_sliders["Height"].value = 1.0
    settle(addon)
    shown = addon.driving.sliders().problem
    assert shown is not None and "household" in shown.why
    assert "household" in " ".join(draw(bpy.types.SHAPEWRIGHT_PT_sliders).said)


def test_a_shape_changed_by_hand_is_not_overwritten_by_its_sliders(addon, driven):
    driven.data.vertices[0].co.x += 0.2
    driven.shapewright_sliders["Height"].value = 2.5
    settle(addon)
    assert addon.driving.sliders().problem.code == "shape_edited"
    assert height(driven) == pytest.approx(1)


def test_an_engine_stopped_while_sliding_ends_it_with_its_reason(addon, driven):
    running = addon.session.current()
    driven.shapewright_sliders["Height"].value = 2.0
    running.engine.stop(wait=True)
    settle(addon)
    assert addon.driving.sliders().problem.code == "engine_stopped"
    driven.shapewright_sliders["Height"].value = 2.5
    settle(addon)
    assert addon.driving.sliders().problem is None and height(driven) == pytest.approx(1.2, rel=1e-4)


def test_an_object_deleted_while_it_slides_does_not_matter(addon, driven):
    driven.shapewright_sliders["Height"].value = 2.0
    addon.session.current().step()
    bpy.data.objects.remove(driven)
    settle(addon)


# ------------------------------------------------------------------------------------------------------------- densify


def test_densify_asks_for_the_gradient_field_that_comes_with_the_engine(addon):
    pytest.importorskip("pydantic")  # Blender's Python need not have what only the engine uses
    from engine.jobs.gradient.request import GradientRequest

    asked = bpy.ops.shapewright.densify.get_rna_type().properties["field"].default
    shipped = Path(__file__).parents[2] / "engine" / "gradient_fields" / f"{asked}.gradient.safetensors"
    assert asked == GradientRequest().field and shipped.is_file()


def test_a_dense_cloud_lies_in_its_sources_place_with_normals(emulated):
    emulated()
    obj = add_points(BOX, "Sparse")
    obj.location, obj.scale = (4, 5, 6), (2, 2, 2)
    bpy.context.view_layer.update()
    assert bpy.ops.shapewright.densify(points=500) == {"FINISHED"}
    dense = bpy.data.objects["Sparse Dense"]
    assert len(dense.data.vertices) == 500 and not dense.data.polygons
    low, high = corners(obj).min(0), corners(obj).max(0)
    assert (corners(dense) >= low - 1e-4).all() and (corners(dense) <= high + 1e-4).all()
    assert np.ptp(corners(dense), axis=0) == pytest.approx(high - low, rel=0.05)
    assert tuple(dense.data.attributes["normal"].data[7].vector) == (0, 0, 1)
    bpy.ops.ed.undo_push(message="Done")
    activate(dense)
    assert bpy.ops.shapewright.densify(points=50) == {"FINISHED"}, "what came out can go in again"


# --------------------------------------------------------------------------------------------------------------- panel


def draw(cls: Any) -> RecordingLayout:
    layout = RecordingLayout()
    cls.draw(SimpleNamespace(layout=layout, column=getattr(cls, "column", None)), bpy.context)
    return layout


def offered(cls: Any) -> list[str]:
    return [idname for idname, _, _ in draw(cls).operators]


def test_the_panels_offer_what_there_is(addon, driven):
    panels = bpy.types
    assert "shapewright.generate" in offered(panels.SHAPEWRIGHT_PT_generate)
    assert "shapewright.vary" in offered(panels.SHAPEWRIGHT_PT_vary)
    assert "shapewright.blend" in offered(panels.SHAPEWRIGHT_PT_blend)
    assert {"shapewright.reset_sliders", "shapewright.copy_code"} <= set(offered(panels.SHAPEWRIGHT_PT_sliders))
    assert "shapewright.densify" in offered(panels.SHAPEWRIGHT_PT_densify)
    assert "Height" in draw(panels.SHAPEWRIGHT_PT_sliders).said
    activate(add_object(bpy.data.meshes.new("Plain"), "Plain"))
    (offer,) = [given for idname, _, given in draw(panels.SHAPEWRIGHT_PT_sliders).operators]
    assert (offer.strength, offer.variants) == (0.0, 1), "the shape itself, with a code"


def test_the_classes_are_those_of_the_chosen_prior(emulated):
    emulated()
    settings = bpy.context.scene.shapewright_generation
    assert settings.class_name == "ANY"
    bpy.ops.shapewright.engine_start()
    settings.class_name = "chair"
    assert settings.class_name == "chair"
