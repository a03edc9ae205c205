"""A shape as a field of gradients: where a point must go to come nearer to the surface, at every level of blur.

g(x, sigma, z) approximates sigma * grad log Q(x; sigma), Q the density of the surface's points blurred by N(0, sigma^2)
(Cai 2020, eq. 1-5; the factor sigma keeps the target's size the same at all levels). z is the code of an encoder over
points (PointNet, Qi 2017), so one network holds a family of shapes; new codes come from a GAN (Achlioptas 2018, as the
paper does) or from the same distribution that priors have.
Canonical frame (longest side 1) throughout; the paper's noise levels belong to shapes of unit deviation, these are
scaled down accordingly.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..priors.latent import LatentModel, latent_from

FORMAT = 1
SUFFIX = ".gradient.safetensors"


class PointEncoder(nn.Module):
    """(B, N, 3) points -> (B, code): an MLP a point, the maximum over points, an MLP (PointNet without alignment)."""

    def __init__(self, code: int = 128, width: int = 128) -> None:
        super().__init__()
        self.points = nn.Sequential(
            nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 4 * width)
        )
        self.head = nn.Sequential(nn.Linear(4 * width, 2 * width), nn.SiLU(), nn.Linear(2 * width, code))

    def forward(self, points: Tensor) -> Tensor:
        code: Tensor = self.head(self.points(2 * points).amax(1))
        return code


class ScoreNet(nn.Module):
    """g(x, sigma, z): residual blocks whose features are scaled and shifted by code and noise level."""

    def __init__(self, code: int = 128, width: int = 192, blocks: int = 5) -> None:
        super().__init__()
        self.enter = nn.Linear(3 + 3 * 2 * 4, width)
        self.condition = nn.ModuleList(nn.Linear(code + 1, 2 * width) for _ in range(blocks))
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.leave = nn.Linear(width, 6)
        for layer in self.condition:
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, points: Tensor, sigma: Tensor, code: Tensor) -> Tensor:
        """points: (B, N, 3).  sigma: (B,).  code: (B, C).  Returns (B, N, 3), about -(noise) / sigma."""
        waves = torch.cat([points * (math.pi * 2.0**k) for k in range(4)], -1)
        h = self.enter(torch.cat([2 * points, waves.sin(), waves.cos()], -1))
        given = torch.cat([code, sigma.log()[:, None] / 3], 1)
        for condition, first, second in zip(self.condition, self.first, self.second, strict=True):
            scale, shift = condition(given)[:, None].chunk(2, -1)
            h = h + second(F.silu(first(F.silu(h)) * (1 + scale) + shift))
        # Far from the surface the way back is about sigma long whatever x is; near it it is a length in space, which
        # varies no faster than x does, and only divided by sigma grows steep. So each has an output of its own.
        broad, fine = self.leave(h).chunk(2, -1)
        out: Tensor = broad + fine * (0.03 / sigma)[:, None, None]
        return out


class CodeGenerator(nn.Module):
    """Noise (B, noise) -> codes (B, code), trained against a critic (Wasserstein GAN, Gulrajani 2017)."""

    def __init__(self, code: int = 128, noise: int = 64, width: int = 256) -> None:
        super().__init__()
        self.noise = noise
        self.layers = nn.Sequential(
            nn.Linear(noise, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, code)
        )

    def forward(self, noise: Tensor) -> Tensor:
        code: Tensor = self.layers(noise)
        return code


class Critic(nn.Module):
    """Codes (B, code) -> (B,) how real they look."""

    def __init__(self, code: int = 128, width: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(code, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
        )

    def forward(self, codes: Tensor) -> Tensor:
        value: Tensor = self.layers(codes).squeeze(-1)
        return value


def noise_levels(count: int = 10, largest: float = 0.35, smallest: float = 0.006) -> Tensor:
    """(count,) a geometric sequence, largest first (Cai 2020, section 5.1: ten from 1 to 0.01 for unit deviation)."""
    return torch.logspace(math.log10(largest), math.log10(smallest), count)


@dataclass
class GradientField:
    """The trained family. card: JSON-serialisable, with `classes`.  latent: of the encoder's codes; None before it is
    fitted.  generator: None before it is trained."""

    encoder: PointEncoder
    score: ScoreNet
    card: dict[str, Any]
    generator: CodeGenerator | None = None
    latent: LatentModel | None = None

    @property
    def device(self) -> torch.device:
        return next(self.score.parameters()).device

    @property
    def levels(self) -> Tensor:
        return torch.tensor(self.card["noise_levels"], device=self.device)

    def step_to_surface(self, points: Tensor, sigma: float, code: Tensor) -> Tensor:
        """(B, N, 3) the way to the surface, as the field at noise level sigma sees it: sigma^2 grad log Q, the mean of
        the blurred points' displacement (Tweedie's formula)."""
        level = torch.full((len(points),), sigma, device=points.device)
        way: Tensor = sigma * self.score(points, level, code)
        return way


def save_gradient_field(path: Path, model: GradientField) -> None:
    """One safetensors file, weights in half precision, written atomically."""
    tensors = {f"encoder.{k}": v for k, v in model.encoder.state_dict().items()}
    tensors |= {f"score.{k}": v for k, v in model.score.state_dict().items()}
    card = {"format": FORMAT, "generator": model.generator is not None, **model.card}
    if model.generator is not None:
        tensors |= {f"generator.{k}": v for k, v in model.generator.state_dict().items()}
    if model.latent is not None:
        card["latent"] = model.latent.about()
        tensors |= {f"latent.{k}": v for k, v in model.latent.tensors().items()}
    half = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    save_file(half, temporary, {"gradient_field": json.dumps(card)})
    os.replace(temporary, path)


def load_gradient_field(path: Path, device: torch.device) -> GradientField:
    """InputError where the file is missing, damaged or something else. Nothing in it is executed."""
    if not path.is_file():
        raise InputError(
            "gradient_field_missing", "The gradient field cannot be loaded.", f"There is no file {path.name}.",
            "Train one with `shapewright gradient train`, or choose another file.",
        )
    try:
        with safe_open(path, "pt") as file:
            card = json.loads(file.metadata()["gradient_field"])
            tensors = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118 (not a dictionary)

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        code = int(card["code"])
        encoder, score = PointEncoder(code, card["encoder_width"]), ScoreNet(code, card["width"], card["blocks"])
        encoder.load_state_dict(part("encoder."))
        score.load_state_dict(part("score."))
        generator = None
        if card["generator"]:
            generator = CodeGenerator(code)
            generator.load_state_dict(part("generator."))
        latent = latent_from(card["latent"], part("latent.")).to(device) if "latent" in card else None
    except Exception as error:
        raise InputError(
            "gradient_field_damaged", f"{path.name} is not a gradient field that can be used.",
            f"{' '.join(str(error).split())[:300]}.", "Copy the file again, or train it anew.",
        ) from None
    for module in (encoder, score, generator):
        if module is not None:
            module.eval().requires_grad_(False).to(device)
    return GradientField(encoder, score, card, generator, latent)
