"""Where the codes of whole shapes lie: the distribution that new shapes are drawn from, stored in the prior's file.

A spatial code has thousands of numbers, but the codes of a few thousand shapes span far fewer: principal component
analysis keeps `K` coefficients, whitened to unit variance. Over these stand three distributions: one full-covariance
Gaussian, a mixture with a full-covariance Gaussian a class, and a small class-conditional diffusion model (elucidated
diffusion, Karras 2022: preconditioned denoiser, second-order deterministic sampler).
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError

DISTRIBUTIONS = ("gaussian", "mixture", "diffusion")

_SIGMA_MIN, _SIGMA_MAX, _RHO = 0.02, 20.0, 7.0
"""Noise levels of the diffusion, for data of unit variance (Karras 2022, table 1)."""


class Denoiser(nn.Module):
    """E[coefficients | noisy coefficients, noise level, class] by a residual MLP.

    size: coefficients.  classes: one embedding more stands for 'any class'.
    """

    def __init__(self, size: int, classes: int, width: int = 256, blocks: int = 3) -> None:
        super().__init__()
        self.arguments = {"size": size, "classes": classes, "width": width, "blocks": blocks}
        self.enter = nn.Linear(size, width)
        self.noise = nn.Linear(32, width)
        self.kind = nn.Embedding(classes + 1, width)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(width, 2 * width),
                           nn.Linear(2 * width, width)])
            for _ in range(blocks)
        )
        self.leave = nn.Linear(width, size)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        nn.init.normal_(self.kind.weight, std=0.1)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0.0, math.log(20.0), 16)))

    frequencies: Tensor

    def forward(self, noisy: Tensor, sigma: Tensor, labels: Tensor, dropout: float = 0.0) -> Tensor:
        """noisy: (N, K).  sigma: (N,) > 0.  labels: (N,) long, `classes` = any.  Returns (N, K) (Karras, eq. 7)."""
        skip = 1 / (sigma**2 + 1)
        out = sigma * torch.rsqrt(sigma**2 + 1)
        scaled = noisy * torch.rsqrt(sigma**2 + 1)[:, None]
        phase = (sigma.log() / 4)[:, None] * self.frequencies
        level = F.silu(self.noise(torch.cat([phase.sin(), phase.cos()], 1)) + self.kind(labels))
        h = self.enter(scaled)
        for block in self.blocks:
            parts: Any = block
            normalise, first, modulate, second = parts
            change = F.silu(first(normalise(h)) + modulate(level))
            h = h + second(F.dropout(change, dropout, self.training))
        value: Tensor = skip[:, None] * noisy + out[:, None] * self.leave(h)
        return value


@dataclass
class LatentModel:
    """classes: names in the order of labels.  code_shape: of one code; D numbers.

    mean: (D,).  basis: (K, D), orthonormal rows.  scales: (K,) standard deviations: coefficients = basis (code - mean)
    / scales.  shares: (C,) of the classes.  centres: (C, K), factors: (C, K, K) lower triangular, of the classes'
    Gaussians.  training: (M, K) coefficients of the shapes learnt from, with labels (M,) and names.  denoiser: the
    diffusion model, or None.  default: what `sample` draws from.  explained: (K,) cumulative share of the variance.
    """

    classes: list[str]
    code_shape: tuple[int, ...]
    mean: Tensor
    basis: Tensor
    scales: Tensor
    shares: Tensor
    centres: Tensor
    factors: Tensor
    training: Tensor
    labels: Tensor
    names: list[str]
    denoiser: Denoiser | None = None
    default: str = "mixture"
    explained: Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def size(self) -> int:
        """K, the number of coefficients."""
        return len(self.scales)

    @property
    def device(self) -> torch.device:
        return self.basis.device

    def project(self, codes: Tensor) -> Tensor:
        """codes (N, *code_shape) -> coefficients (N, K), of unit variance over the training shapes."""
        return (codes.reshape(len(codes), -1).to(self.basis.dtype) - self.mean) @ self.basis.T / self.scales

    def expand(self, coefficients: Tensor) -> Tensor:
        """coefficients (N, K) -> codes (N, *code_shape)."""
        return ((coefficients * self.scales) @ self.basis + self.mean).view(len(coefficients), *self.code_shape)

    def label(self, class_name: str | None) -> int | None:
        """Number of a class; None for None or ''. InputError for one the prior does not know."""
        if not class_name:
            return None
        if class_name not in self.classes:
            raise InputError(
                "class_unknown",
                f"There is no class called {class_name} in this prior.",
                f"It knows: {', '.join(self.classes)}.",
                "Choose one of them, or none for any.",
            )
        return self.classes.index(class_name)

    def class_mean(self, class_name: str | None) -> Tensor:
        """(K,) the centre of a class's Gaussian; zero, the mean of all, for none."""
        label = self.label(class_name)
        return torch.zeros_like(self.scales) if label is None else self.centres[label]

    def sample(
        self,
        count: int,
        class_name: str | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        distribution: str = "default",
    ) -> Tensor:
        """(count, K) coefficients of new shapes.

        temperature: 0 = the most typical shape, 1 = as varied as the training shapes.  generator: on the CPU, so that a
        seed means the same shapes on every device.  InputError for an unknown class or distribution.
        """
        distribution = self.default if distribution == "default" else distribution
        if distribution not in DISTRIBUTIONS or (distribution == "diffusion" and self.denoiser is None):
            have = [d for d in DISTRIBUTIONS if d != "diffusion" or self.denoiser is not None]
            raise InputError(
                "distribution_unknown",
                f"The prior has no latent distribution called {distribution}.",
                f"It has: {', '.join(have)}.",
                "Choose one of them.",
            )
        label = self.label(class_name)
        noise = torch.randn((count, self.size), generator=generator).to(self.device) * temperature
        if distribution == "gaussian":
            if label is not None:  # the class's own Gaussian is what 'full covariance' means for one class
                return self.centres[label] + noise @ self.factors[label].T
            return noise  # whitened: the covariance of all is the unit matrix
        if label is None:
            drawn = torch.multinomial(self.shares.cpu(), count, replacement=True, generator=generator).to(self.device)
        else:
            drawn = torch.full((count,), label, device=self.device)
        if distribution == "mixture":
            return self.centres[drawn] + (self.factors[drawn] @ noise[:, :, None])[:, :, 0]
        assert self.denoiser is not None
        return denoise(self.denoiser, noise * _SIGMA_MAX, drawn)

    def log_density(self, coefficients: Tensor, class_name: str | None = None, distribution: str = "mixture") -> Tensor:
        """(N, K) -> (N,) log density, natural units. 'gaussian', 'mixture' or 'diffusion' (slow: by its ODE)."""
        label = self.label(class_name)
        if distribution == "gaussian" and label is None:
            return -0.5 * (coefficients.square().sum(1) + self.size * math.log(2 * math.pi))
        if distribution == "diffusion":
            assert self.denoiser is not None
            chosen = len(self.classes) if label is None else label
            return ode_log_density(self.denoiser, coefficients, chosen)
        per_class = torch.stack([
            self._class_log_density(coefficients, k) for k in (range(len(self.classes)) if label is None else [label])
        ])
        if label is not None:
            return per_class[0]
        whole: Tensor = torch.logsumexp(per_class + self.shares.log()[:, None], 0)
        return whole

    def _class_log_density(self, coefficients: Tensor, label: int) -> Tensor:
        white = torch.linalg.solve_triangular(
            self.factors[label], (coefficients - self.centres[label]).T, upper=False
        )
        volume = self.factors[label].diagonal().log().sum()
        density: Tensor = -0.5 * (white.square().sum(0) + self.size * math.log(2 * math.pi)) - volume
        return density

    def class_posterior(self, coefficients: Tensor) -> Tensor:
        """(N, K) -> (N, C) probability of each class under the mixture."""
        every = torch.stack([self._class_log_density(coefficients, k) for k in range(len(self.classes))], 1)
        return (every + self.shares.log()).softmax(1)

    def nearest_training(self, coefficients: Tensor) -> tuple[Tensor, list[str]]:
        """(N, K) -> distances (N,), root mean square a coefficient, to the nearest training shapes, and their names."""
        distances = torch.cdist(coefficients, self.training) / math.sqrt(self.size)
        value, index = distances.min(1)
        return value, [self.names[k] for k in index.tolist()]

    def to(self, device: torch.device | str) -> LatentModel:
        """A copy on another device."""
        model = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(model, name, value.to(device))
        if self.denoiser is not None:
            model.denoiser = copy.deepcopy(self.denoiser).to(device)
        return model

    def tensors(self) -> dict[str, Tensor]:
        """For the prior's file; with `about`."""
        named = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
        named["names"] = torch.tensor(list("\n".join(self.names).encode()), dtype=torch.uint8)
        if self.denoiser is not None:
            named |= {f"denoiser.{k}": v for k, v in self.denoiser.state_dict().items()}
        return named

    def about(self) -> dict[str, Any]:
        """For the prior's card."""
        return {
            "code_shape": list(self.code_shape), "size": self.size, "default": self.default, "classes": self.classes,
            "denoiser": None if self.denoiser is None else self.denoiser.arguments,
        }


def latent_from(about: dict[str, Any], tensors: dict[str, Tensor]) -> LatentModel:
    """What `about` and `tensors` gave, again. Raises KeyError, TypeError, ValueError or RuntimeError for what does not
    fit together; the caller says which file it was."""
    tensors = dict(tensors)
    names = bytes(tensors.pop("names").to(torch.uint8).tolist()).decode().split("\n")
    denoiser = None
    if about["denoiser"] is not None:
        denoiser = Denoiser(**about["denoiser"])
        denoiser.load_state_dict({k[9:]: tensors.pop(k) for k in list(tensors) if k.startswith("denoiser.")})
        denoiser = denoiser.eval().requires_grad_(False)
    labels = tensors.pop("labels").long()
    model = LatentModel(
        classes=list(about["classes"]), code_shape=tuple(about["code_shape"]), names=names, labels=labels,
        denoiser=denoiser, default=str(about["default"]), **tensors,
    )
    size, count, number = model.size, len(model.classes), math.prod(model.code_shape)
    shapes = {
        "mean": (number,), "basis": (size, number), "shares": (count,), "centres": (count, size),
        "factors": (count, size, size), "training": (len(names), size), "labels": (len(names),),
    }
    for name, shape in shapes.items():
        if tuple(getattr(model, name).shape) != shape:
            raise ValueError(f"latent.{name} is {tuple(getattr(model, name).shape)}, not {shape}")
    return model


def noise_levels(steps: int, device: torch.device, largest: float = _SIGMA_MAX) -> Tensor:
    """(steps + 1,) from the largest to 0 (Karras 2022, eq. 5)."""
    t = torch.linspace(0, 1, steps, device=device)
    high, low = largest ** (1 / _RHO), min(_SIGMA_MIN, largest / 2) ** (1 / _RHO)
    return torch.cat([(high + t * (low - high)) ** _RHO, t.new_zeros(1)])


@torch.no_grad()
def denoise(
    denoiser: Denoiser, noise: Tensor, labels: Tensor, steps: int = 24, largest: float = _SIGMA_MAX
) -> Tensor:
    """Heun's method on the probability flow (Karras 2022, algorithm 1): noisy (N, K) at the largest level to data."""
    return follow(denoiser, noise, noise_levels(steps, noise.device, largest), labels)


@torch.no_grad()
def follow(denoiser: Denoiser, x: Tensor, levels: Tensor, labels: Tensor | int) -> Tensor:
    """x (N, K) at the first of the noise levels (L,), carried along the probability flow to the last, up or down."""
    if isinstance(labels, int):
        labels = torch.full((len(x),), labels, device=x.device)
    for now, then in itertools.pairwise(levels):
        slope = (x - denoiser(x, now.expand(len(x)), labels)) / now
        ahead = x + (then - now) * slope
        if then > 0:
            slope = (slope + (ahead - denoiser(ahead, then.expand(len(x)), labels)) / then) / 2
            ahead = x + (then - now) * slope
        x = ahead
    return x


def ode_log_density(denoiser: Denoiser, data: Tensor, label: int, steps: int = 24, probes: int = 16) -> Tensor:
    """(N,) log density of data (N, K) by the instantaneous change of variables along the probability flow (Song 2021,
    eq. 39), from the smallest noise level up.

    probes: random signs for Hutchinson's estimate of the divergence; the exact one where K is no larger.
    """
    levels = noise_levels(steps, data.device)[:-1].flip(0)
    count, size = data.shape
    labels = torch.full((count,), label, device=data.device)
    if size <= probes:
        signs = torch.eye(size, device=data.device)
    else:
        generator = torch.Generator().manual_seed(0)
        signs = (torch.randint(0, 2, (probes, size), generator=generator).to(data) * 2 - 1) / math.sqrt(probes)

    def both(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        def slope(at: Tensor) -> Tensor:
            out: Tensor = (at - denoiser(at, sigma.expand(count), labels)) / sigma
            return out

        value, pull = torch.func.vjp(slope, x)  # type: ignore[misc]  # a third only with has_aux
        divergence = x.new_zeros(count)
        for sign in signs:
            divergence = divergence + (pull(sign.expand_as(x))[0] * sign).sum(1)
        return value, divergence

    with torch.no_grad():
        x, gathered = data, data.new_zeros(count)
        for now, then in itertools.pairwise(levels):
            first, divergence = both(x, now)
            ahead = x + (then - now) * first
            second, after = both(ahead, then)
            x = x + (then - now) * (first + second) / 2
            gathered = gathered + (then - now) * (divergence + after) / 2
        last = float(levels[-1])
        variance = last**2 + 1
        base = -0.5 * (x.square().sum(1) / variance + size * math.log(2 * math.pi * variance))
        density: Tensor = base + gathered
        return density
