"""The contract of a family: a way to know shapes by codes, from what was observed to a surface.

A family is one class in one file of engine/fields/families (or anywhere, with `registry.register`). What it makes of an
observation and of the evidence is its own business; the rest of the engine hands both on without looking inside:

    observation = family.observe(clouds)          # any form
    posterior = family.encode(observation)        # mean and variance of the code, and evidence of its own
    shape = family.decode(code, posterior.evidence)  # Implicit, Points, Patches or Parts
    family.objective(settings, seats)(observation, examples)  # the loss it is trained by

docs/design.md, "A family", tells how one is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from ..errors import InputError
from .arguments import arguments_of
from .shapes import Implicit, Shape

# --- what was observed ------------------------------------------------------------------------------------------------


@dataclass
class Clouds:
    """What was seen of B shapes, canonical frame.

    points: (B, N, 3).  weights: (B, N), 0 for padding.  origins: (B, N, 3), where each point was seen from.  rays:
    (B, N), 0 where that is not known.  whole: (B,) bool, True where the points are all of a surface and not what
    somebody saw of it; None: nowhere.
    """

    points: Tensor
    weights: Tensor
    origins: Tensor
    rays: Tensor
    whole: Tensor | None = None

    TRAINED_POINTS: ClassVar[int] = 2048
    """Of a training cloud: more of them together count as much."""

    @classmethod
    def seen(cls, points: Tensor, viewpoint: Tensor | None) -> Clouds:
        """One cloud (N, 3), seen from `viewpoint` (3,), each point from its own (N, 3), or from nobody knows where
        (None)."""
        weights = points.new_full((1, len(points)), min(1.0, cls.TRAINED_POINTS / len(points)))
        if viewpoint is None:
            origin, rays = points.new_zeros(3), torch.zeros_like(weights)
        else:
            origin, rays = viewpoint, weights
        return cls(points[None], weights, origin.expand(1, len(points), 3), rays)

    @classmethod
    def of_wholes(cls, points: Tensor) -> Clouds:
        """Complete surfaces (B, N, 3), evenly sampled: how shapes are encoded that are to be generated from."""
        weights = points.new_full(points.shape[:2], min(1.0, cls.TRAINED_POINTS / points.shape[1]))
        everywhere = torch.ones(len(points), dtype=torch.bool, device=points.device)
        return cls(points, weights, torch.zeros_like(points), torch.zeros_like(weights), everywhere)

    def to(self, device: torch.device) -> Clouds:
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        whole = None if self.whole is None else move(self.whole)
        return Clouds(move(self.points), move(self.weights), move(self.origins), move(self.rays), whole)


Observation = Any
"""What a family's `observe` makes of clouds and its `encode` understands; nobody else looks inside."""


@dataclass
class Evidence:
    """What reaches the decoder beside the code, as the family's own tensors (B, ...); opaque to everybody else."""

    parts: tuple[Tensor, ...]

    @staticmethod
    def batch(several: Sequence[Evidence]) -> Evidence:
        """One after another."""
        together = zip(*(one.parts for one in several), strict=True)
        return Evidence(tuple(torch.cat(tensors) for tensors in together))

    def at(self, k: int) -> Evidence:
        """The k-th alone, as a batch of one."""
        return Evidence(tuple(part[k : k + 1] for part in self.parts))

    def masked(self, keep: Tensor) -> Evidence:
        """keep: (B,) 1 where the evidence stays, 0 where it is as if nothing had been seen."""
        return Evidence(tuple(part * keep.view(-1, *[1] * (part.dim() - 1)).to(part.dtype) for part in self.parts))


@dataclass
class Posterior:
    """What the encoder says of B observations: the code is N(mean, exp(log_variance)), both (B, *code shape).

    evidence: None from a family whose decoder takes the code alone.
    """

    mean: Tensor
    log_variance: Tensor
    evidence: Evidence | None = None

    @property
    def deviation(self) -> Tensor:
        return (0.5 * self.log_variance).exp()

    @staticmethod
    def batch(several: Sequence[Posterior]) -> Posterior:
        """One after another."""
        if len(several) == 1:
            return several[0]
        evidence = [one.evidence for one in several if one.evidence is not None]
        return Posterior(
            torch.cat([one.mean for one in several]), torch.cat([one.log_variance for one in several]),
            Evidence.batch(evidence) if evidence else None,
        )  # fmt: skip

    def at(self, k: int) -> Posterior:
        """The k-th alone, as a batch of one."""
        evidence = None if self.evidence is None else self.evidence.at(k)
        return Posterior(self.mean[k : k + 1], self.log_variance[k : k + 1], evidence)


# --- learning ---------------------------------------------------------------------------------------------------------


@dataclass
class Examples:
    """What a family learns from, of B shapes, canonical frame.

    queries, gradients: (B, P, 3) points and the true field's gradient there.  distances: (B, P) signed.  signed: (B,)
    1 where the distances' signs can be trusted; elsewhere only their sizes count (SAL).  seats: (B,) long, the places
    of the shapes among those trained on.  noise: like the code, N(0, 1).  keep: (B,) 1 where evidence passes to the
    decoder; 0 where the code has to do alone.
    """

    clouds: Clouds
    queries: Tensor
    distances: Tensor
    gradients: Tensor
    signed: Tensor
    seats: Tensor
    noise: Tensor
    keep: Tensor

    def surface(self, count: int, near: float = 0.05) -> Tensor:
        """(B, count, 3) points of the true surfaces: queries nearer than `near`, moved by their distance along the
        gradient. Whole shapes, unlike the clouds; some come twice where few are near."""
        length = self.gradients.norm(dim=-1).clamp(min=1e-6)
        foot = self.queries - (self.distances / length)[..., None] * self.gradients
        order = (self.distances.abs() > near).to(torch.uint8).argsort(stable=True, dim=1)
        close = (self.distances.abs() <= near).sum(1).clamp(min=1)
        place = torch.arange(count, device=foot.device)[None] % close[:, None]
        found: Tensor = foot.gather(1, order.gather(1, place)[..., None].expand(-1, -1, 3))
        return found


class Weights(Protocol):
    """What an objective reads of the training's settings (engine.training.train.TrainingSettings)."""

    kl: float
    sign: float
    eikonal: float
    normal: float


class Objective(nn.Module):
    """A family's loss on one batch; a module, so that what is learnt beside the family's weights is learnt with them.

    field: the family that learns.
    """

    parts: ClassVar[tuple[str, ...]] = ("distance_x1000", "sign", "kl")
    """Names of the numbers that go into the curves beside the loss."""
    augments: ClassVar[bool] = True
    """Whether a shape may come deformed each time it is drawn."""

    field: Family

    def forward(self, observation: Observation, examples: Examples) -> tuple[Tensor, Tensor]:
        """The loss, and (len(parts),) detached numbers."""
        raise NotImplementedError

    def settle(self, field: Family) -> None:
        """Put what was learnt beside the weights into `field`, a copy that is to be used. Nothing as a rule."""


# --- the family -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """How completion looks for the code.

    steps, rate: of Adam, and how far a step may go in units of the code.  newton: most steps of Levenberg-Marquardt.
    pointwise: code and point enter the decoder together and no evidence does, so that a Jacobian of thousands of points
    costs one pass over copies of the code.
    """

    steps: int
    rate: float
    newton: int = 10
    pointwise: bool = False


@dataclass
class SpatialFeatures:
    """What a decoder knows at every place, for those who read more of it than a distance.

    fine: (B, W, R, R, R).  coarse: (B, V, r, r, r), normalised as the decoder takes it.  reader: weights and biases of
    the layers that make a signed distance of fine features and point, and the unit of the last one's output.
    """

    fine: Tensor
    coarse: Tensor
    reader: tuple[Tensor, ...]
    unit: float


Ability = Literal["encode", "features"]

_REFUSALS: dict[str, tuple[str, str, str, str]] = {
    "encode": (
        "prior_cannot_encode",
        "The prior {prior} cannot give a mesh a code.",
        "Its architecture {family} has no encoder.",
        "Choose another prior.",
    ),
    "features": (
        "gradient_field_architecture",
        "A gradient field cannot be learnt on the prior {prior}.",
        "It reads features that have a place in space; the codes of its architecture {family} have none.",
        "Choose a prior whose code is made of cells in space, such as household.",
    ),
}
"""Ability -> code, what, why, remedy of the error where a family lacks it."""


class Family(nn.Module):
    """One family. A class attribute or method without a body here has to be given; the others have what is usual.

    name: what cards and settings call it.  about: one line for lists.  code_about: what a card says of its codes.
    kind: of the shapes it decodes.  can: beyond completing: 'encode' = the encoder gives whole surfaces their codes, so
    that shapes can be generated, varied and blended, and the prior's confidence told; 'features' =
    `spatial_features`.
    thicken: added to every side of a shape decoded from its code alone, canonical units.
    code_shape: of one code.  arguments: what __init__ was given, JSON-serialisable.
    """

    name: ClassVar[str]
    about: ClassVar[str] = ""
    code_about: ClassVar[str] = "a vector"
    kind: ClassVar[type[Shape]] = Implicit
    can: ClassVar[frozenset[Ability]] = frozenset({"encode"})
    schedule: ClassVar[Schedule]
    thicken: ClassVar[float] = 0.0

    code_shape: tuple[int, ...]
    arguments: dict[str, Any]

    def observe(self, clouds: Clouds) -> Observation:
        """Clouds in the form that `encode` takes, on their device. Nothing is learnt here."""
        raise NotImplementedError

    def encode(self, observation: Observation) -> Posterior:
        """What the observation says of the code. A family without an encoder answers with the distribution of the
        training codes, whatever was seen."""
        raise NotImplementedError

    def decode(self, code: Tensor, evidence: Evidence | None = None) -> Shape:
        """code: (B, *code_shape); evidence as `encode` gave it, or None -> B shapes."""
        raise NotImplementedError

    def objective(self, settings: Weights, seats: int) -> Objective:
        """What it is trained by. seats: how many shapes there are to learn from."""
        raise NotImplementedError

    def laid_out(self) -> Self:
        """Itself, its weights in memory as its fastest kernels want them; asked once they are on their device."""
        return self

    def warm(self) -> None:
        """Do now what would else be done within the first preview (compiling)."""

    def seen(self, observation: Observation) -> Tensor | None:
        """(B, ...) broadcastable to the code: 1 where its numbers stand for what was observed, 0 where for the rest;
        None where the code has no parts."""
        return None

    def drift(self, mean: Tensor, generator: torch.Generator) -> Tensor:
        """Noise of unit size like the codes `mean`, for other hypotheses; drawn on the CPU."""
        return torch.randn(mean.shape, generator=generator).to(mean.device)

    def lean(self, posterior: Posterior, observation: Observation, other: Tensor, strength: float) -> Posterior:
        """The posterior led to the codes `other` (B, *code_shape) where nothing was seen; strength 0..1."""
        return posterior

    def spatial_features(self, code: Tensor, evidence: Evidence | None = None) -> SpatialFeatures:
        """Of families that can 'features'."""
        raise NotImplementedError


def require(family: Family, ability: Ability, prior: str) -> None:
    """InputError where the family of the prior called `prior` cannot do it."""
    if ability not in family.can:
        code, what, why, remedy = _REFUSALS[ability]
        names = {"prior": prior, "family": family.name}
        raise InputError(code, what.format(**names), why.format(**names), remedy)


def create(family: type[Family], arguments: Mapping[str, Any] | None = None) -> Family:
    """A member of the family, its arguments checked. ValueError says which cannot be taken; RuntimeError, TypeError or
    ValueError of its own where they do not go together."""
    known = arguments_of(family)
    given = dict(arguments or {})
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{family.name} has no argument {name}, only {', '.join(known) or 'none'}")
        if fault := known[name].fault(value):
            raise ValueError(f"{name}: {fault}")
    return family(**given)
