"""What a source looks like reaches its result: its colour attribute, and the very materials of its slots."""

from __future__ import annotations

import importlib
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Vector
from stage import activate, add_object, add_points

PATIENCE_S = 300.0


def ball(name: str = "Scan", segments: int = 24) -> Any:
    import bmesh

    made = bmesh.new()
    bmesh.ops.create_uvsphere(made, u_segments=segments, v_segments=segments // 2, radius=1.0)
    mesh = bpy.data.meshes.new(name)
    made.to_mesh(mesh)
    made.free()
    return add_object(mesh, name)


def two_materials(obj: Any) -> list[Any]:
    """Slots: an empty one, oak where x is above 0, cloth elsewhere."""
    oak, cloth = bpy.data.materials.new("Oak"), bpy.data.materials.new("Cloth")
    for material in (None, oak, cloth):
        obj.data.materials.append(material)
    for polygon in obj.data.polygons:
        polygon.material_index = 1 if polygon.center.x > 0 else 2
    return [oak, cloth]


def paint(mesh: Any, domain: str = "POINT", kind: str = "FLOAT_COLOR", name: str = "Paint") -> None:
    """Red where x is above 0, else blue, in sRGB."""
    attribute = mesh.color_attributes.new(name, kind, domain)
    places = mesh.vertices if domain == "POINT" else [mesh.vertices[loop.vertex_index] for loop in mesh.loops]
    for value, place in zip(attribute.data, places, strict=True):
        value.color_srgb = (1, 0.5, 0, 1) if place.co.x > 0 else (0, 0.5, 1, 1)
    mesh.color_attributes.active_color = attribute


def colours_of(mesh: Any) -> np.ndarray:
    attribute = mesh.color_attributes.active_color
    values = np.empty(4 * len(attribute.data), np.float32)
    attribute.data.foreach_get("color_srgb", values)
    return values.reshape(-1, 4)[:, :3]


@pytest.fixture(autouse=True)
def _scene(empty_scene: None) -> None:
    pass


def read(addon: Any, obj: Any) -> Any:
    return addon.read.read_scan(obj, bpy.context.evaluated_depsgraph_get())


@pytest.mark.parametrize("domain", ["POINT", "CORNER"])
@pytest.mark.parametrize("kind", ["FLOAT_COLOR", "BYTE_COLOR"])
def test_a_colour_attribute_is_read_for_the_points(addon: Any, domain: str, kind: str) -> None:
    obj = ball()
    paint(obj.data, domain, kind)
    scan = read(addon, obj)
    arrays = scan.arrays()
    expected = np.where(arrays["points"][:, :1] > 0, [[1, 0.5, 0]], [[0, 0.5, 1]])
    np.testing.assert_allclose(arrays["colours"], expected, atol=0.01)
    assert scan.look.colour_name == "Paint" and arrays["face_materials"] is None


def test_points_without_faces_have_colours_and_materials_too(addon: Any) -> None:
    obj = add_points([(x, y, 0) for x in range(5) for y in range(5)])
    paint(obj.data)
    clay = bpy.data.materials.new("Clay")
    obj.data.materials.append(clay)
    scan = read(addon, obj)
    arrays = scan.arrays()
    assert arrays["colours"].shape == (25, 3) and arrays["face_materials"] is None
    assert [one.find(bpy.data.materials) for one in scan.look.materials] == [clay]


def test_slots_and_the_faces_that_wear_them_are_read(addon: Any) -> None:
    obj = ball()
    oak, _ = two_materials(obj)
    own = bpy.data.materials.new("Of the object")
    obj.material_slots[2].link, obj.material_slots[2].material = "OBJECT", own
    scan = read(addon, obj)
    arrays = scan.arrays()
    assert arrays["material_names"].tolist() == ["", "Oak", "Of the object"]
    assert [one and one.find(bpy.data.materials) for one in scan.look.materials] == [None, oak, own]
    middle = arrays["points"][arrays["faces"]].mean(1)[:, 0]
    np.testing.assert_array_equal(arrays["face_materials"], np.where(middle > 0, 1, 2))
    again = addon.mesh_arrays.encode_arrays(arrays)
    assert addon.mesh_arrays.encode_arrays({**arrays, "colours": None}) == again


def test_a_result_wears_the_same_materials_and_colours(addon: Any) -> None:
    obj = ball()
    oak, cloth = two_materials(obj)
    paint(obj.data)
    scan = read(addon, obj)
    oak.name = "Renamed meanwhile"
    arrays = scan.arrays()
    faces = np.concatenate([arrays["faces"], [[0, 0, 1]]])  # one that Blender takes not
    seen = arrays["points"][:, 2] > 0
    sent = addon.mesh_arrays.MeshArrays.of(
        arrays["points"], faces, None, arrays["colours"], seen, np.concatenate([arrays["face_materials"], [1]])
    )
    result = addon.in_place.ResultWriter(scan).add_result(sent, 0, 1)
    mesh = result.data
    assert list(mesh.materials) == [None, oak, cloth] and not mesh.validate()
    assert all(polygon.material_index == (1 if polygon.center.x > 0 else 2) for polygon in mesh.polygons)
    assert mesh.color_attributes.active_color.name == "Paint"
    np.testing.assert_allclose(colours_of(mesh), arrays["colours"], atol=1e-3)
    flags = np.empty(len(mesh.vertices), bool)
    mesh.attributes["seen"].data.foreach_get("value", flags)
    np.testing.assert_array_equal(flags, seen)


def test_a_result_that_was_unwrapped_has_its_uvs(addon: Any) -> None:
    scan = read(addon, ball())
    arrays = scan.arrays()
    faces = np.concatenate([[[0, 0, 1]], arrays["faces"]])  # one that Blender takes not
    uvs = np.random.default_rng(0).random((len(faces), 3, 2)).astype(np.float32)
    sent = addon.mesh_arrays.decode_mesh(
        addon.mesh_arrays.encode_arrays({"vertices": arrays["points"], "faces": faces, "uvs": uvs})
    )
    mesh = addon.in_place.ResultWriter(scan).add_result(sent, 0, 1).data
    layer = mesh.uv_layers.active
    values = np.empty(6 * len(mesh.polygons), np.float32)
    layer.uv.foreach_get("vector", values)
    np.testing.assert_array_equal(values.reshape(-1, 3, 2), uvs[1:])
    with pytest.raises(addon.problem.EngineProblem):
        addon.mesh_arrays.MeshArrays.of(arrays["points"], faces, uvs=uvs[1:])


def test_a_material_that_was_deleted_leaves_its_slot_empty(addon: Any) -> None:
    obj = ball()
    oak, cloth = two_materials(obj)
    scan = read(addon, obj)
    arrays = scan.arrays()
    bpy.data.materials.remove(oak)
    sent = addon.mesh_arrays.MeshArrays.of(arrays["points"], arrays["faces"], face_materials=arrays["face_materials"])
    mesh = addon.in_place.ResultWriter(scan).add_result(sent, 0, 1).data
    assert list(mesh.materials) == [None, None, cloth]


@pytest.mark.parametrize(
    "damage",
    [
        {"colours": np.full((3, 3), 0.5)}, {"colours": np.full((4, 3), 1.5)}, {"colours": np.full((4, 3), np.nan)},
        {"seen": np.ones(5, bool)}, {"face_materials": np.zeros(2, np.int32)},
    ],
)  # fmt: skip
def test_damaged_looks_are_refused(addon: Any, damage: dict[str, np.ndarray]) -> None:
    with pytest.raises(addon.problem.EngineProblem) as caught:
        addon.mesh_arrays.MeshArrays.of(np.eye(4)[:, :3], np.array([[0, 1, 2]]), **damage)
    assert caught.value.code == "bad_answer"


def test_several_sources_have_one_list_of_materials(addon: Any) -> None:
    fits = importlib.import_module(f"{addon.package}.features.fit.clouds")
    one, two, bare = ball("One"), ball("Two"), ball("Bare")
    oak, cloth = two_materials(one)
    two.data.materials.append(cloth)
    paint(two.data)
    scan = fits.read_clouds([one, two, bare], bpy.context.evaluated_depsgraph_get())
    arrays = scan.arrays()
    assert [ref and ref.find(bpy.data.materials) for ref in scan.look.materials] == [None, oak, cloth]
    assert arrays["material_names"].tolist() == ["", "Oak", "Cloth"]
    count = len(arrays["faces"]) // 3
    numbers = arrays["face_materials"]
    assert [set(part.tolist()) for part in np.split(numbers, [count, 2 * count])] == [{1, 2}, {2}, {0}]
    points = len(arrays["points"]) // 3
    assert (arrays["colours"][:points] == 1).all() and (arrays["colours"][points : 2 * points] < 1).any(1).all()
    cloud = add_points([(x, y, 9) for x in range(5) for y in range(5)], "Points")
    mixed = fits.read_clouds([two, cloud], bpy.context.evaluated_depsgraph_get())
    arrays = mixed.arrays()
    assert arrays["faces"] is None and arrays["colours"].shape == arrays["points"].shape
    assert (arrays["colours"][-25:] == 1).all() and arrays["face_materials"] is None
    assert [ref and ref.find(bpy.data.materials) for ref in mixed.look.materials] == [cloth]


@pytest.mark.parametrize("operator", ["fit_shape", "complete_shape"])
def test_a_click_carries_it_all_through_the_engine(addon: Any, real_engine: Any, operator: str) -> None:
    obj = ball()
    obj.location = (3, 4, 5)
    oak, cloth = two_materials(obj)
    paint(obj.data)
    activate(obj)
    getattr(bpy.ops.shapewright, operator)("EXEC_DEFAULT", resolution=32, device="cpu", previews=False)
    job = real_engine.wait(real_engine.jobs[-1], PATIENCE_S)
    assert job.state == "done", job.problem
    mesh = job.results[0].data
    assert list(mesh.materials) == [None, oak, cloth]
    assert job.report["appearance"]["materials"] == ["", "Oak", "Cloth"]
    to_source = obj.matrix_world.inverted() @ job.results[0].matrix_world
    clear = [polygon for polygon in mesh.polygons if abs((to_source @ polygon.center).x) > 0.15]
    right = [polygon.material_index == (1 if (to_source @ polygon.center).x > 0 else 2) for polygon in clear]
    assert len(clear) > 100 and np.mean(right) > 0.99
    x = np.array([(to_source @ Vector(vertex.co)).x for vertex in mesh.vertices])
    expected = np.where(x[:, None] > 0, [[1, 0.5, 0]], [[0, 0.5, 1]])
    away = np.abs(colours_of(mesh) - expected).max(1)[np.abs(x) > 0.2]
    assert np.percentile(away, 95) < 0.1
    assert mesh.attributes["seen"].domain == "POINT"


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_blenders_importers_see_what_the_engine_writes(tmp_path: Any, suffix: str) -> None:
    from engine.geometry.files import write_mesh
    from engine.geometry.meshes import Material, Mesh

    rng = np.random.default_rng(0)
    corners = np.float32([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.5]])
    mesh = Mesh(corners, np.int32([[0, 1, 2], [0, 2, 3]]), None, rng.random((4, 3)).astype(np.float32))
    mesh.seen = np.array([True, False, True, True])
    mesh.materials, mesh.face_materials = (Material("oak", (1, 0, 0)), Material("cloth")), np.int32([0, 1])
    write_mesh(tmp_path / f"a.{suffix}", mesh)
    import_ = {"ply": bpy.ops.wm.ply_import, "obj": bpy.ops.wm.obj_import, "glb": bpy.ops.import_scene.gltf}[suffix]
    import_(filepath=str(tmp_path / f"a.{suffix}"))
    (obj,) = [obj for obj in bpy.data.objects if obj.type == "MESH"]
    data = obj.data
    assert len(data.polygons) == 2
    places = np.array([obj.matrix_world @ vertex.co for vertex in data.vertices])
    nearest = np.linalg.norm(places[:, None] - corners, axis=2).argmin(1)
    assert np.abs(places - corners[nearest]).max() < 1e-5
    scan = importlib.import_module("bl_ext.user_default.shapewright.scene.appearance")
    colours = scan.read_colours(data, len(data.vertices))
    np.testing.assert_allclose(colours, mesh.colours[nearest], atol=0.01)
    if suffix != "ply":
        assert {material.name for material in data.materials} == {"oak", "cloth"}
    if suffix == "ply":
        values = np.empty(len(data.vertices), np.float32)
        data.attributes["seen"].data.foreach_get("value", values)
        np.testing.assert_array_equal(values > 0.5, mesh.seen[nearest])
