"""Objects to arrays and back."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix, Vector
from stage import activate, add_object, add_points

pytestmark = pytest.mark.usefixtures("empty_scene")

RNG = np.random.default_rng(5)


def read(addon, obj, **options):
    return addon.read.read_scan(obj, bpy.context.evaluated_depsgraph_get(), **options)


def to_world(scan, points):
    return np.asarray(points, np.float64) @ scan.frame[:3, :3].T + scan.frame[:3, 3]


def expected_world(obj, local):
    bpy.context.view_layer.update()
    return np.array([obj.matrix_world @ Vector(p) for p in local])


def test_vertices_arrive_in_world_space_under_any_transform(addon):
    local = RNG.normal(size=(50, 3))
    parent = add_object(None, "Parent")
    parent.location, parent.rotation_euler, parent.scale = (3, -2, 1), Euler((0.3, 0.7, -1.1)), (1, 4, 0.25)
    obj = add_points(local)
    obj.parent = parent
    obj.location, obj.rotation_euler, obj.scale = (0.5, 0, 2), Euler((1, 0, 0.4)), (2, 0.5, -1)
    scan = read(addon, obj)
    np.testing.assert_allclose(to_world(scan, scan.arrays()["points"]), expected_world(obj, local), atol=1e-4)


def test_what_is_sent_keeps_world_axes_and_world_scale(addon):
    obj = add_points(RNG.normal(size=(20, 3)))
    obj.scale, obj.location = (2, 3, 4), (10, 0, 0)
    scan = read(addon, obj)
    np.testing.assert_array_equal(scan.frame[:3, :3], np.eye(3))


def test_far_from_the_origin_nothing_is_rounded_away(addon):
    local = RNG.normal(size=(20, 3)).astype(np.float32)
    obj = add_points(local)
    obj.location = (1 << 20, 1 << 20, 0)
    bpy.context.view_layer.update()
    np.testing.assert_allclose(read(addon, obj).arrays()["points"], local, atol=1e-6)


def test_without_alignment_the_objects_own_frame_is_sent(addon):
    local = RNG.normal(size=(20, 3)).astype(np.float32)
    obj = add_points(local)
    obj.scale, obj.rotation_euler = (1, 2, 3), Euler((0, 0, 1))
    scan = read(addon, obj, align="none")
    np.testing.assert_array_equal(scan.arrays()["points"], local)
    np.testing.assert_allclose(to_world(scan, local), expected_world(obj, local), atol=1e-5)


def test_modifiers_are_applied(addon):
    bpy.ops.mesh.primitive_cube_add()
    obj = bpy.context.object
    obj.modifiers.new("Array", "ARRAY").count = 3
    scan = read(addon, obj)
    arrays = scan.arrays()
    assert len(arrays["points"]) == 24 and len(arrays["faces"]) == 36
    assert len(obj.data.vertices) == 8


def test_polygons_come_as_triangles_outside_out(addon):
    bpy.ops.mesh.primitive_uv_sphere_add()
    obj = bpy.context.object
    for mirror in (1, -1):
        obj.scale = (mirror, 1, 2)
        bpy.context.view_layer.update()
        arrays = read(addon, obj).arrays()
        corners = arrays["points"][arrays["faces"]].astype(np.float64)
        volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
        assert volume == pytest.approx(8 / 3 * math.pi, rel=0.05)


def test_edits_not_yet_left_are_seen(addon):
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.transform.translate(value=(5, 0, 0))
    points = read(addon, bpy.context.object).arrays()["points"]
    bpy.ops.object.mode_set(mode="OBJECT")
    np.testing.assert_allclose(points.mean(0), [5, 0, 0], atol=1e-5)


def test_normals_of_a_scan_turn_with_it_and_stay_perpendicular(addon):
    # a tilted plane under a scale that is not the same on all axes: the normal must not scale as the points do
    first, second = np.array([1.0, 0.2, 0.3]), np.array([0.1, 1.0, -0.4])
    normal = np.cross(first, second) / np.linalg.norm(np.cross(first, second))
    weights = RNG.normal(size=(30, 2))
    obj = add_points(weights @ np.stack([first, second]), normals=np.tile(normal, (30, 1)))
    obj.scale, obj.rotation_euler = (1, 3, 0.5), Euler((0.5, 0.2, 0.9))
    arrays = read(addon, obj).arrays()
    edges = arrays["points"][1:] - arrays["points"][0]
    np.testing.assert_allclose(edges @ arrays["normals"][0], 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(arrays["normals"], axis=1), 1, atol=1e-6)
    assert arrays["normals"][0] @ np.array(obj.matrix_world.to_3x3() @ Vector(normal)) > 0


def test_normals_that_are_none_are_left_out_and_it_is_said(addon):
    obj = add_points(RNG.normal(size=(5, 3)), normals=np.zeros((5, 3)))
    scan = read(addon, obj)
    assert scan.arrays()["normals"] is None and scan.notes


def test_a_point_cloud_object_is_read(addon):
    if "POINTCLOUD" not in bpy.ops.object.convert.get_rna_type().properties["target"].enum_items:
        pytest.skip("this Blender cannot make a point cloud object")
    local = RNG.normal(size=(40, 3)).astype(np.float32)
    obj = add_points(local, normals=np.tile([0, 0, 1], (40, 1)))
    obj.scale, obj.location = (1, 2, 3), (4, 5, 6)
    bpy.ops.object.convert(target="POINTCLOUD")
    obj = bpy.context.object
    assert obj.type == "POINTCLOUD" and not addon.read.why_unreadable(obj)
    scan = read(addon, obj)
    assert scan.point_count == 40
    np.testing.assert_allclose(to_world(scan, scan.arrays()["points"]), expected_world(obj, local), atol=1e-5)
    np.testing.assert_allclose(scan.arrays()["normals"], np.tile([0, 0, 1], (40, 1)), atol=1e-6)


def test_a_point_cloud_made_by_geometry_nodes_is_read(addon):
    local = RNG.normal(size=(30, 3)).astype(np.float32)
    obj = add_points(local)
    tree = bpy.data.node_groups.new("Points", "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    points = tree.nodes.new("GeometryNodeMeshToPoints")
    tree.links.new(tree.nodes.new("NodeGroupInput").outputs[0], points.inputs["Mesh"])
    tree.links.new(points.outputs[0], tree.nodes.new("NodeGroupOutput").inputs[0])
    obj.modifiers.new("Nodes", "NODES").node_group = tree
    obj.location, obj.scale = (1, 2, 3), (2, 1, 1)
    bpy.context.view_layer.update()
    scan = read(addon, obj)
    assert scan.point_count == 30
    np.testing.assert_allclose(to_world(scan, scan.arrays()["points"]), expected_world(obj, local), atol=1e-5)


def test_an_object_without_points_is_refused_with_a_remedy(addon):
    obj = add_object(bpy.data.meshes.new("Empty"), "Empty")
    with pytest.raises(addon.problem.EngineProblem) as caught:
        read(addon, obj)
    assert caught.value.code == "source_empty" and caught.value.remedy


def test_the_viewpoint_is_carried_into_the_frame_that_is_sent(addon):
    obj = add_points(RNG.normal(size=(10, 3)))
    obj.location, obj.scale = (1, 2, 3), (2, 2, 2)
    assert read(addon, obj, viewpoint=(1, 2, 8)).viewpoint == pytest.approx((0, 0, 5), abs=1e-5)
    assert read(addon, obj, viewpoint=(1, 2, 8), align="none").viewpoint == pytest.approx((0, 0, 2.5), abs=1e-5)


def sphere(addon, count=24):
    """A closed triangle mesh of the unit sphere, as the engine would send one."""
    u, v = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    theta, phi = math.pi * (u + 0.5) / count, 2 * math.pi * v / count
    points = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1).reshape(-1, 3)
    here, right = u[:-1] * count + v[:-1], u[:-1] * count + (v[:-1] + 1) % count
    faces = np.concatenate(
        [np.stack([here, here + count, right], -1), np.stack([right, here + count, right + count], -1)]
    )
    return addon.mesh_arrays.MeshArrays.of(points, faces.reshape(-1, 3))


def test_a_mesh_set_from_arrays_is_valid_smooth_and_what_was_sent(addon):
    arrays = sphere(addon)
    mesh = addon.write.build_mesh("Test", arrays)
    assert not mesh.validate(verbose=True), "Blender had to correct it"
    assert len(mesh.edges) == len(arrays.edges)
    assert all(polygon.use_smooth for polygon in mesh.polygons)
    np.testing.assert_allclose([v.co for v in mesh.vertices], arrays.vertices, atol=1e-7)
    np.testing.assert_array_equal([list(p.vertices) for p in mesh.polygons], arrays.faces)
    normals = np.array([v.normal for v in mesh.vertices])
    assert (np.einsum("ij,ij->i", normals, arrays.vertices) > 0.9).mean() > 0.9


def test_blender_finds_the_same_edges_itself(addon):
    arrays = sphere(addon)
    ours = addon.write.build_mesh("Ours", arrays)
    theirs = bpy.data.meshes.new("Theirs")
    theirs.from_pydata(arrays.vertices.tolist(), [], arrays.faces.tolist())
    assert {tuple(sorted(e.vertices)) for e in ours.edges} == {tuple(sorted(e.vertices)) for e in theirs.edges}


@pytest.mark.parametrize("shear", [False, True])
def test_a_frame_survives_in_object_and_vertices_together(addon, shear):
    turned = Euler((0.3, 0.5, 0.7)).to_matrix().to_4x4()
    frame = Matrix.Translation((5, 6, 7)) @ turned @ Matrix.Diagonal((1, 2, 3, 1))
    if shear:
        frame = Matrix.Diagonal((1, 4, 1, 1)) @ frame
    matrix, baked = addon.write.placement(np.array(frame, np.float64))
    assert (baked is not None) == shear
    together = np.array(matrix, np.float64) @ (np.eye(4) if baked is None else baked)
    np.testing.assert_allclose(together, np.array(frame), atol=1e-5)


def test_a_reference_survives_renaming_and_does_not_survive_deletion(addon):
    first, second = add_points([(0, 0, 0)], "A"), add_points([(0, 0, 0)], "B")
    reference = addon.reference.Reference.of(first)
    first.name, second.name = "C", "A"
    assert reference.find(bpy.data.objects) == first
    bpy.data.objects.remove(first)
    assert reference.find(bpy.data.objects) is None


def test_what_cannot_be_completed_says_why(addon):
    assert addon.read.why_unreadable(None)
    lamp = add_object(bpy.data.lights.new("Lamp", "POINT"), "Lamp")
    assert "Lamp" in addon.read.why_unreadable(lamp)
    points = add_points([(0, 0, 0)])
    activate(points)
    assert addon.read.why_unreadable(points) == ""
