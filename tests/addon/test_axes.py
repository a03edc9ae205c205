"""What Blender's own importers and exporters make of our files at their defaults, and we of theirs."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils.bvhtree import BVHTree
from stage import ROOT, engine_python

from engine.frames import up_rotation
from engine.geometry.clouds import PointCloud
from engine.geometry.files import load, write_cloud, write_mesh
from engine.geometry.files.axes import turned
from engine.geometry.meshes import Mesh, surface_area

IMPORT = {
    ".ply": bpy.ops.wm.ply_import,
    ".obj": bpy.ops.wm.obj_import,
    ".stl": bpy.ops.wm.stl_import,
    ".glb": bpy.ops.import_scene.gltf,
}
CLOUDS = (".ply", ".obj")
EXPORT = {
    ".ply": (bpy.ops.wm.ply_export, "export_selected_objects"),
    ".obj": (bpy.ops.wm.obj_export, "export_selected_objects"),
    ".stl": (bpy.ops.wm.stl_export, "export_selected_objects"),
    ".glb": (bpy.ops.export_scene.gltf, "use_selection"),
    ".usda": (bpy.ops.wm.usd_export, "selected_objects_only"),
}
"""The exporter, and what it calls that only the selected objects are meant."""
SEES = 0.05
"""Of the scan's size: a completion's surface is nearer than that to nearly all points, standing anyhow it is not."""
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


def imported_mesh(path: Path) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """World positions and polygons of the one mesh that Blender imports at its defaults."""
    before = set(bpy.data.objects)
    IMPORT[path.suffix](filepath=str(path))
    (obj,) = (obj for obj in bpy.data.objects if obj not in before and obj.type == "MESH")
    bpy.context.view_layer.update()
    points = np.array([obj.matrix_world @ vertex.co for vertex in obj.data.vertices])
    faces = [tuple(polygon.vertices) for polygon in obj.data.polygons]
    bpy.data.objects.remove(obj)
    return points, faces


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


@pytest.mark.parametrize("first, second", list(itertools.product(CLOUDS, CLOUDS)))
def test_clouds_overlay_in_blender(tmp_path: Path, first: str, second: str) -> None:
    given = PointCloud(np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) * np.float32([1, 2, 5]))
    write_cloud(tmp_path / f"a{first}", given)
    shape = load(tmp_path / f"a{first}").shape
    assert isinstance(shape, PointCloud)
    write_cloud(tmp_path / f"b{second}", shape)
    assert np.allclose(imported(tmp_path / f"a{first}"), rows(given.points), atol=1e-3)
    assert np.allclose(imported(tmp_path / f"b{second}"), rows(given.points), atol=1e-3)


@pytest.mark.parametrize("first, second", [(".ply", ".obj"), (".obj", ".obj"), (".obj", ".ply")])
def test_a_completed_scan_lies_on_its_scan_and_stands_in_blender(tmp_path: Path, first: str, second: str) -> None:
    """The command itself, from file to file: both imported at the defaults, the surface passes through the points."""
    scan = load(ROOT / "examples" / "chair_scan.ply").shape
    assert isinstance(scan, PointCloud)
    write_cloud(tmp_path / f"scan{first}", PointCloud(scan.points[::4]))
    command = [engine_python(), "-m", "engine", "complete", f"scan{first}", "-o", f"whole{second}"]
    said = subprocess.run(
        [*command, "--resolution", "64", "--device", "cpu"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    points, (vertices, faces) = imported(tmp_path / f"scan{first}"), imported_mesh(tmp_path / f"whole{second}")
    assert np.allclose(points, rows(scan.points[::4]), atol=1e-3), "z up in the file or not, it stands in Blender"
    surface, size = BVHTree.FromPolygons(vertices.tolist(), faces), float(np.ptp(points, axis=0).max())
    off = np.array([surface.find_nearest(point)[3] for point in points.tolist()]) / size
    assert np.quantile(off, 0.95) < SEES
    for up in ("+y", "-y", "-z", "+x"):
        lies = BVHTree.FromPolygons(turned(vertices, up_rotation(up)).tolist(), faces)
        off = np.array([lies.find_nearest(point)[3] for point in points.tolist()]) / size
        assert np.quantile(off, 0.95) > SEES, "or the test says nothing"


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
    export, only = EXPORT[suffix]
    export(filepath=str(tmp_path / f"a{suffix}"), **{only: True})
    bpy.data.objects.remove(obj)
    shape = load(tmp_path / f"a{suffix}").shape
    assert isinstance(shape, Mesh) and np.allclose(rows(shape.vertices), rows(points), atol=1e-3)
    assert surface_area(shape) == pytest.approx(0.52, rel=1e-4)
