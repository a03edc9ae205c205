"""A result's object stands on its base and looks where its front was found; its surface stays where it was."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from stage import add_object

OWN = np.array(Matrix.Translation((0.5, -0.25, 1.0)) @ Matrix.Rotation(0.6, 4, "Z"), np.float64)
POSE = OWN @ np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture(autouse=True)
def _scene(empty_scene: None) -> None:
    pass


def sent(addon: Any) -> Any:
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (0, 1)], np.float64)
    faces = np.array([(0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1), (2, 3, 7), (2, 7, 6),
                      (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)])  # fmt: skip
    members = {"vertices": corners @ OWN[:3, :3].T + OWN[:3, 3], "faces": faces, "own_frame": OWN,
               "code": np.ones((2, 1, 1, 1)), "pose": POSE}  # fmt: skip
    import io

    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(value, np.int32 if name == "faces" else np.float64 if name in
                        ("own_frame", "pose") else np.float32) for name, value in members.items()})  # fmt: skip
    return addon.mesh_arrays.decode_mesh(buffer.getvalue())


def world_of(obj: Any) -> np.ndarray:
    matrix = np.array(obj.matrix_basis, np.float64)
    places = np.array([vertex.co for vertex in obj.data.vertices], np.float64)
    return places @ matrix[:3, :3].T + matrix[:3, 3]


def source(matrix: Matrix) -> Any:
    mesh = bpy.data.meshes.new("Chair")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)], [], [(0, 1, 2), (0, 1, 3)])
    obj = add_object(mesh, "Chair")
    obj.matrix_basis = matrix
    bpy.context.view_layer.update()
    return obj


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_in_place_of_a_scan(addon: Any, scale: float) -> None:
    matrix = Matrix.LocRotScale((5, 1, 0), Matrix.Rotation(0.3, 3, "Z"), (scale, scale, scale))
    scan = addon.read.read_scan(source(matrix), bpy.context.evaluated_depsgraph_get())
    arrays = sent(addon)
    obj = addon.in_place.ResultWriter(scan).add_result(arrays, 0, 1)
    frame = np.array(scan.frame, np.float64)
    expected = arrays.vertices @ frame[:3, :3].T + frame[:3, 3]
    np.testing.assert_allclose(world_of(obj), expected, atol=1e-4)
    local = np.array([vertex.co for vertex in obj.data.vertices])
    np.testing.assert_allclose(local[:, 2].min(), 0.0, atol=1e-5)
    np.testing.assert_allclose(local[:, :2].max(0), -local[:, :2].min(0), atol=1e-5)
    assert obj.matrix_basis.to_euler().z == pytest.approx(Matrix((frame @ OWN).tolist()).to_euler().z, abs=1e-4)
    # The code's pose is still where it was.
    carried = np.array(obj.matrix_basis, np.float64) @ np.array(addon.pose.pose_of(obj), np.float64)
    np.testing.assert_allclose(carried, frame @ POSE, atol=1e-4)


def test_where_an_object_would_be_sheared_it_keeps_its_sources_axes(addon: Any) -> None:
    matrix = Matrix.LocRotScale((5, 1, 0), None, (1.0, 2.0, 1.0))
    scan = addon.read.read_scan(source(matrix), bpy.context.evaluated_depsgraph_get())
    arrays = sent(addon)
    obj = addon.in_place.ResultWriter(scan).add_result(arrays, 0, 1)
    frame = np.array(scan.frame, np.float64)
    np.testing.assert_allclose(world_of(obj), arrays.vertices @ frame[:3, :3].T + frame[:3, 3], atol=1e-4)


def test_beside_one_another(addon: Any) -> None:
    arrays = sent(addon)
    writer = addon.side_by_side.SetWriter("Set", "Shape", np.diag([2.0, 2.0, 2.0, 1.0]), addon.side_by_side.in_place)
    obj = writer.add_result(arrays, 0, 1)
    np.testing.assert_allclose(world_of(obj), 2 * arrays.vertices, atol=1e-4)
    assert tuple(obj.scale) == pytest.approx((1, 1, 1)) and tuple(obj.location) == pytest.approx(tuple(2 * OWN[:3, 3]))
    carried = np.array(obj.matrix_basis, np.float64) @ np.array(addon.pose.pose_of(obj), np.float64)
    np.testing.assert_allclose(carried, np.diag([2.0, 2.0, 2.0, 1.0]) @ POSE, atol=1e-4)
