"""The samples of a recipe's fit."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor, nn

from .recipe import Array, At, Batch, Part, Recipe, Source

BOX = 1.3
"""Half the side of the box of uniform samples, network frame: a little more than the fields' domain."""

POOL = 150_000
"""Space samples prepared for a fit with distances; without distances every step draws fresh ones."""


class Sampler:
    """Draws the batches of one fit, reproducibly and alike on every device."""

    def __init__(self, source: Source, recipe: Recipe, seed: int, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.rng = np.random.default_rng([seed, 5])
        self.points, self.normals = source.points, source.normals
        self.tree = cKDTree(self.points)
        count = len(self.points)
        neighbour = min(50, max(4, count // 100), count - 1)
        few = self.rng.permutation(count)[:20_000]
        self.local = np.full(count, np.nan, np.float32)
        self.local[few] = self.tree.query(self.points[few], [neighbour + 1])[0][:, 0]
        self.local = np.where(np.isnan(self.local), np.median(self.local[few]), self.local)
        self.pool: tuple[Array, Array, Array] | None = None
        if recipe.distances != "none":
            half = POOL // 2 if self.points.shape[1] == 3 else POOL // 6
            space = np.concatenate([self._near(half), self._far(half)])
            if recipe.distances == "signed":
                if source.signed is None:
                    raise ValueError("this recipe needs signed distances")
                distance, direction = source.signed(space)
            else:
                distance, direction = self._unsigned(space)
            self.pool = space, distance, direction

    def _near(self, count: int) -> Array:
        row = self.rng.integers(len(self.points), size=count)
        widths = self.recipe.near
        which = self.rng.integers(len(widths), size=count)
        sigma = np.array([0.0 if w is None else w for w in widths], np.float32)[which]
        sigma = np.where(np.array([w is None for w in widths])[which], self.local[row], sigma)
        return self._about(row, sigma)

    def _far(self, count: int) -> Array:
        widths = self.recipe.far
        which = self.rng.integers(len(widths), size=count)
        anywhere = np.array([w is None for w in widths])[which]
        sigma = np.array([0.0 if w is None else w for w in widths], np.float32)[which]
        samples = self._about(self.rng.integers(len(self.points), size=count), sigma)
        box = self.rng.uniform(-BOX, BOX, samples.shape).astype(np.float32)
        return np.where(anywhere[:, None], box, samples)

    def _about(self, row: NDArray[np.int64], sigma: Array) -> Array:
        offset = self.rng.standard_normal((len(row), self.points.shape[1]), np.float32)
        return np.asarray(self.points[row] + sigma[:, None] * offset, np.float32)

    def _unsigned(self, space: Array) -> tuple[Array, Array]:
        distance, index = self.tree.query(space)
        offset = space - self.points[index]
        return distance.astype(np.float32), (offset / np.maximum(distance, 1e-9)[:, None]).astype(np.float32)

    def draw(self, network: nn.Module) -> Batch:
        size = self.recipe.batch
        row = self.rng.integers(len(self.points), size=min(size, len(self.points)))
        half = size // 2
        distance = direction = None
        if self.pool is None:
            space = np.concatenate([self._near(half), self._far(half)])
        else:
            middle = len(self.pool[0]) // 2
            chosen = np.concatenate(
                [self.rng.integers(middle, size=half), middle + self.rng.integers(middle, size=half)]
            )
            space = self.pool[0][chosen]
            distance, direction = self._tensor(self.pool[1][chosen]), self._tensor(self.pool[2][chosen])
        on, total = len(row), len(row) + 2 * half
        every = At(network, self._tensor(np.concatenate([self.points[row], space])))
        return Batch(
            Part(every, 0, on),
            Part(every, on, total),
            Part(every, on + half, total),
            every,
            At(network, self._tensor(space[::8])),
            None if self.normals is None else self._tensor(self.normals[row]),
            distance,
            direction,
        )

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)
