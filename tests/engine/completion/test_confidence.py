"""Confidence: what was held back is foreseen by a prior that knows the thing; the calibration tells the two apart."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.completion.confidence import (
    DEFAULT,
    SIGNALS,
    Signals,
    calibration_of,
    confidence,
    fit_calibration,
    measure,
)
from engine.evaluation.strangers import STRANGERS
from engine.fields.observations import evidence as ev
from engine.geometry.clouds import PointCloud
from engine.geometry.sampling import sample_surface
from engine.priors.file import Prior, load_prior

VIEWPOINT = np.array([0.3, -1.6, 0.9], np.float32)


@pytest.fixture(scope="module")
def prior(small_prior_file: Path) -> Prior:
    return load_prior(str(small_prior_file))


def half_seen(points: np.ndarray) -> PointCloud:
    return PointCloud(points[points[:, 1] < 0.0].astype(np.float32), None, VIEWPOINT)


def ball(count: int = 3000, radius: float = 0.35) -> PointCloud:
    direction = np.random.default_rng(0).normal(size=(count, 3))
    return half_seen(radius * direction / np.linalg.norm(direction, axis=1, keepdims=True))


def test_a_prior_of_balls_foresees_balls(prior: Prior) -> None:
    with torch.no_grad():  # how large its ball is
        encoded = prior.field.encode(torch.zeros(1, ev.CHANNELS, 8, 8, 8))
        along = torch.linspace(0.1, 0.5, 100)[:, None] * torch.tensor([[0.6, -0.64, 0.48]])
        value = prior.field.decode(encoded.mean, encoded.evidence).values(along[None])[0]
    radius = float(along[value.abs().argmin()].norm())
    known = measure(prior, ball(radius=radius), {"ball": 0.9, "box": 0.1})
    knot = sample_surface(STRANGERS["knot"](np.random.default_rng(0)), 3000, np.random.default_rng(0))[0]
    unknown = measure(prior, half_seen(0.55 * knot), {"ball": 0.5, "box": 0.5})
    assert known is not None and unknown is not None
    assert known.foreseen < 0.5 * unknown.foreseen and known.worst < unknown.worst and known.gaps < unknown.gaps
    assert known.foreseen <= known.worst and known.doubt < unknown.doubt == pytest.approx(1.0)
    calibration = replace(DEFAULT, weights=(-1.0,) * 5 + (0.0,))
    assert confidence(known, calibration) > confidence(unknown, calibration)


def test_signals_are_the_same_twice_and_allow_for_noise(prior: Prior) -> None:
    cloud = ball()
    noise = 0.01 * np.random.default_rng(1).normal(size=cloud.points.shape).astype(np.float32)
    noisy = PointCloud(cloud.points + noise, None, VIEWPOINT)
    assert measure(prior, cloud, {}) == measure(prior, cloud, {})
    blind, allowed = measure(prior, noisy, {}), measure(prior, noisy, {}, noise=0.01)
    assert blind is not None and allowed is not None and allowed.foreseen < blind.foreseen


def test_too_little_to_judge_is_no_judgement(prior: Prior) -> None:
    cloud = ball()
    assert measure(prior, PointCloud(cloud.points[:12], None, VIEWPOINT), {}) is None
    assert measure(prior, PointCloud(cloud.points + 3, None, VIEWPOINT), {}) is None


def test_any_viewpoint_and_density_give_signals(prior: Prior) -> None:
    for cloud in (PointCloud(ball().points), PointCloud(ball(260).points, None, VIEWPOINT)):
        found = measure(prior, cloud, {"ball": 1.0})
        assert found is not None and all(np.isfinite([getattr(found, name) for name in SIGNALS]))
        assert 0 <= confidence(found) <= 1


def drawn(rng: np.random.Generator, level: float, count: int) -> list[Signals]:
    return [
        Signals(*np.exp(level + 0.4 * rng.normal(size=3)).tolist(), float(rng.uniform(0, 0.1)), float(rng.random()),
                float(rng.normal()))
        for _ in range(count)
    ]


def test_calibration_separates_and_warns_of_few_of_the_known() -> None:
    rng = np.random.default_rng(0)
    known, unknown = drawn(rng, -5.0, 120), drawn(rng, -3.6, 60)
    made = fit_calibration(known, unknown, most_false_warnings=0.05)
    said = np.array([confidence(s, made) for s in known]), np.array([confidence(s, made) for s in unknown])
    assert (said[0] < made.threshold).mean() <= 0.05 and (said[1] < made.threshold).mean() > 0.9
    assert min(said[1]) >= 0 and max(said[0]) <= 1 and said[0].mean() > 0.8 > 0.2 > said[1].mean()
    worse = replace(known[0], foreseen=10 * known[0].foreseen, worst=10 * known[0].worst, gaps=10 * known[0].gaps)
    assert confidence(worse, made) < confidence(known[0], made)


def test_a_prior_may_bring_its_own_calibration(prior: Prior) -> None:
    own = fit_calibration(drawn(np.random.default_rng(0), -5, 30), drawn(np.random.default_rng(1), -4, 30))
    assert calibration_of(prior) == DEFAULT
    assert calibration_of(replace(prior, card={**prior.card, "confidence": asdict(own)})) == own
    for broken in ({}, {"means": [1]}, "no", {**asdict(own), "weights": [1.0]}):
        assert calibration_of(replace(prior, card={**prior.card, "confidence": broken})) == DEFAULT


def test_strangers_are_closed_parts_and_seeded() -> None:
    for name, make in STRANGERS.items():
        mesh, again, other = (make(np.random.default_rng(seed)) for seed in (0, 0, 1))
        assert np.isfinite(mesh.vertices).all() and mesh.faces.max() < len(mesh.vertices), name
        assert np.array_equal(mesh.vertices, again.vertices), name
        assert mesh.vertices.shape != other.vertices.shape or not np.allclose(mesh.vertices, other.vertices), name
