"""Augmentation against the truth, and batches that depend on their seed alone."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import torch
import trimesh

from engine.geometry.meshes import Mesh
from engine.geometry.metrics import distances_to_surface
from engine.training.batches import FULL, POINTS, Warp, make_batch, make_example
from engine.training.supervision import UNITS, VIEWS

MIRROR = np.array([-1.0, 1.0, 1.0])


def sphere_surface(count: int = 6000) -> np.ndarray:
    direction = np.random.default_rng(0).normal(size=(count, 3))
    return (0.5 * direction / np.linalg.norm(direction, axis=1, keepdims=True)).astype(np.float32)


def ellipsoid_distance(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Signed distance to a fine mesh of it: an independent truth, to about 0.0001."""
    solid = trimesh.creation.icosphere(subdivisions=5, radius=1.0)
    mesh = Mesh((np.asarray(solid.vertices) * axes).astype(np.float32), np.asarray(solid.faces, np.int32))
    distance = distances_to_surface(mesh, points)
    return np.where(((points / axes) ** 2).sum(1) < 1, -distance, distance)


def plain_warp(seed: int, surface: np.ndarray) -> Warp:
    """Stretching, mirroring and renormalising, without the smooth re-timing."""
    warp = Warp(np.random.default_rng(seed), surface, pose_noise=True)
    if np.abs(warp.amplitude).max() > 0:
        return plain_warp(seed + 100, surface)
    return warp


@pytest.mark.parametrize("seed", range(6))
def test_distances_to_a_stretched_sphere(seed: int) -> None:
    surface = sphere_surface()
    warp = plain_warp(seed, surface)
    rng = np.random.default_rng(seed)
    gradient = rng.normal(size=(800, 3))
    gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
    distance = rng.uniform(-0.03, 0.03, 800)
    queries = (0.5 + distance)[:, None] * gradient
    moved = warp.points(queries).astype(np.float64)
    value, direction = warp.distances(queries, distance, gradient)
    # Undo shift and turn: an ellipsoid with these half axes remains.
    axes = 0.5 * warp.scale * warp.unit
    centre = warp.points(np.zeros((1, 3)))[0].astype(np.float64)
    truth = ellipsoid_distance((moved - centre) @ warp.turn, axes)
    assert np.abs(value - truth).max() < 0.1 * 0.03 + 0.001  # to first order
    near = np.abs(distance) < 0.005
    assert np.abs(value - truth)[near].max() < 0.001
    # The gradient points along the ellipsoid's normal.
    local = (moved - centre) @ warp.turn
    normal = (local / axes**2) @ warp.turn.T
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    assert (direction * normal).sum(1)[near].min() > 0.999
    assert np.allclose(np.linalg.norm(direction, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_distances_to_a_plane_are_exact_where_the_map_is_affine(seed: int) -> None:
    warp = plain_warp(seed, sphere_surface())
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    queries = rng.uniform(-0.5, 0.5, (300, 3))
    distance = queries @ normal - 0.07
    value, direction = warp.distances(queries, distance, np.broadcast_to(normal, queries.shape))
    foot = warp.points(queries - distance[:, None] * normal).astype(np.float64)
    truth = ((warp.points(queries) - foot) * direction).sum(1)
    assert np.allclose(value, truth, atol=1e-5)
    # The moved plane is a plane, and `direction` its normal: no in-plane step changes the distance.
    assert np.abs((foot - foot[0]) @ direction[0].astype(np.float64)).max() < 1e-5


@pytest.mark.parametrize("seed", range(8))
def test_the_first_order_distance_follows_the_smooth_deformation(seed: int) -> None:
    """Against the gradient of the deformed plane's equation by finite differences."""
    warp = Warp(np.random.default_rng(seed), sphere_surface())
    rng = np.random.default_rng(seed)
    queries = rng.uniform(-0.45, 0.45, (200, 3))
    normal = np.array([0.6, 0.0, 0.8])
    distance = np.full(200, 0.01)
    value, direction = warp.distances(queries, distance, np.broadcast_to(normal, queries.shape))
    step = 1e-5
    jacobian = np.stack(
        [
            (warp_exactly(warp, queries + step * e) - warp_exactly(warp, queries - step * e)) / (2 * step)
            for e in np.eye(3)
        ],
        -1,
    )  # (N, out, in)
    covector = np.linalg.solve(np.swapaxes(jacobian, 1, 2), np.broadcast_to(normal, queries.shape)[..., None])[..., 0]
    length = np.linalg.norm(covector, axis=1)
    assert np.allclose(value, 0.01 / length, rtol=1e-3)
    assert np.allclose(direction, covector / length[:, None], atol=1e-3)


def warp_exactly(warp: Warp, points: np.ndarray) -> np.ndarray:
    """`Warp.points` in float64."""
    return (warp._deform(points) - warp.offset) * warp.unit @ warp.turn.T + warp.shift


@pytest.mark.parametrize("seed", range(12))
def test_mirror_images_stay_mirror_images(seed: int) -> None:
    surface = sphere_surface()
    surface = np.concatenate([surface, surface * MIRROR]).astype(np.float32)
    warp = Warp(np.random.default_rng(seed), surface, pose_noise=False)
    points = np.random.default_rng(seed).uniform(-0.5, 0.5, (300, 3))
    assert np.allclose(warp.points(points * MIRROR), warp.points(points) * MIRROR, atol=1e-6)
    gradient = np.broadcast_to([0.6, 0.0, 0.8], points.shape)
    here, there = (warp.distances(points * m, np.full(300, 0.02), gradient * m) for m in (1.0, MIRROR))
    assert np.allclose(here[0], there[0], atol=1e-6) and np.allclose(here[1], there[1] * MIRROR, atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_a_deformed_shape_is_canonical_again_but_for_the_pose_noise(seed: int) -> None:
    surface = sphere_surface()
    exact = Warp(np.random.default_rng(seed), surface, pose_noise=False).points(surface)
    assert np.allclose(exact.max(0) + exact.min(0), 0, atol=1e-5)
    assert float((exact.max(0) - exact.min(0)).max()) == pytest.approx(1, abs=1e-5)
    noisy = Warp(np.random.default_rng(seed), surface).points(surface)
    assert np.abs(noisy).max() < 0.6
    # Verticals stay vertical.
    warp = Warp(np.random.default_rng(seed), surface)
    pole = warp.points(np.array([[0.1, 0.2, z] for z in np.linspace(-0.5, 0.5, 5)]))
    assert np.abs(pole[:, :2] - pole[0, :2]).max() < 1e-5 and (np.diff(pole[:, 2]) > 0).all()


def test_warps_differ_and_include_no_change_of_shape_and_both_sides() -> None:
    warps = [Warp(np.random.default_rng(seed), sphere_surface(500)) for seed in range(60)]
    assert 10 < sum(warp.flip[0] < 0 for warp in warps) < 50
    assert 10 < sum(np.abs(warp.amplitude).max() == 0 for warp in warps) < 50
    assert 10 < sum(np.abs(warp.shift).max() == 0 for warp in warps) < 50
    assert len({float(warp.scale[0]) for warp in warps}) > 50


# ------------------------------------------------------------------------------------------------ examples and batches


def test_same_seed_same_batch_and_another_seed_another(records: np.ndarray) -> None:
    indices, weights = np.arange(len(records)), np.ones(len(records))

    def batch(*seed: int) -> tuple[torch.Tensor, ...]:
        return astuple(make_batch(records, indices, weights, 3, 100, list(seed)))

    first, again = batch(0, 5, 0), batch(0, 5, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in ((0, 6, 0), (0, 5, 1), (1, 5, 0)):  # step, process, run
        assert not torch.equal(first[0], batch(*other)[0])


def test_shapes_types_and_padding(records: np.ndarray) -> None:
    batch = make_batch(records, np.arange(len(records)), np.ones(len(records)), 48, 100, [0, 0, 0])
    assert batch.points.shape == batch.origins.shape == (48, POINTS, 3)
    assert batch.weights.shape == batch.ray_weights.shape == (48, POINTS)
    assert batch.queries.shape == batch.gradients.shape == (48, 100, 3) and batch.distances.shape == (48, 100)
    assert 0.1 < float(batch.whole.float().mean()) < 0.5 and bool((batch.ray_weights[batch.whole] == 0).all())
    assert bool((batch.weights[batch.whole].sum(1) == FULL).all())  # evenly all over, never with a hole
    assert batch.whole.dtype == torch.bool and batch.points.dtype == batch.distances.dtype == torch.float32
    for name, value in vars(batch).items():
        assert bool(torch.isfinite(value).all()), name
    counts = batch.weights.sum(1)
    assert float(batch.weights.min()) == 0 and float(batch.weights.max()) == 1 and float(counts.min()) >= 16
    assert len(set(counts.tolist())) > 3  # clouds of several sizes
    assert bool((batch.ray_weights <= batch.weights).all())
    assert 0 < float((batch.ray_weights.amax(1) > 0).float().mean()) < 1  # with and without viewpoint


def test_only_the_shapes_asked_for_are_drawn(records: np.ndarray) -> None:
    """Record 0 is the ball: every one of its surface points is half a unit from the centre."""
    batch = make_batch(records, np.array([0, 1]), np.array([1.0, 0.0]), 8, 400, [0, 0, 0])
    for queries, distances, gradients in zip(batch.queries, batch.distances, batch.gradients, strict=True):
        near = distances.abs() < 0.01
        foot = (queries - distances[:, None] * gradients)[near]
        spread = foot.abs().amax(0)  # an ellipsoid's half axes, about
        assert float((foot / spread).norm(dim=1).median()) == pytest.approx(1, abs=0.12)


def test_a_validation_view_is_the_record_itself(records: np.ndarray) -> None:
    record, view = records[2], 3
    rng = np.random.default_rng(0)
    points, weights, origins, rays, queries, distance, gradient, whole, _ = make_example(
        record, rng, 500, view=view, augment=False
    )
    seen = record["surface"][(record["seen"] >> view) & 1 == 1].astype(np.float32) / UNITS
    given = points[weights > 0]
    assert len(given) == min(FULL, len(seen)) and not whole
    assert {tuple(p) for p in np.round(given, 5)} <= {tuple(p) for p in np.round(seen, 5)}
    assert np.allclose(origins[weights > 0], record["viewpoint"][view]) and (rays == weights).all()
    known = {tuple(q): d for q, d in zip(record["query"].tolist(), record["distance"].tolist(), strict=True)}
    for q, d in zip(np.round(queries * UNITS).astype(int).tolist(), distance.tolist(), strict=True):
        # The stored gradient's length is off by up to a hundredth, and the distance is scaled with it.
        assert known[tuple(q)] / UNITS == pytest.approx(d, rel=0.012, abs=1e-6)
    assert np.abs(np.linalg.norm(gradient, axis=1) - 1).max() < 0.02


def test_every_view_sees_what_faces_it(records: np.ndarray) -> None:
    """The ball: from each viewpoint the points on its side, and no others."""
    record = records[0]
    surface, normals = record["surface"] / UNITS, record["normal"] / 127
    for view in range(VIEWS):
        facing = ((record["viewpoint"][view] - surface) * normals).sum(1)
        seen = (record["seen"] >> view) & 1 == 1
        assert seen[facing > 0.1].mean() > 0.97 and not seen[facing < -0.02].any()
