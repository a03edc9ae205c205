"""What Blender's own importers and exporters make of our files at their defaults, and we of theirs."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import bpy
import numpy as np
import pytest

from engine.geometry.files import load, write_mesh
from engine.geometry.meshes import Mesh, surface_area

IMPORT = {
    ".ply": bpy.ops.wm.ply_import,
    ".obj": bpy.ops.wm.obj_import,
    ".stl": bpy.ops.wm.stl_import,
    ".glb": bpy.ops.import_scene.gltf,
}
EXPORT = {
    ".ply": bpy.ops.wm.ply_export,
    ".obj": bpy.ops.wm.obj_export,
    ".stl": bpy.ops.wm.stl_export,
}
needs_trimesh = pytest.mark.skipif(importlib.util.find_spec("trimesh") is None, reason="STL and materials need trimesh")


def wedge() -> Mesh:
    """A tetrahedron without any symmetry, tall in z, its front (-y) deeper than its back."""
    vertices = np.float32([[0, 0, 0], [0.4, -1.0, 0.1], [-0.3, 0.5, 0.2], [0.1, 0.2, 3.0]]) + np.float32([1, 2, 3])
    return Mesh(vertices, np.int32([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))


def imported(path: Path) -> np.ndarray:
    """World positions of what Blender imports at its defaults, sorted."""
    before = set(bpy.data.objects)
    IMPORT[path.suffix](filepath=str(path))
    found = [obj for obj in bpy.data.objects if obj not in before and obj.type == "MESH"]
    bpy.context.view_layer.update()
    points = [obj.matrix_world @ vertex.co for obj in found for vertex in obj.data.vertices]
    for obj in found:
        bpy.data.objects.remove(obj)
    return rows(np.array(points))


def rows(points: np.ndarray) -> np.ndarray:
    return np.unique(np.round(np.asarray(points, np.float64), 4), axis=0)


@pytest.mark.parametrize("suffix", IMPORT)
def test_what_we_write_stands_upright_in_blender(tmp_path: Path, suffix: str) -> None:
    write_mesh(tmp_path / f"a{suffix}", wedge())
    assert np.allclose(imported(tmp_path / f"a{suffix}"), rows(wedge().vertices), atol=1e-3)


@needs_trimesh
@pytest.mark.parametrize("first, second", list(itertools.product(IMPORT, IMPORT)))
def test_input_and_result_overlay_in_blender(tmp_path: Path, first: str, second: str) -> None:
    """A file as another program has it, read and written again as a job would: both imported lie on one another."""
    write_mesh(tmp_path / f"a{first}", wedge())
    shape = load(tmp_path / f"a{first}").shape
    assert isinstance(shape, Mesh)
    write_mesh(tmp_path / f"b{second}", shape)
    assert np.allclose(imported(tmp_path / f"a{first}"), imported(tmp_path / f"b{second}"), atol=1e-3)


@needs_trimesh
@pytest.mark.parametrize("suffix", EXPORT)
def test_what_blender_exports_is_read_as_it_stands_there(tmp_path: Path, suffix: str) -> None:
    """With a concave polygon in it, which Blender writes whole where the format can."""
    outline = np.float32([[0, 0], [1, 0], [1, 1], [0.8, 1], [0.8, 0.2], [0.2, 0.2], [0.2, 1], [0, 1]])
    points = np.c_[outline[:, 0], np.zeros(8), outline[:, 1]].astype(np.float32) + np.float32([3, -1, 2])  # upright
    mesh = bpy.data.meshes.new("u")
    mesh.from_pydata(points.tolist(), [], [list(range(8))])
    obj = bpy.data.objects.new("u", mesh)
    bpy.context.scene.collection.objects.link(obj)
    bpy.context.view_layer.update()
    for other in bpy.context.view_layer.objects:
        other.select_set(other == obj)
    bpy.context.view_layer.objects.active = obj
    only = {"export_selected_objects": True}
    EXPORT[suffix](filepath=str(tmp_path / f"a{suffix}"), **only)
    bpy.data.objects.remove(obj)
    shape = load(tmp_path / f"a{suffix}").shape
    assert isinstance(shape, Mesh) and np.allclose(rows(shape.vertices), rows(points), atol=1e-3)
    assert surface_area(shape) == pytest.approx(0.52, rel=1e-4)
