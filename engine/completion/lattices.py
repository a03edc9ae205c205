"""What is added to a decoded field: sums of lattices."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..fields import fused
from ..fields.observations.evidence import interpolate


@dataclass
class Residual:
    """d as a sum of lattices (1, 1, R, R, R), coarse to fine."""

    lattices: list[Tensor]

    def __call__(self, points: Tensor) -> Tensor:
        """(N, 3) canonical points -> (N,) correction."""
        if fused.applies(points, *self.lattices):
            return fused.lattice_sum(self.lattices, points)
        total = points.new_zeros(len(points))
        for lattice in self.lattices:
            total = total + interpolate(lattice, points[None])[0, :, 0]
        return total
