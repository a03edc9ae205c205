"""Fit Shape: several objects as one cloud, what becomes of the surface, its detail, its warnings, its panel."""

from __future__ import annotations

import importlib
import json
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Euler
from stage import add_object, add_points, step_until
from test_extension import draw, operators_of
from test_session import census

BOX = np.array([[0, 0, 0], [1, 2, 3], [0.5, 1, 1]], np.float64)
FIELD = {"method": "auto", "field_id": "field7"}


@pytest.fixture
def fits(addon: Any) -> Any:
    return importlib.import_module(f"{addon.package}.features.fit.clouds")


def cube(name: str = "Cube", location: tuple[float, ...] = (0, 0, 0)) -> Any:
    bpy.ops.mesh.primitive_cube_add(size=2, location=location)
    obj = bpy.context.view_layer.objects.active
    obj.name = name
    bpy.context.view_layer.update()
    return obj


def choose(*objects: Any) -> None:
    for obj in bpy.context.view_layer.objects:
        obj.select_set(obj in objects)
    bpy.context.view_layer.objects.active = objects[0]
    bpy.context.view_layer.update()


def read(fits: Any, *objects: Any, **more: Any) -> tuple[Any, dict[str, np.ndarray]]:
    scan = fits.read_clouds(objects, bpy.context.evaluated_depsgraph_get(), **more)
    return scan, scan.arrays()


def in_world(scan: Any, points: np.ndarray) -> np.ndarray:
    return points @ scan.frame[:3, :3].T + scan.frame[:3, 3]


# -------------------------------------------------------------------------------------------------- several as one


def test_clouds_with_normals_become_one_cloud_with_normals(fits, empty_scene):
    one = add_points(BOX, "One", normals=[(0, 0, 1)] * 3)
    two = add_points(BOX, "Two", normals=[(1, 0, 0)] * 3)
    one.location, two.location, two.rotation_euler = (100, 0, 0), (103, 0, 0), Euler((0, 0, np.pi / 2))
    bpy.context.view_layer.update()
    scan, arrays = read(fits, one, two, viewpoint=(101, 2, 3))
    expected = [obj.matrix_world @ v.co for obj in (one, two) for v in obj.data.vertices]
    np.testing.assert_allclose(in_world(scan, arrays["points"]), np.array(expected), atol=1e-4)
    np.testing.assert_allclose(arrays["normals"][3:], [[0, 1, 0]] * 3, atol=1e-6)
    assert arrays["faces"] is None and scan.viewpoint == pytest.approx((1, 2, 3), abs=1e-4)
    assert scan.point_count == 6 and scan.source.name == "One"


def test_normals_of_a_part_only_are_not_sent(fits, empty_scene):
    one, two = add_points(BOX, "One", normals=[(0, 0, 1)] * 3), add_points(BOX, "Two")
    assert read(fits, one, two)[1]["normals"] is None


def test_meshes_stay_one_mesh(fits, empty_scene):
    one, two = cube("One"), cube("Two", (5, 0, 0))
    scan, arrays = read(fits, one, two)
    assert len(arrays["points"]) == 16 and len(arrays["faces"]) == 24 and arrays["normals"] is None
    corners = in_world(scan, arrays["points"])[arrays["faces"]]
    assert corners[:12, :, 0].max() == pytest.approx(1) and corners[12:, :, 0].min() == pytest.approx(4)


def test_a_mirrored_mesh_still_looks_outward(fits, empty_scene):
    obj = cube()
    obj.scale = (-1, 1, 1)
    bpy.context.view_layer.update()
    arrays = read(fits, obj)[1]
    a, b, c = (arrays["points"][arrays["faces"][:, k]] for k in range(3))
    assert ((np.cross(b - a, c - a) * (a + b + c)).sum(1) > 0).all()


def test_a_mesh_and_points_become_one_cloud_on_the_surface(fits, empty_scene):
    solid, points = cube("Solid"), add_points(BOX + 10, "Points", normals=[(0, 0, 1)] * 3)
    _, arrays = read(fits, solid, points)
    sampled, normals = arrays["points"][:-3], arrays["normals"][:-3]
    assert arrays["faces"] is None and len(sampled) >= 10_000
    np.testing.assert_allclose(np.abs(sampled).max(1), 1, atol=1e-5)  # on the cube
    assert ((sampled * normals).sum(1) > 0.99).all()  # outward
    share = (np.abs(normals[:, 2]) > 0.5).mean()
    assert share == pytest.approx(1 / 3, abs=0.03)  # evenly: two of six sides
    np.testing.assert_allclose(arrays["points"][-3:], BOX + 10, atol=1e-5)


def test_loose_vertices_of_a_mesh_count_but_strays_do_not(fits, empty_scene):
    bpy.ops.mesh.primitive_uv_sphere_add(segments=32, ring_count=16)
    ball = bpy.context.view_layer.objects.active
    ball.data.vertices.add(1)
    ball.data.vertices[-1].co = (9, 9, 9)
    ball.data.update()
    arrays = read(fits, ball)[1]
    assert arrays["faces"] is not None, "one stray makes no cloud of it"
    ball.data.vertices.add(200)
    ball.data.update()
    arrays = read(fits, ball)[1]
    assert arrays["faces"] is None and np.abs(arrays["points"]).max() == pytest.approx(9)


def test_a_point_cloud_object_is_read(fits, empty_scene):
    if "POINTCLOUD" not in bpy.ops.object.convert.get_rna_type().properties["target"].enum_items:
        pytest.skip("this Blender makes no point cloud objects")
    source = add_points(BOX, "Scan")
    for other in bpy.context.view_layer.objects:
        other.select_set(other == source)
    bpy.ops.object.convert(target="POINTCLOUD")
    obj = bpy.context.view_layer.objects.active
    assert obj.type == "POINTCLOUD"
    np.testing.assert_allclose(read(fits, obj)[1]["points"], BOX, atol=1e-6)


def test_an_object_without_points_is_named(addon, fits, empty_scene):
    full, empty = add_points(BOX), add_object(bpy.data.meshes.new("Empty"), "Empty")
    with pytest.raises(addon.problem.EngineProblem, match="'Empty'"):
        read(fits, full, empty)


# ------------------------------------------------------------------------------------------------------- the result


def test_a_selection_is_fitted_as_one_and_says_how(emulated):
    emulated(report=FIELD)
    one, two = add_points(BOX, "One"), add_points(BOX + 5, "Two")
    lamp = add_object(bpy.data.lights.new("Lamp", "POINT"), "Lamp")
    choose(one, two, lamp)
    assert bpy.ops.shapewright.fit_shape(resolution=64, smoothness=0.25, noise=0.01) == {"FINISHED"}
    result = bpy.data.objects["One Fit"]
    corners = np.array([result.matrix_world @ v.co for v in result.data.vertices])
    np.testing.assert_allclose([corners.min(0), corners.max(0)], [[0, 0, 0], [6, 7, 8]], atol=1e-5)
    asked = json.loads(result["shapewright_settings"])
    assert asked["resolution"] == 64 and asked["smoothness"] == 0.25 and asked["method"] == "auto"
    assert asked["noise"] == pytest.approx(0.01) and asked["iterations"] is None and not asked["open_boundaries"]
    assert result["shapewright_field_id"] == "field7" and result["shapewright_method"] == "auto"
    assert json.loads(result["shapewright_sources"]) == ["One", "Two"]
    assert result["shapewright_engine_version"] == "9.9.9" and "shapewright_prior" not in result
    assert set(bpy.data.objects.keys()) == {"One", "Two", "Lamp", "One Fit"}


def test_the_engines_own_defaults_are_those_of_the_operator(emulated):
    """What the panel shows before anything is touched is what the engine takes for nothing said."""
    emulated()
    add_points(BOX)
    bpy.ops.shapewright.fit_shape()
    asked = json.loads(bpy.data.objects["Scan Fit"]["shapewright_settings"])
    pytest.importorskip("pydantic")  # Blender's Python need not have what only the engine uses
    from engine.jobs.fit.request import FIT_METHODS, FitRequest
    from engine.jobs.kinds import parse_request

    assert parse_request(asked) == FitRequest(name="Scan")
    offered = bpy.types.Scene.bl_rna.properties["shapewright_fit"].fixed_type.properties["method"].enum_items
    assert {item.identifier for item in offered} == set(FIT_METHODS) and offered[0].identifier == FIT_METHODS[0]


def test_the_surface_takes_the_place_of_its_sources(emulated):
    emulated()
    one, two, child = add_points(BOX, "One"), cube("Two"), add_object(None, "Child")
    material = bpy.data.materials.new("Clay")
    two.data.materials.append(material)
    child.parent, child.location = one, (1, 1, 1)
    one.location = (4, 0, 0)
    bpy.context.view_layer.update()
    where = child.matrix_world.copy()
    choose(one, two)
    bpy.ops.ed.undo_push(message="Before")
    bpy.ops.shapewright.fit_shape(becomes="REPLACE")
    bpy.context.view_layer.update()
    result = bpy.data.objects["One"]
    assert set(bpy.data.objects.keys()) == {"One", "Child"} and len(result.data.polygons) == 12
    assert result.data.name == "One" and list(result.data.materials) == [material]
    assert bpy.context.view_layer.objects.active == result and result.select_get()
    child = bpy.data.objects["Child"]
    assert child.parent == result and (child.matrix_world.translation - where.translation).length < 1e-5
    bpy.ops.ed.undo()
    assert set(bpy.data.objects.keys()) == {"One", "Two", "Child"} and len(bpy.data.objects["One"].data.polygons) == 0


def test_sources_and_surface_become_one_object(emulated):
    emulated(report=FIELD)
    one, two = add_points(BOX, "One"), cube("Two", (7, 0, 0))
    clay, wood = bpy.data.materials.new("Clay"), bpy.data.materials.new("Wood")
    two.data.materials.append(clay)
    two.data.materials.append(wood)
    two.data.polygons[5].material_index = 1
    choose(one, two)
    bpy.ops.shapewright.fit_shape(becomes="JOIN")
    (result,) = bpy.data.objects
    assert result.name == "One" and not result.data.validate()
    assert len(result.data.polygons) == 12 + 6 and len(result.data.vertices) == 8 + 3 + 8
    points = np.array([result.matrix_world @ v.co for v in result.data.vertices])
    np.testing.assert_allclose(points[8:11], BOX, atol=1e-5)
    assert points[11:, 0].min() == pytest.approx(6) and points[11:, 0].max() == pytest.approx(8)
    used = {result.data.materials[polygon.material_index] for polygon in list(result.data.polygons)[12:]}
    assert used == {clay, wood}
    assert "shapewright_field_id" not in result, "another detail would lose what was joined"


def test_cancel_and_failure_leave_the_scene_as_it_was(addon, emulated):
    running = emulated(fail_at=3)
    one, two = add_points(BOX, "One"), add_points(BOX, "Two")
    choose(one, two)
    before = census()
    with pytest.raises(RuntimeError, match="It was told to"):
        bpy.ops.shapewright.fit_shape(becomes="REPLACE")
    assert census() == before
    assert running.jobs[-1].problem.code == "made_up"


def test_a_named_source_comes_before_the_selection(emulated):
    emulated()
    add_points(BOX, "One")
    add_points(BOX, "Two")  # selected
    bpy.ops.shapewright.fit_shape(source="One")
    assert set(bpy.data.objects.keys()) == {"One", "Two", "One Fit"}
    with pytest.raises(RuntimeError, match="no object 'Gone'"):
        bpy.ops.shapewright.fit_shape(source="Gone")


def test_what_cannot_be_fitted_is_refused_before_anything_starts(emulated):
    running = emulated()
    add_object(bpy.data.lights.new("Lamp", "POINT"), "Lamp")
    with pytest.raises(RuntimeError, match="neither a mesh"):
        bpy.ops.shapewright.fit_shape()
    assert running.engine.state == "stopped" and not running.jobs


# ------------------------------------------------------------------------------------------------------- the detail


def test_another_detail_comes_from_the_same_field_in_place(emulated):
    running = emulated(report=FIELD)
    obj = add_points(BOX, "Scan")
    obj.location = (50, 0, 0)
    bpy.context.view_layer.update()
    bpy.ops.shapewright.fit_shape(resolution=32)
    result = bpy.data.objects["Scan Fit"]
    result.location.x += 3
    result.data.materials.append(bpy.data.materials.new("Clay"))
    choose(result)
    bpy.ops.ed.undo_push(message="Before")
    old = np.array([v.co for v in result.data.vertices])
    assert bpy.ops.shapewright.refit_resolution(resolution=200, open_boundaries=True) == {"FINISHED"}
    result = bpy.data.objects["Scan Fit"]
    asked = running.jobs[-1].request
    assert asked["reuse"] == "field7" and asked["resolution"] == 200 and asked["open_boundaries"]
    new = np.array([v.co for v in result.data.vertices])
    assert not np.allclose(new, old), "the emulated engine's answer to no points is the unit box"
    assert result.location.x == pytest.approx(53), "it stays where it was moved to"
    assert result["shapewright_resolution"] == 200 and result["shapewright_open_boundaries"]
    assert result.data.materials[0].name == "Clay"
    assert set(bpy.data.objects.keys()) == {"Scan", "Scan Fit"} and len(bpy.data.meshes) == 2
    bpy.ops.ed.undo()
    assert bpy.data.objects["Scan Fit"]["shapewright_resolution"] == 32


def test_only_a_fit_has_another_detail(emulated, monkeypatch):
    emulated()
    add_points(BOX)
    with pytest.raises(RuntimeError, match="Select a surface that Fit Shape has made"):
        bpy.ops.shapewright.refit_resolution()


def test_a_field_that_the_engine_has_forgotten_leaves_the_surface_alone(emulated, monkeypatch):
    running = emulated(report=FIELD)
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.shapewright.fit_shape()
    running.engine.stop(wait=True)
    monkeypatch.setenv("EMULATED_ENGINE", json.dumps({"fail_at": 0}))
    result = bpy.data.objects["Cube Fit"]
    choose(result)
    before = [tuple(v.co) for v in result.data.vertices]
    with pytest.raises(RuntimeError, match="It failed"):
        bpy.ops.shapewright.refit_resolution(resolution=64)
    assert [tuple(v.co) for v in bpy.data.objects["Cube Fit"].data.vertices] == before
    assert result["shapewright_resolution"] == 128


# ----------------------------------------------------------------------------------------------- warnings and panel

WARNING = {"code": "prior_unsuited", "what": "The prior does not explain this.", "why": "It is far from all it knows.",
           "remedy": "Use Fit Shape."}  # fmt: skip


def test_a_warning_of_complete_shape_leads_to_fit_shape_on_the_same_source(addon, emulated):
    running = emulated(report={"warnings": [WARNING, {"code": "odd"}]})
    add_points(BOX, "Statue")
    assert bpy.ops.shapewright.complete_shape() == {"FINISHED"}
    job = running.jobs[-1]
    assert [warning.code for warning in job.warnings] == ["prior_unsuited"]
    layout = draw(bpy.types.SHAPEWRIGHT_PT_complete)
    assert {WARNING["what"], WARNING["why"], WARNING["remedy"]} <= set(layout.said)
    offered = [properties.source for idname, _, properties in layout.operators if idname == "shapewright.fit_shape"]
    assert offered == ["Statue"]
    bpy.ops.shapewright.fit_shape(source=offered[0])
    assert "Statue Fit" in bpy.data.objects


def test_the_panel_offers_its_operators_and_shows_its_jobs(addon, emulated):
    running = emulated(report=FIELD | {"warnings": [WARNING]})
    panel = bpy.types.SHAPEWRIGHT_PT_fit
    assert "Select point clouds or meshes" in draw(panel).said
    one, two = add_points(BOX, "One"), add_points(BOX, "Two")
    choose(one, two)
    layout = draw(panel)
    assert "shapewright.fit_shape" in operators_of(layout) and "2 objects as one cloud" in layout.said
    assert "shapewright.refit_resolution" not in operators_of(layout)
    bpy.ops.shapewright.fit_shape()
    choose(bpy.data.objects["One Fit"])
    layout = draw(panel)
    assert "shapewright.refit_resolution" in operators_of(layout)
    assert running.jobs[-1].title in layout.said and WARNING["what"] in layout.said
    assert running.jobs[-1].title not in draw(bpy.types.SHAPEWRIGHT_PT_complete).said
    bpy.context.scene.shapewright_fit.method = "siren"
    bpy.context.scene.shapewright_fit.viewpoint = "CAMERA"
    assert "The scene has no camera" in draw(bpy.types.SHAPEWRIGHT_PT_fit_settings).said


def test_previews_of_a_fit_are_shown_and_become_the_result(addon, fits, emulated):
    running = emulated(steps=30, step_s=0.03, preview_at=list(range(30)))
    obj = add_points(BOX)
    scan = fits.read_clouds([obj], bpy.context.evaluated_depsgraph_get())
    writer = importlib.import_module(f"{addon.package}.features.fit.writer").FitWriter(scan, [obj])
    job = running.submit(addon.session.Job("Fit", {"kind": "fit", "resolution": 64, "seed": 0}, scan, writer=writer))
    step_until(running, lambda: job.previews_shown >= 2)
    uid = writer.preview.find(bpy.data.objects).session_uid
    running.wait(job, 60)
    assert job.results[0].session_uid == uid and job.results[0].name == "Scan Fit"
