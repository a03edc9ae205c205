"""Drawing shapes: new ones from the latent distribution, and relatives of one shape.

Number k of a seed is the same shape whatever else is drawn beside it: every draw has its own generator.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import Cancelled
from ..priors.latent import _SIGMA_MAX, LatentModel, denoise

ATTEMPTS = 8
"""Draws of one shape before a duplicate is accepted (and reported)."""
PIECES_ATTEMPTS, WHOLE = 4, 0.96
"""Draws of one shape before one in pieces is accepted, and the share of the surface that has to be in one piece."""


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
    redrawn_broken: int = 0
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
    largest_piece: Callable[[Tensor], float] | None = None,
    earlier: Sequence[Drawn] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> Draws:
    """Shapes number first .. first + count - 1 of `seed`. Those before them are drawn too, without being decoded:
    what counts as a duplicate depends on them.

    temperature: 0 = the most typical, 1 = as varied as the training shapes.  largest_piece: coefficients (K,) -> how
    far the shape holds together; shapes in pieces (below WHOLE) are drawn again too, and the best of PIECES_ATTEMPTS
    is taken.  earlier: shapes 0, 1, ... of the same seed and settings, where they were drawn before.  Raises InputError
    for an unknown class.
    """
    threshold = duplicate_distance(latent)
    drawn: list[Drawn] = []
    kept = torch.zeros((0, latent.size), device=latent.device)
    if earlier:
        kept = torch.stack([one.coefficients for one in earlier])
    begin = len(earlier) if avoid_duplicates else first
    patience = ATTEMPTS if avoid_duplicates else 1
    for index in range(begin, first + count):
        if should_stop():
            raise Cancelled
        best: Drawn | None = None
        holds, lost, spent = -1.0, [0, 0, 0], 0
        for attempt in range(ATTEMPTS + PIECES_ATTEMPTS):
            generator = generator_for(seed, index, attempt, zlib.crc32(class_name.encode()))
            one = latent.sample(1, class_name or None, temperature, generator, distribution)
            distance, names = latent.nearest_training(one)
            known = float(distance[0]) < threshold
            again = len(kept) > 0 and float(torch.cdist(one, kept).min()) / math.sqrt(latent.size) < threshold
            if avoid_duplicates and (known or again) and sum(lost[:2]) < patience - 1:
                lost[0 if known else 1] += 1
                continue
            together = 1.0 if largest_piece is None else largest_piece(one[0])
            if together > holds:
                holds = together
                best = Drawn(index, one[0], class_name, names[0], float(distance[0]), duplicate=known or again)
            spent += 1
            if holds >= WHOLE or spent == PIECES_ATTEMPTS:
                break
            lost[2] += 1
        assert best is not None
        kept = torch.cat([kept, best.coefficients[None]])
        if index >= first:
            best.redrawn_training, best.redrawn_each_other, best.redrawn_broken = lost
            best.class_name = class_name or class_of(latent, best.coefficients)
            drawn.append(best)
    return Draws(drawn, threshold)


def class_of(latent: LatentModel, coefficients: Tensor) -> str:
    """The most probable class of coefficients (K,)."""
    return latent.classes[int(latent.class_posterior(coefficients[None])[0].argmax())]


def relative(
    latent: LatentModel,
    code: Tensor,
    strength: float,
    seeds: tuple[int, ...],
    largest_piece: Callable[[Tensor], float] | None = None,
) -> Tensor:
    """A code (C, R, R, R) near `code`: turned by strength * 45 degrees towards noise, and made a shape again.

    With a diffusion model noise of 4 tan(a) standard deviations is added and taken away again from that level on
    (SDEdit: Meng 2022), so that what comes out is a shape. Without, z' = cos(a) z + sin(a) s about the class's centre
    with s a draw from its Gaussian, which leaves that Gaussian as it is (Neal 1999; Cotter et al. 2013). strength 0
    gives the shape back, 2 a new one of its class. What the coefficients do not hold fades alike.

    seeds: same numbers, same relative.  largest_piece: of a code; the best of PIECES_ATTEMPTS that falls into pieces.
    """
    coefficients = latent.project(code[None])
    left_over = code - latent.expand(coefficients)[0]
    kind = class_of(latent, coefficients[0])
    angle = strength * math.pi / 4
    if strength <= 0:
        return code
    best, holds = code, -1.0
    for attempt in range(PIECES_ATTEMPTS):
        generator = generator_for(*seeds, attempt)
        if latent.denoiser is not None:
            level = min(4 * math.tan(min(angle, 1.52)), _SIGMA_MAX)
            noise = torch.randn(coefficients.shape, generator=generator).to(latent.device)
            label = torch.full((1,), latent.classes.index(kind), device=latent.device)
            moved = denoise(latent.denoiser, coefficients + level * noise, label, largest=level)
        else:
            centre = latent.class_mean(kind)
            fresh = latent.sample(1, kind, 1.0, generator, "mixture") - centre
            moved = centre + math.cos(angle) * (coefficients - centre) + math.sin(angle) * fresh
        found = latent.expand(moved)[0] + math.cos(angle) * left_over
        together = 1.0 if largest_piece is None else largest_piece(found)
        if together > holds:
            best, holds = found, together
        if holds >= WHOLE:
            break
    return best
