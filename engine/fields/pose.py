"""Which way the whole shape faces, where it lies, how large and what it is, from the part that was seen.

Input is the evidence in the *observed frame*: the observed points' own bounding box centred at 0, longest side 1.
Asked with `turned`, the network says which way the shape faces, as a distribution over bins of yaw (furniture is often
ambiguous by quarter turns, so one angle would be the mean of several), and whether the frame's z is its up. Asked
without, it trusts the yaw but for a little and says where the whole lies. Trained on simulated partial views.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..frames import BOUND

YAW_BINS = 24
"""Bin k is centred at k full turns / 24: quarter turns are bin centres."""

CHANNELS = 10
"""Number of points and their mean offset in the cell (4), seen-empty space, is the viewpoint known, the coordinates,
and whether the yaw is unknown."""

SAMPLE = 2048
"""Points of a cloud that the network looks at."""

_RAY_EVERY, _RAY_SAMPLES = 4, 24


@dataclass
class PoseGuess:
    """centre: (B, 3), the canonical origin in the observed frame.  log_scale: (B,), of the whole's longest side there.
    yaw: (B, YAW_BINS) logits of the whole's turn about z.  offset: (B, YAW_BINS), the turn less the bin's centre,
    should it be that bin, in radians.  upright: (B,) logit of the frame's z being up.  classes: (B, K) logits."""

    centre: Tensor
    log_scale: Tensor
    yaw: Tensor
    offset: Tensor
    upright: Tensor
    classes: Tensor


def pose_grid(points: Tensor, weights: Tensor, origins: Tensor, ray_weights: Tensor, resolution: int = 32) -> Tensor:
    """Evidence for the network: coarser than that of the field and several times cheaper.

    points, origins: (B, N, 3) in the observed frame, N about `SAMPLE`.  weights: (B, N), 0 for padding.  ray_weights:
    (B, N), 0 where it is not known from where a point was seen.  Returns (B, CHANNELS - 1, R, R, R), indexed [x, y, z].
    """
    batch, r = len(points), resolution
    cell = 2 * BOUND / r
    weights = weights * (points.abs() < BOUND).all(-1)
    place = ((points.clamp(-BOUND, BOUND) + BOUND) / cell).clamp(0, r - 1e-3)
    corner = place.floor()
    ijk = corner.long()
    index = (ijk[..., 0] * r + ijk[..., 1]) * r + ijk[..., 2]
    values = torch.cat([torch.ones_like(weights)[..., None], place - corner - 0.5], -1) * weights[..., None]
    sums = values.new_zeros(batch, r**3, 4).scatter_add_(1, index[..., None].expand_as(values), values)
    number = sums[..., :1]
    seen = torch.cat([torch.tanh(number / 3), 2 * sums[..., 1:] / number.clamp(min=1e-6)], -1)

    ends, to, w = points[:, ::_RAY_EVERY], origins[:, ::_RAY_EVERY], (ray_weights * weights)[:, ::_RAY_EVERY]
    length = (to - ends).norm(dim=-1, keepdim=True).clamp(min=1e-6)
    unit = (to - ends) / length
    along_wall = unit.abs() < 1e-6
    leave = (torch.sign(unit) * BOUND - ends) / torch.where(along_wall, torch.ones_like(unit), unit)
    leave = leave.masked_fill(along_wall, torch.inf).amin(-1, keepdim=True)
    reach = torch.minimum(leave, length).clamp(min=0)
    steps = (torch.arange(_RAY_SAMPLES, device=points.device, dtype=points.dtype) + 0.5) / _RAY_SAMPLES
    along = cell + (reach - cell).clamp(min=0) * steps
    rays = ends[:, :, None] + along[..., None] * unit[:, :, None]
    voxel = ((rays.clamp(-BOUND, BOUND) + BOUND) / cell).long().clamp(0, r - 1)
    ray_index = ((voxel[..., 0] * r + voxel[..., 1]) * r + voxel[..., 2]).reshape(batch, -1)
    ray_weight = (w[..., None] * (reach > cell)).expand(-1, -1, _RAY_SAMPLES).reshape(batch, -1)
    empty = torch.tanh(points.new_zeros(batch, r**3).scatter_add_(1, ray_index, ray_weight))

    axis = (torch.arange(r, device=points.device, dtype=points.dtype) + 0.5) / r * 2 - 1
    xyz = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(1, r**3, 3).expand(batch, -1, -1)
    known = (ray_weights.amax(1) > 0).to(points.dtype)[:, None, None].expand(-1, r**3, 1)
    grid = torch.cat([seen, empty[..., None], known, xyz], -1)
    return grid.view(batch, r, r, r, CHANNELS - 1).permute(0, 4, 1, 2, 3)


class PoseNet(nn.Module):
    """classes: how many the prior knows.  width: channels after the first layer; doubled at each of two halvings."""

    def __init__(self, classes: int, width: int = 16, bins: int = YAW_BINS) -> None:
        super().__init__()
        self.arguments = {"classes": classes, "width": width, "bins": bins}
        self.resolution = 32
        self.bins = bins
        w = width
        layers: list[nn.Module] = []
        widths = (CHANNELS, w, 2 * w, 2 * w, 4 * w, 4 * w)
        for given, out, stride in zip(widths, widths[1:], (2, 2, 1, 2, 1), strict=False):
            layers.append(nn.Conv3d(given, out, 3, stride=stride, padding=1))
            layers += [nn.GroupNorm(max(1, out // 8), out), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(4 * w * 4**3, 8 * w), nn.SiLU(), nn.Linear(8 * w, 5 + 2 * bins + classes)
        )

    def forward(self, grid: Tensor, turned: Tensor) -> PoseGuess:
        """grid: (B, CHANNELS - 1, 32, 32, 32) from `pose_grid`.  turned: (B,) 1 where the yaw is not to be trusted."""
        flag = turned[:, None, None, None, None].to(grid.dtype).expand(-1, 1, *grid.shape[2:])
        out = self.head(self.layers(torch.cat([grid, flag], 1)).flatten(1)).float()
        place, yaw, offset, classes = out.split([5, self.bins, self.bins, out.shape[1] - 5 - 2 * self.bins], 1)
        half = math.pi / self.bins
        return PoseGuess(
            0.2 * place[:, :3], 0.2 * place[:, 3], yaw, 1.5 * half * torch.tanh(offset), place[:, 4], classes
        )


def yaw_bin(yaw: Tensor, bins: int = YAW_BINS) -> tuple[Tensor, Tensor]:
    """(B,) radians -> bin (B,) long and what is left (B,), within half a bin."""
    width = 2 * math.pi / bins
    index = torch.round(yaw / width)
    return index.long() % bins, yaw - index * width


def pose_loss(
    guess: PoseGuess, turned: Tensor, upright: Tensor, centre: Tensor, log_scale: Tensor, yaw: Tensor, classes: Tensor
) -> Tensor:
    """Robust errors of centre (B, 3), log scale (B,) where the yaw is trusted (turned 0); cross-entropy of the bin of
    yaw (B, radians), its offset and upright (B, 0 or 1) where it is not; of the class (B, long) wherever z is up."""
    trusted = (1 - turned) * upright
    place = F.smooth_l1_loss(guess.centre, centre, beta=0.02, reduction="none").sum(1)
    size = F.smooth_l1_loss(guess.log_scale, log_scale, beta=0.02, reduction="none")
    index, left = yaw_bin(yaw, guess.yaw.shape[1])
    offset = guess.offset.gather(1, index[:, None])[:, 0]
    turn = F.smooth_l1_loss(offset, left, beta=0.05, reduction="none")
    facing = F.cross_entropy(guess.yaw, index, reduction="none") * turned
    stands = F.binary_cross_entropy_with_logits(guess.upright, upright, reduction="none") * turned
    kind = F.cross_entropy(guess.classes, classes, reduction="none")
    total = 5 * trusted * (place + size) + upright * (2 * turn + 0.6 * facing + 0.3 * kind) + 0.5 * stands
    return total.mean()
