"""Learning a gradient field: denoising score matching over annealed noise levels, then a GAN over the codes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import Cancelled
from ..priors.file import Prior
from ..training.batches import Warp
from ..training.supervision import UNITS
from .model import (
    CodeGenerator,
    Critic,
    Features,
    GradientField,
    ScoreNet,
    decode_codes,
    encode_clouds,
    noise_levels,
)
from .sampling import ENCODED

LEVELS, MOVED = 16, 32
"""Noise levels of a step, and points of a shape that are blurred at each."""

TURNS = 8
"""Steps that a batch of shapes is kept for, with other points, levels and noise: encoding it costs five steps."""

FEWEST = 96
"""The sparsest cloud in training; half of the clouds are sparse, as what is densified is."""


def _clouds(surface: NDArray[np.int16], rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A deformed shape (stored surface points (N, 3)) as the encoder sees it, (ENCODED, 3), maybe sparse and noisy; and
    as it is, (N, 3)."""
    points = surface.astype(np.float32) / UNITS
    whole = Warp(rng, points).points(points)
    count = ENCODED if rng.random() < 0.5 else int(np.exp(rng.uniform(np.log(FEWEST), np.log(ENCODED))))
    given = rng.choice(whole[rng.choice(len(whole), count, replace=False)], ENCODED, replace=count < ENCODED)
    if rng.random() < 0.3:
        given = given + rng.normal(0.0, rng.uniform(0.0, 0.01), given.shape).astype(np.float32)
    return given, whole


def denoising_loss(score: ScoreNet, features: Features, clean: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """(B, L) mean |sigma g + noise|^2 / 3 over points: denoising score matching with weight sigma^2 (Cai 2020, eq. 6
    and 7).

    clean, noise: (B, L, P, 3), noise N(0, 1).  sigma: (B, L).
    """
    moved = clean + sigma[:, :, None, None] * noise
    loss: Tensor = (score(features, moved, sigma) + noise).square().mean((2, 3))
    return loss


def train_gradient_field(
    prior: Prior,
    records: NDArray[np.void],
    indices: NDArray[Any],
    classes: Sequence[str],
    folder: Path,
    *,
    weights: NDArray[Any] | None = None,
    steps: int = 8_000,
    batch: int = 8,
    hidden: int = 128,
    blocks: int = 3,
    learning_rate: float = 2e-3,
    gan_steps: int = 3_000,
    precision: str = "bfloat16",
    seed: int = 0,
    device: torch.device,
    on_progress: Callable[[str, float, float, float], None] = lambda stage, fraction, loss, left: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> GradientField:
    """The gradient field of records[indices] on the prior's codes, with its GAN (where the prior has a latent
    distribution that knows one of the classes).

    weights: how often each is drawn (None: all alike).  precision: 'float32' or 'bfloat16', of the prior and the wide
    layers; points, noise and the last layer are float32.  folder: holds the checkpoint; a run that was killed goes on
    there and ends in the same place (all randomness comes from seed and step).
    on_progress(stage, fraction, loss, seconds left).  Raises Cancelled, after saving.
    """
    torch.manual_seed(seed)
    like = decode_codes(prior, torch.zeros(1, *prior.field.code_shape, device=device))
    score = ScoreNet(like.fine.shape[-1], like.coarse.shape[-1], like.fine.shape[1], hidden, blocks).to(device)
    levels = noise_levels().to(device)
    average = {k: v.detach().clone() for k, v in score.state_dict().items()}
    optimiser = torch.optim.Adam(score.parameters(), lr=learning_rate, betas=(0.9, 0.99))
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "gradient_checkpoint.safetensors"
    first = _load(checkpoint, score, average, optimiser) if checkpoint.exists() else 0
    began = saved = time.monotonic()
    odds = None if weights is None else weights / weights.sum()
    largest, smallest = math.log(float(levels[0])), math.log(float(levels[-1]))
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    features, wholes = None, np.zeros((0, 0, 3), np.float32)
    recent: list[float] = []
    for step in range(first, steps):
        if features is None or step % TURNS == 0:
            rng = np.random.default_rng([seed, step // TURNS, 1])
            drawn = rng.choice(len(indices), batch, p=odds)
            given, several = zip(*(_clouds(records[indices[k]]["surface"], rng) for k in drawn), strict=True)
            wholes = np.stack(several)
            with half:
                seen = encode_clouds(prior, torch.as_tensor(np.stack(given), device=device))
                # Half of the time from the code alone, as new shapes are made; else as clouds are densified.
                features = decode_codes(prior, seen.mean, seen.evidence if rng.random() < 0.5 else None)
            if step == 0:
                score.centre.copy_(features.fine.mean((0, 1, 2, 3)))
                score.spread.copy_(features.fine.std((0, 1, 2, 3)).clamp(min=1e-4))
                average |= {name: score.state_dict()[name].clone() for name in ("centre", "spread")}
        rng = np.random.default_rng([seed, step])
        pick = rng.random(wholes.shape[:2]).argpartition(LEVELS * MOVED)[:, : LEVELS * MOVED]
        clean = torch.as_tensor(np.take_along_axis(wholes, pick[..., None], 1), device=device)
        clean = clean.view(batch, LEVELS, MOVED, 3)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        # One noise level in each sixteenth of their range, for every shape in every step.
        place = (torch.arange(LEVELS) + torch.rand((batch, LEVELS), generator=generator)) / LEVELS
        sigma = (largest + (smallest - largest) * place).exp().to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / steps))
        with half:
            loss = denoising_loss(score, features, clean, sigma, noise).mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(score.parameters(), 1.0)
        optimiser.step()
        recent.append(float(loss.detach()))
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in score.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        if (step + 1) % 50 == 0 or step + 1 == steps:
            left = (time.monotonic() - began) / (step + 1 - first) * (steps - step - 1)
            on_progress("Learning the gradient field", (step + 1) / steps, float(np.mean(recent)), left)
            recent.clear()
        if should_stop() or time.monotonic() - saved > 60 or step + 1 == steps:
            _save(checkpoint, score, average, optimiser, step + 1)
            saved = time.monotonic()
            if should_stop():
                raise Cancelled
    score.load_state_dict(average)
    score.eval().requires_grad_(False)

    card = {
        "classes": list(classes), "noise_levels": levels.tolist(), "shapes": len(indices), "steps": steps,
        "batch": batch, "learning_rate": learning_rate, "precision": precision, "seed": seed,
    }
    model = GradientField(prior, score, card)
    if prior.latent is not None:
        mine = torch.tensor([name in classes for name in prior.latent.classes], device=prior.latent.labels.device)
        known = prior.latent.training[mine[prior.latent.labels]]
        if len(known) > 1:
            model.generator = train_generator(
                known, steps=gan_steps, seed=seed, should_stop=should_stop,
                on_progress=lambda done, loss: on_progress("Learning to generate codes", done, loss, 0.0),
            )
    return model


def train_generator(
    codes: Tensor,
    *,
    steps: int,
    batch: int = 128,
    seed: int = 0,
    on_progress: Callable[[float, float], None] = lambda fraction, loss: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> CodeGenerator:
    """A Wasserstein GAN with gradient penalty over coefficients (M, K) (Gulrajani 2017, algorithm 1; five steps of
    the critic to one)."""
    torch.manual_seed(seed)
    device = codes.device
    generator, critic = CodeGenerator(codes.shape[1]).to(device), Critic(codes.shape[1]).to(device)
    mean, deviation = codes.mean(0), codes.std(0).clamp(min=1e-4)
    white = (codes - mean) / deviation
    ours = torch.optim.Adam(generator.parameters(), lr=5e-4, betas=(0.0, 0.9))
    theirs = torch.optim.Adam(critic.parameters(), lr=5e-4, betas=(0.0, 0.9))
    random = torch.Generator().manual_seed(seed)

    def noise() -> Tensor:
        return torch.randn((batch, generator.noise), generator=random).to(device)

    for step in range(steps):
        for _ in range(5):
            real = white[torch.randint(len(white), (batch,), generator=random).to(device)]
            fake = generator(noise()).detach()
            share = torch.rand((batch, 1), generator=random).to(device)
            between = (share * real + (1 - share) * fake).requires_grad_(True)
            slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0]
            loss = critic(fake).mean() - critic(real).mean() + 10 * (slope.norm(dim=1) - 1).square().mean()
            theirs.zero_grad()
            torch.autograd.backward(loss)
            theirs.step()
        cost = -critic(generator(noise())).mean()
        ours.zero_grad()
        torch.autograd.backward(cost)
        ours.step()
        if step % 50 == 0:
            on_progress(step / steps, float(loss.detach()))
            if should_stop():
                raise Cancelled
    with torch.no_grad():  # back to the codes' own scale, in the last layer
        last: Any = generator.layers[-1]
        last.weight.mul_(deviation[:, None])
        last.bias.mul_(deviation).add_(mean)
    return generator.eval().requires_grad_(False)


def _save(
    path: Path, modules: torch.nn.Module, average: dict[str, Tensor], optimiser: torch.optim.Optimizer, step: int
) -> None:
    tensors = {f"weights.{k}": v for k, v in modules.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for k, state in optimiser.state_dict()["state"].items():
        for part in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"optimiser.{k}.{part}"] = torch.as_tensor(state[part])
    temporary = path.with_suffix(".part")
    save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, temporary, {"step": str(step)})
    temporary.replace(path)


def _load(
    path: Path, modules: torch.nn.Module, average: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> int:
    from safetensors import safe_open

    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    modules.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("weights.")})
    for k in average:
        average[k].copy_(tensors[f"average.{k}"])
    groups = optimiser.state_dict()["param_groups"]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, number, part = name.split(".")
            state.setdefault(int(number), {})[part] = value
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    return step
