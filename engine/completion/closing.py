"""Closing what tears a completed shape: tunnels and gaps narrower than a few cells that nobody looked through.

A morphological closing of the solid on a lattice fills them, and with them every narrow corner. Of what it filled only
what its topology needs is kept: nodes whose removal changes neither parts, tunnels nor hollows (simple points,
Bertrand and Malandain 1994) are taken away again, layer by layer, until thin membranes across tunnels and thin bridges
between pieces are left (hole closing, Aktouf, Bertrand and Perroton 2002). Space that the sensor looked through is
never filled, nor what lies before the background in its image: a window that was seen stays open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ..finish.lattice import TOUCHING, Filled, Lattice, filled_by
from ..frames import BOUND
from ..geometry.clouds import PointCloud
from ..geometry.meshes import Mesh
from ..surfaces.marching import Field
from .lattices import Residual
from .symmetry import LookedThrough

CELLS = 128
STEP = 2 * BOUND / CELLS
_BY_EDGES = ndimage.generate_binary_structure(3, 2)
"""Marching cubes keeps filled nodes apart that do not share a side, and empty ones that share neither side nor edge."""
LATTICE = Lattice(CELLS + 1, STEP)
"""Its nodes are those of marching cubes at `CELLS`: its solid has the very tunnels of that mesh."""
RADIUS, BLIND_RADIUS = 2, 1
"""Steps: gaps up to twice as wide are closed; and where nobody knows what was looked through."""
HALF, FADES = 0.5, 2
"""Half the thickness of what is filled in, in steps, and how many steps about it the field is changed at most."""
APART, CRUMB = 10, 0.002
"""Steps up to which a part is joined to the rest, and of how small a share of the solid it is left alone."""


@dataclass
class Closing:
    """lattice: (1, 1, N, N, N) to add to the field at the nodes of `LATTICE`; None where nothing was to close.
    tunnels, pieces, hollows: by how many fewer there are."""

    lattice: torch.Tensor | None = None
    tunnels: int = 0
    pieces: int = 0
    hollows: int = 0

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """(N, 3) canonical points -> (N,) what is added to the field there."""
        if self.lattice is None:
            return points.new_zeros(len(points))
        # A `Residual` has its nodes in the middle of cells: of a box larger by one cell these are ours.
        return Residual([self.lattice])(points * (CELLS / (CELLS + 1)))


@torch.no_grad()
def closing(mesh: Mesh, field: Field, seen: PointCloud, device: torch.device | str = "cpu") -> Closing:
    """mesh: of the field, canonical, closed.  seen: what was observed, canonical."""
    filled = filled_by(mesh, LATTICE)
    looked = None if seen.viewpoint is None else LookedThrough(seen.points, seen.viewpoint, seen.scans)
    added = membranes_of(filled, looked)
    added |= bridges_of(filled | added, looked)
    joined = filled | added
    added |= _shut_in(joined)  # nobody sees it, and no printer wants it
    if not added.any():
        return Closing()
    before, after = _betti(filled), _betti(joined)
    near = added
    for _ in range(FADES):
        near = _grown(near, TOUCHING)
    nodes = np.argwhere(near)
    values = field(torch.as_tensor(LATTICE.points(nodes), device=device)).cpu().numpy()
    away = cKDTree(np.argwhere(added)).query(nodes)[0]
    lattice = np.zeros(filled.shape, np.float32)
    lattice[tuple(nodes.T)] = np.minimum(STEP * (away - HALF) - values, 0.0)
    told = torch.as_tensor(lattice, device=device)[None, None]
    return Closing(told, before[1] - after[1], before[0] - after[0], before[2])


def membranes_of(filled: Filled, looked: LookedThrough | None) -> Filled:
    """What closes the narrow tunnels and gaps of a solid on `LATTICE`, one node thick. looked: None where nobody knows
    what was looked through."""
    added = _closed(filled, BLIND_RADIUS if looked is None else RADIUS) & ~filled
    return _useful(filled, thinned(filled, _not_open(added, looked)))


def _not_open(added: Filled, looked: LookedThrough | None) -> Filled:
    """Without what was looked through."""
    if looked is not None and added.any():
        nodes = np.argwhere(added)
        places = LATTICE.points(nodes).astype(np.float64)
        added[tuple(nodes[looked(places) | looked.beside(places)].T)] = False
    return added


def bridges_of(filled: Filled, looked: LookedThrough | None) -> Filled:
    """What joins parts to the rest of a solid where they come nearest, across at most `APART` steps of space that may
    be filled; parts under `CRUMB` of the solid stay alone."""
    added = np.zeros_like(filled)
    if looked is None:
        return added
    part, count = ndimage.label(filled)
    sizes = np.bincount(part.ravel(), minlength=count + 1)[1:]
    for number in np.argsort(-sizes)[1:] + 1:
        if sizes[number - 1] < CRUMB * sizes.sum():
            continue
        own, others = part == number, (part > 0) & (part != number)
        place = ndimage.find_objects(own)[0]
        box = tuple(
            slice(max(0, side.start - APART - 2), min(size, side.stop + APART + 2))
            for side, size in zip(place, filled.shape, strict=True)
        )
        if not others[box].any():
            continue
        away = ndimage.distance_transform_edt(~own[box])
        gap = float(away[others[box]].min())
        if gap > APART:
            continue
        between = away + ndimage.distance_transform_edt(~others[box]) <= gap + 1.0
        bridge = np.zeros_like(filled)
        bridge[box] = between & ~filled[box]
        bridge = _not_open(bridge, looked)
        joined, _ = ndimage.label(filled[box] | bridge[box])
        if len(np.intersect1d(joined[own[box]], joined[others[box]])):
            added |= bridge
    return added


def _useful(filled: Filled, added: Filled) -> Filled:
    """Of the membranes and bridges those that leave fewer tunnels or parts: a bridge within one part is a handle
    more."""
    label, _ = ndimage.label(added, TOUCHING)
    part, _ = ndimage.label(filled)
    root = np.arange(int(part.max()) + 1)

    def found(k: int) -> int:
        while root[k] != k:
            k = int(root[k])
        return k

    for number, place in enumerate(ndimage.find_objects(label), start=1):
        wide = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in place)
        patch = label[wide] == number
        closes = _euler(filled[wide] | patch) - _euler(filled[wide])
        touched = ndimage.binary_dilation(patch) & filled[wide]
        parts = {found(int(k)) for k in np.unique(part[wide][touched])}
        merged = len(parts) - 1
        # The Euler characteristic is parts - tunnels + hollows: a membrane adds one, a bridge takes one.
        if merged + closes > 0 or (merged > 0 and merged + closes == 0):
            for k in parts:
                root[k] = min(parts)
        else:
            added[wide][patch] = False
    return added


def _euler(filled: Filled) -> int:
    """Euler characteristic of filled nodes as marching cubes joins them: nodes, less edges, plus squares, less cubes
    between them; and a cell of which two opposite corners alone are empty is filled within."""

    def both(grid: Filled, axis: int) -> Filled:
        ahead = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
        behind = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
        return np.asarray(grid[ahead] & grid[behind])

    x, y, z = (both(filled, axis) for axis in range(3))
    xy, yz, zx = both(x, 1), both(y, 2), both(z, 0)
    edges, squares = int(x.sum() + y.sum() + z.sum()), int(xy.sum() + yz.sum() + zx.sum())
    corners = [
        filled[tuple(slice(o, n - 1 + o) for o, n in zip(corner, filled.shape, strict=True))]
        for corner in np.ndindex(2, 2, 2)
    ]
    six = np.sum(corners, axis=0, dtype=np.int8) == 6
    rings = sum(int((six & ~corners[k] & ~corners[7 - k]).sum()) for k in range(4))
    return int(filled.sum()) - edges + squares - int(both(xy, 2).sum()) + rings


def _shut_in(filled: Filled) -> Filled:
    """The hollows: what is empty and does not hang together with the outside."""
    label, _ = ndimage.label(~np.pad(filled, 1), _BY_EDGES)
    label = label[1:-1, 1:-1, 1:-1]
    return np.asarray(label > 1)  # the padding's corner comes first: 1 is the outside


def _betti(filled: Filled) -> tuple[int, int, int]:
    """Parts, tunnels and hollows."""
    parts = int(ndimage.label(filled)[1])
    hollows = int(ndimage.label(~np.pad(filled, 1), _BY_EDGES)[1]) - 1
    return parts, parts + hollows - _euler(filled), hollows


def _closed(filled: Filled, radius: int) -> Filled:
    """Closing by a ball of about `radius` steps, and one step more about it: cubes and octahedra in turn."""
    out = np.pad(filled, radius + 1)
    shapes = [TOUCHING if k % 2 else ndimage.generate_binary_structure(3, 1) for k in range(radius)]
    for shape in shapes:
        out = _grown(out, shape)
    for shape in reversed(shapes[1:]):  # one step less than it grew: a slit in a thin sheet would open again
        out = ~_grown(~out, shape)
    inner = slice(radius + 1, -radius - 1)
    return np.asarray(out[inner, inner, inner] | filled)


def _grown(filled: Filled, shape: NDArray[np.bool_]) -> Filled:
    """Dilation by a cube or an octahedron of one step, by shifted copies."""
    cube = bool(shape.all())
    out = filled.copy()
    for axis in range(3):
        source = out.copy() if cube else filled
        ahead = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
        behind = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
        out[ahead] |= source[behind]
        out[behind] |= source[ahead]
    return out


# --- thinning ---------------------------------------------------------------------------------------------------------

_OFFSETS = np.array([o for o in np.ndindex(3, 3, 3) if o != (1, 1, 1)]) - 1
_FACES = np.flatnonzero(np.abs(_OFFSETS).sum(1) == 1)
_NEAR = np.abs(_OFFSETS).sum(1) <= 2


def _masks(reach: int) -> NDArray[np.uint32]:
    """(26,) of each neighbour those others that touch it: reach 2 by an edge, 1 by a side."""
    apart = np.abs(_OFFSETS[:, None] - _OFFSETS[None])
    touch = (apart.max(2) == 1) & (apart.sum(2) <= reach)
    bits: NDArray[np.uint32] = (touch * (1 << np.arange(26, dtype=np.uint32))).sum(1, dtype=np.uint32)
    return bits


_TOUCHES, _SIDE_BY_SIDE = _masks(2), _masks(1)
_FACE_BITS = np.uint32(sum(1 << int(k) for k in _FACES))
_NEAR_BITS = np.uint32(sum(1 << int(k) for k in np.flatnonzero(_NEAR)))


def _flooded(start: NDArray[np.uint32], within: NDArray[np.uint32], masks: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """What of `within` hangs together with `start`, for neighbourhoods as bits (N,)."""
    reached = start
    while True:
        grown = (reached | _next_to(reached, masks)) & within
        if (grown == reached).all():
            return reached
        reached = grown


def _next_to(bits: NDArray[np.uint32], masks: NDArray[np.uint32]) -> NDArray[np.uint32]:
    found = np.zeros_like(bits)
    for bit in range(26):
        found |= np.where(bits >> np.uint32(bit) & np.uint32(1), masks[bit], np.uint32(0))
    return found


def _lowest_bit(bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
    lowest: NDArray[np.uint32] = bits & (~bits + np.uint32(1))
    return lowest


def simple(around: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Whether a filled node with such filled neighbours (bits) can go without a change of topology: the empty ones of
    the 18 nearest hang together by edges, and the filled ones that share a side with it by sides, among what is up to
    three steps away (the neighbourhoods of Bertrand 1994)."""
    empty = ~around & _NEAR_BITS
    sides = around & _FACE_BITS
    edges = _next_to(sides, _SIDE_BY_SIDE) & around & _NEAR_BITS
    near = sides | edges | _next_to(edges, _SIDE_BY_SIDE) & around
    out = _flooded(_lowest_bit(empty), empty, _TOUCHES) == empty
    whole = _flooded(_lowest_bit(sides), near, _SIDE_BY_SIDE)
    return np.asarray((empty != 0) & (sides != 0) & out & ((sides & ~whole) == 0))


def thinned(filled: Filled, added: Filled) -> Filled:
    """What is left of `added` once all its nodes went that the topology of both together does not need."""
    both = np.pad(filled | added, 1)
    left = np.argwhere(np.pad(added & ~filled, 1))
    if not len(left):
        return np.zeros_like(filled)
    flat = both.ravel()
    strides = np.array([both.shape[1] * both.shape[2], both.shape[2], 1])
    steps = _OFFSETS @ strides
    index, parity = left @ strides, (left % 2) @ [4, 2, 1]
    faces = steps[_FACES]
    alive = np.ones(len(index), bool)
    while True:
        # One layer at a time, so that a membrane comes to lie in the middle; nodes of one parity never touch.
        rim = np.flatnonzero(alive & ~flat[index[:, None] + faces].all(1))
        gone = 0
        for part in range(8):
            some = rim[parity[rim] == part]
            bits = (flat[index[some][:, None] + steps] << np.arange(26, dtype=np.uint32)).sum(1, dtype=np.uint32)
            some = some[simple(bits)]
            flat[index[some]] = False
            alive[some] = False
            gone += len(some)
        if not gone:
            break
    rest = np.zeros_like(filled)
    rest[tuple((left[alive] - 1).T)] = True
    return rest
