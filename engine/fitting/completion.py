"""Completion in the canonical frame: evidence -> code -> optimised code -> refined field.

The code starts at the encoder's posterior mean and is moved by the evidence: observed points lie on the surface (and
have their normals, where given), space that was looked through is empty, the field stays a signed distance near its
surface (Eikonal), and the code stays where the posterior puts it. Weights follow the classroom version of the
completion by Eikonal test-time optimisation and DeepSDF (Park 2019, sections 4.3 and 6.3), with the latent prior
N(mean, variance) that the encoder gives in place of N(0, sigma^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import losses
from ..errors import Cancelled
from ..fields import evidence as ev
from ..fields.conditional import Encoded
from ..geometry.clouds import PointCloud
from ..priors.prior import Prior
from .refinement import Residual, fit_residual

EVIDENCE_POINTS = 4096
RAY_POINTS = 2048
EMPTY_MARGIN = 0.01


@dataclass
class CompletionSettings:
    """steps, learning_rate: of the optimiser on the code; None = the architecture's own.
    surface, normal, eikonal, empty, latent: weights of the terms.  refine: correct the field near the observed points.
    symmetry: use the mirror image where it agrees.  noise: standard deviation of the points in canonical units, None =
    estimated.  temperature: how far starts are drawn around the posterior's mean (0 = at it).
    """

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
    evaluations: field queries spent.
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

    def signed_distance(self, points: Tensor) -> Tensor:
        """(N, 3) canonical -> (N,) signed distance, negative inside. No gradients are kept."""
        with torch.no_grad():
            value = self.prior.field.query(self.features, points[None])[0]
            return value if self.residual is None else value + self.residual(points)

    @property
    def score(self) -> float:
        """Negative log posterior up to constants, per number; lower is better. Ranks hypotheses."""
        return self.data / 0.005 + self.empty / 0.005 + 0.5 * self.latent


@dataclass
class _Evidence:
    points: Tensor  # (N, 3)
    normals: Tensor | None
    rays: Tensor  # (R, 3) samples of seen-empty space, possibly none
    grid: Tensor  # (1, CHANNELS, R, R, R)


def _gather(prior: Prior, cloud: PointCloud, rng: np.random.Generator) -> _Evidence:
    device = prior.device
    points = torch.as_tensor(cloud.points, dtype=torch.float32, device=device)
    normals = None if cloud.normals is None else torch.as_tensor(cloud.normals, dtype=torch.float32, device=device)
    viewpoint = None
    if cloud.viewpoint is not None:
        viewpoint = torch.as_tensor(cloud.viewpoint, dtype=torch.float32, device=device)
    chosen = rng.permutation(len(points))[:EVIDENCE_POINTS]
    some = points[torch.as_tensor(chosen, device=device)]
    grid = ev.cloud_evidence(some, viewpoint, prior.field.resolution)
    empty = points.new_zeros(0, 3)
    if viewpoint is not None:
        ends = points[torch.as_tensor(rng.permutation(len(points))[:RAY_POINTS], device=device)]
        towards = viewpoint - ends
        length = towards.norm(dim=1, keepdim=True)
        near = torch.as_tensor(0.02 + 0.3 * rng.random((len(ends), 1)) ** 2, dtype=torch.float32, device=device)
        far = torch.as_tensor(rng.random((len(ends), 1)), dtype=torch.float32, device=device) * length
        empty = torch.cat([ends + towards / length * torch.minimum(along, length) for along in (near, far)])
        empty = empty[(empty.abs() < ev.BOUND).all(1)]
    return _Evidence(points, normals, empty, grid.contiguous(memory_format=torch.channels_last_3d))


def _gradient(prior: Prior, features: Tensor, points: Tensor) -> Tensor:
    """(N, 3) gradient of the field, differentiable in the features."""
    with torch.enable_grad():
        x = points.detach().requires_grad_(True)
        value = prior.field.query(features, x[None])
        return torch.autograd.grad(value.sum(), x, create_graph=True)[0]


def optimise_code(
    prior: Prior,
    encoded: Encoded,
    evidence: _Evidence,
    start: Tensor,
    settings: CompletionSettings,
    rng: np.random.Generator,
    on_step: Callable[[float], None],
) -> tuple[Tensor, Tensor, dict[str, float], int, list[float]]:
    """Adam on the code from `start` (1, C, 8, 8, 8). Returns code, features, terms, evaluations, loss history."""
    deviation = (0.5 * encoded.log_variance).exp()
    steps = prior.field.optimiser_steps if settings.steps is None else settings.steps
    rate = prior.field.optimiser_rate if settings.learning_rate is None else settings.learning_rate
    shift = ((start - encoded.mean) / deviation).detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([shift], lr=rate / float(deviation.mean()), betas=(0.9, 0.95))
    evaluations, history = 0, []
    best, best_shift = math.inf, shift.detach().clone()

    def draw(count: int, total: int) -> Tensor:
        return torch.as_tensor(rng.permutation(total)[:count], device=prior.device)

    for step in range(steps + 1):
        on_step(step / max(1, steps))
        with torch.enable_grad():
            features = prior.field.decode(encoded.mean + deviation * shift, encoded.skip16, encoded.skip32)
            picked = draw(2048, len(evidence.points))
            at = evidence.points[picked]
            distance = prior.field.query(features, at[None])[0]
            loss = settings.surface * losses.surface(distance)
            evaluations += len(at)
            if len(evidence.rays):
                free = evidence.rays[draw(2048, len(evidence.rays))]
                loss = loss + settings.empty * losses.seen_empty(
                    prior.field.query(features, free[None])[0], EMPTY_MARGIN
                )
                evaluations += len(free)
            if settings.eikonal > 0 or (settings.normal > 0 and evidence.normals is not None):
                some = picked[:512]
                gradient = _gradient(prior, features, evidence.points[some])
                loss = loss + settings.eikonal * losses.eikonal(gradient)
                if evidence.normals is not None:
                    loss = loss + settings.normal * losses.normal(gradient, evidence.normals[some])
                evaluations += len(some)
            loss = loss + settings.latent * (shift**2).mean()
        history.append(float(loss.detach()))
        if history[-1] < best:
            best, best_shift = history[-1], shift.detach().clone()
        if step < steps:
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    code = (encoded.mean + deviation * best_shift).detach()
    with torch.no_grad():
        features = prior.field.decode(code, encoded.skip16, encoded.skip32)
        data = prior.field.query(features, evidence.points[None])[0].abs().mean()
        empty = torch.zeros(())
        if len(evidence.rays):
            empty = losses.seen_empty(prior.field.query(features, evidence.rays[None])[0])
        evaluations += len(evidence.points) + len(evidence.rays)
    terms = {"data": float(data), "empty": float(empty), "latent": float((best_shift**2).mean())}
    return code, features, terms, evaluations, history


def _mirrored(completion: Completion, points: Tensor, tolerance: float = 0.02) -> Tensor:
    """Mirror images of observed points that the completed shape agrees with.

    The plane is x = offset with the offset that agrees best: the frame's x = 0 is only as good as the pose.
    """
    sample = points[:: max(1, len(points) // 2000)]

    def reflected(x: Tensor, offset: float) -> Tensor:
        return x * x.new_tensor([-1.0, 1.0, 1.0]) + x.new_tensor([2 * offset, 0.0, 0.0])

    best, best_cost = 0.0, math.inf
    for offset in torch.linspace(-0.03, 0.03, 13).tolist():
        off = completion.signed_distance(reflected(sample, offset)).abs().clamp(max=0.03)
        cost = float(off.mean()) + 0.01 * abs(offset)
        if cost < best_cost:
            best, best_cost = offset, cost
    image = reflected(points, best)
    agrees = completion.signed_distance(image).abs() < tolerance
    return image[agrees]


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
    points, normals = evidence.points, evidence.normals
    step = 0.006
    targets = [points]
    wanted = [torch.zeros(len(points), device=points.device)]
    weights = [torch.ones(len(points), device=points.device)]
    if settings.symmetry:
        image = _mirrored(completion, points)
        targets.append(image)
        wanted.append(torch.zeros(len(image), device=points.device))
        weights.append(torch.full((len(image),), 0.3, device=points.device))
    if normals is not None and noise < 0.004:
        # Either side of the surface too, so that a part the field has missed gets a body.
        for sign in (1.0, -1.0):
            targets.append(points + sign * step * normals)
            wanted.append(torch.full((len(points),), sign * step, device=points.device))
            weights.append(torch.full((len(points),), 0.5, device=points.device))
    at, want, weight = torch.cat(targets), torch.cat(wanted), torch.cat(weights)
    inside = (at.abs() < ev.BOUND).all(1)
    at, want, weight = at[inside], want[inside], weight[inside]
    errors = want - completion.signed_distance(at)
    # What lies far from the surface is an outlier or a part the prior does not know; trust it less and less.
    weight = weight * (1 / (1 + (errors / 0.05) ** 2))
    resolutions = (32, 64, 128) if noise < 0.003 else (32, 64)
    completion.residual = fit_residual(at, errors, weight, resolutions)
    completion.evaluations += len(at)


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
    """One whole shape for a cloud in (about) the canonical frame.

    settings.temperature > 0 starts from a sample of the encoder's posterior, widened by it, instead of its mean.
    on_first gets the encoder's answer, before any optimisation: the first preview.  vary: makes another answer of what
    the encoder says and the evidence grid (see engine.fitting.hypotheses).  Raises Cancelled.
    """
    rng = np.random.default_rng([settings.seed, 7])
    on_stage("Reading the scan", 0.0)
    evidence = _gather(prior, cloud, rng)
    with torch.no_grad():
        encoded = prior.field.encode(evidence.grid)
        if vary is not None:
            encoded = vary(encoded, evidence.grid)
    start = encoded.mean
    if settings.temperature > 0:
        noise = torch.as_tensor(rng.standard_normal(start.shape), dtype=torch.float32, device=prior.device)
        start = start + settings.temperature * noise * (0.5 * encoded.log_variance).exp()
    with torch.no_grad():
        features = prior.field.decode(start, encoded.skip16, encoded.skip32)
    on_first(Completion(prior, start, features, None, 0.0, 0.0, 0.0, 0))

    def on_step(done: float) -> None:
        if should_stop():
            raise Cancelled
        on_stage("Fitting the shape", done)

    code, features, terms, evaluations, history = optimise_code(
        prior, encoded, evidence, start, settings, rng, on_step
    )
    completion = Completion(prior, code[0], features, None, **terms, evaluations=evaluations, history=history)
    if settings.refine:
        on_stage("Keeping what was seen", 1.0)
        noise_level = estimate_noise(cloud.points, rng) if settings.noise is None else settings.noise
        refine(completion, evidence, settings, noise_level)
    return completion
