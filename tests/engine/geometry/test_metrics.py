"""Distances against closed forms, their symmetries, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.geometry import metrics
from engine.geometry.meshes import Mesh
from engine.geometry.metrics import evaluate_cloud_pair


def grid(n: int = 20) -> np.ndarray:
    x, y = np.meshgrid(np.arange(n) / n, np.arange(n) / n)
    return np.stack([x.ravel(), y.ravel(), np.zeros(n * n)], axis=1)


def on_sphere(n: int, seed: int) -> np.ndarray:
    v = np.random.default_rng(seed).normal(size=(n, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def test_two_parallel_sheets_are_their_distance_apart() -> None:
    a, b = grid(), grid() + np.array([0, 0, 0.03])
    assert metrics.one_sided_distance(a, b) == pytest.approx(0.03)
    assert metrics.chamfer_l1(a, b) == pytest.approx(0.03)
    assert metrics.chamfer_l2(a, b) == pytest.approx(2 * 0.03**2)
    assert metrics.hausdorff(a, b) == pytest.approx(0.03)
    assert metrics.f_score(a, b, 0.031) == 1.0 and metrics.f_score(a, b, 0.029) == 0.0


def test_half_a_sheet_is_precise_but_not_complete() -> None:
    whole = grid(20)
    half = whole[whole[:, 0] < 0.5]
    assert metrics.precision(half, whole, 0.01) == 1.0
    assert metrics.recall(half, whole, 0.01) == 0.5
    assert metrics.f_score(half, whole, 0.01) == pytest.approx(2 / 3)
    assert metrics.one_sided_distance(half, whole) == 0.0
    # The other ten columns lie 1, 2, ... 10 steps of 0.05 from the half; averaged with the ten at no distance.
    assert metrics.one_sided_distance(whole, half) == pytest.approx(0.05 * 55 / 20)
    assert metrics.chamfer_l1(half, whole) == pytest.approx(0.05 * 55 / 40)
    assert metrics.chamfer_l2(half, whole) == pytest.approx(0.05**2 * 385 / 20)
    assert metrics.hausdorff(half, whole) == pytest.approx(0.5)


def test_concentric_spheres() -> None:
    a = on_sphere(20_000, 0)
    assert metrics.chamfer_l1(a, 1.2 * a) == pytest.approx(0.2, rel=0.01)
    assert metrics.hausdorff(a, 1.2 * a) == pytest.approx(0.2, rel=0.01)
    dense = evaluate_cloud_pair(a, a, on_sphere(20_000, 1), on_sphere(20_000, 1))
    assert dense["chamfer_l1"] < 0.02 and dense["normal_consistency"] > 0.999


def test_normal_consistency_ignores_sign_and_is_the_cosine_of_the_tilt() -> None:
    a = grid()
    up = np.tile([0.0, 0, 1], (len(a), 1))
    tilt = np.tile([0.0, np.sin(0.4), np.cos(0.4)], (len(a), 1))
    assert metrics.normal_consistency(a, up, a, tilt) == pytest.approx(np.cos(0.4))
    assert metrics.normal_consistency(a, up, a, -tilt) == pytest.approx(np.cos(0.4))
    signs = np.where(np.arange(len(a))[:, None] % 2, 1.0, -1.0)
    assert metrics.normal_consistency(a, signs * up, a, up) == pytest.approx(1.0)


def test_iou_of_boxes() -> None:
    points = np.random.default_rng(0).random((200_000, 3))
    left, right = points[:, 0] < 0.6, points[:, 0] > 0.4
    assert metrics.iou(left, right) == pytest.approx(0.2, abs=0.01)
    assert metrics.iou(left, left) == 1.0
    assert metrics.iou(left, ~left) == 0.0
    assert metrics.iou(np.zeros(5, bool), np.zeros(5, bool)) == 1.0
    with pytest.raises(ValueError):
        metrics.iou(left, right[:-1])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.05, 20.0))
def test_rigid_motion_changes_nothing_and_scale_scales(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(60, 3)), rng.normal(size=(80, 3))
    na, nb = on_sphere(60, seed), on_sphere(80, seed + 1)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    shift = rng.normal(size=3) * 10
    plain = evaluate_cloud_pair(a, na, b, nb, (0.5,))
    moved = evaluate_cloud_pair(
        a @ rotation.T + shift, na @ rotation.T, b @ rotation.T + shift, nb @ rotation.T, (0.5,)
    )
    assert moved == pytest.approx(plain, rel=1e-6)
    larger = evaluate_cloud_pair(scale * a, na, scale * b, nb, (scale * 0.5,))
    for key in ("accuracy", "completeness", "chamfer_l1", "hausdorff"):
        assert larger[key] == pytest.approx(scale * plain[key])
    assert larger["chamfer_l2"] == pytest.approx(scale**2 * plain["chamfer_l2"])
    assert larger["normal_consistency"] == pytest.approx(plain["normal_consistency"])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_one_pass_equals_the_single_functions_and_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(40, 3)), rng.normal(size=(30, 3))
    na, nb = on_sphere(40, seed), on_sphere(30, seed + 1)
    every = np.linalg.norm(a[:, None] - b[None], axis=2)
    to_b, to_a = every.min(axis=1), every.min(axis=0)
    found = evaluate_cloud_pair(a, na, b, nb, (0.3, 0.7))
    assert found["accuracy"] == pytest.approx(to_b.mean()) == pytest.approx(metrics.one_sided_distance(a, b))
    assert found["completeness"] == pytest.approx(to_a.mean())
    assert (
        found["chamfer_l1"] == pytest.approx((to_b.mean() + to_a.mean()) / 2) == pytest.approx(metrics.chamfer_l1(a, b))
    )
    assert found["chamfer_l2"] == pytest.approx((to_b**2).mean() + (to_a**2).mean())
    assert found["chamfer_l2"] == pytest.approx(metrics.chamfer_l2(a, b)) == pytest.approx(metrics.chamfer_l2(b, a))
    assert found["hausdorff"] == pytest.approx(max(to_a.max(), to_b.max())) == pytest.approx(metrics.hausdorff(b, a))
    for threshold in (0.3, 0.7):
        assert found[f"precision@{threshold}"] == (to_b <= threshold).mean() == metrics.precision(a, b, threshold)
        assert found[f"recall@{threshold}"] == (to_a <= threshold).mean() == metrics.recall(a, b, threshold)
        assert found[f"f_score@{threshold}"] == pytest.approx(metrics.f_score(a, b, threshold))
    by_hand = (
        np.abs((na * nb[every.argmin(axis=1)]).sum(1)).mean() + np.abs((nb * na[every.argmin(axis=0)]).sum(1)).mean()
    ) / 2
    assert (
        found["normal_consistency"] == pytest.approx(by_hand) == pytest.approx(metrics.normal_consistency(a, na, b, nb))
    )


def test_identical_clouds_are_perfect_and_empty_ones_an_error() -> None:
    a = grid()
    found = evaluate_cloud_pair(a, None, a, None)
    assert found["chamfer_l1"] == found["hausdorff"] == 0.0 and found["f_score@0.01"] == 1.0
    assert "normal_consistency" not in found
    for pair in ((a, a[:0]), (a[:0], a), (a[:, :2], a)):
        with pytest.raises(ValueError):
            evaluate_cloud_pair(pair[0], None, pair[1], None)


def triangles(kind: str) -> Mesh:
    rng = np.random.default_rng(3)
    if kind == "even":
        solid = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    elif kind == "needles":
        solid = trimesh.creation.cylinder(radius=0.1, height=2.0, sections=60)
    elif kind == "large and small":
        solid = trimesh.util.concatenate([trimesh.creation.box(), trimesh.creation.icosphere(radius=0.02)])
    else:  # soup, with triangles that are lines and points
        corners = rng.normal(0, 0.3, (60, 1, 3)) + rng.normal(0, 0.1, (60, 3, 3))
        corners[:5, 1] = corners[:5, 0]
        corners[5:8] = corners[5:8, :1]
        return Mesh(corners.reshape(-1, 3).astype(np.float32), np.arange(180, dtype=np.int32).reshape(-1, 3))
    return Mesh(np.asarray(solid.vertices, np.float32), np.asarray(solid.faces, np.int32))


@pytest.mark.parametrize("kind", ["even", "needles", "large and small", "soup"])
def test_distance_to_a_surface_is_exact(kind: str) -> None:
    igl = pytest.importorskip("igl")
    mesh, rng = triangles(kind), np.random.default_rng(1)
    beside = mesh.vertices[rng.integers(0, len(mesh.vertices), 200)] + rng.normal(0, 0.02, (200, 3))
    points = np.concatenate([mesh.vertices[:50], beside, rng.uniform(-2, 2, (200, 3))]).astype(np.float64)
    squared = igl.point_mesh_squared_distance(points, mesh.vertices.astype(np.float64), mesh.faces.astype(np.int64))[0]
    assert np.allclose(metrics.distances_to_surface(mesh, points), np.sqrt(squared), atol=1e-7)


def test_distance_to_a_surface_needs_both() -> None:
    mesh = triangles("even")
    with pytest.raises(ValueError):
        metrics.distances_to_surface(mesh, np.zeros((0, 3)))
    with pytest.raises(ValueError):
        metrics.distances_to_surface(Mesh(mesh.vertices, mesh.faces[:0]), np.zeros((4, 3)))


def test_diversity_and_fidelity_of_several_answers() -> None:
    here, there = grid(), grid() + np.array([0, 0, 0.03])
    once = metrics.chamfer_l2(here, there)
    assert metrics.total_mutual_difference([here]) == 0.0 == metrics.total_mutual_difference([here, here, here])
    assert metrics.total_mutual_difference([here, there]) == pytest.approx(2 * once)  # each is that far from the other
    assert metrics.total_mutual_difference([here, here, there]) == pytest.approx(once / 2 + once / 2 + once)
    assert metrics.unidirectional_hausdorff(here, [here, there]) == pytest.approx(0.015)
    part = here[:50]
    assert metrics.unidirectional_hausdorff(part, [here]) == 0.0  # what is beyond the observed is not held against it
    assert metrics.unidirectional_hausdorff(here, [part]) > 0.5
