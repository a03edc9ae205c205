"""Simulated scans and the surface they are judged against."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import InputError
from engine.geometry.meshes import Mesh
from engine.training.scans import camera_rays, random_viewpoint, scan, true_surface

pytest.importorskip("warp")
trimesh = pytest.importorskip("trimesh")


def as_mesh(*parts: trimesh.Trimesh) -> Mesh:
    whole = trimesh.util.concatenate(parts)
    return Mesh(np.asarray(whole.vertices, np.float32), np.asarray(whole.faces, np.int32))


def cube(side: float = 1.0, at: tuple[float, float, float] = (0, 0, 0)) -> trimesh.Trimesh:
    return trimesh.creation.box((side,) * 3, transform=trimesh.transformations.translation_matrix(at))


def test_a_cube_shows_the_three_sides_that_face_the_camera() -> None:
    far = (1000.0, -2000.0, 50.0)  # a scene far from its origin
    mesh = as_mesh(cube(4.0, at=far))
    eye = np.array([1006.0, -2008.0, 57.0])
    cloud = scan(mesh, eye, np.random.default_rng(0))
    assert cloud.normals is not None and cloud.viewpoint is not None
    local = cloud.points - np.array(far)
    np.testing.assert_allclose(np.abs(local).max(1), 2.0, atol=2e-3)
    assert (local.max(0) > 1.9).all() and (local.min(0) < -1.9).all()
    sides = {tuple(np.rint(normal).astype(int)) for normal in cloud.normals}
    assert sides == {(1, 0, 0), (0, -1, 0), (0, 0, 1)}
    np.testing.assert_allclose((local * cloud.normals).sum(1), 2.0, atol=2e-3)
    np.testing.assert_allclose(cloud.viewpoint, eye, rtol=1e-6)
    assert 5_000 < len(cloud.points) < 26_000


def test_only_the_first_surface_is_seen_whichever_way_it_faces() -> None:
    inside_out = cube(0.5)
    inside_out.invert()
    mesh = as_mesh(inside_out, cube(0.2, at=(0.0, 1.0, 0.0)))  # the small cube hides behind the large one
    cloud = scan(mesh, np.array([0.0, -3.0, 0.0]), np.random.default_rng(0))
    assert cloud.normals is not None
    np.testing.assert_allclose(cloud.points[:, 1], -0.25, atol=1e-5)
    np.testing.assert_allclose(cloud.normals, np.tile([0.0, -1.0, 0.0], (len(cloud.normals), 1)), atol=1e-6)


def test_noise_and_outliers_are_along_the_rays_and_as_large_as_asked() -> None:
    mesh = as_mesh(cube(10.0))
    eye = np.array([0.0, -30.0, 0.0])
    clean = scan(mesh, eye, np.random.default_rng(1))
    noisy = scan(mesh, eye, np.random.default_rng(1), noise=0.005, outliers=0.1)
    ray = (clean.points - eye) / np.linalg.norm(clean.points - eye, axis=1, keepdims=True)
    offset = noisy.points - clean.points
    along = (offset * ray).sum(1)
    np.testing.assert_allclose(offset, along[:, None] * ray, atol=1e-4)
    stray = np.abs(along) > 5 * 0.05
    assert 0.07 < stray.mean() < 0.13
    assert along[~stray].std() == pytest.approx(0.05, rel=0.1)


def test_same_seed_same_scan() -> None:
    mesh = as_mesh(cube())
    first, second = (scan(mesh, np.array([2.0, 1.0, 1.0]), np.random.default_rng(7), noise=0.01) for _ in range(2))
    np.testing.assert_array_equal(first.points, second.points)
    assert not np.array_equal(random_viewpoint(np.random.default_rng(1)), random_viewpoint(np.random.default_rng(2)))


def test_viewpoints_lie_where_promised() -> None:
    rng = np.random.default_rng(0)
    points = np.array([random_viewpoint(rng) for _ in range(2000)])
    distance = np.linalg.norm(points, axis=1)
    elevation = np.rad2deg(np.arcsin(points[:, 2] / distance))
    assert distance.min() >= 1.5 - 1e-6 and distance.max() <= 2.5 + 1e-6
    assert elevation.min() >= 10 - 1e-4 and elevation.max() <= 45 + 1e-4
    front = (points[:, 1] < 0).mean()
    assert 0.6 < front < 0.95


def test_image_frames_the_shape_even_from_straight_above() -> None:
    corners = np.asarray(cube().vertices, np.float32)
    for eye in ([0, 0, 3.0], [0, 0, -3.0], [2.0, -2.0, 1.0]):
        rays, (rows, columns) = camera_rays(corners, np.array(eye, np.float32), 50)
        assert max(rows, columns) == 50 and rays.shape == (rows * columns, 3)
        np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1, atol=1e-5)
    top, bottom = rays[columns // 2], rays[-columns // 2]
    assert top[2] > bottom[2]


def test_scans_refused_with_a_reason() -> None:
    with pytest.raises(InputError) as caught:
        scan(as_mesh(cube()), np.array([0.1, 0.1, 0.1]), np.random.default_rng(0))
    assert caught.value.code == "viewpoint_inside"
    line = Mesh(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2]], np.float32), np.array([[0, 1, 2]], np.int32))
    with pytest.raises(InputError) as caught:
        scan(line, np.array([3.0, 0, 0]), np.random.default_rng(0))
    assert caught.value.code == "scan_empty"


def test_truth_is_the_outer_surface_only_and_faces_outward() -> None:
    shell = cube(2.0, at=(5, 5, 5))
    shell.invert()
    mesh = as_mesh(shell, cube(1.0, at=(5, 5, 5)), cube(1.0, at=(6, 5, 5)))  # one hidden, one half sunk in
    points, normals = true_surface(mesh, 20_000, np.random.default_rng(0))
    assert points.shape == normals.shape == (20_000, 3)
    local = points - 5
    outside_shell = np.abs(local).max(1) > 1 - 1e-4
    assert outside_shell.all()
    # By area: the shell's six sides less the 1 x 1 hole where the small cube stands, five half sides of the small cube.
    small = local[:, 0] > 1 + 1e-4
    assert small.mean() == pytest.approx(3.0 / (23.0 + 3.0), rel=0.06)
    on_shell = ~small & (np.abs(local[:, 1:]).max(1) > 0.52)
    assert ((local * normals).sum(1)[on_shell] > 0.99).all()
    again, _ = true_surface(mesh, 20_000, np.random.default_rng(0))
    np.testing.assert_array_equal(points, again)


def test_an_open_sheet_is_its_own_truth() -> None:
    sheet = Mesh(
        np.array([[0, 0, 0], [30, 0, 0], [30, 20, 0], [0, 20, 0]], np.float32),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
    )
    points, _ = true_surface(sheet, 5000, np.random.default_rng(0))
    np.testing.assert_allclose(points[:, 2], 0, atol=1e-4)
    assert points[:, 0].mean() == pytest.approx(15, abs=0.5) and points[:, 1].mean() == pytest.approx(10, abs=0.4)
