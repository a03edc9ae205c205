"""Learning where codes lie: the shapes learnt from are encoded whole, and `LatentModel` is fitted to their codes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import Cancelled
from ..fields.base import Clouds, Family
from ..priors.latent import _SIGMA_MAX, _SIGMA_MIN, Denoiser, LatentModel, ode_log_density
from .batches import Warp
from .supervision import UNITS

log = logging.getLogger(__name__)

COEFFICIENTS = 96
VARIANTS = 2
"""Copies of a shape that codes are learnt from: as it is, and deformed as in training."""


def encode_shapes(
    field: Family,
    records: NDArray[np.void],
    indices: NDArray[Any],
    *,
    variants: int = 1,
    seed: int = 0,
    batch: int = 8,
    on_progress: Callable[[float], None] = lambda fraction: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tensor:
    """(variants, len(indices), D) codes of whole shapes; variant 0 as they are, the others deformed at random."""
    device = next(field.parameters()).device
    codes = torch.zeros((variants, len(indices), math.prod(field.code_shape)), device=device)
    for variant in range(variants):
        for begin in range(0, len(indices), batch):
            if should_stop():
                raise Cancelled
            points = []
            for k in indices[begin : begin + batch]:
                surface = records[k]["surface"].astype(np.float32) / UNITS
                if variant:
                    rng = np.random.default_rng([seed, int(k), variant])
                    surface = Warp(rng, surface, pose_noise=False).points(surface)
                points.append(surface)
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
                clouds = Clouds.of_wholes(torch.as_tensor(np.stack(points), device=device))
                mean = field.encode(field.observe(clouds)).mean
            codes[variant, begin : begin + batch] = mean.float().reshape(len(points), -1)
            on_progress((variant + (begin + batch) / len(indices)) / variants)
    return codes


def fit_latent(
    codes: Tensor,
    labels: Tensor,
    names: Sequence[str],
    classes: Sequence[str],
    code_shape: tuple[int, ...],
    *,
    weights: Tensor | None = None,
    size: int = COEFFICIENTS,
    diffusion_steps: int = 4000,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda fraction: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> LatentModel:
    """codes: (V, M, D), variants of M shapes.  labels: (M,) long.  weights: (M,), how much each shape counts.

    Fewer shapes than `size` give fewer coefficients. Raises Cancelled.
    """
    variants, count, _ = codes.shape
    flat = codes.reshape(variants * count, -1)
    every = labels.repeat(variants)
    share = torch.ones(count) if weights is None else weights.detach().clone().float()
    share = (share / share.sum()).to(codes.device)
    weight = (share / variants).repeat(variants)
    mean = (flat * weight[:, None]).sum(0)
    size = max(1, min(size, len(flat) - 1, flat.shape[1]))
    torch.manual_seed(seed)
    rows = (flat - mean) * weight.sqrt()[:, None]
    _, _, basis = torch.svd_lowrank(rows, q=min(size + 16, *rows.shape), niter=4)
    basis = basis.T[:size].contiguous()
    coefficients = (flat - mean) @ basis.T
    variance = (coefficients.square() * weight[:, None]).sum(0).clamp(min=1e-12)
    total = (rows.square()).sum().clamp(min=1e-12)
    scales = variance.sqrt()
    white = coefficients / scales

    # Of one Gaussian a class: a class's own covariance, drawn towards the mean one within classes as it has few shapes.
    number = len(classes)
    centres, covariances, amounts = torch.zeros(number, size), torch.zeros(number, size, size), torch.zeros(number)
    within = torch.zeros(size, size)
    flat_weight, cpu = weight.cpu().double(), white.cpu().double()
    for k in range(number):
        mine = every.cpu() == k
        amounts[k] = float(mine.sum())
        if not mine.any():
            continue
        w = flat_weight[mine] / flat_weight[mine].sum()
        centre = (cpu[mine] * w[:, None]).sum(0)
        away = (cpu[mine] - centre) * w.sqrt()[:, None]
        centres[k], covariances[k] = centre.float(), (away.T @ away).float()
        within += float(flat_weight[mine].sum()) * covariances[k]
    unit = torch.eye(size)
    belief = float(size) / 2  # a class counts as much as the mean one once it has this many shapes
    blended = [
        (amounts[k] * covariances[k] + belief * within) / (amounts[k] + belief) + 1e-4 * unit for k in range(number)
    ]
    factors = torch.linalg.cholesky(torch.stack(blended))
    shares = torch.stack([share.cpu()[labels.cpu() == k].sum() for k in range(number)])

    denoiser = None
    if diffusion_steps > 0 and len(white) >= 64:
        denoiser = train_denoiser(
            white, every, number, weight, steps=diffusion_steps, seed=seed, on_progress=on_progress,
            should_stop=should_stop,
        )
    device = codes.device
    return LatentModel(
        list(classes), code_shape, mean, basis, scales, shares.clamp(min=1e-9).to(device), centres.to(device),
        factors.to(device), white[:count].contiguous(), labels.clone(), list(names), denoiser,
        "mixture" if denoiser is None else "diffusion", (variance.cumsum(0) / total),
    )


def train_denoiser(
    data: Tensor,
    labels: Tensor,
    classes: int,
    weights: Tensor,
    *,
    steps: int,
    batch: int = 256,
    learning_rate: float = 2e-3,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda fraction: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Denoiser:
    """data: (N, K) of unit variance.  labels: (N,).  Karras 2022, eq. 8 with its weighting; a tenth of the labels is
    dropped, so that 'any class' is learnt too. Returns the moving average of the weights."""
    device = data.device
    torch.manual_seed(seed)
    network = Denoiser(data.shape[1], classes, width=min(256, 64 + 2 * data.shape[1])).to(device)
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    odds = weights.cpu().double()
    network.train()
    for step in range(steps):
        if step % 50 == 0:
            on_progress(step / steps)
            if should_stop():
                raise Cancelled
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
        pick = torch.multinomial(odds, batch, replacement=True, generator=generator).to(device)
        clean, label = data[pick], labels.to(device)[pick].clone()
        label[(torch.rand(batch, generator=generator) < 0.1).to(device)] = classes
        sigma = (torch.randn(batch, generator=generator) * 1.2 - 0.8).exp().clamp(_SIGMA_MIN, _SIGMA_MAX).to(device)
        noisy = clean + sigma[:, None] * torch.randn(clean.shape, generator=generator).to(device)
        error = (network(noisy, sigma, label, dropout=0.1) - clean).square().mean(1)
        loss = (error * (sigma**2 + 1) / sigma**2).mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for k, v in network.state_dict().items():
                average[k].lerp_(v, 1 - decay)
    network.load_state_dict(average)
    return network.eval().requires_grad_(False)


def held_out_likelihood(model: LatentModel, codes: Tensor, labels: Tensor) -> dict[str, dict[str, float]]:
    """Mean log density a coefficient of held-out codes (N, D), by distribution: not knowing and knowing the class."""
    coefficients = model.project(codes)
    table: dict[str, dict[str, float]] = {}
    for kind in ("gaussian", "mixture") + (("diffusion",) if model.denoiser is not None else ()):
        known = torch.zeros(len(coefficients), device=model.device)
        for k, name in enumerate(model.classes):
            mine = (labels == k).to(model.device)
            if mine.any():
                known[mine] = model.log_density(coefficients[mine], name, kind)
        if kind == "diffusion":
            assert model.denoiser is not None
            unknown = ode_log_density(model.denoiser, coefficients, len(model.classes))
        else:
            unknown = model.log_density(coefficients, None, kind)
        table[kind] = {"any class": float(unknown.mean()) / model.size, "own class": float(known.mean()) / model.size}
    return table
