"""A solid about points that lie on a surface, without their normals: for shapes that are decoded to points.

The points are grown until they close, the outside is what can be reached from the box's sides, and what was grown is
taken off again (a morphological closing whose hollows are filled). A sheet without an inside keeps a thickness of about
two cells.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor

from ..fields.observations.evidence import interpolate
from ..fields.shapes import Implicit
from ..frames import BOUND
from ..geometry.clouds import FloatArray

CELLS = 96
NEIGHBOURS, SHARE = 6, 0.9
"""The points are grown by the distance to this neighbour that so large a share of them keeps."""
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
    reach = max(float(np.quantile(apart, SHARE)), 1.5 * cell)
    axis = (np.arange(cells) + 0.5) * cell - BOUND
    centres = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    away = np.minimum(tree.query(centres, distance_upper_bound=4 * reach)[0], 4 * reach).reshape(cells, cells, cells)
    rooms, _ = ndimage.label(away > reach)
    sides = [rooms.take(end, axis=k).ravel() for k in range(3) for end in (0, -1)]
    outside = np.isin(rooms, np.setdiff1d(np.concatenate(sides), 0))
    depth = cell * (ndimage.distance_transform_edt(~outside) - 0.5).clip(0)
    value = np.where(outside, away - cell, reach - cell - depth)
    smooth = ndimage.gaussian_filter(value, SMOOTH, mode="nearest")
    return Implicit(_query, torch.as_tensor(smooth, dtype=torch.float32)[None, None], lipschitz=1.5)


def _query(lattice: Tensor, points: Tensor) -> Tensor:
    return interpolate(lattice, points)[..., 0]
