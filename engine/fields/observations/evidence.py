"""What was observed, as a voxel grid: where points are and how they lie, and what space was seen to be empty.

Everything is in the canonical frame; the grid covers [-BOUND, BOUND]^3 and is indexed [x, y, z]. The same function
serves training and inference and runs on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...frames import BOUND
from ..base import Clouds

_POINT_CHANNELS = 10  # count, mean offset (3), second moments (6)
CHANNELS = 2 * (_POINT_CHANNELS + 1) + 1 + 3
"""Points and emptiness as they are and mirrored in x = 0, whether the viewpoint is known (1, 0, or -1: the points are
the whole surface), and the coordinates."""

_RAY_SAMPLES = 32


def _scatter(index: Tensor, values: Tensor, cells: int) -> Tensor:
    """Sums of values (B, N, C) by cell index (B, N) -> (B, cells, C)."""
    out = values.new_zeros(values.shape[0], cells, values.shape[2])
    return out.scatter_add_(1, index[..., None].expand_as(values), values)


def evidence_grid(
    points: Tensor,
    weights: Tensor,
    origins: Tensor,
    ray_weights: Tensor,
    resolution: int,
    whole: Tensor | None = None,
) -> Tensor:
    """Evidence of a batch of clouds.

    points: (B, N, 3).  weights: (B, N), 0 for padding.  origins: (B, N, 3), where each point was seen from.
    ray_weights: (B, N), 0 where that is not known (or to spend fewer rays).  whole: (B,) bool, True where the points
    are all of a surface and not what somebody saw of it; None: nowhere.
    Returns (B, CHANNELS, R, R, R) float32.
    """
    batch = len(points)
    cells = resolution**3
    cell = 2 * BOUND / resolution
    inside = (points.abs() < BOUND).all(-1)
    weights = weights * inside
    place = ((points.clamp(-BOUND, BOUND) + BOUND) / cell).clamp(0, resolution - 1e-3)
    corner = place.floor()
    offset = place - corner - 0.5
    ijk = corner.long()
    index = (ijk[..., 0] * resolution + ijk[..., 1]) * resolution + ijk[..., 2]
    ox, oy, oz = offset.unbind(-1)
    moments = torch.stack([torch.ones_like(ox), ox, oy, oz, ox * ox, oy * oy, oz * oz, ox * oy, ox * oz, oy * oz], -1)
    sums = _scatter(index, moments * weights[..., None], cells)
    number = sums[..., :1]
    mean = sums[..., 1:] / number.clamp(min=1e-6)
    centre = mean[..., :3]
    pairs = torch.cat([centre * centre, centre[..., :2] * centre[..., 1:], centre[..., :1] * centre[..., 2:]], -1)
    xx, yy, zz, xy, yz, xz = pairs.unbind(-1)
    second = mean[..., 3:] - torch.stack([xx, yy, zz, xy, xz, yz], -1)
    seen = torch.cat([torch.tanh(number / 3), 2 * centre, 6 * second], -1) * (number > 0)

    # Space between a viewpoint and what it saw is empty; stop two thirds of a cell short of the point.
    direction = origins - points
    length = direction.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    unit = direction / length
    # Where the ray leaves the box: nothing beyond matters.
    along_wall = unit.abs() < 1e-6
    leave = (torch.sign(unit) * BOUND - points) / torch.where(along_wall, torch.ones_like(unit), unit)
    leave = leave.masked_fill(along_wall, torch.inf).amin(-1)
    reach = torch.minimum(leave, length[..., 0]).clamp(min=0)
    start = 0.67 * cell
    steps = (torch.arange(_RAY_SAMPLES, device=points.device, dtype=points.dtype) + 0.5) / _RAY_SAMPLES
    along = start + (reach - start).clamp(min=0)[..., None] * steps
    rays = points[:, :, None] + along[..., None] * unit[:, :, None]
    voxel = ((rays.clamp(-BOUND, BOUND) + BOUND) / cell).long().clamp(0, resolution - 1)
    ray_index = ((voxel[..., 0] * resolution + voxel[..., 1]) * resolution + voxel[..., 2]).reshape(batch, -1)
    ray_weight = (ray_weights * inside * (reach > start)).unsqueeze(-1).expand(-1, -1, _RAY_SAMPLES)
    empty = torch.tanh(_scatter(ray_index, ray_weight.reshape(batch, -1, 1), cells) / 2)

    grid = torch.cat([seen, empty], -1).view(batch, resolution, resolution, resolution, _POINT_CHANNELS + 1)
    mirror_sign = torch.ones(_POINT_CHANNELS + 1, device=points.device)
    mirror_sign[[1, 7, 8]] = -1  # offset x, moments xy and xz
    mirrored = grid.flip(1) * mirror_sign
    known = (ray_weights.amax(1) > 0).to(grid.dtype)
    if whole is not None:
        known = torch.where(whole, -1.0, known)
    known = known.view(batch, 1, 1, 1, 1)
    known = known.expand(-1, resolution, resolution, resolution, 1)
    axis = (torch.arange(resolution, device=points.device, dtype=points.dtype) + 0.5) / resolution * 2 - 1
    xyz = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).expand(batch, -1, -1, -1, -1)
    return torch.cat([grid, mirrored, known, xyz], -1).permute(0, 4, 1, 2, 3)


def grid_of(clouds: Clouds, resolution: int) -> Tensor:
    """Evidence of clouds as families are given them: (B, CHANNELS, R, R, R)."""
    return evidence_grid(clouds.points, clouds.weights, clouds.origins, clouds.rays, resolution, clouds.whole)


def interpolate(grid: Tensor, points: Tensor) -> Tensor:
    """Trilinear interpolation of cell-centred features, differentiable any number of times in both arguments.

    grid: (B, C, R, R, R).  points: (B, P, 3), clamped to the box.  Returns (B, P, C).
    """
    batch, channels, r = grid.shape[:3]
    place = ((points.clamp(-BOUND, BOUND) + BOUND) * (r / (2 * BOUND)) - 0.5).clamp(0, r - 1)
    corner = place.detach().floor().clamp(max=r - 2)
    t = place - corner
    ijk = corner.long()
    base = (ijk[..., 0] * r + ijk[..., 1]) * r + ijk[..., 2]
    flat = grid.permute(0, 2, 3, 4, 1).reshape(batch * r**3, channels)
    base = base + torch.arange(batch, device=grid.device)[:, None] * r**3
    # One gather of all eight corners: its backward fills the grid's gradient once, not eight times.
    steps = [(dx * r + dy) * r + dz for dx in (0, 1) for dy in (0, 1) for dz in (0, 1)]
    offsets = torch.tensor(steps, device=grid.device)
    corners = flat.index_select(0, (base[..., None] + offsets).reshape(-1)).view(*base.shape, 8, channels)
    s, u = 1 - t, t
    wx, wy, wz = (torch.stack([s[..., axis], u[..., axis]], -1) for axis in range(3))
    weights = wx[..., :, None, None] * wy[..., None, :, None] * wz[..., None, None, :]
    return (corners * weights.reshape(*base.shape, 8, 1).to(flat.dtype)).sum(-2)
