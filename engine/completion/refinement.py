"""Keeping what was seen: a correction near the observed points that leaves the imagined rest as it is.

f'(x) = f(x) + d(x), where d interpolates the field's error at the observed points and fades within a few cells. d is
built coarse to fine on regular lattices, each level spreading what the levels before left over (multilevel B-spline
approximation, Lee, Wolberg, Shin 1997, with smoothed trilinear splats). On noisy points the finest levels are left
out: what a cell's points disagree about is noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..frames import BOUND
from ..surfaces.marching import Field
from .evidence import Constraints
from .lattices import Residual
from .symmetry import AGREES, LookedThrough, symmetries


def _splat(points: Tensor, values: Tensor, resolution: int) -> Tensor:
    """Trilinear splat of values (N, C) at points (N, 3) -> (C, R, R, R)."""
    place = ((points.clamp(-BOUND, BOUND) + BOUND) * (resolution / (2 * BOUND)) - 0.5).clamp(0, resolution - 1)
    corner = place.floor().clamp(max=resolution - 2)
    t = place - corner
    ijk = corner.long()
    out = values.new_zeros(resolution**3, values.shape[1])
    for dx in (0, 1):
        for dy in (0, 1):
            for dz in (0, 1):
                w = torch.ones_like(t[:, 0])
                for axis, d in enumerate((dx, dy, dz)):
                    w = w * (t[:, axis] if d else 1 - t[:, axis])
                index = ((ijk[:, 0] + dx) * resolution + ijk[:, 1] + dy) * resolution + ijk[:, 2] + dz
                out.index_add_(0, index, values * w[:, None])
    return out.T.reshape(values.shape[1], resolution, resolution, resolution)


def _smooth(grid: Tensor) -> Tensor:
    """A binomial (1, 2, 1)/4 blur along each axis of (C, R, R, R)."""
    for axis in (1, 2, 3):
        last = grid.shape[axis] - 1
        out = 0.5 * grid
        out.narrow(axis, 1, last).add_(grid.narrow(axis, 0, last), alpha=0.25)
        out.narrow(axis, 0, last).add_(grid.narrow(axis, 1, last), alpha=0.25)
        grid = out
    return grid


_AGREEMENT = 0.004
"""What is left over below this (canonical units) is never taken for contradiction."""


@torch.no_grad()
def fit_residual(
    points: Tensor, errors: Tensor, weights: Tensor, resolutions: tuple[int, ...] = (32, 64, 128), ridge: float = 0.05
) -> Residual:
    """points: (N, 3) canonical.  errors: (N,) wanted value minus the field's.  weights: (N,) 0..1.

    ridge: weight (in points a cell) of 'no correction', what makes d fade away from the points.
    """
    lattices: list[Tensor] = []
    left = errors.clone()
    for level, resolution in enumerate(resolutions):
        # The finer, the more blurs: a fine correction that ends within a cell folds the surface (docs/seams.md).
        for _ in range(2):  # the second pass picks up what the blur took away
            trust = weights
            if lattices and len(left):
                # Points that most of their neighbours contradict (strays by the surface) lose their say; where all of
                # a cell agree that something is left over, they keep it, for only shares count within a cell.
                usual = max(_AGREEMENT, float(left.abs().median()))
                trust = weights / (1 + (left / (3 * usual)) ** 2)
            sums = _splat(points, torch.stack([left * trust, trust], 1), resolution)
            for _ in range(level + 1):
                sums = _smooth(sums)
            lattice = (sums[0] / (sums[1] + ridge))[None, None]
            if lattices and lattices[-1].shape == lattice.shape:
                lattices[-1] = lattices[-1] + lattice
            else:
                lattices.append(lattice)
            left = left - Residual([lattice])(points)
    return Residual(lattices)


def _images(field: Field, given: Constraints) -> tuple[str, list[tuple[Tensor, Tensor | None]]]:
    """Which symmetry there is, and where it puts the observed points and their normals, each (M, 3): about an axis of
    revolution, or those images in planes that agree with the completed shape and do not lie in space that was looked
    through."""
    device = given.points.device

    def distance(points: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        at = torch.as_tensor(points, dtype=torch.float32, device=device)
        return field(at).cpu().double().numpy()

    points = given.points.cpu().double().numpy()
    looked_through = None
    if given.viewpoint is not None:
        looked_through = LookedThrough(points, given.viewpoint.cpu().double().numpy(), given.scans)
    if given.images is not None:  # beside the axis, which has them all, no further symmetry is looked for
        name, found, maps = "axis", [given.images], symmetries(points, distance, None)
    else:
        found, maps = [], symmetries(points, distance, looked_through)
        name = {1: "mirror plane", 2: "two mirror planes", 3: "two mirror planes"}.get(len(maps), "quarter turns")
    for to_itself in maps:
        images = to_itself.apply(points)
        keep = np.abs(distance(images)) < AGREES
        if looked_through is not None:
            keep[keep] = ~looked_through(images[keep])
        kept = torch.as_tensor(np.flatnonzero(keep), device=device)
        facing = None
        if given.normals is not None:
            turn = torch.as_tensor(to_itself.rotation.T, dtype=given.normals.dtype, device=device)
            facing = given.normals[kept] @ turn
        found.append((torch.as_tensor(images, dtype=torch.float32, device=device)[kept], facing))
    return name, found


@dataclass
class Correction:
    """symmetry: whose images had a say.  evaluations: field queries spent."""

    residual: Residual
    symmetry: str
    evaluations: int


def correction(
    field: Field, given: Constraints, noise: float, symmetry: bool = True, metric: bool = True
) -> Correction:
    """What puts the surface of a field through what was observed.

    field: (N, 3) -> (N,), no gradients kept.  given: in the field's frame.  noise: of its points, canonical units.
    metric: whether the field is a signed distance; of another only its zero is moved.
    """
    points = given.points
    # Within noise nobody knows which side a step leads to.
    normals = given.normals if noise < 0.004 and metric else None
    step = 0.006
    targets = [points]
    wanted = [torch.zeros(len(points), device=points.device)]
    weights = [torch.ones(len(points), device=points.device)]
    sides: list[tuple[Tensor, Tensor, float]] = []
    name, images = _images(field, given) if symmetry else ("", [])
    for image, facing in images:
        targets.append(image)
        wanted.append(torch.zeros(len(image), device=points.device))
        weights.append(torch.full((len(image),), 0.3, device=points.device))
        if normals is not None and facing is not None:
            sides.append((image, facing, 0.15))
    if normals is not None:
        sides.append((points, normals, 0.5))
    for of, outward, share in sides:
        # Either side of the surface too, so that a part the field has missed gets a body.
        for sign in (1.0, -1.0):
            targets.append(of + sign * step * outward)
            wanted.append(torch.full((len(of),), sign * step, device=points.device))
            weights.append(torch.full((len(of),), share, device=points.device))
    at, want, weight = torch.cat(targets), torch.cat(wanted), torch.cat(weights)
    inside = (at.abs() < BOUND).all(1)
    at, want, weight = at[inside], want[inside], weight[inside]
    errors = want - field(at)
    # What lies far from the surface is an outlier or a part the prior does not know; trust it less and less.
    weight = weight * (1 / (1 + (errors / 0.05) ** 2))
    resolutions = (32, 64, 128) if noise < 0.003 else (32, 64)
    return Correction(fit_residual(at, errors, weight, resolutions), name, len(at))
