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
from ..training.batches import Warp
from ..training.latent import fit_latent
from ..training.supervision import UNITS
from .model import CodeGenerator, Critic, GradientField, PointEncoder, ScoreNet, noise_levels

ENCODED, MOVED = 1024, 512
"""Points of a shape that the encoder sees, and that are blurred and moved back, in a step."""


def _points(record: NDArray[np.void], rng: np.random.Generator, augment: bool) -> NDArray[np.float32]:
    surface = record["surface"].astype(np.float32) / UNITS
    return Warp(rng, surface, pose_noise=False).points(surface) if augment else surface


def denoising_loss(score: ScoreNet, clean: Tensor, code: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Mean |sigma g + noise|^2 / 3 over points: denoising score matching with weight sigma^2 (Cai 2020, eq. 6 and 7).

    clean, noise: (B, N, 3), noise N(0, 1).  sigma: (B,).  code: (B, C).
    """
    moved = clean + sigma[:, None, None] * noise
    loss: Tensor = (score(moved, sigma, code) + noise).square().mean()
    return loss


def train_gradient_field(
    records: NDArray[np.void],
    indices: NDArray[Any],
    labels: NDArray[Any],
    classes: Sequence[str],
    names: Sequence[str],
    folder: Path,
    *,
    steps: int = 6_000,
    batch: int = 16,
    width: int = 192,
    blocks: int = 5,
    code: int = 128,
    learning_rate: float = 1e-3,
    gan_steps: int = 3_000,
    seed: int = 0,
    device: torch.device,
    on_progress: Callable[[str, float, float, float], None] = lambda stage, fraction, loss, left: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> GradientField:
    """records[indices] -> a trained family, with GAN and latent distribution. labels: class numbers of the indices.

    folder: holds the checkpoint; a run that was killed goes on there and ends in the same place (all randomness comes
    from seed and step).  on_progress(stage, fraction, loss, seconds left).  Raises Cancelled, after saving.
    """
    torch.manual_seed(seed)
    encoder, score = PointEncoder(code).to(device), ScoreNet(code, width, blocks).to(device)
    levels = noise_levels().to(device)
    modules = torch.nn.ModuleDict({"encoder": encoder, "score": score})
    average = {k: v.detach().clone() for k, v in modules.state_dict().items()}
    optimiser = torch.optim.Adam(modules.parameters(), lr=learning_rate)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "gradient_checkpoint.safetensors"
    first = _load(checkpoint, modules, average, optimiser) if checkpoint.exists() else 0
    began = saved = time.monotonic()

    def save(step: int) -> None:
        _save(checkpoint, modules, average, optimiser, step)

    recent: list[float] = []
    for step in range(first, steps):
        rng = np.random.default_rng([seed, step])
        clouds = []
        for k in rng.choice(indices, batch):
            cloud = _points(records[k], rng, augment=True)
            clouds.append(cloud[rng.choice(len(cloud), ENCODED + MOVED, replace=False)])
        points = torch.as_tensor(np.stack(clouds), device=device)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        sigma = levels[torch.randint(len(levels), (batch,), generator=generator).to(device)]
        noise = torch.randn((batch, MOVED, 3), generator=generator).to(device)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / steps))
        z = encoder(points[:, :ENCODED])
        # A little noise on the code makes neighbouring codes mean neighbouring shapes.
        z = z + 0.02 * torch.randn(z.shape, generator=generator).to(device)
        loss = denoising_loss(score, points[:, ENCODED:], z, sigma, noise) + 1e-4 * z.square().mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimiser.step()
        recent.append(float(loss.detach()))
        decay = min(0.998, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in modules.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        if (step + 1) % 50 == 0 or step + 1 == steps:
            left = (time.monotonic() - began) / (step + 1 - first) * (steps - step - 1)
            on_progress("Learning the gradient field", (step + 1) / steps, float(np.mean(recent)), left)
            recent.clear()
        if should_stop() or time.monotonic() - saved > 60 or step + 1 == steps:
            save(step + 1)
            saved = time.monotonic()
            if should_stop():
                raise Cancelled
    modules.load_state_dict(average)
    modules.eval().requires_grad_(False)

    card = {
        "classes": list(classes), "code": code, "width": width, "blocks": blocks, "encoder_width": 128,
        "noise_levels": levels.tolist(), "shapes": len(indices), "steps": steps,
    }
    model = GradientField(encoder, score, card)
    codes = torch.cat([_encode_all(model, records, indices, seed, augment) for augment in (False, True)])
    twice = torch.as_tensor(np.concatenate([labels, labels]), dtype=torch.long)
    model.generator = train_generator(
        codes, steps=gan_steps, seed=seed, should_stop=should_stop,
        on_progress=lambda done, loss: on_progress("Learning to generate codes", done, loss, 0.0),
    )
    model.latent = fit_latent(
        codes.view(2, len(indices), -1), twice[: len(indices)], names, classes, (code,), size=48, diffusion_steps=2000,
        seed=seed, should_stop=should_stop,
    )
    return model


def _encode_all(
    model: GradientField, records: NDArray[np.void], indices: NDArray[Any], seed: int, augment: bool
) -> Tensor:
    codes = []
    for begin in range(0, len(indices), 32):
        clouds = []
        for k in indices[begin : begin + 32]:
            rng = np.random.default_rng([seed, int(k), int(augment)])
            cloud = _points(records[k], rng, augment)
            clouds.append(cloud[rng.choice(len(cloud), 2 * ENCODED, replace=False)])
        with torch.no_grad():
            codes.append(model.encoder(torch.as_tensor(np.stack(clouds), device=model.device)))
    return torch.cat(codes)


def train_generator(
    codes: Tensor,
    *,
    steps: int,
    batch: int = 128,
    seed: int = 0,
    on_progress: Callable[[float, float], None] = lambda fraction, loss: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> CodeGenerator:
    """A Wasserstein GAN with gradient penalty over codes (M, C) (Gulrajani 2017, algorithm 1; critic five steps to
    one)."""
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
