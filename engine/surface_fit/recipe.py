"""A recipe: what one of the papers' single-shape fits is made of. One network, named and weighed losses, and where to
sample them.

All are fitted by one loop (training.py here). Networks see the shape in the papers' own scale, about [-1, 1] on a side
(`NETWORK_SCALE` times the unit frame of base.py), so that the papers' weights, widths and learning rates keep their
meaning. A recipe of one's own is a `Recipe`; docs/methods.md shows one in ten lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..fields import implicit, losses
from .base import UNIT_SIDE

NETWORK_SCALE = 2.0 / UNIT_SIDE
"""Unit frame -> network frame, where the longest side of the input is 2."""

Array = NDArray[np.float32]
SignedQuery = Callable[[Array], tuple[Array, Array]]
"""(M, D) points -> signed distance (M,) and its gradient (M, D)."""


class At:
    """A network at points (N, D): what is asked for is computed once, and can be differentiated.

    value: (N,).  gradient: (N, D).  divergence: (N,), of the gradient; costs several gradients.
    """

    def __init__(self, network: nn.Module, points: Tensor) -> None:
        self.network, self.points = network, points.detach().requires_grad_(True)

    @cached_property
    def value(self) -> Tensor:
        answer: Tensor = self.network(self.points)
        return answer

    @cached_property
    def gradient(self) -> Tensor:
        return implicit.gradient(self.value, self.points)

    @cached_property
    def divergence(self) -> Tensor:
        return implicit.divergence(self.gradient, self.points)


class Part:
    """Some of an `At`'s points; one evaluation of the network serves all parts."""

    def __init__(self, whole: At, start: int, stop: int) -> None:
        self._whole, self._rows = whole, slice(start, stop)

    @property
    def points(self) -> Tensor:
        return self._whole.points[self._rows]

    @property
    def value(self) -> Tensor:
        return self._whole.value[self._rows]

    @property
    def gradient(self) -> Tensor:
        return self._whole.gradient[self._rows]


@dataclass
class Batch:
    """One step's samples. surface: data points.  space: around them and farther off.  far: the second half of those.

    every: all of them.  few: an eighth of `space`, evaluated apart, for terms as dear as the divergence.
    normals: (S, D) at the surface points, or None.  distance: (P,) at the space points, signed where the recipe asks
    for it and else unsigned, and direction: (P, D), its gradient; None where the recipe takes no distances.
    """

    surface: Part
    space: Part
    far: Part
    every: At
    few: At
    normals: Tensor | None = None
    distance: Tensor | None = None
    direction: Tensor | None = None


Loss = Callable[[Batch], Tensor]
Weight = float | Callable[[float], float]
"""A number, or a function of the fit's progress (0..1)."""


def annealed(weight: float, hold: float = 0.2, end: float = 0.5) -> Callable[[float], float]:
    """`weight` until `hold` of the fit, then linearly down to 0 at `end`."""
    return lambda progress: weight * min(1.0, max(0.0, (end - progress) / (end - hold)))


@dataclass
class Recipe:
    """network: the dimension -> a fresh network.  terms: name -> (weight, loss).

    distances: 'none', 'unsigned' (to the data) or 'signed' (needs a mesh with an inside).  near: standard deviations of
    the first half of the space samples about data points, network frame; None = the distance to the 50th neighbour, as
    in SAL and IGR.  far: those of the second half; None = uniform in the box.  data_terms: the ones that 'smoothness'
    trades against the others.  needs: as Method.needs.
    batch: surface points a step, and as many space points.  rate: Adam's, falling to a twentieth over the second half.
    """

    network: Callable[[int], nn.Module]
    terms: dict[str, tuple[Weight, Loss]]
    distances: str = "none"
    near: tuple[float | None, ...] = (None,)
    far: tuple[float | None, ...] = (None,)
    data_terms: tuple[str, ...] = ()
    needs: str = "points"
    iterations: int = 2000
    batch: int = 1024
    rate: float = 1e-3


@dataclass
class Source:
    """What is learnt from, network frame. points: (N, D) float32.  normals: (N, D), trusted, or None.
    signed: the signed distance where the data has an inside."""

    points: Array
    normals: Array | None = None
    signed: SignedQuery | None = None


# --- terms that several recipes share --------------------------------------------------------------------------------


def given(values: Tensor | None) -> Tensor:
    assert values is not None, "the recipe's data has no normals or distances"
    return values


def surface(batch: Batch) -> Tensor:
    return losses.surface(batch.surface.value)


def eikonal(batch: Batch) -> Tensor:
    return losses.eikonal(batch.space.gradient)


def eikonal_everywhere(batch: Batch) -> Tensor:
    return losses.eikonal(batch.every.gradient)
