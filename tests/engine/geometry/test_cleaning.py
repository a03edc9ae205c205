"""What is no part of the object goes; what is, however sparse or flat, stays."""

from __future__ import annotations

import numpy as np
import pytest

from engine.geometry.cleaning import crumbs, doubtful_normals, orientation_agreement, stray_points
from tests.engine.geometry.makers import box_surface, table

Array = np.ndarray


@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("noise", [0.0, 0.005, 0.01])
def test_strays_go_and_the_surface_stays(share: float, noise: float) -> None:
    rng = np.random.default_rng(3)
    points, _ = table()
    points = points + noise * rng.standard_normal(points.shape).astype(np.float32)
    strays = rng.uniform([-0.7, -0.7, -0.3], [0.7, 0.7, 0.8], (int(share / (1 - share) * len(points)), 3))
    cloud = np.concatenate([points, strays]).astype(np.float32)
    order = rng.permutation(len(cloud))
    found = np.empty(len(cloud), bool)
    found[order] = stray_points(cloud[order])
    assert found[len(points) :].mean() > 0.8  # those next to the surface cannot be told
    assert found[: len(points)].mean() < 0.01


@pytest.mark.parametrize("legs", [0.02, 0.03, 0.04])
def test_sparse_thin_legs_are_no_strays(legs: float) -> None:
    points, is_leg = table(spacing=0.01, legs=legs)
    found = stray_points(points)
    assert is_leg.sum() > 40
    assert found[is_leg].mean() < 0.04 and found[~is_leg].mean() < 0.001


def test_strays_do_not_depend_on_unit_or_place() -> None:
    points, _ = table()
    strays = np.random.default_rng(0).uniform(-1, 1, (300, 3)).astype(np.float32)
    cloud = np.concatenate([points, strays])
    assert np.array_equal(stray_points(cloud), stray_points(1000 * cloud + np.float32([64, 0, -32])))


def test_small_and_degenerate_clouds_have_no_strays() -> None:
    rng = np.random.default_rng(0)
    for cloud in (np.zeros((0, 3)), rng.random((12, 3)), np.ones((500, 3)), np.repeat(rng.random((30, 3)), 20, 0)):
        assert not stray_points(cloud.astype(np.float32)).any()


def test_normals_agree_or_do_not() -> None:
    direction = np.random.default_rng(0).standard_normal((3000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points, normals = direction.astype(np.float32), direction.astype(np.float32)
    assert orientation_agreement(points, normals) > 0.99
    assert orientation_agreement(points, -normals) > 0.99
    signs = np.random.default_rng(1).choice([-1, 1], (len(points), 1)).astype(np.float32)
    assert orientation_agreement(points, normals * signs) == pytest.approx(0.5, abs=0.05)


def torus(count: int, noise: float = 0.0, tube: float = 0.12) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) points about evenly on a ring of radius 0.35, and their normals."""
    rng = np.random.default_rng(4)
    u, v = rng.uniform(0, 2 * np.pi, (2, 4 * count))
    keep = rng.random(4 * count) < (0.35 + tube * np.cos(v)) / (0.35 + tube)
    u, v = u[keep][:count], v[keep][:count]
    normals = np.stack([np.cos(u) * np.cos(v), np.sin(u) * np.cos(v), np.sin(v)], 1)
    middle = np.stack([np.cos(u), np.sin(u), np.zeros_like(u)], 1) * 0.35
    points = middle + tube * normals + noise * rng.standard_normal((len(u), 3))
    return points.astype(np.float32), normals.astype(np.float32)


@pytest.mark.parametrize(
    "count, noise, tube", [(6000, 0, 0.12), (3000, 0.005, 0.12), (1000, 0.01, 0.12), (4000, 0, 0.01)]
)
def test_normals_of_the_surface_are_believed_whatever_their_sign(count: int, noise: float, tube: float) -> None:
    points, normals = torus(count, noise, tube)
    signs = np.random.default_rng(1).choice([-1, 1], (len(points), 1)).astype(np.float32)
    assert doubtful_normals(points, normals) == "" and doubtful_normals(points, normals * signs) == ""
    assert doubtful_normals(points[:30], normals[:30]) == ""  # too few to tell


def test_the_same_normal_is_believed_of_a_plane_and_of_nothing_else() -> None:
    wall = np.random.default_rng(0).random((3000, 3)).astype(np.float32) * np.float32([1, 0, 1])
    assert doubtful_normals(wall, np.tile(np.float32([0, 1, 0]), (3000, 1))) == ""
    rng = np.random.default_rng(0)
    box = box_surface(np.array([-0.4, -0.2, 0.0]), np.array([0.4, 0.2, 0.5]), 0.02, rng).astype(np.float32)
    for points in (torus(6000)[0], box):
        for direction in ([0, 0, 1], [1, 0, 0], [0.6, 0, -0.8]):
            assert "the same" in doubtful_normals(points, np.tile(np.float32(direction), (len(points), 1)))


def test_normals_of_another_frame_or_of_nothing_are_not_believed() -> None:
    points, normals = torus(6000)
    other = np.random.default_rng(0).standard_normal((6000, 3)).astype(np.float32)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    for wrong in (normals[:, [1, 2, 0]], normals[::-1], other):
        assert "nothing to do" in doubtful_normals(points, wrong)


def test_a_few_points_apart_are_crumbs_and_parts_of_the_thing_are_none() -> None:
    rng = np.random.default_rng(0)
    seat = rng.uniform([-0.5, -0.5, 0.4], [0.5, 0.5, 0.45], (4000, 3))
    leg = rng.uniform([0.4, 0.4, 0.0], [0.45, 0.45, 0.4], (300, 3))
    lamp = rng.uniform([-0.1, -0.1, 0.8], [0.1, 0.1, 0.9], (60, 3))  # apart, and more than a few
    scraps = np.array([1.0, 1.0, 0.0]) + rng.normal(0, 0.01, (9, 3))
    points = np.concatenate([seat, leg, lamp, scraps]).astype(np.float32)
    found = crumbs(points)
    assert found[-9:].all() and not found[:-9].any()
    moved = (1000 * points @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + 5e3).astype(np.float32)
    assert np.array_equal(crumbs(moved), found)
    assert not crumbs(np.zeros((20, 3), np.float32)).any()
