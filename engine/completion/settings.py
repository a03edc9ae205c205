"""What a completion is asked for, and what its optimisers answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..geometry.transforms import Similarity

EMPTY_MARGIN = 0.01
"""Space that was looked through is so far from the surface at least, canonical units."""
POSE_WEIGHT, POSE_RATE = 1e-4, 0.05
"""What holds the pose where it was found, and Adam's step for it; in units of `pose.SCALES`."""


@dataclass
class CompletionSettings:
    """steps, learning_rate: of the optimiser on the code; None = the family's own.
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
class Optimum:
    """shift: (B, *code shape), of the code from the posterior's mean in its standard deviations.  poses: B.  history:
    the lowest cost of the batch, step by step."""

    shift: Tensor
    poses: list[Similarity]
    evaluations: int
    history: list[float]
