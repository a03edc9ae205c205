"""Sampling surfaces, thinning clouds, normals of bare points, and which way is up."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from engine.errors import InputError
from engine.frames import UP_AXES, up_rotation
from engine.geometry.clouds import PointCloud
from engine.geometry.meshes import Mesh
from engine.geometry.sampling import estimate_normals, remove_duplicates, sample_surface, subsample


def box(*sides: float) -> Mesh:
    shape = trimesh.creation.box(sides)
    return Mesh(np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32))


def on_sphere(n: int, seed: int = 0) -> np.ndarray:
    v = np.random.default_rng(seed).normal(size=(n, 3))
    return (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32)


def test_surface_samples_lie_on_their_faces_in_proportion_to_area() -> None:
    points, normals = sample_surface(box(1, 2, 4), 20_000, np.random.default_rng(0))
    assert points.shape == normals.shape == (20_000, 3) and points.dtype == normals.dtype == np.float32
    half = np.float32([0.5, 1, 2])
    assert (np.abs(points) <= half + 1e-6).all()
    axis = np.argmax(np.abs(normals), axis=1)
    rows = np.arange(len(points))
    assert np.allclose(
        points[rows, axis], np.sign(normals[rows, axis]) * half[axis], atol=1e-6
    )  # outwards, on its side
    share = np.bincount(axis, minlength=3) / len(points)
    assert np.allclose(share, np.array([8, 4, 2]) / 14, atol=0.02)
    for side in range(3):  # uniform within: means and variances of a uniform distribution
        others = [i for i in range(3) if i != side]
        on_it = points[axis == side][:, others] / half[others]
        assert np.abs(on_it.mean(axis=0)).max() < 0.06
        assert np.allclose(on_it.var(axis=0), 1 / 3, atol=0.03)


def test_surface_samples_are_seeded_and_skip_faces_without_area() -> None:
    mesh = box(1, 1, 1)
    a, b = (sample_surface(mesh, 100, np.random.default_rng(7))[0] for _ in range(2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, sample_surface(mesh, 100, np.random.default_rng(8))[0])
    flat = np.int32([[0, 0, 1]])
    degenerate = Mesh(mesh.vertices, np.concatenate([flat, mesh.faces, flat]))
    assert np.isfinite(sample_surface(degenerate, 1000, np.random.default_rng(0))[0]).all()
    for faces in (flat, np.zeros((0, 3), np.int32)):
        with pytest.raises(InputError) as caught:
            sample_surface(Mesh(mesh.vertices, faces), 10, np.random.default_rng(0))
        assert caught.value.code == "mesh_without_area"


@pytest.mark.parametrize(("count", "n"), [(100, 50), (1000, 999), (30_000, 2048), (700_000, 4096)])
def test_thinning_gives_exactly_so_many_of_the_points_with_their_normals(count: int, n: int) -> None:
    points = on_sphere(count)
    cloud = PointCloud(points * 3, points, np.float32([1, 2, 3]))
    thin = subsample(cloud, n, np.random.default_rng(0))
    assert len(thin.points) == n and thin.normals is not None and thin.viewpoint is cloud.viewpoint
    assert np.allclose(thin.points, thin.normals * 3)
    assert len(np.unique(thin.points, axis=0)) == n
    assert (cKDTree(cloud.points).query(thin.points)[0] == 0).all()
    again = subsample(cloud, n, np.random.default_rng(0))
    assert np.array_equal(again.points, thin.points)


def test_thinning_evens_out_density() -> None:
    """Nine tenths of the points on the upper half: afterwards both halves have alike, and no gaps open."""
    points = on_sphere(200_000)
    keep = (points[:, 2] > 0) | (np.random.default_rng(1).random(len(points)) < 0.1)
    points = points[keep]
    thin = subsample(PointCloud(points), 2000, np.random.default_rng(0)).points
    assert (points[:, 2] > 0).mean() > 0.85
    assert 0.45 < (thin[:, 2] > 0).mean() < 0.55
    random = points[np.random.default_rng(0).choice(len(points), 2000, replace=False)]
    gap, random_gap = (cKDTree(cloud).query(points)[0].max() for cloud in (thin, random))
    assert gap < 0.6 * random_gap


def test_thinning_copes_with_small_equal_and_clustered_clouds() -> None:
    small = PointCloud(on_sphere(50))
    assert subsample(small, 50, np.random.default_rng(0)) is small
    same = PointCloud(np.ones((500, 3), np.float32))
    assert len(subsample(same, 20, np.random.default_rng(0)).points) == 20
    outlier = np.concatenate([on_sphere(400_000) * np.float32(1e-3), np.float32([[1000, 0, 0]])])
    assert len(subsample(PointCloud(outlier), 3000, np.random.default_rng(0)).points) == 3000


def test_duplicates_go_and_the_first_of_each_stays_in_order() -> None:
    points = np.float32([[1, 0, 0], [0, 0, 0], [1, 0, 0], [-0.0, 0, 0], [2, 0, 0]])
    normals = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]]
    unique = remove_duplicates(PointCloud(points, normals))
    assert np.array_equal(unique.points, points[[0, 1, 4]])
    assert unique.normals is not None and np.array_equal(unique.normals, normals[[0, 1, 4]])
    assert remove_duplicates(unique) is unique


def test_normals_of_a_sphere_look_to_the_viewpoint() -> None:
    points = on_sphere(4000)
    viewpoint = np.float32([0, 0, 8])
    normals = estimate_normals(points, 12, viewpoint, chunk=1500)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert np.abs((normals * points).sum(axis=1)).min() > 0.97
    assert ((viewpoint - points) * normals).sum(axis=1).min() >= 0
    facing = points[:, 2] > 0.2
    assert ((normals * points).sum(axis=1)[facing] > 0).all()
    inside = estimate_normals(points, 12, np.zeros(3, np.float32))
    assert ((inside * points).sum(axis=1) < 0).all()
    unsigned = estimate_normals(points, 12)
    assert np.allclose(np.abs((unsigned * normals).sum(axis=1)), 1, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_normals_turn_with_the_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    points = on_sphere(300, seed) * np.float32([1, 0.7, 0.4])
    viewpoint = rng.normal(size=3) * 5
    plain = estimate_normals(points, 10, viewpoint)
    turned = estimate_normals((points @ rotation.T + 1).astype(np.float32), 10, viewpoint @ rotation.T + 1)
    agreement = (turned * (plain @ rotation.T)).sum(axis=1)
    assert np.median(agreement) > 0.999
    assert (np.abs(agreement) > 0.99).mean() > 0.95


@pytest.mark.parametrize("up", UP_AXES)
def test_up_becomes_z_and_hands_are_kept(up: str) -> None:
    rotation = up_rotation(up)
    axis = np.zeros(3)
    axis["xyz".index(up[1])] = 1 if up[0] == "+" else -1
    assert np.array_equal(rotation @ axis, [0, 0, 1])
    assert np.array_equal(rotation @ rotation.T, np.eye(3)) and np.linalg.det(rotation) == pytest.approx(1)
    assert np.array_equal(up_rotation(up.upper()), rotation)


def test_up_without_a_sign_is_positive_and_nonsense_is_refused() -> None:
    assert np.array_equal(up_rotation("y"), up_rotation("+y"))
    for nonsense in ("", "w", "+zz", "up", "z+", None, 3):
        with pytest.raises(InputError) as caught:
            up_rotation(nonsense)  # type: ignore[arg-type]
        assert caught.value.code == "up_axis_invalid" and "+z" in caught.value.why
