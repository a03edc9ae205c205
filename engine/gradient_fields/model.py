"""A shape as a field of gradients: where a point must go to come nearer to the surface, at every level of blur.

g(x, sigma, z) approximates sigma * grad log Q(x; sigma), Q the density of the surface's points blurred by N(0, sigma^2)
(Cai 2020, eq. 1-5; the factor sigma keeps the target's size the same at all levels). New codes z come from a GAN
(Achlioptas 2018, as the paper does) or from the latent distribution of the prior.

Other than the paper's, z is the spatial code of a prior (of a family that can 'features'), whose encoder and decoder
are taken as they are: the gradient field learns only to read gradients of a blurred density where the prior reads
signed distances. So an hour of one processor core is enough, any shape with a code can be made a cloud, and a gradient
field's file is small.
Canonical frame (longest side 1) throughout; the paper's noise levels belong to shapes of unit deviation, these are
scaled down accordingly.
"""

from __future__ import annotations

import hashlib
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
from ..fields.base import Clouds, Evidence, Posterior, require
from ..fields.registry import family
from ..frames import BOUND
from ..priors.file import Prior, load_prior
from ..priors.registry import list_priors

FORMAT = 2
SUFFIX = ".gradient.safetensors"


@dataclass
class Features:
    """Of shapes, for the score at any point. fine: (B, R, R, R, W).  coarse: (B, R/4, R/4, R/4, 4 W).  reader: weights
    and biases of the three layers that make a signed distance of the fine ones, and its unit."""

    fine: Tensor
    coarse: Tensor
    reader: tuple[Tensor, ...]

    @torch.no_grad()
    def near(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """points (B, P, 3) -> fine features there (B, P, W), signed distance (B, P) and its gradient (B, P, 3)."""
        batch, r, width = len(self.fine), self.fine.shape[1], self.fine.shape[-1]
        corners, slopes, t = _corners(points, batch, r)
        both = torch.stack([1 - t, t], -1)
        weights = [both[..., axis, :] for axis in range(3)]
        rows = []
        for axis in (None, 0, 1, 2):
            x, y, z = (slopes[:, axis] if k == axis else weights[k] for k in range(3))
            rows.append((x[..., :, None, None] * y[..., None, :, None] * z[..., None, None, :]).flatten(-3))
        table = self.fine.reshape(-1, width).index_select(0, corners.reshape(-1)).view(-1, 8, width)
        # (B P, 4, W): the features and their three derivatives
        jet = torch.bmm(torch.stack(rows, 1), table)
        w1, b1, w2, b2, w3, b3 = self.reader[:6]
        h = F.linear(torch.cat([jet[:, 0], points.reshape(-1, 3)], 1), w1, b1)
        change = jet[:, 1:] @ w1[:, :width].T + w1[:, width:].T
        for weight, bias in ((w2, b2), (w3, b3)):
            bent = h.sigmoid()
            change = change * (bent * (1 + h * (1 - bent)))[:, None]
            h, change = F.linear(h * bent, weight, bias), change @ weight.T
        unit = self.reader[6]
        shape = points.shape[:2]
        return jet[:, 0].view(*shape, -1), (unit * h).view(shape), (unit * change).view(*shape, 3)


def _corners(points: Tensor, batch: int, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """For points (B, P, 3), clamped to the box, on a grid of r^3 cells of each shape: numbers of the eight cells about
    (B P, 8), slopes of the weights of the lower and the upper ones (B P, 3, 2), and where between them (B P, 3)."""
    place = (points.reshape(-1, 3).clamp(-BOUND, BOUND) + BOUND) * (r / (2 * BOUND)) - 0.5
    inside = ((place > 0) & (place < r - 1)).to(points.dtype) * (r / (2 * BOUND))
    place = place.clamp(0, r - 1)
    corner = place.floor().clamp(max=r - 2)
    ijk = corner.long()
    base = (ijk[:, 0] * r + ijk[:, 1]) * r + ijk[:, 2]
    base = base + torch.arange(batch, device=points.device).repeat_interleave(points.shape[1]) * r**3
    steps = [(dx * r + dy) * r + dz for dx in (0, 1) for dy in (0, 1) for dz in (0, 1)]
    return base[:, None] + torch.tensor(steps, device=points.device), torch.stack([-inside, inside], -1), place - corner


def _interpolate(features: Tensor, points: Tensor) -> Tensor:
    """Trilinear interpolation of cell-centred features (B, R, R, R, W) at points (B, P, 3), clamped to the box ->
    (B, P, W). Differentiable in the features alone, and for that faster than `evidence.interpolate`."""
    batch, r, width = len(features), features.shape[1], features.shape[-1]
    corners, _, t = _corners(points, batch, r)
    both = torch.stack([1 - t, t], -1)
    weights = both[:, 0, :, None, None] * both[:, 1, None, :, None] * both[:, 2, None, None, :]
    found = F.embedding_bag(
        corners, features.reshape(-1, width), mode="sum", per_sample_weights=weights.reshape(-1, 8)
    )
    return found.view(batch, -1, width)


class ScoreNet(nn.Module):
    """g(x, sigma, z) from the features of z: residual blocks a point, shifted by noise level and whole shape.

    fine, coarse: numbers of the features.  cells: a side of the fine grid.  centre, spread: of the fine features over
    the shapes that are learnt from.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, fine: int, coarse: int, cells: int, hidden: int = 128, blocks: int = 3) -> None:
        super().__init__()
        self.arguments = {"fine": fine, "coarse": coarse, "cells": cells, "hidden": hidden, "blocks": blocks}
        self.cells = cells
        self.register_buffer("centre", torch.zeros(fine))
        self.register_buffer("spread", torch.ones(fine))
        self.context = nn.Linear(coarse, 32)
        self.enter = nn.Linear(fine + 32 + 15 + 8, hidden)
        self.shift = nn.Sequential(nn.Linear(9 + 2 * coarse, 128), nn.SiLU(), nn.Linear(128, blocks * 2 * hidden))
        self.first = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.leave = nn.Linear(hidden, 7)

    def forward(self, features: Features, points: Tensor, sigma: Tensor) -> Tensor:
        """points: (B, L, P, 3).  sigma: (B, L).  Returns (B, L, P, 3), about -noise."""
        batch, levels, count = points.shape[:3]
        flat = points.reshape(batch, levels * count, 3)
        near, distance, slope = features.near(flat)
        near = (near - self.centre) / self.spread
        # The way to the surface as the prior's signed distance has it.
        way = -distance[..., None] * slope / slope.square().sum(-1, keepdim=True).clamp(min=0.5)
        signed = torch.cat([4 * distance[..., None], (40 * distance[..., None]).tanh(), slope, (20 * way).tanh()], -1)
        around = _interpolate(self.context(features.coarse).float(), flat)
        # Where in its cell a point lies, smoothly; in float32, of which bfloat16 would lose the fourth digit.
        phase = flat * (math.pi * self.cells / (2 * BOUND))
        beyond = flat - flat.clamp(-BOUND, BOUND)
        waves = [phase.sin(), phase.cos(), (2 * phase).sin()]
        h = self.enter(torch.cat([near, signed, around, 2 * flat, *waves, 4 * beyond], -1))
        h = h.view(batch, levels, count, -1)
        log = sigma.log()[..., None]
        octaves = torch.cat([log / 3, *(f(log * k) for k in (0.5, 1.0, 2.0, 4.0) for f in (torch.sin, torch.cos))], -1)
        cells = features.coarse.flatten(1, 3)
        whole = torch.cat([cells.mean(1), cells.amax(1)], -1)[:, None].expand(-1, levels, -1)
        # Once a shape and noise level, not once a point.
        shifts = self.shift(torch.cat([octaves, whole], -1))[:, :, None].chunk(2 * len(self.first), -1)
        for k, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            h = h + second(F.silu(first(F.silu(h)) * (1 + shifts[2 * k]) + shifts[2 * k + 1]))
        with torch.autocast(points.device.type, enabled=False):
            broad, fine, share = self.leave(F.silu(h.float())).split([3, 3, 1], -1)
        # Far from the surface the way back is about sigma long whatever x is; near it it is a length in space, which
        # varies no faster than x does, and only divided by sigma grows steep. So each has an output of its own, and
        # the part of the latter that the signed distance knows already is only to be weighed.
        out: Tensor = broad + (0.03 * fine + share * way.view(points.shape)) / sigma[:, :, None, None]
        return out


class CodeGenerator(nn.Module):
    """Noise (B, noise) -> whitened coefficients of codes (B, K), trained against a critic (Wasserstein GAN, Gulrajani
    2017)."""

    def __init__(self, size: int, noise: int = 64, width: int = 256) -> None:
        super().__init__()
        self.noise, self.size = noise, size
        self.layers = nn.Sequential(
            nn.Linear(noise, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, size)
        )

    def forward(self, noise: Tensor) -> Tensor:
        coefficients: Tensor = self.layers(noise)
        return coefficients


class Critic(nn.Module):
    """Coefficients (B, K) -> (B,) how real they look."""

    def __init__(self, size: int, width: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(size, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
        )

    def forward(self, coefficients: Tensor) -> Tensor:
        value: Tensor = self.layers(coefficients).squeeze(-1)
        return value


def noise_levels(count: int = 10, largest: float = 0.35, smallest: float = 0.01) -> Tensor:
    """(count,) a geometric sequence, largest first (Cai 2020, section 5.1: ten from 1 to 0.01 for unit deviation).

    The smallest is half of what lies between two of 2,048 points of a shape. With the exact score, levels down to a
    third of it gave no better clouds.
    """
    return torch.logspace(math.log10(largest), math.log10(smallest), count)


@dataclass
class GradientField:
    """The trained family. prior: whose codes it reads.  card: JSON-serialisable.  generator: of coefficients of
    `prior.latent`; None before it is trained, and where the prior has no latent distribution."""

    prior: Prior
    score: ScoreNet
    card: dict[str, Any]
    generator: CodeGenerator | None = None

    @property
    def device(self) -> torch.device:
        return next(self.score.parameters()).device

    @property
    def levels(self) -> Tensor:
        return torch.tensor(self.card["noise_levels"], device=self.device)

    def encode(self, points: Tensor) -> Tensor:
        """(B, N, 3) points of whole surfaces -> codes (B, C, R/4, R/4, R/4). Without gradients, as the next two."""
        return encode_clouds(self.prior, points).mean.float()

    def decode(self, codes: Tensor) -> Features:
        """Codes (B, C, R/4, R/4, R/4) -> features for `step_to_surface`, once a shape."""
        return decode_codes(self.prior, codes)

    def observe(self, points: Tensor) -> Features:
        """(B, N, 3) points of whole surfaces -> features of their codes and of the points themselves, whose detail a
        code does not hold."""
        seen = encode_clouds(self.prior, points)
        return decode_codes(self.prior, seen.mean, seen.evidence)

    def step_to_surface(self, points: Tensor, sigma: float, features: Features) -> Tensor:
        """(B, N, 3) the way to the surface, as the field at noise level sigma sees it: sigma^2 grad log Q, the mean of
        the blurred points' displacement (Tweedie's formula)."""
        level = torch.full((len(points), 1), sigma, device=points.device)
        way: Tensor = sigma * self.score(features, points[:, None], level)[:, 0]
        return way


@torch.no_grad()
def encode_clouds(prior: Prior, points: Tensor) -> Posterior:
    """(B, N, 3) points of whole surfaces -> codes (their `mean`), and what the points themselves tell of detail.

    Raises InputError for a prior whose decoder has no features with a place in space."""
    require(prior.field, "features", prior.name)
    return prior.field.encode(prior.field.observe(Clouds.of_wholes(points)))


@torch.no_grad()
def decode_codes(prior: Prior, codes: Tensor, seen: Evidence | None = None) -> Features:
    """Codes (B, C, R/4, R/4, R/4) -> features for the score, once a shape. seen: of points that are there besides.

    Raises InputError as `encode_clouds`."""
    require(prior.field, "features", prior.name)
    found = prior.field.spatial_features(codes, seen)
    fine, coarse = (part.float().permute(0, 2, 3, 4, 1).contiguous() for part in (found.fine, found.coarse))
    return Features(fine, coarse, (*found.reader, torch.tensor(found.unit)))


def code_mark(prior: Prior) -> str:
    """Of the weights that make and read the prior's codes: the same as long as a code means the same."""
    digest = hashlib.sha256()
    for name, value in sorted(prior.field.state_dict().items()):
        digest.update(name.encode() + value.half().cpu().numpy().tobytes())
    return digest.hexdigest()


def save_gradient_field(path: Path, model: GradientField) -> None:
    """One safetensors file, weights in half precision, written atomically. The prior is not in it."""
    tensors = {f"score.{k}": v for k, v in model.score.state_dict().items()}
    card = {
        **model.card, "format": FORMAT, "score": model.score.arguments,
        "prior": {"name": model.prior.name, "code_mark": code_mark(model.prior)},
        "generator": None if model.generator is None else model.generator.size,
    }
    if model.generator is not None:
        tensors |= {f"generator.{k}": v for k, v in model.generator.state_dict().items()}
    half = {k: v.half().contiguous().cpu() for k, v in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    save_file(half, temporary, {"gradient_field": json.dumps(card)})
    os.replace(temporary, path)


def load_gradient_field(path: Path, device: torch.device) -> GradientField:
    """InputError where the file is missing, damaged or something else, or its prior is not there. Nothing in it is
    executed."""
    if not path.is_file():
        raise InputError(
            "gradient_field_missing", "The gradient field cannot be loaded.", f"There is no file {path.name}.",
            "Train one with `shapewright gradient train`, or choose another file.",
        )
    try:
        with safe_open(path, "pt") as file:
            card = json.loads(file.metadata()["gradient_field"])
            tensors = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118 (not a dictionary)
        if card["format"] != FORMAT:
            raise ValueError(f"its format is {card['format']}, not {FORMAT}")

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        score = ScoreNet(**card["score"])
        score.load_state_dict(part("score."))
        generator = None
        if card["generator"] is not None:
            generator = CodeGenerator(card["generator"])
            generator.load_state_dict(part("generator."))
        name, mark = str(card["prior"]["name"]), str(card["prior"]["code_mark"])
    except Exception as error:
        raise InputError(
            "gradient_field_damaged", f"{path.name} is not a gradient field that can be used.",
            f"{' '.join(str(error).split())[:300]}.", "Copy the file again, or train it anew.",
        ) from None
    prior = _prior_of(path.name, name, mark, device)
    for module in (score, generator):
        if module is not None:
            module.eval().requires_grad_(False).to(device)
    return GradientField(prior, score, card, generator)


def _has_features(architecture: str) -> bool:
    try:
        return "features" in family(architecture).can
    except InputError:
        return False  # of a family that this engine does not know


def _prior_of(file: str, name: str, mark: str, device: torch.device) -> Prior:
    """The prior whose codes the field reads: under its own name, or under any other."""
    found = [info for info in list_priors() if _has_features(info.architecture)]
    for info in sorted(found, key=lambda info: info.name != name):
        prior = load_prior(str(info.path), str(device))
        if code_mark(prior) == mark:
            return prior
    raise InputError(
        "gradient_field_prior", f"The gradient field {file} cannot be used.",
        f"It reads the codes of the prior {name}, which is not there or has been trained anew since.",
        f"Import that prior, or train the field anew: shapewright gradient train DATASET --prior {name} --name NAME.",
    )
