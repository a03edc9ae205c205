"""The reference procedure, with an auto-decoder trained within the tests on balls of several sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import Cancelled, InputError
from engine.evaluation.reference import (
    ReferenceSettings,
    complete_by_reference,
    fit_code,
    query_nodes,
    reference_completer,
)
from engine.geometry.clouds import PointCloud
from engine.geometry.connected import is_watertight
from engine.priors.file import Prior, load_prior

SETTINGS = ReferenceSettings(steps=60, points=400, rate=0.02, resolution=24)


def seen_ball(radius: float, count: int = 1500) -> PointCloud:
    """The half of a ball that a sensor before it sees."""
    direction = np.random.default_rng(0).normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 1] = -np.abs(direction[:, 1])
    return PointCloud((radius * direction).astype(np.float32), None, np.array([0.0, -2.0, 0.0], np.float32))


@pytest.mark.parametrize("radius", [0.24, 0.4])
def test_the_code_is_found_and_the_whole_ball_with_it(balls_file: Path, radius: float) -> None:
    run = complete_by_reference(load_prior(str(balls_file)), seen_ball(radius), SETTINGS)
    assert run.history[-1] < 0.5 * run.history[0]
    assert is_watertight(run.mesh)
    size = np.linalg.norm(run.mesh.vertices, axis=1)
    assert abs(float(size.mean()) - radius) < 0.02
    assert run.mesh.vertices[:, 1].max() > 0.8 * radius  # the side nobody saw
    assert run.evaluations == {"optimise": 60 * 400, "extract": 25**3}
    assert min(run.seconds.values()) > 0


def test_without_a_viewpoint_and_in_any_frame(balls_file: Path) -> None:
    prior = load_prior(str(balls_file))
    cloud = seen_ball(0.3)
    radial = cloud.points / np.linalg.norm(cloud.points, axis=1, keepdims=True)
    code, history = fit_code(prior, PointCloud(cloud.points, radial), SETTINGS)
    assert code.shape == (1, 2) and history[-1] < history[0]

    mark, complete = reference_completer(str(balls_file), SETTINGS, "cpu", knows_frame=False)
    other, _ = reference_completer(str(balls_file), ReferenceSettings(steps=5), "cpu")
    assert mark != other
    here = complete(cloud)
    assert cloud.viewpoint is not None
    there = complete(PointCloud(8 * cloud.points + 7, None, 8 * cloud.viewpoint + 7))
    np.testing.assert_allclose(there.vertices, 8 * here.vertices + 7, atol=0.02)


def test_it_stops_when_asked_and_refuses_other_architectures(balls_file: Path, small_prior_file: Path) -> None:
    with pytest.raises(Cancelled):
        fit_code(load_prior(str(balls_file)), seen_ball(0.3), SETTINGS, should_stop=lambda: True)
    grid: Prior = load_prior(str(small_prior_file))
    with pytest.raises(InputError) as refused:
        fit_code(grid, seen_ball(0.3), SETTINGS)
    assert refused.value.code == "reference_architecture" and "deepsdf" in refused.value.remedy


def test_a_slice_of_the_grid_is_timed(balls_file: Path) -> None:
    prior = load_prior(str(balls_file))
    assert query_nodes(prior, torch.zeros(1, 2), 1000) > 0
