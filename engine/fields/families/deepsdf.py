"""The reference architecture, `deepsdf`: one code a shape, an MLP of code and point (Park 2019, section 4.2, figure 4).

f(x, z): eight linear layers of 512 with weight normalisation and ReLU, code and point joined again before the fifth,
and dropout 0.2 while training. The code is found by optimisation alone (auto-decoder): there is no encoder, so `encode`
answers with the distribution of the training codes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from .grid import Encoded


class DeepSDF(nn.Module):
    """code: length of z.  hidden: width.  layers: hidden layers.  dropout: while training."""

    name = "deepsdf"
    optimiser_steps, optimiser_rate = 800, 0.005
    code_mean: Tensor
    code_log_variance: Tensor

    def __init__(self, code: int = 256, hidden: int = 512, layers: int = 8, dropout: float = 0.2) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"code": code, "hidden": hidden, "layers": layers, "dropout": dropout}
        self.resolution = 32
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

    def encode(self, grid: Tensor) -> Encoded:
        """The same for every evidence grid (B, ...): mean and log variance (B, code) of the training codes."""
        batch = grid.shape[0]
        return Encoded(self.code_mean.expand(batch, -1), self.code_log_variance.expand(batch, -1), None, None)

    def decode(self, code: Tensor, skip16: Tensor | None = None, skip32: Tensor | None = None) -> Tensor:
        """A code is its own features."""
        return code

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
