"""A family of a test's own, an occupancy network without any spatial grid (Mescheder 2019, in small), is trained,
saved, loaded, listed, completes, generates and is judged, with no line of the engine changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.errors import InputError
from engine.fields import losses
from engine.fields.arguments import Range
from engine.fields.base import (
    Clouds,
    Evidence,
    Examples,
    Family,
    Objective,
    Posterior,
    Schedule,
    Weights,
    require,
)
from engine.fields.registry import family, names, register
from engine.fields.shapes import Implicit
from engine.geometry.connected import is_watertight

UNIT = 0.03
"""A logit of one is about so far from the surface, canonical units."""


@register
class OccupancyNetwork(Family):
    """PointNet to a code, and an MLP on the point, whose layers the code scales and shifts, to the logit of inside."""

    name = "test-occupancy"
    schedule = Schedule(steps=60, rate=0.05, newton=4)

    def __init__(
        self, code: Annotated[int, Range(1, 128)] = 8, hidden: Annotated[int, Range(4, 512)] = 48
    ) -> None:
        super().__init__()
        self.arguments = {"code": code, "hidden": hidden}
        self.code_shape = (code,)
        self.points = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.pooled = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * code))
        self.enter = nn.Linear(9, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(3))
        self.conditions = nn.ModuleList(nn.Linear(code, 2 * hidden) for _ in range(3))
        self.leave = nn.Linear(hidden, 1)

    def observe(self, clouds: Clouds) -> Tensor:
        known = (clouds.rays.amax(1, keepdim=True) > 0).expand_as(clouds.rays)
        rows = torch.cat([clouds.points, known[..., None]], -1)
        return torch.where(clouds.weights[..., None] > 0, rows, rows[:, :1])  # padding repeats the first point

    def encode(self, observation: Tensor) -> Posterior:
        mean, log_variance = self.pooled(self.points(observation).amax(1)).chunk(2, 1)
        return Posterior(mean, log_variance.clamp(-6, 2))

    def query(self, codes: Tensor, points: Tensor) -> Tensor:
        h = self.enter(torch.cat([points, (6 * points).sin(), (6 * points).cos()], -1))
        for layer, condition in zip(self.layers, self.conditions, strict=True):
            scale, shift = condition(codes)[:, None].chunk(2, -1)
            h = h + F.silu(layer(h) * (1 + scale) + shift)
        logit: Tensor = self.leave(F.silu(h)).squeeze(-1)
        return -UNIT * logit

    def decode(self, code: Tensor, evidence: Evidence | None = None) -> Implicit:
        return Implicit(self.query, code, metric=False, lipschitz=0.0)

    def objective(self, settings: Weights, seats: int) -> CrossEntropy:
        return CrossEntropy(self, settings)


class CrossEntropy(Objective):
    parts = ("cross_entropy", "kl")

    def __init__(self, field: OccupancyNetwork, settings: Weights) -> None:
        super().__init__()
        self.field = field
        self.settings = settings

    def forward(self, observation: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
        posterior = self.field.encode(observation)
        shape = self.field.decode(posterior.mean + examples.noise * posterior.deviation)
        value, far = shape.values(examples.queries), examples.distances.abs().clamp(0.002, 0.05)
        inside = losses.sign_cross_entropy(value, examples.distances, UNIT, weight=far / far.mean())
        kl = losses.gaussian_kl(posterior.mean, posterior.log_variance)
        return inside + self.settings.kl * kl, torch.stack([inside.detach(), kl.detach()])


@pytest.fixture(scope="module")
def life(boxes_and_balls: Path, tmp_path_factory: pytest.TempPathFactory, live: Callable[..., Any]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        settings = {"steps": 300, "batch": 4, "queries": 512, "learning_rate": 1.5e-2}
        return live("test-occupancy", settings, boxes_and_balls, tmp_path_factory.mktemp("occupancy"), patch)


def test_it_is_a_family_like_others(life: Any) -> None:
    assert "test-occupancy" in names() and "grid" in names() and family("test-occupancy") is OccupancyNetwork
    assert isinstance(life.prior.field, OccupancyNetwork) and life.prior.latent is not None
    assert life.prior.card["arguments"] == {"code": 8, "hidden": 48}
    assert life.training["training"]["settings"]["architecture"] == "test-occupancy"



def test_it_learns_and_completes(life: Any) -> None:
    """The scan lies on what comes out, which is closed and about as large as the box that was half seen."""
    assert life.nearness < 0.02 and is_watertight(life.whole)
    extent = np.ptp(life.whole.vertices, axis=0)
    assert 0.8 < float(extent.max()) < 1.15
    row = life.completion["hypotheses"][0]
    # Distances and not logits: what is told of the fit has the unit of the canonical frame.
    assert 0 < row["data"] < 0.06 and 0 <= row["empty"] < 0.02 and 0 < row["score"] < 20
    assert life.completion["confidence"] is not None


def test_it_generates_varies_and_is_judged(life: Any) -> None:
    for mesh in (*life.drawn, life.varied):
        assert is_watertight(mesh) and 0.3 < float(np.ptp(mesh.vertices, axis=0).max()) < 5
    assert len(life.drawn) == 2 and len(life.drawn[0].vertices) != len(life.drawn[1].vertices)
    assert 0.1 < life.judged["f_score"]["mean"] <= 1 and life.judged["failed"] == 0


def test_what_it_cannot_do_is_said(life: Any) -> None:
    with pytest.raises(InputError) as refused:
        require(life.prior.field, "features", life.prior.name)
    assert refused.value.what and "test-occupancy" in refused.value.why and refused.value.remedy


def test_distances_of_a_field_that_is_none_are_of_first_order() -> None:
    def steep(features: Tensor, points: Tensor) -> Tensor:
        return 7.0 * (points.norm(dim=-1) - 0.3)

    ball = Implicit(steep, torch.zeros(1, 1), metric=False)
    points = torch.tensor([[[0.35, 0.0, 0.0], [0.0, 0.28, 0.0]]])
    torch.testing.assert_close(ball.off(points), torch.tensor([[0.05, 0.02]]), atol=1e-5, rtol=0)
