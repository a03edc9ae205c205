"""Where the tunnels of a solid are, and which of them another solid has as well.

A tunnel is closed by some membrane: what a morphological closing fills when its ball no longer fits through. Of every
membrane it is asked on the solid itself whether it closes a handle, by the change of the first Betti number, so a
membrane over a mere niche is none. Two solids share a tunnel where the membrane of the one, a little thickened, closes
a handle of the other as well and mostly lies in its empty space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .lattice import TOUCHING, Filled, euler, handles_of

Box = tuple[slice, ...]

RADII = (1.5, 2.1, 3.0, 4.2, 6.0, 7.2, 8.6, 10.4, 12.5, 15.0, 18.0, 21.5, 25.5, 30.0, 36.0, 43.0, 52.0, 62.0, 74.0)
"""Radii of the closing balls, in steps of the lattice."""
REACH = 3
"""How many steps a membrane is thickened at most to reach the sides of the same tunnel in another solid."""


@dataclass
class Tunnel:
    """membrane: (M, 3) indices of the nodes that close it.  patch: (P, 3) those and what the closing filled about
    them, up to the tunnel's sides.  radius: of the ball that no longer fits through, in steps.  handles: closed by it,
    commonly one."""

    membrane: NDArray[np.int64]
    patch: NDArray[np.int64]
    radius: float
    handles: int


class Closings:
    """Closings of a solid by balls of any radius. Large balls are tried on a coarser lattice, where filled is what any
    node of a block is."""

    def __init__(self, filled: Filled) -> None:
        self.filled = filled
        self._away: tuple[int, NDArray[np.float64]] | None = None
        """Of the stride used last: the distance to what is filled, with a margin."""

    def __call__(self, radius: float) -> Filled:
        """Filled and what no ball of `radius` steps that stays clear of it can reach."""
        stride = next(stride for stride, most in ((1, 11.0), (2, 26.0), (4, np.inf)) if radius < most)
        pad = int(np.ceil(min(radius, 2 * max(self.filled.shape)) / stride)) + 2
        if self._away is None or self._away[0] != stride:
            most = 11 if stride == 1 else 26 // stride + 1 if stride == 2 else int(RADII[-1] / stride) + 1
            self._away = stride, ndimage.distance_transform_edt(~np.pad(_pooled(self.filled, stride), most + 2))
        away = self._away[1]
        spare = (away.shape[0] - -(-self.filled.shape[0] // stride)) // 2 - pad
        away = away[tuple(slice(spare, side - spare) for side in away.shape)]
        reachable = away > radius / stride
        closed = ndimage.distance_transform_edt(~reachable) > radius / stride
        inner = closed[tuple(slice(pad, -pad) for _ in range(3))]
        if stride > 1:
            for axis in range(3):
                inner = np.repeat(inner, stride, axis=axis)
            inner = inner[tuple(slice(0, side) for side in self.filled.shape)]
        return np.asarray(inner | self.filled)


def tunnels_of(filled: Filled) -> list[Tunnel]:
    """The tunnels of a solid, narrowest first. Their handles add up to the solid's, but for tunnels so entangled that
    no closing tells them apart."""
    left = handles_of(filled)
    if left == 0:
        return []
    box = _box(filled, 0)
    solid = np.pad(filled[box], 1)
    shift = np.array([side.start for side in box]) - 1
    found: list[Tunnel] = []
    places: list[tuple[int, ...]] = []
    before, closed = solid, Closings(solid)
    for radius in RADII:
        now = closed(radius) | before
        label, _ = ndimage.label(now & ~solid)
        new, _ = ndimage.label(now & ~before)
        groups: dict[int, list[int]] = {}
        for number, place in enumerate(ndimage.find_objects(new), start=1):
            if place is None:
                continue
            wide = _grown(place, 1, solid.shape)
            patch = new[wide] == number
            # Only what closes something changes the Euler characteristic, and that can be told on the spot.
            inner = patch & ~before[wide]
            if _closes(before, wide, inner):
                where = np.argwhere(patch)[0] + [side.start for side in wide]
                groups.setdefault(int(label[tuple(where)]), []).append(number)
        for whole, numbers in groups.items():
            earlier = sum(found[k].handles for k, at in enumerate(places) if label[at] == whole)
            fresh = -_change(solid, label == whole) - earlier
            for number in numbers:
                if fresh <= 0:
                    break
                share = fresh if number == numbers[-1] else min(fresh, max(1, -_change(before, new == number)))
                membrane = np.argwhere(new == number)
                patch = _about(new == number, now & ~solid, solid, share, radius)
                places.append(tuple(int(i) for i in membrane[0]))
                found.append(Tunnel(membrane + shift, patch + shift, radius, share))
                fresh -= share
                left -= share
        if left <= 0:
            break
        before = now
    return found


def shared(tunnels: list[Tunnel], other: Filled) -> int:
    """How many handles of `tunnels` the solid `other`, on the same lattice, has in the same places."""
    open_ones = [t for t in tunnels if not other[tuple(t.membrane.T)].mean() > 0.5]
    if not open_ones:
        return 0
    marks = np.zeros(other.shape, np.int32)
    for number, tunnel in enumerate(open_ones, start=1):
        marks[tuple(tunnel.patch.T)] = number
    near, _ = ndimage.label(_thickened(marks > 0, REACH), TOUCHING)
    company: dict[int, list[Tunnel]] = {}
    for tunnel in open_ones:
        company.setdefault(int(near[tuple(tunnel.patch[0])]), []).append(tunnel)
    found = 0
    for group in company.values():
        patch = np.zeros(other.shape, bool)
        for tunnel in group:
            patch[tuple(tunnel.patch.T)] = True
        wanted, best = sum(tunnel.handles for tunnel in group), 0
        for reach in range(REACH + 1):
            best = max(best, -_change(other, _thickened(patch, reach)))
            if best >= wanted:
                break
        found += min(best, wanted)
    return found


def _change(solid: Filled, patch: Filled) -> int:
    """By how many handles the solid has more with the patch."""
    box = _box(solid | patch, 1)
    return handles_of(solid[box] | patch[box]) - handles_of(solid[box])


def _closes(solid: Filled, place: Box, patch: Filled) -> bool:
    """Whether the patch, which lies in `place` with a margin of one, may close a handle: it does more than to lean on
    the solid."""
    block = solid[place]
    return euler(block | patch) != euler(block)


def _about(membrane: Filled, filling: Filled, solid: Filled, handles: int, radius: float) -> NDArray[np.int64]:
    """Indices of what of the filling lies about the membrane, as near as suffices to close the handles."""
    for reach in (0.5 * radius, radius, 2.0 * radius, np.inf):
        patch = filling
        if np.isfinite(reach):
            box = _box(membrane, int(reach) + 2)
            patch = np.zeros_like(filling)
            patch[box] = filling[box] & (ndimage.distance_transform_edt(~membrane[box]) <= reach)
        if -_change(solid, patch) >= handles:
            break
    return np.argwhere(patch)


def _thickened(patch: Filled, steps: int) -> Filled:
    if steps == 0:
        return patch
    box = _box(patch, steps + 1)
    out = np.zeros_like(patch)
    out[box] = ndimage.distance_transform_edt(~patch[box]) <= steps
    return out


def _box(filled: Filled, margin: int) -> Box:
    found = ndimage.find_objects(filled.astype(np.int8))
    return _grown(found[0], margin, filled.shape)


def _grown(box: Box, margin: int, shape: tuple[int, ...]) -> Box:
    return tuple(
        slice(max(0, side.start - margin), min(size, side.stop + margin)) for side, size in zip(box, shape, strict=True)
    )


def _pooled(filled: Filled, stride: int) -> Filled:
    if stride == 1:
        return filled
    sides = [-(-side // stride) for side in filled.shape]
    whole = np.pad(filled, [(0, n * stride - side) for n, side in zip(sides, filled.shape, strict=True)])
    blocks = whole.reshape(sides[0], stride, sides[1], stride, sides[2], stride)
    return np.asarray(blocks.any(axis=(1, 3, 5)))
