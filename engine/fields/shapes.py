"""What a family decodes codes to: shapes of four kinds, in batches, in the canonical frame.

All four answer `values`: how far points are from the surface, so that completion and evaluation need not know which
they have. engine.surfaces.of makes a mesh of any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

_PAIRS = 8_000_000
"""Distances between points that are held in memory at once."""


FAR = 0.1
"""As far, canonical units, as signed distances are learnt."""


@dataclass
class Implicit:
    """The zero set of a field, negative inside.

    query: (features (B, ...), points (B, P, 3)) -> (B, P).  features: one row a shape, whatever query makes of it.
    metric: whether the values are signed distances; else they have only their sign and the surface in common with them
    (an occupancy's logit, turned over).  lipschitz: how much values change over a length, at most: what sparse
    extraction relies on; 0 = unknown, the surface is found by signs alone.
    """

    query: Callable[[Tensor, Tensor], Tensor]
    features: Tensor
    metric: bool = True
    lipschitz: float = 1.5
    signed: ClassVar[bool] = True

    def values(self, points: Tensor) -> Tensor:
        """points: (B, P, 3) -> (B, P), negative inside."""
        return self.query(self.features, points)

    def off(self, points: Tensor) -> Tensor:
        """points: (B, P, 3) -> (B, P) distances from the surface, no gradients kept: to first order where the field is
        no distance (|f| / |grad f|, Taubin 1991), and FAR at most: where it is flat nothing can be told."""
        if self.metric:
            with torch.no_grad():
                return self.values(points).abs()
        with torch.enable_grad():
            x = points.detach().requires_grad_(True)
            value = self.query(self.features.detach(), x)
            (slope,) = torch.autograd.grad(value.sum(), x)
        away: Tensor = (value.detach().abs() / slope.norm(dim=-1).clamp(min=1e-6)).clamp(max=FAR)
        return away

    def at(self, k: int) -> Implicit:
        """The k-th alone, as a batch of one."""
        return replace(self, features=self.features[k : k + 1])


@dataclass
class Points:
    """Points on the surface, (B, N, 3), without order or connections. Distances have no sign."""

    points: Tensor
    signed: ClassVar[bool] = False
    metric: ClassVar[bool] = True

    def values(self, points: Tensor) -> Tensor:
        """points: (B, P, 3) -> (B, P) distances to the nearest point of the shape."""
        return nearest(points, self.points)

    def off(self, points: Tensor) -> Tensor:
        """As `values`, no gradients kept."""
        with torch.no_grad():
            return self.values(points)

    def at(self, k: int) -> Points:
        """The k-th alone, as a batch of one."""
        return Points(self.points[k : k + 1])


@dataclass
class Patches:
    """Sheets in space: maps of the unit square (AtlasNet, Groueix 2018).

    place: (features (B, ...), uv (N, 2) in [0, 1]) -> (B, K, N, 3), every patch at the same places.  closed: the one
    patch is a sphere, u its longitude (0 and 1 are one place), v its latitude (0 and 1 are the poles).
    """

    place: Callable[[Tensor, Tensor], Tensor]
    features: Tensor
    closed: bool = False
    samples: int = 400
    """A patch, that distances are taken to."""
    signed: ClassVar[bool] = False
    metric: ClassVar[bool] = True

    @cached_property
    def sampled(self) -> Tensor:
        """(B, K samples, 3) points on all patches."""
        side = max(2, round(self.samples**0.5))
        axis = (torch.arange(side, device=self.features.device, dtype=self.features.dtype) + 0.5) / side
        uv = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
        return self.place(self.features, uv).flatten(1, 2)

    def values(self, points: Tensor) -> Tensor:
        """points: (B, P, 3) -> (B, P) distances to the nearest of the sampled points."""
        return nearest(points, self.sampled)

    def off(self, points: Tensor) -> Tensor:
        """As `values`, no gradients kept."""
        with torch.no_grad():
            return self.values(points)

    def at(self, k: int) -> Patches:
        """The k-th alone, as a batch of one."""
        return replace(self, features=self.features[k : k + 1])


ABSENT = 10.0
"""The distance to a part that does not exist."""


@dataclass
class Parts:
    """A union of boxes or superquadrics.

    sizes: (B, M, 3) half axes.  rotations: (B, M, 3, 3), of a part's frame into the shape's.  centres: (B, M, 3).
    exponents: (B, M, 2) of superquadrics (Paschalidou 2019, eq. 1), None = boxes.  existence: (B, M) 0..1; a part
    below one half is not there.
    """

    sizes: Tensor
    rotations: Tensor
    centres: Tensor
    exponents: Tensor | None = None
    existence: Tensor | None = None
    signed: ClassVar[bool] = True
    metric: ClassVar[bool] = True

    def values(self, points: Tensor) -> Tensor:
        """points: (B, P, 3) -> (B, P) signed distances to the union: exact outside a box, radial of a superquadric."""
        local = (points[:, None] - self.centres[:, :, None]) @ self.rotations  # (B, M, P, 3)
        size = self.sizes[:, :, None]
        if self.exponents is None:
            beyond = local.abs() - size
            outside = torch.linalg.vector_norm(beyond.clamp(min=0), dim=-1)
            each = outside + beyond.amax(-1).clamp(max=0)
        else:
            first, second = (self.exponents[:, :, None, k] for k in (0, 1))
            x, y, z = (local.abs() / size).clamp(min=1e-6).unbind(-1)
            flat = (x ** (2 / second) + y ** (2 / second)) ** (second / first)
            inside_out = (flat + z ** (2 / first)).clamp(1e-12, 1e12)
            each = torch.linalg.vector_norm(local, dim=-1) * (1 - inside_out ** (-first / 2))
        if self.existence is not None:
            each = torch.where((self.existence >= 0.5)[:, :, None], each, ABSENT)
        nearest_part: Tensor = each.amin(1)
        return nearest_part

    def off(self, points: Tensor) -> Tensor:
        """(B, P) distances from the union's surface, no gradients kept."""
        with torch.no_grad():
            return self.values(points).abs()

    def at(self, k: int) -> Parts:
        """The k-th alone, as a batch of one."""

        def one(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[k : k + 1]

        return Parts(
            self.sizes[k : k + 1], self.rotations[k : k + 1], self.centres[k : k + 1], one(self.exponents),
            one(self.existence),
        )  # fmt: skip


Shape = Implicit | Points | Patches | Parts


def nearest(points: Tensor, targets: Tensor) -> Tensor:
    """points: (B, P, 3), targets: (B, N, 3) -> (B, P) distances to the nearest target, differentiable in both."""
    step = max(1, _PAIRS // max(1, len(points) * targets.shape[1]))
    exact = "donot_use_mm_for_euclid_dist"  # the other way loses the third digit of short distances
    parts = [torch.cdist(part, targets, compute_mode=exact).amin(-1) for part in torch.split(points, step, 1)]
    return torch.cat(parts, 1)
