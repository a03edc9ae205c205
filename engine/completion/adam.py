"""Adam on code and pose, the papers' own optimiser (DeepSDF, Park 2019, section 4.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..fields import losses
from ..fields.adam import Adam
from ..fields.base import Family, Posterior
from ..fields.shapes import Shape
from .evidence import Constraints
from .pose import NUMBERS, corrections, padded, placed, similarities
from .settings import EMPTY_MARGIN, POSE_RATE, POSE_WEIGHT, CompletionSettings, Optimum


def _gradient(shape: Shape, points: Tensor) -> Tensor:
    """(B, N, 3) gradient of the shapes' values at points (B, N, 3), differentiable in what was decoded; of a field that
    is no distance its direction alone."""
    with torch.enable_grad():
        x = points.detach().requires_grad_(True)
        value = shape.values(x)
        slope = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
        return slope if shape.metric else F.normalize(slope, dim=-1)


def by_adam(
    family: Family,
    posterior: Posterior,
    given: Constraints,
    start: Tensor,
    settings: CompletionSettings,
    rng: np.random.Generator,
    on_step: Callable[[float], None],
) -> Optimum:
    """Adam on the code, and on the numbers of the pose that settings.pose frees, from every one of `start`
    (B, *code shape) as one batch: its steps are those of each alone, but for rounding."""
    count = len(start)
    deviation = posterior.deviation
    steps = family.schedule.steps if settings.steps is None else settings.steps
    rate = family.schedule.rate if settings.learning_rate is None else settings.learning_rate
    shift = ((start - posterior.mean) / deviation).detach().clone().requires_grad_(True)
    groups: list[dict[str, Any]] = [{"params": [shift], "lr": rate / float(deviation.mean())}]
    freedom = NUMBERS[settings.pose]
    moved = torch.zeros(count, freedom, device=start.device, requires_grad=freedom > 0)
    if freedom:
        groups.append({"params": [moved], "lr": POSE_RATE})
    optimiser = Adam(groups, betas=(0.9, 0.95))
    evaluations, history = 0, []
    best = torch.full((count,), math.inf, device=start.device)
    best_shift, best_moved = shift.detach().clone(), moved.detach().clone()

    def draw(many: int, total: int) -> Tensor:
        return torch.as_tensor(rng.permutation(total)[:many], device=start.device)

    def at(points: Tensor) -> Tensor:
        return placed(points, padded(moved)) if freedom else points.expand(count, -1, -1)

    for step in range(steps + 1):
        on_step(step / max(1, steps))
        with torch.enable_grad():
            shape = family.decode(posterior.mean + deviation * shift, posterior.evidence)
            picked = draw(2048, len(given.points))
            distance = shape.values(at(given.points[picked]))
            costs = [settings.surface * losses.surface(distance[k]) for k in range(count)]
            evaluations += distance.numel()
            if len(given.rays):
                free = shape.values(at(given.rays[draw(2048, len(given.rays))]))
                evaluations += free.numel()
                for k in range(count):
                    costs[k] = costs[k] + settings.empty * losses.seen_empty(free[k], EMPTY_MARGIN)
            if shape.signed and (settings.eikonal > 0 or (settings.normal > 0 and given.normals is not None)):
                some = picked[:512]
                gradient = _gradient(shape, at(given.points[some]))
                evaluations += gradient[..., 0].numel()
                for k in range(count):
                    costs[k] = costs[k] + settings.eikonal * losses.eikonal(gradient[k])
                if given.normals is not None:
                    turns = corrections(padded(moved))[1]
                    for k in range(count):
                        wanted = given.normals[some] @ turns[k].T if freedom else given.normals[some]
                        costs[k] = costs[k] + settings.normal * losses.normal(gradient[k], wanted)
            for k in range(count):
                costs[k] = costs[k] + settings.latent * (shift[k] ** 2).mean() + POSE_WEIGHT * (moved[k] ** 2).sum()
            loss = torch.stack(costs)
        now = loss.detach()
        history.append(float(now.min()))
        better = now < best
        best = torch.where(better, now, best)
        best_shift[better], best_moved[better] = shift.detach()[better], moved.detach()[better]
        if step < steps:
            optimiser.zero_grad()
            torch.autograd.backward(loss.sum())
            optimiser.step()
    return Optimum(best_shift, similarities(padded(best_moved)), evaluations, history)
