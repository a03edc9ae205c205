"""Relatives of a shape that keep a part of it: constrained sampling with the evidence terms of completion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..completion.complete import optimise_code
from ..completion.evidence import Constraints
from ..completion.refinement import fit_residual
from ..completion.settings import CompletionSettings
from ..errors import Cancelled
from ..fields.base import Posterior
from ..fields.observations import evidence as ev
from ..frames import BOUND
from ..geometry.clouds import FloatArray, PointCloud
from ..geometry.sampling import subsample
from .codes import DecodedShape, blended_field, decode

KEPT_POINTS = 20_000
INNER, OUTER = 0.03, 0.06
"""Canonical distances from the kept points: up to the first the old surface stands, beyond the second the new one."""

_LATTICE = 64
_STEP = 0.006


@dataclass
class KeptPart:
    """What stays: the old field made exact at the kept points, and where it counts.

    points: (N, 3) canonical, on the prior's device.  normals: (N, 3) outward.
    field: (P, 3) -> (P,) the old shape's signed distance.  weight: (P, 3) -> (P,) 1 at the kept points, 0 far away.
    """

    points: Tensor
    normals: Tensor
    field: Callable[[Tensor], Tensor]
    weight: Callable[[Tensor], Tensor]


def kept_part(original: DecodedShape, points: FloatArray, normals: FloatArray | None, seed: int) -> KeptPart:
    """points, normals: (N, 3) of the part to keep, canonical frame. Without normals those of the shape's field."""
    prior = original.prior
    cloud = subsample(PointCloud(points, normals), KEPT_POINTS, np.random.default_rng([seed, 13]))
    at = torch.as_tensor(cloud.points, dtype=torch.float32, device=prior.device)
    outward = _field_normals(original, at)
    if cloud.normals is not None:
        given = torch.as_tensor(cloud.normals, dtype=torch.float32, device=prior.device)
        # A mesh that was turned inside out has all its normals wrong, and the field knows.
        outward = given if float((given * outward).sum(1).sign().mean()) >= 0 else -given

    # The field goes through the points with their normals: itself and a little to either side.
    places = torch.cat([at, at + _STEP * outward, at - _STEP * outward]).clamp(-BOUND, BOUND)
    wanted = torch.cat([torch.full((len(at),), offset, device=at.device) for offset in (0.0, _STEP, -_STEP)])
    sure = torch.cat([torch.full((len(at),), w, device=at.device) for w in (1.0, 0.5, 0.5)])
    errors = wanted - original.signed_distance(places)
    residual = fit_residual(places, errors, sure, (32, 64, 128), ridge=0.02)

    def exact(x: Tensor) -> Tensor:
        return original.signed_distance(x) + residual(x)

    axis = (np.arange(_LATTICE) + 0.5) / _LATTICE * 2 * BOUND - BOUND
    centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    distance, _ = cKDTree(cloud.points).query(centres, distance_upper_bound=OUTER)
    share = ((OUTER - np.minimum(distance, OUTER)) / (OUTER - INNER)).clip(0, 1)
    smooth = torch.as_tensor(share * share * (3 - 2 * share), dtype=torch.float32, device=at.device)
    lattice = smooth.view(1, 1, _LATTICE, _LATTICE, _LATTICE)
    return KeptPart(at, outward, exact, lambda x: ev.interpolate(lattice, x[None])[0, :, 0])


def keep(
    variant: DecodedShape,
    part: KeptPart,
    *,
    seed: int = 0,
    steps: int = 20,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[DecodedShape, Callable[[Tensor], Tensor]]:
    """The variant brought to the kept part: first its code (surface and normals of the kept points, the Eikonal term,
    and the variant's own code as prior), then, about the kept points, the old field in place of its own.

    Returns the shape of the new code and the field with the part in it.  Raises Cancelled.
    """
    prior = variant.prior
    posterior = Posterior(variant.code[None], torch.full_like(variant.code[None], -3.0))
    nothing = part.points.new_zeros(0, 3)
    given = Constraints(part.points, part.normals, nothing)
    settings = CompletionSettings(
        optimiser="adam", steps=steps, learning_rate=0.03, latent=0.02, normal=0.02, seed=seed
    )

    def on_step(done: float) -> None:
        if should_stop():
            raise Cancelled

    (best,) = optimise_code(
        prior.field, posterior, given, posterior.mean, settings, np.random.default_rng([seed, 17]), on_step
    )
    shape = decode(prior, best.code)
    return shape, blended_field(shape.signed_distance, part.field, part.weight)


def _field_normals(shape: DecodedShape, points: Tensor) -> Tensor:
    """(N, 3) unit gradients of the field at points (N, 3)."""
    step = 0.004
    offsets = torch.eye(3, device=points.device) * step
    ahead = torch.stack([shape.signed_distance(points + o) - shape.signed_distance(points - o) for o in offsets], 1)
    unit: Tensor = ahead / ahead.norm(dim=1, keepdim=True).clamp(min=1e-9)
    return unit
