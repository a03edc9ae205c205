"""The reference architecture, `deepsdf`: one code a shape, an MLP of code and point (Park 2019, section 4.2, figure 4).

f(x, z): eight linear layers of 512 with weight normalisation and ReLU, code and point joined again before the fifth,
and dropout 0.2 while training. The code is found by optimisation alone (auto-decoder): there is no encoder, so `encode`
answers with the distribution of the training codes.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from .. import losses
from ..arguments import Range
from ..base import Clouds, Evidence, Examples, Family, Objective, Posterior, Schedule, Weights
from ..objectives import CLAMP, gradient_loss
from ..registry import register
from ..shapes import Implicit


@register
class DeepSDF(Family):
    """code: length of z.  hidden: width.  layers: hidden layers.  dropout: while training."""

    name = "deepsdf"
    about = "one vector a shape, found by optimisation alone (auto-decoder)"
    code_about = "a vector; mean and variance of the training codes"
    can = frozenset()
    schedule = Schedule(steps=800, rate=0.005, newton=20, pointwise=True)
    code_mean: Tensor
    code_log_variance: Tensor

    def __init__(
        self,
        code: Annotated[int, Range(1, 1024)] = 256,
        hidden: Annotated[int, Range(8, 2048)] = 512,
        layers: Annotated[int, Range(2, 32)] = 8,
        dropout: Annotated[float, Range(0, 0.95)] = 0.2,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"code": code, "hidden": hidden, "layers": layers, "dropout": dropout}
        self.code_shape = (code,)
        self.skip = layers // 2
        given = code + 3
        self.hidden = nn.ModuleList()
        width = given
        for k in range(layers):
            out = hidden - given if k == self.skip - 1 else hidden
            self.hidden.append(weight_norm(nn.Linear(width, out)))
            width = out + given if k == self.skip - 1 else out
        self.last = nn.Linear(width, 1)
        self.dropout = dropout
        # Of the codes found in training; codes start at N(0, 0.01^2) there.
        self.register_buffer("code_mean", torch.zeros(code))
        self.register_buffer("code_log_variance", torch.full((code,), 2 * -4.6))

    def observe(self, clouds: Clouds) -> int:
        """How many there are: nothing of them reaches the code but through optimisation."""
        return len(clouds.points)

    def encode(self, observation: int) -> Posterior:
        """The same for everything seen: mean and log variance (B, code) of the training codes."""
        return Posterior(self.code_mean.expand(observation, -1), self.code_log_variance.expand(observation, -1))

    def decode(self, code: Tensor, evidence: Evidence | None = None) -> Implicit:
        """A code (B, code) is its own features."""
        return Implicit(self.query, code)

    def objective(self, settings: Weights, seats: int) -> AutoDecoder:
        return AutoDecoder(self, settings, seats)

    def query(self, features: Tensor, points: Tensor) -> Tensor:
        """features: codes (B, code).  points: (B, P, 3) canonical -> signed distance (B, P), float32.

        Under autocast the wide layers alone are computed in bfloat16.
        """
        device = points.device.type
        half = torch.is_autocast_enabled(device)
        code, points = features.float(), points.float()
        h = points
        for k, layer in enumerate(self.hidden):
            assert isinstance(layer, nn.Linear)
            weight = layer.weight
            if k in (0, self.skip):
                # A layer over (h, code, point), its columns taken apart: the code's share is the same for all points,
                # and the position would lose its fourth digit in bfloat16.
                own = weight.shape[1] - code.shape[1] - 3
                with torch.autocast(device, enabled=False):
                    given = F.linear(code, weight[:, own:-3], layer.bias)[:, None] + F.linear(points, weight[:, -3:])
                mixed = given if k == 0 else given + F.linear(h, weight[:, :own])
                h = F.relu(mixed.to(torch.bfloat16) if half else mixed)
            else:
                h = F.relu(F.linear(h, weight, layer.bias))
            h = F.dropout(h, self.dropout, self.training)
        with torch.autocast(device, enabled=False):
            return torch.tanh(self.last(h.float())).squeeze(-1)


class AutoDecoder(Objective):
    """The loss of DeepSDF's auto-decoder (Park 2019, eq. 9): weights and one free code a shape, learnt together.

    seats: how many shapes have a code.
    """

    augments = False  # a seat's code can stand for one shape only

    def __init__(self, field: DeepSDF, settings: Weights, seats: int) -> None:
        super().__init__()
        self.field: DeepSDF = field
        self.settings = settings
        self.codes = nn.Parameter(0.01 * torch.randn(seats, *field.code_shape))

    def forward(self, observation: int, examples: Examples) -> tuple[Tensor, Tensor]:
        """The loss and its parts (distance in thousandths, sign, mean squared length of the codes)."""
        queries, distances, signed = examples.queries, examples.distances, examples.signed
        codes = self.codes[examples.seats]
        shape = self.field.decode(codes)
        predicted = shape.values(queries)
        target = distances.clamp(-CLAMP, CLAMP)
        distance = torch.where(
            signed[:, None] > 0, (predicted - target).abs(), losses.sign_agnostic(predicted, target)
        ).mean()
        length = codes.square().sum(1).mean()
        loss = 10 * distance + self.settings.kl * length
        loss = loss + gradient_loss(
            shape.values, queries, distances, examples.gradients, signed, self.settings
        )
        sign = losses.sign_cross_entropy(predicted.detach(), distances)
        return loss, torch.stack([1000 * distance.detach(), sign, length.detach()])

    def settle(self, field: Family) -> None:
        """Give it the distribution of the codes."""
        assert isinstance(field, DeepSDF)
        codes = self.codes.detach()
        field.code_mean.copy_(codes.mean(0))
        field.code_log_variance.copy_(codes.var(0).clamp(min=1e-8).log())
