"""Drawing shapes: new ones from the latent distribution, and relatives of one shape.

Number k of a seed is the same shape whatever else is drawn beside it: every draw has its own generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import Cancelled
from ..priors.latent import LatentModel

ATTEMPTS = 8
"""Draws of one shape before a duplicate is accepted (and reported)."""


def generator_for(*numbers: int) -> torch.Generator:
    """A CPU generator that depends on all the numbers."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))


def duplicate_distance(latent: LatentModel) -> float:
    """Root mean square difference of coefficients below which two shapes count as one: half of what usually lies
    between a training shape and its nearest fellow."""
    training = latent.training[torch.linspace(0, len(latent.training) - 1, min(2000, len(latent.training))).long()]
    if len(training) < 2:
        return 0.0
    nearest = torch.cdist(training, training).fill_diagonal_(math.inf).min(1).values
    return 0.5 * float(nearest.median()) / math.sqrt(latent.size)


@dataclass
class Drawn:
    """coefficients: (K,).  nearest: name of the nearest training shape, at `distance` (root mean square coefficient).
    redrawn: draws thrown away before as near-copies of a training shape, or of an earlier draw of this seed.
    duplicate: whether it is one nevertheless, the attempts being spent."""

    index: int
    coefficients: Tensor
    class_name: str
    nearest: str
    distance: float
    redrawn_training: int = 0
    redrawn_each_other: int = 0
    duplicate: bool = False


@dataclass
class Draws:
    shapes: list[Drawn] = field(default_factory=list)
    threshold: float = 0.0


def draw(
    latent: LatentModel,
    count: int,
    *,
    first: int = 0,
    seed: int = 0,
    class_name: str = "",
    temperature: float = 1.0,
    distribution: str = "default",
    avoid_duplicates: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
) -> Draws:
    """Shapes number first .. first + count - 1 of `seed`. Those before them are drawn too, without being decoded:
    what counts as a duplicate depends on them.

    temperature: 0 = the most typical, 1 = as varied as the training shapes.  Raises InputError for an unknown class.
    """
    threshold = duplicate_distance(latent)
    drawn: list[Drawn] = []
    kept = torch.zeros((0, latent.size), device=latent.device)
    begin = 0 if avoid_duplicates else first
    for index in range(begin, first + count):
        if should_stop():
            raise Cancelled
        lost = [0, 0]
        for attempt in range(ATTEMPTS):
            one = latent.sample(1, class_name or None, temperature, generator_for(seed, index, attempt), distribution)
            distance, names = latent.nearest_training(one)
            known = float(distance[0]) < threshold
            again = len(kept) > 0 and float(torch.cdist(one, kept).min()) / math.sqrt(latent.size) < threshold
            if not avoid_duplicates or not (known or again) or attempt == ATTEMPTS - 1:
                break
            lost[0 if known else 1] += 1
        kept = torch.cat([kept, one])
        belongs = class_name or latent.classes[int(latent.class_posterior(one)[0].argmax())]
        if index >= first:
            drawn.append(
                Drawn(index, one[0], belongs, names[0], float(distance[0]), lost[0], lost[1], known or again)
            )
    return Draws(drawn, threshold)


def class_of(latent: LatentModel, coefficients: Tensor) -> str:
    """The most probable class of coefficients (K,)."""
    return latent.classes[int(latent.class_posterior(coefficients[None])[0].argmax())]


def relative(latent: LatentModel, code: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A code (C, R, R, R) near `code`: a turn by strength * 45 degrees from the shape towards another of its class.

    In coordinates about the class's centre z' = cos(a) z + sin(a) s with s a fresh draw: where z has the class's
    Gaussian distribution z' has it too, whatever a is (Neal 1999; Cotter et al. 2013), so relatives are as plausible as
    the shape itself. strength 0 gives the shape back, 2 a new one. What the coefficients do not hold fades alike.
    """
    coefficients = latent.project(code[None])
    left_over = code - latent.expand(coefficients)[0]
    kind = class_of(latent, coefficients[0])
    centre = latent.class_mean(kind)
    fresh = latent.sample(1, kind, 1.0, generator, "mixture") - centre
    angle = strength * math.pi / 4
    moved = centre + math.cos(angle) * (coefficients - centre) + math.sin(angle) * fresh
    return latent.expand(moved)[0] + math.cos(angle) * left_over
