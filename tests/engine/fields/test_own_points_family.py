"""A family of a test's own that decodes a set of points (PSGN, Fan 2017, in small) is trained, saved, loaded, listed,
completes, generates and is judged, with no line of the engine changed. It has no field, and no inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.fields import losses
from engine.fields.arguments import Range
from engine.fields.base import Clouds, Evidence, Examples, Family, Objective, Posterior, Schedule, Weights
from engine.fields.registry import register
from engine.fields.shapes import Points, nearest
from engine.geometry.connected import is_watertight


@register
class PointSet(Family):
    """PointNet to a code; from it an MLP to `count` points."""

    name = "test-points"
    kind = Points
    schedule = Schedule(steps=60, rate=0.05, newton=4)

    def __init__(
        self,
        code: Annotated[int, Range(1, 128)] = 8,
        hidden: Annotated[int, Range(4, 512)] = 64,
        count: Annotated[int, Range(16, 4096)] = 384,
    ) -> None:
        super().__init__()
        self.arguments = {"code": code, "hidden": hidden, "count": count}
        self.code_shape = (code,)
        self.points = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.pooled = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * code))
        self.place = nn.Sequential(
            nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3 * count)
        )

    def observe(self, clouds: Clouds) -> Tensor:
        known = (clouds.rays.amax(1, keepdim=True) > 0).expand_as(clouds.rays)
        rows = torch.cat([clouds.points, known[..., None]], -1)
        return torch.where(clouds.weights[..., None] > 0, rows, rows[:, :1])

    def encode(self, observation: Tensor) -> Posterior:
        mean, log_variance = self.pooled(self.points(observation).amax(1)).chunk(2, 1)
        return Posterior(mean, log_variance.clamp(-6, 2))

    def decode(self, code: Tensor, evidence: Evidence | None = None) -> Points:
        return Points(0.55 * torch.tanh(self.place(code).view(len(code), -1, 3)))

    def objective(self, settings: Weights, seats: int) -> Chamfer:
        return Chamfer(self, settings)


class Chamfer(Objective):
    parts = ("chamfer_x1000", "kl")

    def __init__(self, field: PointSet, settings: Weights) -> None:
        super().__init__()
        self.field = field
        self.settings = settings

    def forward(self, observation: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
        posterior = self.field.encode(observation)
        made = self.field.decode(posterior.mean + examples.noise * posterior.deviation).points
        truth = examples.surface(384)
        apart = nearest(truth, made).mean() + nearest(made, truth).mean()
        kl = losses.gaussian_kl(posterior.mean, posterior.log_variance)
        return 10 * apart + self.settings.kl * kl, torch.stack([1000 * apart.detach(), kl.detach()])


@pytest.fixture(scope="module")
def life(boxes_and_balls: Path, tmp_path_factory: pytest.TempPathFactory, live: Callable[..., Any]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        settings = {"steps": 240, "batch": 4, "queries": 512, "learning_rate": 3e-2}
        return live("test-points", settings, boxes_and_balls, tmp_path_factory.mktemp("points"), patch)


def test_it_learns_and_completes(life: Any) -> None:
    """A closed surface goes through the scan, about as large as the box that was half seen."""
    assert isinstance(life.prior.field, PointSet)
    assert life.nearness < 0.08 and is_watertight(life.whole)
    assert 0.8 < float(np.ptp(life.whole.vertices, axis=0).max()) < 1.15
    row = life.completion["hypotheses"][0]
    assert 0 < row["data"] < 0.08 and 0 <= row["empty"] < 0.02 and 0 < row["score"] < 20
    assert row["symmetry"] == ""  # nothing was mirrored into it


def test_it_generates_varies_and_is_judged(life: Any) -> None:
    for mesh in (*life.drawn, life.varied):
        assert is_watertight(mesh) and 0.3 < float(np.ptp(mesh.vertices, axis=0).max()) < 5
    assert len(life.drawn) == 2
    assert life.judged["chamfer_l1"]["mean"] < 1.0 and life.judged["failed"] == 0


def test_points_on_the_true_surface_are_among_the_examples(records: np.ndarray) -> None:
    from engine.training.batches import make_batch

    batch = make_batch(records, np.arange(1), np.ones(1), 2, 2048, [0, 0, 0], augment=False)  # the ball
    clouds = Clouds(batch.points, batch.weights, batch.origins, batch.ray_weights)
    none = torch.zeros(2)
    examples = Examples(clouds, batch.queries, batch.distances, batch.gradients, none, batch.seats, none, none)
    found = examples.surface(300)
    assert found.shape == (2, 300, 3) and float((found.norm(dim=-1) - 0.5).abs().max()) < 0.02
