"""Completion in the canonical frame: evidence -> code -> optimised code -> corrected shape.

The code starts at the encoder's posterior mean and is moved by the evidence: observed points lie on the surface (and
have their normals, where given), space that was looked through is empty, the field stays a signed distance near its
surface (Eikonal), and the code stays where the posterior puts it. Weights follow the classroom version of the
completion by Eikonal test-time optimisation and DeepSDF (Park 2019, sections 4.3 and 6.3), with the latent prior
N(mean, variance) that the encoder gives in place of N(0, sigma^2).

Two optimisers, both on code and pose together and on several starts as one batch: Adam (adam.py), the papers' own, and
damped Gauss-Newton with robust weights (levenberg_marquardt.py). Shapes of every kind are completed so; an implicit one
is corrected near the observed points at last (refinement.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..errors import Cancelled
from ..fields import losses
from ..fields.base import Family, Observation, Posterior
from ..fields.shapes import Implicit, Shape
from ..geometry.clouds import PointCloud
from ..geometry.transforms import Similarity
from ..priors.file import Prior
from ..surfaces.marching import Field
from ..surfaces.of import signed_distance
from .adam import by_adam
from .closing import Closing
from .evidence import Constraints, estimate_noise, gather, moved
from .lattices import Residual
from .levenberg_marquardt import by_levenberg_marquardt
from .pose import carried
from .refinement import correction
from .settings import EMPTY_MARGIN, CompletionSettings

Vary = Callable[[Posterior, Observation], Posterior]
"""Makes another answer of the encoder's (see engine.completion.hypotheses)."""


@dataclass
class Completion:
    """A shape: its code (*code shape), what it was decoded to (a batch of one), the correction near observed points.

    data: mean distance of the observed points from the shape before the correction.  empty: mean depth of seen-empty
    space in it.  latent: mean squared distance of the code from the posterior mean in standard deviations.
    evaluations: queries of the shape spent.  pose: correction that the optimisation found, from the frame of the cloud
    it was given to the canonical frame of this completion.  symmetry: whose images the correction used.  closed: the
    tears that were closed in it.
    """

    code: Tensor
    shape: Shape
    residual: Residual | None
    data: float
    empty: float
    latent: float
    evaluations: int
    history: list[float] = field(default_factory=list)
    pose: Similarity = field(default_factory=Similarity)
    symmetry: str = ""
    closed: Closing | None = None

    def signed_distance(self, points: Tensor) -> Tensor:
        """(N, 3) canonical -> (N,) signed distance, negative inside. No gradients are kept."""
        value = self.uncorrected(points)
        for added in (self.residual, self.closed):
            value = value if added is None else value + added(points)
        return value

    @cached_property
    def uncorrected(self) -> Field:
        """As `signed_distance`, without the correction near the observed points."""
        return signed_distance(self.shape)

    @property
    def whole(self) -> Shape:
        """The shape with its correction."""
        if self.residual is None or not isinstance(self.shape, Implicit):
            return self.shape
        lipschitz = self.shape.lipschitz
        return Implicit(
            lambda _, points: self.signed_distance(points[0])[None], self.code[None], self.shape.metric, lipschitz
        )

    @property
    def score(self) -> float:
        """Negative log posterior up to constants, per number; lower is better. Ranks hypotheses."""
        return self.data / 0.005 + self.empty / 0.005 + 0.5 * self.latent


def optimise_code(
    family: Family,
    posterior: Posterior,
    given: Constraints,
    start: Tensor,
    settings: CompletionSettings,
    rng: np.random.Generator,
    on_step: Callable[[float], None],
) -> list[Completion]:
    """The codes (and, where settings.pose is not 'fixed', the poses) that explain what is given best, one for each of
    `start` (B, *code shape), of which `posterior` holds as many."""
    optimise = by_levenberg_marquardt if settings.optimiser == "lm" else by_adam
    optimum = optimise(family, posterior, given, start, settings, rng, on_step)
    codes = (posterior.mean + posterior.deviation * optimum.shift).detach()
    completions = []
    for k, pose in enumerate(optimum.poses):
        with torch.no_grad():
            shape = family.decode(codes[k : k + 1], posterior.at(k).evidence)
        points, rays = carried(given.points, pose), carried(given.rays, pose)
        data = shape.off(points[None])[0].mean()
        completions.append(
            Completion(
                codes[k], shape, None, float(data), _filled(shape, rays), float((optimum.shift[k] ** 2).mean()),
                optimum.evaluations // len(start) + len(points) + len(rays), optimum.history, pose,
            )
        )
    return completions


@torch.no_grad()
def _filled(shape: Shape, rays: Tensor) -> float:
    """How deep the samples of seen-empty space (R, 3) lie in the shape, in the mean; within EMPTY_MARGIN of a surface
    that has no inside."""
    if not len(rays):
        return 0.0
    value = shape.values(rays[None])[0]
    if not shape.signed:
        return float(losses.seen_empty(value, EMPTY_MARGIN))
    if shape.metric:
        return float(losses.seen_empty(value))
    return float(torch.where(value < 0, shape.off(rays[None])[0], 0.0).mean())


def refine(completion: Completion, given: Constraints, settings: CompletionSettings, noise: float) -> None:
    """Give a completion that is implicit the correction that puts its surface through what was observed."""
    if not isinstance(completion.shape, Implicit):
        return
    found = correction(completion.signed_distance, given, noise, settings.symmetry, completion.shape.metric)
    completion.residual, completion.symmetry = found.residual, found.symmetry
    completion.evaluations += found.evaluations


def complete_several(
    prior: Prior,
    cloud: PointCloud,
    settings: CompletionSettings,
    vary: Sequence[Vary | None],
    *,
    on_stage: Callable[[str, float], None] = lambda stage, fraction: None,
    on_first: Callable[[Completion], None] = lambda completion: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Completion]:
    """Whole shapes for a cloud in (about) the canonical frame, one for each of `vary`, optimised as one batch.

    vary: makes another answer of the encoder's (see engine.completion.hypotheses), None = that itself.
    settings.temperature > 0 starts from a sample of the posterior, widened by it, instead of its mean.  on_first gets
    the first start, before any optimisation: the first preview.  Raises Cancelled.
    """
    rng = np.random.default_rng([settings.seed, 7])
    on_stage("Reading the scan", 0.0)
    family, device = prior.field, prior.device
    given = gather(cloud, settings.symmetry, rng, device)
    assert given.clouds is not None
    with torch.no_grad():
        observation = family.observe(given.clouds)
        encoded = family.encode(observation)
        answers = [encoded if change is None else change(encoded, observation) for change in vary]
        posterior = Posterior.batch(answers)
    start = posterior.mean if settings.from_encoder else torch.zeros_like(posterior.mean)
    if settings.temperature > 0:
        noise = torch.as_tensor(rng.standard_normal(start.shape), dtype=torch.float32, device=device)
        start = start + settings.temperature * noise * posterior.deviation
    with torch.no_grad():
        first = family.decode(start[:1], answers[0].evidence)
    on_first(Completion(start[0], first, None, 0.0, 0.0, 0.0, 0))

    def on_step(done: float) -> None:
        if should_stop():
            raise Cancelled
        on_stage("Fitting the shape", done)

    completions = optimise_code(family, posterior, given, start, settings, rng, on_step)
    if settings.refine:
        on_stage("Keeping what was seen", 1.0)
        noise_level = estimate_noise(cloud.points, rng) if settings.noise is None else settings.noise
        for completion in completions:
            refine(completion, moved(given, completion.pose), settings, noise_level * completion.pose.scale)
    return completions


def complete_canonical(
    prior: Prior,
    cloud: PointCloud,
    settings: CompletionSettings,
    *,
    on_stage: Callable[[str, float], None] = lambda stage, fraction: None,
    on_first: Callable[[Completion], None] = lambda completion: None,
    should_stop: Callable[[], bool] = lambda: False,
    vary: Vary | None = None,
) -> Completion:
    """One whole shape for a cloud in (about) the canonical frame; see `complete_several`."""
    return complete_several(
        prior, cloud, settings, [vary], on_stage=on_stage, on_first=on_first, should_stop=should_stop
    )[0]
