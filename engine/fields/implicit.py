"""Networks f(x) for one shape each: a multilayer perceptron with ReLU or softplus, and a sine network.

Made for two and three dimensions alike (in the plane the papers' claims can be seen in seconds). All of them expect a
shape of about [-1, 1] on a side, as the papers scale theirs, and answer signed distance, negative inside.
`arguments` rebuilds a network: NETWORKS[network.name](**network.arguments).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """Hidden layers of equal width with the point joined again in the middle (DeepSDF, Park 2019, figure 4).

    dimension: of the points, 2 or 3.  hidden: width.  layers: how many hidden ones; from four on there is a skip.
    beta: softplus(beta y) / beta, nearly a ReLU at 100 (IGR, Gropp 2020, section 5); None for ReLU itself (SAL).
    initialisation: 'geometric' starts as the distance to a sphere of `radius` about 0 (SAL, Atzmon and Lipman 2020,
    theorem 1): without it the sign-agnostic losses find an unsigned answer. 'plain' is He's, for comparison.
    """

    name = "mlp"

    def __init__(
        self,
        dimension: int = 3,
        hidden: int = 128,
        layers: int = 6,
        beta: float | None = 100.0,
        initialisation: Literal["geometric", "plain"] = "geometric",
        radius: float = 0.5,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "dimension": dimension, "hidden": hidden, "layers": layers, "beta": beta,
            "initialisation": initialisation, "radius": radius,
        }  # fmt: skip
        self.dimension, self.beta = dimension, beta
        self.skip = layers // 2 if layers >= 4 else 0
        widths = [hidden - dimension if k + 1 == self.skip else hidden for k in range(layers)]
        given = [dimension, *(hidden for _ in widths[:-1])]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(given, widths, strict=True))
        self.last = nn.Linear(hidden, 1)
        self._initialise(initialisation, radius)

    @torch.no_grad()
    def _initialise(self, initialisation: str, radius: float) -> None:
        if initialisation == "plain":
            for layer in (*self.hidden, self.last):
                assert isinstance(layer, nn.Linear)
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
            return
        for layer in self.hidden:  # keeps the length of what comes in, on average: N(0, 2 / width)
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / layer.out_features))
            nn.init.zeros_(layer.bias)
        # The sum of the last ReLUs of a random direction is proportional to the length: |x|, less the radius.
        width = self.last.in_features
        nn.init.normal_(self.last.weight, math.sqrt(math.pi / width), 1e-4)
        nn.init.constant_(self.last.bias, -radius)
        # True for infinite width; what a finite one leaves to chance is measured.
        level, slope = _level_and_slope(self, self.dimension, radius)
        self.last.weight /= slope
        self.last.bias.copy_((self.last.bias - level) / slope)

    def forward(self, points: Tensor) -> Tensor:
        """(N, dimension) -> (N,) signed distance."""
        h = points
        for k, layer in enumerate(self.hidden):
            if k and k == self.skip:
                h = torch.cat([h, points], -1) / math.sqrt(2.0)  # as long as either of the two
            h = layer(h)
            h = F.relu(h) if self.beta is None else F.softplus(h, self.beta)
        answer: Tensor = self.last(h).squeeze(-1)
        return answer


class Siren(nn.Module):
    """sin(omega (W x + b)) in every hidden layer (SIREN, Sitzmann 2020).

    dimension, hidden, layers as in `Mlp`.  omega: omega_0, 30 in the paper.
    initialisation: 'sitzmann' is the paper's (section 3.2): uniform, so that every layer's input stays spread over
    the sine's range, in frequencies up to omega. 'digs' starts as a sphere of `radius` about 0 instead, its detail in
    some of the neurons only (multi-frequency geometric initialisation, DiGS, Ben-Shabat 2022, section 3.3).
    """

    name = "siren"

    def __init__(
        self,
        dimension: int = 3,
        hidden: int = 128,
        layers: int = 4,
        omega: float = 30.0,
        initialisation: Literal["sitzmann", "digs"] = "sitzmann",
        radius: float = 0.5,
    ) -> None:
        super().__init__()
        if layers < 2:
            raise ValueError("a sine network needs at least two hidden layers")
        self.arguments = {
            "dimension": dimension, "hidden": hidden, "layers": layers, "omega": omega,
            "initialisation": initialisation, "radius": radius,
        }  # fmt: skip
        self.dimension, self.omega = dimension, omega
        self.geometric = initialisation == "digs"
        self.hidden = nn.ModuleList(nn.Linear(dimension if k == 0 else hidden, hidden) for k in range(layers))
        self.last = nn.Linear(hidden, 1)
        # The geometric start needs its output's root taken, scaled and moved: see `forward`.
        self.gain: Tensor
        self.shift: Tensor
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))
        if self.geometric:
            self._start_as_sphere(radius)
        else:
            self._start_spread_out()

    @torch.no_grad()
    def _start_spread_out(self) -> None:
        for k, layer in enumerate((*self.hidden, self.last)):
            assert isinstance(layer, nn.Linear)
            reach = 1.0 / layer.in_features if k == 0 else math.sqrt(6.0 / layer.in_features) / self.omega
            nn.init.uniform_(layer.weight, -reach, reach)
            nn.init.uniform_(layer.bias, -1.0 / math.sqrt(layer.in_features), 1.0 / math.sqrt(layer.in_features))

    @torch.no_grad()
    def _start_as_sphere(self, radius: float) -> None:
        """Small arguments, where sin(y) is about y, make the first layers a random rotation; the last hidden layer's
        sin(pi/2 y + pi/2) is 1 - (pi/2 y)^2 / 2, so the sum of its shortfalls is about the squared length of x."""
        *early, late = [layer for layer in self.hidden if isinstance(layer, nn.Linear)]
        hidden = self.last.in_features
        for k, layer in enumerate(early):
            reach = math.sqrt(3.0 / hidden) / self.omega
            nn.init.uniform_(layer.weight, -reach, reach)
            nn.init.uniform_(layer.bias, -1e-3 * reach, 1e-3 * reach)
            # Three quarters of the first layer have SIREN's frequencies; the second hardly hears them at first.
            slow = hidden // 4
            if k == 0 and len(early) > 1:
                nn.init.uniform_(layer.weight[slow:], -1.0 / self.dimension, 1.0 / self.dimension)
                nn.init.uniform_(layer.bias[slow:], -math.pi / self.omega, math.pi / self.omega)
                layer.weight[:slow] *= math.sqrt(hidden / slow)
            if k == 1:
                layer.weight[:, slow:] *= 5e-3
        nn.init.eye_(late.weight)
        late.weight += 2e-3 * torch.randn_like(late.weight)
        late.weight *= 0.5 * math.pi / self.omega
        nn.init.constant_(late.bias, 0.5 * math.pi / self.omega)
        nn.init.constant_(self.last.weight, -1.0)
        nn.init.constant_(self.last.bias, float(hidden))
        level, slope = _level_and_slope(self, self.dimension, radius)
        self.gain.fill_(1.0 / slope)
        self.shift.fill_(-level / slope)

    @staticmethod
    def _signed_root(value: Tensor) -> Tensor:
        return value / torch.sqrt(value.abs() + 1e-3)

    def raw(self, points: Tensor) -> Tensor:
        h = points
        for layer in self.hidden:
            h = torch.sin(self.omega * layer(h))
        answer: Tensor = self.last(h).squeeze(-1)
        return answer

    def forward(self, points: Tensor) -> Tensor:
        """(N, dimension) -> (N,) signed distance."""
        value = self.raw(points)
        return self.gain * self._signed_root(value) + self.shift if self.geometric else value


def _level_and_slope(network: nn.Module, dimension: int, radius: float) -> tuple[float, float]:
    """Mean value on the sphere of this radius about 0, and its slope outwards there."""
    ring = F.normalize(torch.randn(1024, dimension), dim=1)
    low, middle, high = (float(network(factor * radius * ring).mean()) for factor in (0.95, 1.0, 1.05))
    return middle, max((high - low) / (0.1 * radius), 1e-6)


NETWORKS: dict[str, type[Mlp] | type[Siren]] = {Mlp.name: Mlp, Siren.name: Siren}


def gradient(value: Tensor, points: Tensor) -> Tensor:
    """grad f at points (N, D) that require gradients, from value (N,) = f(points); differentiable itself."""
    (answer,) = torch.autograd.grad(value.sum(), points, create_graph=True)
    return answer


def divergence(gradient_: Tensor, points: Tensor) -> Tensor:
    """div grad f (N,), the trace of the Hessian, from grad f (N, D) at points (N, D); differentiable itself.

    One backward pass a dimension: several times the cost of the gradient.
    """
    parts = [
        torch.autograd.grad(gradient_[:, k].sum(), points, create_graph=True)[0][:, k] for k in range(points.shape[1])
    ]
    return torch.stack(parts).sum(0)
