"""More rows than anybody needs, kept in bounded memory: a uniform sample of a stream whose length nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import MAX_POINTS


class Thinner:
    """Takes rows piece by piece and holds at most `limit` of them.

    Every row gets a random number; where more than `limit` rows are held, the bar is lowered to half and those above it
    go, later ones before they are parsed (`keep`). What is left is a uniform sample without repeats, in the file's
    order, and the same for the same file. This is reservoir sampling by random keys (Vitter 1985) with the reservoir's
    size between half the limit and the limit. Nothing is left out where the file has no more than `limit` rows.
    """

    def __init__(self, limit: int = MAX_POINTS) -> None:
        self._limit = limit
        self._random = np.random.default_rng(0)
        self._bar = 1.0
        self._keys: list[NDArray[np.float64]] = []
        self._parts: list[tuple[NDArray[Any], ...]] = []
        self._held = 0
        self.seen = 0

    def keep(self, count: int) -> NDArray[np.bool_] | None:
        """Which of the next `count` rows are worth parsing; None: all. They are then given to `add`, and no others."""
        self.seen += count
        keys = self._random.random(count)
        if self._bar == 1.0:
            self._keys.append(keys)
            return None
        mask: NDArray[np.bool_] = keys < self._bar
        self._keys.append(keys[mask])
        return mask

    def add(self, *columns: NDArray[Any]) -> None:
        """Arrays with one row for each of the rows that the last `keep` wanted."""
        self._parts.append(columns)
        self._held += len(columns[0])
        while self._held > self._limit:
            self._bar /= 2
            for i, keys in enumerate(self._keys):
                mask = keys < self._bar
                self._keys[i] = keys[mask]
                self._parts[i] = tuple(column[mask] for column in self._parts[i])
            self._held = sum(map(len, self._keys))

    def result(self) -> tuple[NDArray[Any], ...]:
        """The columns of all rows that are left."""
        if not self._parts:
            return ()
        width = len(self._parts[0])
        return tuple(np.concatenate([part[i] for part in self._parts]) for i in range(width))

    def note(self) -> Sequence[str]:
        """What to tell, where rows were left out."""
        if self.seen == self._held:
            return ()
        return (f"It has {self.seen:,} points, of which {self._held:,} were taken at random.",)
