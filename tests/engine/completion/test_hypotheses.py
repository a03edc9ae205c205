"""Hypotheses: other answers where nothing was seen, the same where something was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.completion.complete import complete_canonical
from engine.completion.hypotheses import variation
from engine.completion.settings import CompletionSettings
from engine.errors import InputError
from engine.fields.base import Clouds, Posterior
from engine.fields.families.grid import observed_space
from engine.geometry.clouds import PointCloud
from engine.priors.file import Prior, load_prior

VIEWPOINT = np.array([0.0, -1.6, 0.0], np.float32)


@pytest.fixture(scope="module")
def prior(small_prior_file: Path) -> Prior:
    return load_prior(str(small_prior_file))


@pytest.fixture(scope="module")
def generative(generative_prior_file: Path) -> Prior:
    return load_prior(str(generative_prior_file))


def front() -> PointCloud:
    direction = np.random.default_rng(0).normal(size=(3000, 3))
    points = 0.35 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return PointCloud(points[points[:, 1] < -0.1].astype(np.float32), None, VIEWPOINT)


def encoded(prior: Prior) -> tuple[Posterior, torch.Tensor]:
    cloud = front()
    assert cloud.viewpoint is not None
    grid = prior.field.observe(Clouds.seen(torch.from_numpy(cloud.points), torch.from_numpy(cloud.viewpoint)))
    with torch.no_grad():
        return prior.field.encode(grid), grid


def test_points_and_the_space_before_them_were_observed_what_is_behind_was_not(prior: Prior) -> None:
    seen = observed_space(encoded(prior)[1])[0, 0]
    r = seen.shape[0]
    assert float(seen.min()) >= 0 and float(seen.max()) <= 1
    assert float(seen[r // 2, 1, r // 2]) == pytest.approx(1)  # the middle of the front
    assert float(seen[:, r - 1].max()) < 0.5  # the back


@pytest.mark.parametrize("which", ["prior", "generative"])
def test_codes_change_where_nothing_was_seen_and_only_there(which: str, request: pytest.FixtureRequest) -> None:
    prior: Prior = request.getfixturevalue(which)
    said, grid = encoded(prior)
    nothing, everything = grid.clone(), grid.clone()
    nothing[:, 0], nothing[:, 10] = 0, 0
    everything[:, 0] = 1
    for number in (1, 2, 3):
        vary = variation(prior, number, 0, "", dict.fromkeys(prior.classes, 0.5))
        assert vary is not None
        other = vary(said, grid)
        change = (other.mean - said.mean).abs().sum((0, 1))  # x, y, z: the scanner stands at -y
        assert float(change.mean()) > 0.01
        assert torch.equal(vary(said, everything).mean, said.mean)
        assert float((vary(said, nothing).mean - said.mean).abs().mean()) > float((other.mean - said.mean).abs().mean())
        assert torch.equal(vary(said, grid).mean, other.mean)
    first, second = (variation(prior, 1, seed, "", {}) for seed in (0, 1))
    assert first is not None and second is not None
    assert not torch.equal(first(said, grid).mean, second(said, grid).mean)


def test_the_first_answer_is_the_encoders_own_unless_a_class_is_chosen(prior: Prior, generative: Prior) -> None:
    assert variation(prior, 0, 0, "", {}) is None and variation(generative, 0, 0, "", {"ball": 1.0}) is None
    assert variation(prior, 0, 0, "box", {}) is None  # nothing to lean on
    said, grid = encoded(generative)
    leaning = {}
    for name in ("ball", "plate"):
        vary = variation(generative, 0, 0, name, {})
        assert vary is not None
        leaning[name] = vary(said, grid).mean
    assert not torch.allclose(leaning["ball"], leaning["plate"], atol=1e-2)
    assert float(leaning["plate"][0, 2].mean()) < float(leaning["ball"][0, 2].mean())  # the code of the height
    unknown = variation(generative, 0, 0, "spoon", {})
    assert unknown is not None
    with pytest.raises(InputError):
        unknown(said, grid)


def test_answers_differ_behind_and_agree_in_front(generative: Prior) -> None:
    settings = CompletionSettings(steps=4, symmetry=False)
    shares = {"ball": 0.5, "plate": 0.5}
    fields = [
        complete_canonical(generative, front(), settings, vary=variation(generative, k, 0, "", shares))
        for k in range(3)
    ]
    before = torch.from_numpy(front().points)
    behind = before * torch.tensor([1.0, -1.0, 1.0])
    for other in fields[1:]:
        here = float((other.signed_distance(before) - fields[0].signed_distance(before)).abs().mean())
        there = float((other.signed_distance(behind) - fields[0].signed_distance(behind)).abs().mean())
        assert here < 0.003 and there > 2 * here
