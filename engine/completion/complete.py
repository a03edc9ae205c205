"""Completion in the canonical frame: evidence -> code -> optimised code -> refined field.

The code starts at the encoder's posterior mean and is moved by the evidence: observed points lie on the surface (and
have their normals, where given), space that was looked through is empty, the field stays a signed distance near its
surface (Eikonal), and the code stays where the posterior puts it. Weights follow the classroom version of the
completion by Eikonal test-time optimisation and DeepSDF (Park 2019, sections 4.3 and 6.3), with the latent prior
N(mean, variance) that the encoder gives in place of N(0, sigma^2).

Two optimisers, both on code and pose together and on several starts as one batch: Adam (`_adam`), the papers' own, and
damped Gauss-Newton with robust weights (`_levenberg_marquardt`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import Cancelled
from ..fields import losses
from ..fields.adam import Adam
from ..fields.families.grid import Encoded
from ..fields.observations import evidence as ev
from ..frames import BOUND
from ..geometry.clouds import PointCloud
from ..geometry.transforms import Similarity
from ..priors.file import Prior
from .refinement import Residual, fit_residual
from .symmetry import AGREES, LookedThrough, revolved, symmetries

EVIDENCE_POINTS = 4096
RAY_POINTS = 2048
MOST_IMAGES = 40_000
"""About an axis of revolution."""
EMPTY_MARGIN = 0.01
LM_POINTS = 1024
HUBER, FAR = 0.002, 0.05
"""Distances below HUBER count squared, above it as they are, beyond FAR hardly more than FAR."""
POSE_WEIGHT, POSE_RATE = 1e-4, 0.05
"""What holds the pose where it was found, and Adam's step for it; in units of _POSE_SCALES."""
DENSE_NUMBERS, CG_STEPS = 1024, 6
NEWTON_STEPS, ENOUGH = {"grid": 6, "deepsdf": 20}, 0.02
"""At most so many steps, and none after one that lowered the cost by less than this share: two as a rule for `grid`."""


@dataclass
class CompletionSettings:
    """steps, learning_rate: of the optimiser on the code; None = the architecture's own.
    surface, normal, eikonal, empty, latent: weights of the terms.  refine: correct the field near the observed points.
    symmetry: images of what was seen count where they agree.  noise: standard deviation of the points in canonical
    units, None = estimated.  temperature: how far starts are drawn around the posterior's mean (0 = at it).  optimiser:
    'lm' is damped Gauss-Newton, 'adam' the reference.  pose: what of the pose it may correct on the way.  from_encoder:
    start at the encoder's code; else at 0, the prior's mean, as without an encoder.
    """

    optimiser: Literal["lm", "adam"] = "adam"
    pose: Literal["fixed", "scale", "yaw", "similarity"] = "fixed"
    from_encoder: bool = True

    steps: int | None = None
    learning_rate: float | None = None
    surface: float = 1.0
    normal: float = 0.02
    eikonal: float = 0.003
    empty: float = 1.0
    latent: float = 0.01
    refine: bool = True
    symmetry: bool = True
    noise: float | None = None
    temperature: float = 0.0
    seed: int = 0


@dataclass
class Completion:
    """A shape: its code (C, 8, 8, 8), the feature grid decoded from it, the correction near observed points.

    data: mean |f| at the observed points before refinement.  empty: mean violation of seen-empty space.
    latent: mean squared distance of the code from the posterior mean in standard deviations.
    evaluations: field queries spent.  pose: correction that the optimisation found, from the frame of the cloud it was
    given to the canonical frame of this completion.  symmetry: whose images the correction used.
    """

    prior: Prior
    code: Tensor
    features: Tensor
    residual: Residual | None
    data: float
    empty: float
    latent: float
    evaluations: int
    history: list[float] = field(default_factory=list)
    pose: Similarity = field(default_factory=Similarity)
    symmetry: str = ""

    def signed_distance(self, points: Tensor) -> Tensor:
        """(N, 3) canonical -> (N,) signed distance, negative inside. No gradients are kept."""
        value = self.uncorrected(points)
        return value if self.residual is None else value + self.residual(points)

    def uncorrected(self, points: Tensor) -> Tensor:
        """As `signed_distance`, without the correction near the observed points."""
        with torch.no_grad():
            return self.prior.field.query(self.features, points[None])[0]

    @property
    def score(self) -> float:
        """Negative log posterior up to constants, per number; lower is better. Ranks hypotheses."""
        return self.data / 0.005 + self.empty / 0.005 + 0.5 * self.latent


@dataclass
class _Evidence:
    """What was observed. images: of `points` about an axis of revolution, where there is one, and their normals."""

    points: Tensor  # (N, 3)
    normals: Tensor | None
    rays: Tensor  # (R, 3) samples of seen-empty space, possibly none
    grid: Tensor  # (1, CHANNELS, R, R, R)
    viewpoint: Tensor | None = None  # (3,)
    images: tuple[Tensor, Tensor | None] | None = None  # (M, 3) each


@dataclass
class _Optimum:
    """shift: (B, *code shape), of the code from the posterior's mean in its standard deviations.  poses: B.  history:
    the lowest cost of the batch, step by step."""

    shift: Tensor
    poses: list[Similarity]
    evaluations: int
    history: list[float]


def _gather(prior: Prior, cloud: PointCloud, symmetry: bool, rng: np.random.Generator) -> _Evidence:
    device = prior.device

    def tensor(values: NDArray[np.floating[Any]]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=device)

    points = tensor(cloud.points)
    normals = None if cloud.normals is None else tensor(cloud.normals)
    viewpoint = None if cloud.viewpoint is None else tensor(cloud.viewpoint)
    some = points[torch.as_tensor(rng.permutation(len(points))[:EVIDENCE_POINTS], device=device)]
    empty = points.new_zeros(0, 3)
    if viewpoint is not None:
        ends = points[torch.as_tensor(rng.permutation(len(points))[:RAY_POINTS], device=device)]
        towards = viewpoint - ends
        length = towards.norm(dim=1, keepdim=True)
        near = tensor(0.02 + 0.3 * rng.random((len(ends), 1)) ** 2)
        far = tensor(rng.random((len(ends), 1))) * length
        empty = torch.cat([ends + towards / length * torch.minimum(along, length) for along in (near, far)])
        empty = empty[(empty.abs() < BOUND).all(1)]
    turned = revolved(cloud, MOST_IMAGES) if symmetry else None
    if turned is None:
        grid = ev.cloud_evidence(some, viewpoint, prior.field.resolution)
        images = None
    else:
        images = tensor(turned.points), None if turned.normals is None else tensor(turned.normals)
        chosen = np.random.default_rng(len(turned.points)).permutation(len(turned.points))[:EVIDENCE_POINTS]
        at = torch.cat([some, images[0][torch.as_tensor(chosen, device=device)]])[None]
        weights = at.new_full(at.shape[:2], min(1.0, 2048 / len(some)))
        seen = (torch.arange(at.shape[1], device=device) < len(some)) * weights
        origin = points.new_zeros(3) if viewpoint is None else viewpoint
        rays = torch.zeros_like(seen) if viewpoint is None else seen
        grid = ev.evidence_grid(at, weights, origin.expand_as(at), rays, prior.field.resolution)
    grid = grid.contiguous(memory_format=torch.channels_last_3d)
    return _Evidence(points, normals, empty, grid, viewpoint, images)


def _gradient(prior: Prior, features: Tensor, points: Tensor) -> Tensor:
    """(B, N, 3) gradient of the fields at their points (B, N, 3), differentiable in the features."""
    with torch.enable_grad():
        x = points.detach().requires_grad_(True)
        value = prior.field.query(features, x)
        return torch.autograd.grad(value.sum(), x, create_graph=True)[0]


def _adam(
    prior: Prior,
    encoded: Encoded,
    evidence: _Evidence,
    start: Tensor,
    settings: CompletionSettings,
    rng: np.random.Generator,
    on_step: Callable[[float], None],
) -> _Optimum:
    """Adam on the code, and on the numbers of the pose that settings.pose frees, from every one of `start`
    (B, *code shape) as one batch: its steps are those of each alone, but for rounding."""
    count = len(start)
    deviation = (0.5 * encoded.log_variance).exp()
    steps = prior.field.optimiser_steps if settings.steps is None else settings.steps
    rate = prior.field.optimiser_rate if settings.learning_rate is None else settings.learning_rate
    shift = ((start - encoded.mean) / deviation).detach().clone().requires_grad_(True)
    groups: list[dict[str, Any]] = [{"params": [shift], "lr": rate / float(deviation.mean())}]
    freedom = _POSE_NUMBERS[settings.pose]
    moved = torch.zeros(count, freedom, device=prior.device, requires_grad=freedom > 0)
    if freedom:
        groups.append({"params": [moved], "lr": POSE_RATE})
    optimiser = Adam(groups, betas=(0.9, 0.95))
    evaluations, history = 0, []
    best = torch.full((count,), math.inf, device=prior.device)
    best_shift, best_moved = shift.detach().clone(), moved.detach().clone()

    def draw(many: int, total: int) -> Tensor:
        return torch.as_tensor(rng.permutation(total)[:many], device=prior.device)

    def placed(points: Tensor) -> Tensor:
        return _placed(points, _padded(moved)) if freedom else points.expand(count, -1, -1)

    for step in range(steps + 1):
        on_step(step / max(1, steps))
        with torch.enable_grad():
            features = prior.field.decode(encoded.mean + deviation * shift, encoded.skip16, encoded.skip32)
            picked = draw(2048, len(evidence.points))
            distance = prior.field.query(features, placed(evidence.points[picked]))
            costs = [settings.surface * losses.surface(distance[k]) for k in range(count)]
            evaluations += distance.numel()
            if len(evidence.rays):
                free = prior.field.query(features, placed(evidence.rays[draw(2048, len(evidence.rays))]))
                evaluations += free.numel()
                for k in range(count):
                    costs[k] = costs[k] + settings.empty * losses.seen_empty(free[k], EMPTY_MARGIN)
            if settings.eikonal > 0 or (settings.normal > 0 and evidence.normals is not None):
                some = picked[:512]
                gradient = _gradient(prior, features, placed(evidence.points[some]))
                evaluations += gradient[..., 0].numel()
                for k in range(count):
                    costs[k] = costs[k] + settings.eikonal * losses.eikonal(gradient[k])
                if evidence.normals is not None:
                    turns = _corrections(_padded(moved))[1]
                    for k in range(count):
                        wanted = evidence.normals[some] @ turns[k].T if freedom else evidence.normals[some]
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
    return _Optimum(best_shift, _similarities(_padded(best_moved)), evaluations, history)


_POSE_SCALES = (0.03, 0.02, 0.02, 0.02, 0.05, 0.05, 0.05)
"""Standard deviations of what an aligned pose is off by: log scale, translation, turns about z, x and y."""

_POSE_NUMBERS = {"fixed": 0, "scale": 4, "yaw": 5, "similarity": 7}


def _corrections(pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """pose: (B, 7) in units of _POSE_SCALES -> scale (B,), rotation (B, 3, 3), translation (B, 3)."""
    amount = pose * pose.new_tensor(_POSE_SCALES)
    c, s = amount[:, 4:].cos(), amount[:, 4:].sin()
    zero, one = torch.zeros_like(c[:, 0]), torch.ones_like(c[:, 0])

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, 1).view(-1, 3, 3)

    about_z = matrix(c[:, 0], -s[:, 0], zero, s[:, 0], c[:, 0], zero, zero, zero, one)
    about_x = matrix(one, zero, zero, zero, c[:, 1], -s[:, 1], zero, s[:, 1], c[:, 1])
    about_y = matrix(c[:, 2], zero, s[:, 2], zero, one, zero, -s[:, 2], zero, c[:, 2])
    return amount[:, 0].exp(), about_z @ about_x @ about_y, amount[:, 1:4]


def _padded(pose: Tensor) -> Tensor:
    """(B, freedom) -> (B, 7): what is not free stays."""
    return torch.cat([pose, pose.new_zeros(len(pose), 7 - pose.shape[1])], 1)


def _placed(points: Tensor, pose: Tensor) -> Tensor:
    """points: (N, 3), pose: (B, 7) in units of _POSE_SCALES -> (B, N, 3)."""
    scale, rotation, translation = _corrections(pose)
    return scale[:, None, None] * (points @ rotation.transpose(1, 2)) + translation[:, None]


def _similarities(pose: Tensor) -> list[Similarity]:
    scales, rotations, translations = (part.detach().cpu().double().numpy() for part in _corrections(pose))
    return [Similarity(float(scales[k]), rotations[k], translations[k]) for k in range(len(pose))]


class _Squares:
    """The least-squares problem of `_levenberg_marquardt`: a batch of codes and poses, and what they should explain.

    The state is two tensors: shift (B, D), of the code from the posterior's mean in its standard deviations, and pose
    (B, 7) in units of _POSE_SCALES, of which the first `freedom` move.
    """

    def __init__(
        self, prior: Prior, encoded: Encoded, evidence: _Evidence, settings: CompletionSettings,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.field, self.encoded, self.settings = prior.field, encoded, settings
        device = prior.device
        self.deviation = (0.5 * encoded.log_variance).exp()
        self.count = len(encoded.mean)
        self.numbers = encoded.mean[0].numel()
        self.freedom = _POSE_NUMBERS[settings.pose]
        self.evaluations = 0

        def draw(many: int, total: int) -> Tensor:
            return torch.as_tensor(np.sort(rng.permutation(total)[:many]), device=device)

        picked = draw(LM_POINTS, len(evidence.points))
        surface = evidence.points[picked]
        parts = [(surface, 0.0, settings.surface)]
        if evidence.normals is not None and settings.normal > 0:
            step = 0.01
            for sign in (step, -step):
                parts.append(((surface + sign * evidence.normals[picked])[::2], sign, settings.normal / step))
        self.on_surface = sum(len(at) for at, _, _ in parts)
        if len(evidence.rays):
            parts.append((evidence.rays[draw(LM_POINTS, len(evidence.rays))], EMPTY_MARGIN, settings.empty))
        self.points = torch.cat([at for at, _, _ in parts])
        self.want = torch.cat([at.new_full((len(at),), want) for at, want, _ in parts])
        self.weight = torch.cat([at.new_full((len(at),), weight / len(at)) for at, _, weight in parts])
        code = torch.full((self.numbers,), 2 * settings.latent / self.numbers, device=device)
        self.inner = torch.cat([code, torch.full((self.freedom,), 2 * POSE_WEIGHT, device=device)])
        """Second derivatives of what holds code and pose where they were expected, (D + freedom,)."""

    def features(self, shift: Tensor) -> Tensor:
        encoded = self.encoded
        code = encoded.mean + self.deviation * shift.view(encoded.mean.shape)
        return self.field.decode(code, encoded.skip16, encoded.skip32)

    def places(self, pose: Tensor) -> Tensor:
        return _placed(self.points, pose)

    def values(self, features: Tensor, places: Tensor) -> Tensor:
        self.evaluations += self.count * len(self.points)
        return self.field.query(features, places)

    def errors(self, shift: Tensor, pose: Tensor) -> Tensor:
        with torch.no_grad():
            return self.off(self.values(self.features(shift), self.places(pose)))

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
        features = squares.features(shift).detach()  # a code that is its own features
        copies = features[:, None].expand(-1, points, -1).reshape(-1, features.shape[-1]).requires_grad_(True)
        places = squares.places(pose).requires_grad_(True)
        value = squares.values(copies, places.reshape(-1, 1, 3))
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
        value = squares.values(squares.features(free), places)
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
            ahead = squares.values(squares.features(shift + small * v[:, :numbers]), places.detach())
        change: Tensor = (ahead - base) / small + torch.einsum("bnk,bk->bn", by_pose, v[:, numbers:])
        return change

    state = torch.cat([shift, pose[:, : squares.freedom]], 1)
    slope = back(weights * error) + squares.inner * state

    def solve(damping: Tensor) -> Tensor:
        held = squares.inner * (1 + damping[:, None])
        return -_conjugate_gradients(lambda v: back(weights * forth(v)) + held * v, slope, squares.inner, CG_STEPS)

    return solve


def _levenberg_marquardt(
    prior: Prior,
    encoded: Encoded,
    evidence: _Evidence,
    start: Tensor,
    settings: CompletionSettings,
    rng: np.random.Generator,
    on_step: Callable[[float], None],
) -> _Optimum:
    """Damped Gauss-Newton on code and pose from every one of `start` (B, *code shape), as one batch.

    The terms are Adam's (absolute distances, so iteratively reweighted squares: Huber near zero, Geman-McClure far
    away), but for the Eikonal one; normals count through the distances a step in front of and behind the points.
    """
    squares = _Squares(prior, encoded, evidence, settings, rng)
    steps = NEWTON_STEPS[prior.field.name] if settings.steps is None else settings.steps
    shift = ((start - encoded.mean) / squares.deviation).detach().flatten(1)
    pose = shift.new_zeros(len(shift), 7)
    error = squares.errors(shift, pose)
    cost = squares.cost(error, shift, pose)
    history = [float(cost.min())]
    damping = torch.full_like(cost, 0.1)
    own_features = len(prior.field.code_shape) == 1  # a code without cells is decoded to itself
    linearise = _dense_step if own_features and squares.numbers <= DENSE_NUMBERS else _krylov_step
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
    return _Optimum(shift.view(encoded.mean.shape), _similarities(pose), squares.evaluations, history)


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


def optimise_code(
    prior: Prior,
    encoded: Encoded,
    evidence: _Evidence,
    start: Tensor,
    settings: CompletionSettings,
    rng: np.random.Generator,
    on_step: Callable[[float], None],
) -> list[Completion]:
    """The codes (and, where settings.pose is not 'fixed', the poses) that explain the evidence best, one for each of
    `start` (B, *code shape), of which `encoded` holds as many."""
    optimise = _levenberg_marquardt if settings.optimiser == "lm" else _adam
    optimum = optimise(prior, encoded, evidence, start, settings, rng, on_step)
    deviation = (0.5 * encoded.log_variance).exp()
    codes = (encoded.mean + deviation * optimum.shift).detach()
    completions = []
    with torch.no_grad():
        for k, pose in enumerate(optimum.poses):
            answer = _one(encoded, k)
            features = prior.field.decode(codes[k : k + 1], answer.skip16, answer.skip32)
            points, rays = _carried(evidence.points, pose), _carried(evidence.rays, pose)
            data = prior.field.query(features, points[None])[0].abs().mean()
            empty = torch.zeros(())
            if len(rays):
                empty = losses.seen_empty(prior.field.query(features, rays[None])[0])
            completions.append(
                Completion(
                    prior, codes[k], features, None, float(data), float(empty), float((optimum.shift[k] ** 2).mean()),
                    optimum.evaluations // len(start) + len(points) + len(rays), optimum.history, pose,
                )
            )
    return completions


def _batch(answers: Sequence[Encoded]) -> Encoded:
    if len(answers) == 1:
        return answers[0]

    def joined(parts: list[Tensor | None]) -> Tensor | None:
        return None if parts[0] is None else torch.cat([part for part in parts if part is not None])

    return Encoded(
        torch.cat([answer.mean for answer in answers]), torch.cat([answer.log_variance for answer in answers]),
        joined([answer.skip16 for answer in answers]), joined([answer.skip32 for answer in answers]),
    )  # fmt: skip


def _one(encoded: Encoded, k: int) -> Encoded:
    def part(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[k : k + 1]

    return Encoded(
        encoded.mean[k : k + 1], encoded.log_variance[k : k + 1], part(encoded.skip16), part(encoded.skip32)
    )


def _moved(evidence: _Evidence, pose: Similarity) -> _Evidence:
    def turned(normals: Tensor) -> Tensor:
        return normals @ torch.as_tensor(pose.rotation.T, dtype=normals.dtype, device=normals.device)

    images, viewpoint = evidence.images, evidence.viewpoint
    return _Evidence(
        _carried(evidence.points, pose),
        None if evidence.normals is None else turned(evidence.normals),
        _carried(evidence.rays, pose),
        evidence.grid,
        None if viewpoint is None else _carried(viewpoint[None], pose)[0],
        None if images is None else (_carried(images[0], pose), None if images[1] is None else turned(images[1])),
    )


def _carried(points: Tensor, pose: Similarity) -> Tensor:
    rotation = torch.as_tensor(pose.rotation, dtype=points.dtype, device=points.device)
    translation = torch.as_tensor(pose.translation, dtype=points.dtype, device=points.device)
    return pose.scale * (points @ rotation.T) + translation


def _images(completion: Completion, evidence: _Evidence) -> tuple[str, list[tuple[Tensor, Tensor | None]]]:
    """Which symmetry there is, and where it puts the observed points and their normals, each (M, 3): about an axis of
    revolution, or those images in planes that agree with the completed shape and do not lie in space that was looked
    through."""
    device = evidence.points.device

    def distance(points: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        at = torch.as_tensor(points, dtype=torch.float32, device=device)
        return completion.signed_distance(at).cpu().double().numpy()

    points = evidence.points.cpu().double().numpy()
    looked_through = None
    if evidence.viewpoint is not None:
        looked_through = LookedThrough(points, evidence.viewpoint.cpu().double().numpy())
    if evidence.images is not None:  # beside the axis, which has them all, no further symmetry is looked for
        name, found, maps = "axis", [evidence.images], symmetries(points, distance, None)
    else:
        found, maps = [], symmetries(points, distance, looked_through)
        name = {1: "mirror plane", 2: "two mirror planes", 3: "two mirror planes"}.get(len(maps), "quarter turns")
    for to_itself in maps:
        images = to_itself.apply(points)
        keep = np.abs(distance(images)) < AGREES
        if looked_through is not None:
            keep[keep] = ~looked_through(images[keep])
        kept = torch.as_tensor(np.flatnonzero(keep), device=device)
        facing = None
        if evidence.normals is not None:
            turn = torch.as_tensor(to_itself.rotation.T, dtype=evidence.normals.dtype, device=device)
            facing = evidence.normals[kept] @ turn
        found.append((torch.as_tensor(images, dtype=torch.float32, device=device)[kept], facing))
    return name, found


def estimate_noise(points: NDArray[np.floating[Any]], rng: np.random.Generator) -> float:
    """Standard deviation of a cloud's noise across its surface: the median of what local planes leave over."""
    from scipy.spatial import cKDTree

    sample = points[rng.permutation(len(points))[:1000]]
    _, index = cKDTree(points).query(sample, k=min(16, len(points)))
    local = points[index] - points[index].mean(1, keepdims=True)
    smallest = np.linalg.eigvalsh(np.einsum("nki,nkj->nij", local, local) / local.shape[1])[:, 0]
    return float(np.sqrt(np.median(smallest.clip(0)) * 16 / 13))


def refine(completion: Completion, evidence: _Evidence, settings: CompletionSettings, noise: float) -> None:
    """Give the completion the correction that puts its surface through what was observed."""
    points = evidence.points
    normals = evidence.normals if noise < 0.004 else None  # within noise nobody knows which side a step leads to
    step = 0.006
    targets = [points]
    wanted = [torch.zeros(len(points), device=points.device)]
    weights = [torch.ones(len(points), device=points.device)]
    sides: list[tuple[Tensor, Tensor, float]] = []
    completion.symmetry, images = _images(completion, evidence) if settings.symmetry else ("", [])
    for image, facing in images:
        targets.append(image)
        wanted.append(torch.zeros(len(image), device=points.device))
        weights.append(torch.full((len(image),), 0.3, device=points.device))
        if normals is not None and facing is not None:
            sides.append((image, facing, 0.15))
    if normals is not None:
        sides.append((points, normals, 0.5))
    for of, outward, share in sides:
        # Either side of the surface too, so that a part the field has missed gets a body.
        for sign in (1.0, -1.0):
            targets.append(of + sign * step * outward)
            wanted.append(torch.full((len(of),), sign * step, device=points.device))
            weights.append(torch.full((len(of),), share, device=points.device))
    at, want, weight = torch.cat(targets), torch.cat(wanted), torch.cat(weights)
    inside = (at.abs() < BOUND).all(1)
    at, want, weight = at[inside], want[inside], weight[inside]
    errors = want - completion.signed_distance(at)
    # What lies far from the surface is an outlier or a part the prior does not know; trust it less and less.
    weight = weight * (1 / (1 + (errors / 0.05) ** 2))
    resolutions = (32, 64, 128) if noise < 0.003 else (32, 64)
    completion.residual = fit_residual(at, errors, weight, resolutions)
    completion.evaluations += len(at)


def complete_several(
    prior: Prior,
    cloud: PointCloud,
    settings: CompletionSettings,
    vary: Sequence[Callable[[Encoded, Tensor], Encoded] | None],
    *,
    on_stage: Callable[[str, float], None] = lambda stage, fraction: None,
    on_first: Callable[[Completion], None] = lambda completion: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Completion]:
    """Whole shapes for a cloud in (about) the canonical frame, one for each of `vary`, optimised as one batch.

    vary: makes another answer of what the encoder says and the evidence grid (see engine.completion.hypotheses), None =
    the encoder's own.  settings.temperature > 0 starts from a sample of the posterior, widened by it, instead of its
    mean.  on_first gets the first start, before any optimisation: the first preview.  Raises Cancelled.
    """
    rng = np.random.default_rng([settings.seed, 7])
    on_stage("Reading the scan", 0.0)
    evidence = _gather(prior, cloud, settings.symmetry, rng)
    with torch.no_grad():
        encoded = prior.field.encode(evidence.grid)
        answers = [encoded if change is None else change(encoded, evidence.grid) for change in vary]
        encoded = _batch(answers)
    start = encoded.mean if settings.from_encoder else torch.zeros_like(encoded.mean)
    if settings.temperature > 0:
        noise = torch.as_tensor(rng.standard_normal(start.shape), dtype=torch.float32, device=prior.device)
        start = start + settings.temperature * noise * (0.5 * encoded.log_variance).exp()
    with torch.no_grad():
        features = prior.field.decode(start[:1], answers[0].skip16, answers[0].skip32)
    on_first(Completion(prior, start[0], features, None, 0.0, 0.0, 0.0, 0))

    def on_step(done: float) -> None:
        if should_stop():
            raise Cancelled
        on_stage("Fitting the shape", done)

    completions = optimise_code(prior, encoded, evidence, start, settings, rng, on_step)
    if settings.refine:
        on_stage("Keeping what was seen", 1.0)
        noise_level = estimate_noise(cloud.points, rng) if settings.noise is None else settings.noise
        for completion in completions:
            refine(completion, _moved(evidence, completion.pose), settings, noise_level * completion.pose.scale)
    return completions


def complete_canonical(
    prior: Prior,
    cloud: PointCloud,
    settings: CompletionSettings,
    *,
    on_stage: Callable[[str, float], None] = lambda stage, fraction: None,
    on_first: Callable[[Completion], None] = lambda completion: None,
    should_stop: Callable[[], bool] = lambda: False,
    vary: Callable[[Encoded, Tensor], Encoded] | None = None,
) -> Completion:
    """One whole shape for a cloud in (about) the canonical frame; see `complete_several`."""
    return complete_several(
        prior, cloud, settings, [vary], on_stage=on_stage, on_first=on_first, should_stop=should_stop
    )[0]
