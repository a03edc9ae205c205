"""Levenberg-Marquardt with the dense Jacobian, on an auto-decoder (`deepsdf`) trained within the tests on balls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.completion.complete import Completion, complete_canonical, complete_several
from engine.completion.settings import CompletionSettings
from engine.geometry.clouds import PointCloud
from engine.priors.file import Prior, load_prior


@pytest.fixture(scope="module")
def balls(balls_file: Path) -> Prior:
    return load_prior(str(balls_file))


def seen_ball(radius: float, normals: bool = False, at: tuple[float, float, float] = (0, 0, 0)) -> PointCloud:
    """The half of a ball that a sensor before it sees."""
    direction = np.random.default_rng(0).normal(size=(1500, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 1] = -np.abs(direction[:, 1])
    points = (radius * direction + np.array(at)).astype(np.float32)
    return PointCloud(points, direction.astype(np.float32) if normals else None, np.array([0.0, -2.0, 0.0], np.float32))


def far_side(whole: Completion, radius: float) -> float:
    """Mean distance of the answer from the side that nobody saw, in the frame of the cloud."""
    behind = seen_ball(radius).points * np.array([1, -1, 1], np.float32)
    return float(whole.signed_distance(torch.from_numpy(whole.pose.apply(behind))).abs().mean())


@pytest.mark.parametrize("radius", [0.22, 0.4])
@pytest.mark.parametrize("normals", [False, True])
def test_the_code_is_found_in_a_few_steps(balls: Prior, radius: float, normals: bool) -> None:
    settings = CompletionSettings(optimiser="lm", refine=False)
    cloud = seen_ball(radius, normals)
    whole = complete_canonical(balls, cloud, settings)
    start = complete_canonical(balls, cloud, CompletionSettings(optimiser="lm", refine=False, steps=0))
    assert whole.history == sorted(whole.history, reverse=True) and len(whole.history) <= 21
    assert whole.data < 0.2 * start.data and far_side(whole, radius) < 0.02
    assert float(whole.code[0]) == pytest.approx((radius - 0.3) / 0.1, abs=0.25)
    # What a hundred steps of Adam find, with fewer queries.
    adam = complete_canonical(balls, cloud, CompletionSettings(steps=100, learning_rate=0.1, refine=False))
    assert whole.data < adam.data + 0.002 and whole.evaluations < adam.evaluations


def test_pose_and_code_together(balls: Prior) -> None:
    """A ball beside the origin: no code explains it, code and place do."""
    cloud = seen_ball(0.35, at=(0.03, 0.0, -0.02))
    code_alone = complete_canonical(balls, cloud, CompletionSettings(optimiser="lm", refine=False))
    both = complete_canonical(balls, cloud, CompletionSettings(optimiser="lm", pose="scale", refine=False))
    assert both.data < 0.6 * code_alone.data
    assert np.allclose(both.pose.translation[[0, 2]], [-0.03, 0.02], atol=0.012)
    assert np.allclose(both.pose.rotation, np.eye(3))
    points = torch.from_numpy(both.pose.apply(cloud.points))
    assert float(both.signed_distance(points).abs().mean()) == pytest.approx(both.data, abs=1e-5)


def test_several_starts_are_one_batch_and_meet(balls: Prior) -> None:
    """From either side of the answer, together as alone."""
    cloud = seen_ball(0.33)
    settings = CompletionSettings(optimiser="lm", refine=False, temperature=1.0)
    several = complete_several(balls, cloud, settings, [None, None, None])
    assert len({round(whole.history[0], 9) for whole in several}) == 1  # the best start's, of the batch
    for whole in several:
        assert float(whole.code[0]) == pytest.approx(0.3, abs=0.25) and far_side(whole, 0.33) < 0.02
