"""What a training is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..fields.registry import DEFAULT


@dataclass
class TrainingSettings:
    """steps: optimiser steps in all (the learning rate's schedule spans them).  batch: shapes a step and process.
    queries: points with distances a shape.  architecture, arguments: the family
    and what it is made with.  kl: weight of the code's divergence from N(0, 1), or of what else the family holds codes
    together by.  sign: weight of the inside-outside cross-entropy.  skip_drop: how often the decoder
    must do without the evidence's own features, so that codes alone suffice (with whole shapes it always must).
    eikonal, normal: weights of two terms on the field's gradient, see
    engine.fields.objectives.gradient_loss.
    precision: 'float32' or 'bfloat16'.
    """

    architecture: str = DEFAULT
    arguments: dict[str, Any] | None = None
    steps: int = 9_000
    batch: int = 4
    queries: int = 2048
    learning_rate: float = 1.5e-3
    kl: float = 2e-3
    sign: float = 0.25
    skip_drop: float = 0.1
    eikonal: float = 0.0
    normal: float = 0.0
    precision: str = "bfloat16"
    compile: bool = False
    seed: int = 0
    average: float = 0.999
    checkpoint_seconds: float = 60.0


PRESETS: dict[str, TrainingSettings] = {
    "cpu": TrainingSettings(),
    "gpu": TrainingSettings(
        arguments={"width": 32}, steps=60_000, batch=64, queries=4096, learning_rate=2e-3, compile=True
    ),
}


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """A short warm-up, then half a cosine to one fiftieth."""
    warm = min(1.0, (step + 1) / 200)
    return settings.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / settings.steps)))
