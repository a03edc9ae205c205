"""Fit Shape, Train Prior and priors as files with the engine of this checkout, a process of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils.bvhtree import BVHTree
from stage import activate, add_points
from test_fit import cube
from test_training import collection

TINY = {
    "steps": 4, "batch": 2, "queries": 64, "precision": "float32",
    "arguments": {"code_channels": 4, "width": 4, "hidden": 16, "resolution": 8},
}  # fmt: skip


@pytest.fixture
def engine(real_engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real engine, with a user's folder of priors of its own."""
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(tmp_path / "priors ž"))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "2"))
    return real_engine


def ball(count: int = 3000, radius: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Points on a sphere, and its normals there."""
    normals = np.random.default_rng(0).normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return radius * normals, normals


def test_two_halves_of_a_ball_become_one_closed_surface_with_another_detail(engine):
    """Far from the origin, in two objects of which one is turned; then its detail changes, with nothing fitted anew."""
    points, normals = ball()
    right = points[:, 0] > 0
    one = add_points(points[right], "Right", normals[right])
    two = add_points(points[~right] * (1, -1, 1), "Left", normals[~right] * (1, -1, 1))
    two.scale = (1, -1, 1)
    for obj in (one, two):
        obj.location = (300, -200, 10)
    bpy.context.view_layer.update()
    one.select_set(True)
    bpy.ops.ed.undo_push(message="Before")
    assert bpy.ops.shapewright.fit_shape(resolution=48, device="cpu") == {"FINISHED"}
    job = engine.jobs[-1]
    result = job.results[0]
    assert job.report["input_points"]["normals"] and job.report["input_points"]["given"] == len(points)
    assert result.data.validate() is False and result["shapewright_field_id"] == job.report["field_id"]
    vertices = np.array([result.matrix_world @ v.co for v in result.data.vertices]) - (300, -200, 10)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 2, atol=0.05)
    edges = [tuple(sorted(key)) for polygon in result.data.polygons for key in polygon.edge_keys]
    assert len(edges) == 2 * len(set(edges)), "closed"
    coarse, name = len(result.data.polygons), result.name
    activate(result)
    assert bpy.ops.shapewright.refit_resolution(resolution=96, device="cpu") == {"FINISHED"}
    assert engine.jobs[-1].report["reused"] is True and engine.jobs[-1].report["field_id"] == job.report["field_id"]
    result = bpy.data.objects[name]
    assert len(result.data.polygons) > 3 * coarse and result["shapewright_resolution"] == 96
    surface = BVHTree.FromObject(result, bpy.context.evaluated_depsgraph_get())
    inside = result.matrix_world.inverted() @ bpy.data.objects["Right"].matrix_world
    distances = [surface.find_nearest(inside @ v.co)[3] for v in list(bpy.data.objects["Right"].data.vertices)[::20]]
    assert max(distances) < 0.03


def test_a_method_that_cannot_work_here_says_why(engine):
    """Signed distances of points that have no inside."""
    add_points(ball(200)[0])
    with pytest.raises(RuntimeError) as caught:
        bpy.ops.shapewright.fit_shape(method="sdf", resolution=32, device="cpu")
    assert len(str(caught.value)) > 60 and set(bpy.data.objects.keys()) == {"Scan"}


def test_a_prior_is_trained_exported_removed_and_imported_again(addon, engine, tmp_path):
    shapes = bpy.data.collections.new("Shapes")
    bpy.context.scene.collection.children.link(shapes)
    for name, sides in (("Flat boxes", (1.0, 0.8, 0.3)), ("Tall boxes", (0.3, 0.4, 1.0))):
        boxes = [cube(f"{name} {k}", (5 * k, 0, 0)) for k in range(3)]
        for k, box in enumerate(boxes):
            box.scale = sides[0] * (1 + k), sides[1], sides[2] * (1 + 0.5 * k)
        collection(name, *boxes, under=shapes)
    bpy.context.view_layer.update()
    assert bpy.ops.shapewright.train_prior(
        name="boxes", collection="Shapes", device="cpu", settings_json=json.dumps(TINY)
    ) == {"FINISHED"}
    job = engine.jobs[-1]
    assert set(job.report["classes"]) == {"Flat_boxes", "Tall_boxes"} and job.previews_shown >= 1
    assert not [obj for obj in bpy.data.objects if addon.reference.PREVIEW_PROPERTY in obj]
    listed = next(prior for prior in engine.engine.info["priors"] if prior["name"] == "boxes")
    assert listed["about"]["training"]["steps"] == 4 and listed["about"]["quality"]
    bpy.context.scene.shapewright.prior = "boxes"

    target = tmp_path / "given away.safetensors"
    assert bpy.ops.shapewright.export_prior(filepath=str(target)) == {"FINISHED"}
    assert bpy.ops.shapewright.remove_prior() == {"FINISHED"}
    assert "boxes" not in [prior["name"] for prior in engine.engine.info["priors"]]
    assert bpy.ops.shapewright.import_prior(filepath=str(target), name="boxes again") == {"FINISHED"}
    again = next(prior for prior in engine.engine.info["priors"] if prior["name"] == "boxes again")
    assert again["sha256"] == listed["sha256"] and again["about"] == listed["about"]

    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(target.read_bytes()[:-100])
    with pytest.raises(RuntimeError, match="truncated"):
        bpy.ops.shapewright.import_prior(filepath=str(damaged))
    with pytest.raises(RuntimeError, match="Another prior of that name"):
        bpy.ops.shapewright.train_prior(name="Boxes again", collection="Shapes", device="cpu")
