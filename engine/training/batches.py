"""From supervision records to training batches: augmentation, simulated partial scans, query points.

Everything is drawn from a generator seeded by (seed, step, rank): a run that was killed goes on with the very batches
it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .coverage import Seen, draw_count, draw_kind, draw_quarters, quarter_turns, scan_record, seen_from, spoil
from .supervision import UNITS

POINTS = 4096
"""Room for a cloud's points in a batch, as many as completion looks at; fewer are padded with weight 0."""

FULL = 2048
"""A cloud of more points is given in so many points' worth of weights, as `Clouds.seen` does."""

AMBIGUOUS = 0.6
"""A shape whose winding number agrees less than this with visibility has no inside to be sure of: its distances are
taken as unsigned."""


@dataclass
class Batch:
    """points, origins: (B, POINTS, 3).  weights, ray_weights: (B, POINTS), at most FULL in all.  queries, gradients:
    (B, P, 3).  distances: (B, P).  Canonical frame, its front possibly wrong.  whole: (B,) bool, where the evidence is
    the complete surface and said to be so.  signed: (B,) bool, where the distances' signs are to be trusted.  seats:
    (B,) long, the places of the shapes among those trained on."""

    points: Tensor
    weights: Tensor
    origins: Tensor
    ray_weights: Tensor
    queries: Tensor
    distances: Tensor
    gradients: Tensor
    whole: Tensor
    signed: Tensor
    seats: Tensor


class Warp:
    """A random smooth deformation that leaves furniture furniture: verticals vertical, mirror symmetry kept.

    Each axis is stretched and smoothly re-timed on its own; then the box is normalised again; then, for half of the
    shapes, the pose is off by a little, as an estimated pose is.
    """

    def __init__(self, rng: np.random.Generator, surface: NDArray[np.float32], pose_noise: bool = True) -> None:
        self.scale = np.exp(rng.normal(0.0, 0.18, 3)).clip(0.65, 1.5)
        self.amplitude = rng.uniform(-0.22, 0.22, (3, 2)) * (rng.random() < 0.5)
        self.flip = np.array([-1.0 if rng.random() < 0.5 else 1.0, 1.0, 1.0])
        self.offset, self.unit = np.zeros(3), 1.0
        moved = self._deform(surface)
        low, high = moved.min(0), moved.max(0)
        self.offset, self.unit = (low + high) / 2, 1.0 / float((high - low).max())
        self.yaw, self.shift = 0.0, np.zeros(3)
        if pose_noise and rng.random() < 0.5:
            self.unit *= rng.uniform(0.85, 1.02)
            self.shift = rng.normal(0.0, [0.01, 0.02, 0.02]).clip(-0.04, 0.04)
            self.yaw = rng.normal(0.0, 0.05) * (rng.random() < 0.5)
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        self.turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])

    def _deform(self, x: NDArray[Any]) -> NDArray[np.float64]:
        t = np.clip(x, -0.5, 0.5)
        out = np.asarray(x, np.float64).copy()
        for axis in range(3):
            # x is odd about 0, so that mirror symmetry survives; y and z also take an even term.
            for k, a in enumerate(self.amplitude[axis]):
                if axis == 0:
                    w = 2 * np.pi * (k + 1)
                    out[..., 0] += a / w * np.sin(w * t[..., 0])
                else:
                    w = np.pi * (k + 1)
                    out[..., axis] += a / w * np.sin(w * (t[..., axis] + 0.5))
        return np.asarray(out * (self.scale * self.flip), np.float64)

    def points(self, x: NDArray[Any]) -> NDArray[np.float32]:
        moved = (self._deform(x) - self.offset) * self.unit
        return np.asarray(moved @ self.turn.T + self.shift, np.float32)

    def distances(
        self, x: NDArray[Any], distance: NDArray[Any], gradient: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Signed distances and gradients after the deformation, to first order: s' = s / |J^-T n|."""
        jacobian = np.ones_like(x, dtype=np.float64)
        inside = np.abs(x) < 0.5
        for axis in range(3):
            for k, a in enumerate(self.amplitude[axis]):
                w, t = (2 * np.pi * (k + 1), x[..., 0]) if axis == 0 else (np.pi * (k + 1), x[..., axis] + 0.5)
                jacobian[..., axis] += a * np.cos(w * t) * inside[..., axis]
        normal = gradient / (jacobian * self.scale * self.flip)
        length = np.linalg.norm(normal, axis=-1).clip(1e-6)
        turned = (normal / length[..., None]) @ self.turn.T
        return (distance / length * self.unit).astype(np.float32), turned.astype(np.float32)


def _identity(surface: NDArray[np.float32]) -> Warp:
    warp = Warp(np.random.default_rng(0), surface, pose_noise=False)
    warp.scale, warp.amplitude, warp.flip = np.ones(3), np.zeros((3, 2)), np.ones(3)
    warp.offset, warp.unit = np.zeros(3), 1.0
    return warp


def make_example(
    record: NDArray[np.void],
    rng: np.random.Generator,
    queries: int,
    view: int | None = None,
    augment: bool = True,
    pose_noise: bool = True,
) -> tuple[Any, ...]:
    """One shape's evidence and queries, as numpy arrays in the order of `Batch`.

    view: a fixed single view, clean (validation), or None for a random kind of evidence.
    """
    surface = record["surface"].astype(np.float32) / UNITS
    kind = draw_kind(rng) if view is None else "views"
    seen = scan_record(record, rng, kind) if view is None else _clean_view(record, view)
    warp = Warp(rng, surface, pose_noise and kind != "whole") if augment else _identity(surface)
    room = POINTS if view is None else FULL
    limit = draw_count(rng, POINTS) if view is None and kind != "whole" else FULL
    if len(seen) > limit:
        seen = seen.at(rng.choice(len(seen), limit, replace=False))
    seen = Seen(warp.points(seen.points), warp.points(seen.origins), seen.known)
    quarters = 0
    if view is None and kind != "whole":
        seen.points = spoil(seen, rng)
        quarters = draw_quarters(rng)
    strength = min(1.0, FULL / len(seen))  # as of `Clouds.seen`: more points are no stronger evidence
    points, weights, origins, rays = (
        np.concatenate([part, np.full((room - len(part), *part.shape[1:]), filler, np.float32)])
        for part, filler in (
            (quarter_turns(seen.points, quarters), 0), (np.full(len(seen), strength, np.float32), 0),
            (quarter_turns(seen.origins, quarters), 1), (strength * seen.known, 0),
        )
    )  # fmt: skip

    which = rng.choice(len(record["query"]), queries, replace=False)
    x = record["query"][which].astype(np.float32) / UNITS
    distance, gradient = warp.distances(
        x, record["distance"][which].astype(np.float32) / UNITS, record["gradient"][which].astype(np.float32) / 127
    )
    signed = np.bool_(record["agreement"] >= AMBIGUOUS)
    targets = quarter_turns(warp.points(x), quarters), distance, quarter_turns(gradient, quarters)
    return points, weights, origins.astype(np.float32), rays, *targets, np.bool_(kind == "whole"), signed


def _clean_view(record: NDArray[np.void], view: int) -> Seen:
    """One view as it is; the whole surface, seen from nobody knows where, where that shows hardly anything."""
    seen = seen_from(record, np.array([view]))
    if len(seen) >= 16:
        return seen
    surface = record["surface"].astype(np.float32) / UNITS
    return Seen(surface, np.zeros_like(surface), np.zeros(len(surface), np.float32))


def make_batch(
    records: NDArray[np.void],
    indices: NDArray[Any],
    weights: NDArray[Any],
    size: int,
    queries: int,
    seed: list[int],
    augment: bool = True,
) -> Batch:
    """A batch of `size` shapes drawn with the given weights; all randomness from `seed`."""
    rng = np.random.default_rng(seed)
    seats = rng.choice(len(indices), size, p=weights / weights.sum())
    examples = [make_example(records[indices[k]], rng, queries, augment=augment) for k in seats]
    parts = [torch.from_numpy(np.stack(part)) for part in zip(*examples, strict=True)]
    return Batch(*[*parts, torch.from_numpy(seats.astype(np.int64))])
