"""Damped Gauss-Newton on code and pose, with robust weights (Levenberg-Marquardt; Nocedal and Wright 2006, ch. 10)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..fields.base import Family, Posterior
from ..fields.shapes import Shape
from .evidence import Constraints
from .pose import NUMBERS, placed, similarities
from .settings import EMPTY_MARGIN, POSE_WEIGHT, CompletionSettings, Optimum

LM_POINTS = 1024
HUBER, FAR = 0.002, 0.05
"""Distances below HUBER count squared, above it as they are, beyond FAR hardly more than FAR."""
DENSE_NUMBERS, CG_STEPS = 1024, 6
ENOUGH = 0.02
"""No step is tried after one that lowered the cost by less than this share."""


class _Squares:
    """The least-squares problem of `by_levenberg_marquardt`: a batch of codes and poses, and what they should explain.

    The state is two tensors: shift (B, D), of the code from the posterior's mean in its standard deviations, and pose
    (B, 7) in units of _POSE_SCALES, of which the first `freedom` move.
    """

    def __init__(
        self, family: Family, posterior: Posterior, given: Constraints, settings: CompletionSettings,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.family, self.posterior, self.settings = family, posterior, settings
        device = posterior.mean.device
        self.deviation = posterior.deviation
        self.count = len(posterior.mean)
        self.numbers = posterior.mean[0].numel()
        self.freedom = NUMBERS[settings.pose]
        self.evaluations = 0

        def draw(many: int, total: int) -> Tensor:
            return torch.as_tensor(np.sort(rng.permutation(total)[:many]), device=device)

        picked = draw(LM_POINTS, len(given.points))
        surface = given.points[picked]
        parts = [(surface, 0.0, settings.surface)]
        if given.normals is not None and settings.normal > 0 and family.kind.signed:
            step = 0.01
            for sign in (step, -step):
                parts.append(((surface + sign * given.normals[picked])[::2], sign, settings.normal / step))
        self.on_surface = sum(len(at) for at, _, _ in parts)
        if len(given.rays):
            parts.append((given.rays[draw(LM_POINTS, len(given.rays))], EMPTY_MARGIN, settings.empty))
        self.points = torch.cat([at for at, _, _ in parts])
        self.want = torch.cat([at.new_full((len(at),), want) for at, want, _ in parts])
        self.weight = torch.cat([at.new_full((len(at),), weight / len(at)) for at, _, weight in parts])
        code = torch.full((self.numbers,), 2 * settings.latent / self.numbers, device=device)
        self.inner = torch.cat([code, torch.full((self.freedom,), 2 * POSE_WEIGHT, device=device)])
        """Second derivatives of what holds code and pose where they were expected, (D + freedom,)."""

    def codes(self, shift: Tensor) -> Tensor:
        mean = self.posterior.mean
        return mean + self.deviation * shift.view(mean.shape)

    def shape(self, shift: Tensor) -> Shape:
        return self.family.decode(self.codes(shift), self.posterior.evidence)

    def places(self, pose: Tensor) -> Tensor:
        return placed(self.points, pose)

    def values(self, shape: Shape, places: Tensor) -> Tensor:
        self.evaluations += self.count * len(self.points)
        return shape.values(places)

    def errors(self, shift: Tensor, pose: Tensor) -> Tensor:
        with torch.no_grad():
            return self.off(self.values(self.shape(shift), self.places(pose)))

    def off(self, value: Tensor) -> Tensor:
        """(B, N) what the field says less what it should; none where seen-empty space is empty."""
        error = value - self.want
        return torch.cat([error[:, : self.on_surface], error[:, self.on_surface :].clamp(max=0)], 1)

    def cost(self, error: Tensor, shift: Tensor, pose: Tensor) -> Tensor:
        size = error.abs()
        huber = torch.where(size < HUBER, 0.5 * size**2 / HUBER + 0.5 * HUBER, size)
        robust = huber / (1 + (size / FAR) ** 2).sqrt()
        return (
            (self.weight * robust).sum(1)
            + self.settings.latent * (shift**2).mean(1)
            + POSE_WEIGHT * (pose**2).sum(1)
        )

    def weights(self, error: Tensor) -> Tensor:
        """(B, N), of the squares that stand for the cost about these errors."""
        size = error.abs()
        weights = self.weight / size.clamp(min=HUBER) / (1 + (size / FAR) ** 2)
        active = torch.ones_like(error)
        active[:, self.on_surface :] = (error[:, self.on_surface :] < 0).to(error.dtype)
        return weights * active

    def by_pose(self, slope: Tensor, pose: Tensor) -> Tensor:
        """slope: (B, N, 3) of the field at the places -> (B, N, freedom) derivatives by the numbers of the pose."""
        columns = []
        for k in range(self.freedom):
            nudge = torch.zeros_like(pose)
            nudge[:, k] = 0.01
            columns.append(((self.places(pose + nudge) - self.places(pose - nudge)) / 0.02 * slope).sum(-1))
        return torch.stack(columns, -1) if columns else slope.new_zeros(*slope.shape[:2], 0)


def _dense_step(squares: _Squares, shift: Tensor, pose: Tensor, error: Tensor) -> Callable[[Tensor], Tensor]:
    """Linearises and returns the function damping (B,) -> step (B, D + freedom). The Jacobian is built whole, by one
    backward pass over per-point copies of the code."""
    count, points = squares.count, len(squares.points)
    with torch.enable_grad():
        codes = squares.codes(shift).detach()
        copies = codes[:, None].expand(-1, points, -1).reshape(-1, codes.shape[-1]).requires_grad_(True)
        places = squares.places(pose).requires_grad_(True)
        value = squares.values(squares.family.decode(copies), places.reshape(-1, 1, 3))
        by_code, by_place = torch.autograd.grad(value.sum(), [copies, places])
    by_code = by_code.view(count, points, -1) * squares.deviation.flatten(1)[:, None]
    jacobian = torch.cat([by_code, squares.by_pose(by_place, pose)], 2)
    weights = squares.weights(error)
    hessian = jacobian.transpose(1, 2) @ (weights[..., None] * jacobian)
    state = torch.cat([shift, pose[:, : squares.freedom]], 1)
    slope = (jacobian * (weights * error)[..., None]).sum(1) + squares.inner * state

    def solve(damping: Tensor) -> Tensor:
        ridge = hessian.diagonal(dim1=1, dim2=2) * damping[:, None]
        factor = torch.linalg.cholesky(hessian + torch.diag_embed(squares.inner + ridge))
        return -torch.cholesky_solve(slope[..., None], factor)[..., 0]

    return solve


def _krylov_step(squares: _Squares, shift: Tensor, pose: Tensor, error: Tensor) -> Callable[[Tensor], Tensor]:
    """As `_dense_step` for long codes: the normal equations are solved by conjugate gradients, with products by one
    forward difference and one backward pass each (truncated Newton; Nocedal and Wright 2006, sections 7.1 and 10.3)."""
    free = shift.clone().requires_grad_(True)
    with torch.enable_grad():
        places = squares.places(pose).requires_grad_(True)
        value = squares.values(squares.shape(free), places)
        by_place = torch.zeros_like(places)
        if squares.freedom:
            (by_place,) = torch.autograd.grad(value.sum(), places, retain_graph=True)
    base, numbers = value.detach(), squares.numbers
    by_pose = squares.by_pose(by_place.detach(), pose)
    weights = squares.weights(error)

    def back(u: Tensor) -> Tensor:
        (code,) = torch.autograd.grad(value, free, u, retain_graph=True)
        return torch.cat([code, torch.einsum("bnk,bn->bk", by_pose, u)], 1)

    def forth(v: Tensor) -> Tensor:
        small = 0.02 * numbers**0.5 / v[:, :numbers].norm(dim=1, keepdim=True).clamp(min=1e-12)
        with torch.no_grad():
            ahead = squares.values(squares.shape(shift + small * v[:, :numbers]), places.detach())
        change: Tensor = (ahead - base) / small + torch.einsum("bnk,bk->bn", by_pose, v[:, numbers:])
        return change

    state = torch.cat([shift, pose[:, : squares.freedom]], 1)
    slope = back(weights * error) + squares.inner * state

    def solve(damping: Tensor) -> Tensor:
        held = squares.inner * (1 + damping[:, None])
        return -_conjugate_gradients(lambda v: back(weights * forth(v)) + held * v, slope, squares.inner, CG_STEPS)

    return solve


def by_levenberg_marquardt(
    family: Family,
    posterior: Posterior,
    given: Constraints,
    start: Tensor,
    settings: CompletionSettings,
    rng: np.random.Generator,
    on_step: Callable[[float], None],
) -> Optimum:
    """Damped Gauss-Newton on code and pose from every one of `start` (B, *code shape), as one batch.

    The terms are Adam's (absolute distances, so iteratively reweighted squares: Huber near zero, Geman-McClure far
    away), but for the Eikonal one; normals count through the distances a step in front of and behind the points.
    """
    squares = _Squares(family, posterior, given, settings, rng)
    steps = family.schedule.newton if settings.steps is None else settings.steps
    shift = ((start - posterior.mean) / squares.deviation).detach().flatten(1)
    pose = shift.new_zeros(len(shift), 7)
    error = squares.errors(shift, pose)
    cost = squares.cost(error, shift, pose)
    history = [float(cost.min())]
    damping = torch.full_like(cost, 0.1)
    dense = family.schedule.pointwise and squares.numbers <= DENSE_NUMBERS
    linearise = _dense_step if dense else _krylov_step
    for step in range(steps):
        on_step(step / steps)
        solve = linearise(squares, shift, pose, error)
        before = cost
        for _ in range(3):
            change = solve(damping)
            tried_shift = shift + change[:, : squares.numbers]
            tried_pose = torch.cat([pose[:, : squares.freedom] + change[:, squares.numbers :],
                                    pose[:, squares.freedom :]], 1)  # fmt: skip
            tried_error = squares.errors(tried_shift, tried_pose)
            tried_cost = squares.cost(tried_error, tried_shift, tried_pose)
            better = tried_cost < cost
            shift = torch.where(better[:, None], tried_shift, shift)
            pose = torch.where(better[:, None], tried_pose, pose)
            error = torch.where(better[:, None], tried_error, error)
            cost = torch.where(better, tried_cost, cost)
            damping = torch.where(better, damping * 0.3, damping * 8)
            if better.all():
                break
        history.append(float(cost.min()))
        if settings.steps is None and bool((before - cost < ENOUGH * before).all()):
            break
    return Optimum(shift.view(posterior.mean.shape), similarities(pose), squares.evaluations, history)


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, diagonal: Tensor, steps: int
) -> Tensor:
    """Solves A x = right for a batch (B, D), A symmetric positive definite and known by its products, preconditioned by
    `diagonal` (D,), in `steps` steps."""
    x = torch.zeros_like(right)
    rest = right.clone()
    ahead = rest / diagonal
    direction = ahead.clone()
    old = (rest * ahead).sum(1, keepdim=True)
    for _ in range(steps):
        image = product(direction)
        along = old / (direction * image).sum(1, keepdim=True).clamp(min=1e-20)
        x = x + along * direction
        rest = rest - along * image
        ahead = rest / diagonal
        new = (rest * ahead).sum(1, keepdim=True)
        direction = ahead + new / old.clamp(min=1e-20) * direction
        old = new
    return x
