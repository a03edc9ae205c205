"""Completion in the canonical frame, with a prior of ellipsoids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from engine.completion.alignment import network_pose, observed_frame
from engine.completion.complete import Completion, complete_canonical, complete_several
from engine.completion.evidence import estimate_noise
from engine.completion.settings import CompletionSettings
from engine.errors import Cancelled
from engine.fields.base import Posterior
from engine.geometry.clouds import PointCloud
from engine.geometry.transforms import yaw_rotation
from engine.priors.file import Prior, load_prior
from engine.surfaces.marching import extract_sparse

VIEWPOINT = np.array([0.3, -1.6, 0.9], np.float32)


@pytest.fixture(scope="module")
def prior(small_prior_file: Path) -> Prior:
    return load_prior(str(small_prior_file))


def scan(count: int = 1500, noise: float = 0.0, seed: int = 0) -> PointCloud:
    """One view of an ellipsoid (half axes 0.4, 0.3, 0.35) with its normals."""
    rng = np.random.default_rng(seed)
    axes = np.array([0.4, 0.3, 0.35])
    direction = rng.normal(size=(4 * count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points, normals = direction * axes, direction / axes
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    seen = ((VIEWPOINT - points) * normals).sum(1) > 0
    points, normals = points[seen][:count], normals[seen][:count]
    points = points + noise * rng.normal(size=points.shape)
    return PointCloud(points.astype(np.float32), normals.astype(np.float32), VIEWPOINT)


def test_optimisation_brings_the_surface_to_the_points(prior: Prior) -> None:
    start = complete_canonical(prior, scan(), CompletionSettings(steps=0, refine=False))
    fitted = complete_canonical(prior, scan(), CompletionSettings(steps=24, refine=False))
    assert fitted.data < 0.7 * start.data
    assert len(fitted.history) == 25 and min(fitted.history[1:]) < fitted.history[0]
    assert fitted.evaluations > start.evaluations > 0
    assert fitted.latent > 0 and start.latent == pytest.approx(0, abs=1e-6)
    assert fitted.score < start.score


def test_refinement_keeps_what_was_seen_and_the_unseen_side(prior: Prior) -> None:
    settings = CompletionSettings(steps=8, refine=False, symmetry=False)
    plain = complete_canonical(prior, scan(), settings)
    settings.refine = True
    refined = complete_canonical(prior, scan(), settings)
    points = torch.from_numpy(scan().points)
    assert float(refined.signed_distance(points).abs().mean()) < 0.002
    assert float(refined.signed_distance(points).abs().mean()) < 0.2 * float(plain.signed_distance(points).abs().mean())
    behind = -points[::3]
    far = torch.from_numpy(cKDTree(points.numpy()).query(behind.numpy())[0] > 0.2)
    assert int(far.sum()) > 50
    assert torch.allclose(refined.signed_distance(behind)[far], plain.signed_distance(behind)[far], atol=1e-5)


def test_space_that_was_looked_through_ends_up_outside(prior: Prior) -> None:
    cloud = scan()
    settings = CompletionSettings(steps=24, symmetry=False)
    whole = complete_canonical(prior, cloud, settings)
    towards = VIEWPOINT - cloud.points
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    for distance in (0.03, 0.06):
        values = whole.signed_distance(torch.from_numpy((cloud.points + distance * towards).astype(np.float32)))
        assert float((values > 0).float().mean()) > 0.85


def test_noise_is_estimated(prior: Prior) -> None:
    rng = np.random.default_rng(0)
    assert estimate_noise(scan(4000).points, rng) < 0.002
    assert estimate_noise(scan(4000, noise=0.01).points, rng) == pytest.approx(0.01, rel=0.4)


def test_same_seed_same_shape_and_temperature_varies_it(prior: Prior) -> None:
    settings = CompletionSettings(steps=4, seed=5)
    first, second = (complete_canonical(prior, scan(), settings) for _ in range(2))
    assert torch.equal(first.code, second.code) and first.history == second.history
    assert first.residual is not None and second.residual is not None
    assert all(torch.equal(a, b) for a, b in zip(first.residual.lattices, second.residual.lattices, strict=True))
    warm = CompletionSettings(steps=4, seed=5, temperature=1.5)
    assert not torch.allclose(complete_canonical(prior, scan(), warm).code, first.code, atol=1e-2)


@pytest.mark.parametrize("what", ["points", "normals", "viewpoint", "both"])
def test_any_kind_of_cloud_is_completed(prior: Prior, what: str) -> None:
    full = scan(300)
    cloud = PointCloud(
        full.points,
        full.normals if what in ("normals", "both") else None,
        full.viewpoint if what in ("viewpoint", "both") else None,
    )
    whole = complete_canonical(prior, cloud, CompletionSettings(steps=3))
    mesh = extract_sparse(whole.signed_distance, 32).mesh
    assert len(mesh.faces) > 100 and np.isfinite(mesh.vertices).all()
    assert (whole.empty > 0 or cloud.viewpoint is not None) == (cloud.viewpoint is not None)


def test_cancelling_takes_effect_within_a_step(prior: Prior) -> None:
    asked = []

    def should_stop() -> bool:
        asked.append(True)
        return len(asked) > 3

    stages: list[tuple[str, float]] = []
    with pytest.raises(Cancelled):
        complete_canonical(
            prior, scan(), CompletionSettings(steps=50), should_stop=should_stop,
            on_stage=lambda *stage: stages.append(stage),
        )
    assert len(asked) == 4 and len(stages) == 4  # reading, and three steps


def test_the_first_answer_comes_before_any_step(prior: Prior) -> None:
    events: list[str] = []

    def on_first(completion: Completion) -> None:
        assert extract_sparse(completion.signed_distance, 16).mesh.faces.shape[0] > 0
        events.append("first")

    complete_canonical(
        prior, scan(), CompletionSettings(steps=2), on_first=on_first, on_stage=lambda stage, _: events.append(stage)
    )
    assert events[1] == "first" and events[2] == "Fitting the shape" and events[-1] == "Keeping what was seen"


# ------------------------------------------------------------------------------------------------------------ alignment


def test_observed_frame_is_the_box_of_the_points() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([1, 2, 3], [5, 4, 4], (4000, 3)).astype(np.float32)
    moved = observed_frame(points).apply(points)
    assert np.allclose(moved.max(0) - moved.min(0), [1, 0.5, 0.25], atol=1e-3)
    assert np.allclose(moved.max(0) + moved.min(0), 0, atol=1e-3)
    wild = points.copy()
    wild[:8] += 100  # a few outliers change next to nothing
    assert np.abs(observed_frame(wild).apply(points) - moved).max() < 0.01


def test_pose_moves_scales_and_turns_with_the_cloud(prior: Prior) -> None:
    cloud = scan()
    here = network_pose(prior, cloud)
    assert sum(here.classes.values()) == pytest.approx(1, abs=1e-5) and set(here.classes) == {"ball", "box"}
    shift = np.array([3.0, -2.0, 1.0], np.float32)
    assert cloud.normals is not None and cloud.viewpoint is not None
    moved = PointCloud(4 * cloud.points + shift, cloud.normals, 4 * cloud.viewpoint + shift)
    there = network_pose(prior, moved)
    assert there.to_scene.scale == pytest.approx(4 * here.to_scene.scale, rel=1e-3)
    assert np.allclose(there.to_scene.translation, 4 * here.to_scene.translation + shift, atol=0.01)
    assert np.allclose(here.to_scene.rotation, np.eye(3)) and np.allclose(there.to_scene.rotation, np.eye(3))
    assert not np.allclose(network_pose(prior, cloud, turned=True).to_scene.rotation, np.eye(3))


def test_yaw_rotation_turns_x_towards_y() -> None:
    assert np.allclose(yaw_rotation(np.pi / 2) @ [1, 0, 0], [0, 1, 0])


@pytest.mark.parametrize("pose", ["fixed", "scale"])
def test_several_starts_as_one_batch_end_where_each_alone_does(prior: Prior, pose: Literal["fixed", "scale"]) -> None:
    def nearer(encoded: Posterior, grid: torch.Tensor) -> Posterior:
        return replace(encoded, mean=encoded.mean + 0.5)

    settings = CompletionSettings(steps=12, pose=pose, refine=False)
    together = complete_several(prior, scan(noise=0.002), settings, [None, nearer, None])
    alone = [complete_canonical(prior, scan(noise=0.002), settings, vary=vary) for vary in (None, nearer, None)]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.code, other.code, atol=2e-3, rtol=0)
        assert one.data == pytest.approx(other.data, rel=0.02)
        np.testing.assert_allclose(one.pose.matrix(), other.pose.matrix(), atol=1e-3)
    assert not torch.allclose(together[0].code, together[1].code, atol=0.05)
