"""A solid about points that lie on a surface, without their normals: for shapes that are decoded to points.

The points are grown until they close, the outside is what can be reached from the box's sides, and what was grown is
taken off again (a morphological closing whose hollows are filled). A sheet without an inside keeps a thickness of about
two cells.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor

from ..fields.observations.evidence import interpolate
from ..fields.shapes import Implicit
from ..frames import BOUND
from ..geometry.clouds import FloatArray

CELLS = 64
NEIGHBOURS, SHARE = 6, 0.9
"""The points are grown by the distance to this neighbour that so large a share of them keeps."""
GROWN = (1.25, 1.6, 2.0, 2.5)
"""Tried in turn where so much leaves holes between the points."""
SMOOTH = 0.8
"""Standard deviation of the blur that takes the steps of the lattice away, in cells."""


def solid_about(points: FloatArray, cells: int = CELLS) -> Implicit:
    """points: (N, 3) canonical -> the field of the solid that they are the surface of; distances near it, to a cell.

    cells: of the lattice that holds it, along the box. A point outside the box counts at its side.
    """
    cell = 2 * BOUND / cells
    at = np.clip(points.astype(np.float64), -BOUND + 2 * cell, BOUND - 2 * cell)
    tree = cKDTree(at)
    apart = tree.query(at, k=min(NEIGHBOURS, len(at)))[0].reshape(len(at), -1)[:, -1]
    usual = max(float(np.quantile(apart, SHARE)), 1.5 * cell)
    axis = (np.arange(cells) + 0.5) * cell - BOUND
    centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    away = tree.query(centres)[0].reshape(cells, cells, cells)
    reach, outside = usual, _outside(away > usual)
    for grown in GROWN:  # as far as it takes to enclose anything; a sheet never does
        if bool((~outside & (away > reach)).any()):
            break
        more = _outside(away > grown * usual)
        if bool((~more & (away > grown * usual)).any()):
            reach, outside = grown * usual, more
    depth = cell * (ndimage.distance_transform_edt(~outside) - 0.5).clip(0)
    value = np.where(outside, away - cell, reach - cell - depth)
    smooth = ndimage.gaussian_filter(value, SMOOTH, mode="nearest")
    return Implicit(_query, torch.as_tensor(smooth, dtype=torch.float32)[None, None], lipschitz=1.5)


def _outside(free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What of the free cells can be reached from the lattice's sides."""
    rooms, _ = ndimage.label(free)
    sides = [rooms.take(end, axis=k).ravel() for k in range(3) for end in (0, -1)]
    return np.isin(rooms, np.setdiff1d(np.concatenate(sides), 0))


def _query(lattice: Tensor, points: Tensor) -> Tensor:
    return interpolate(lattice, points)[..., 0]
