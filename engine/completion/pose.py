"""Corrections of a pose that the optimisers move together with the code, as few numbers of unit size."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.transforms import Similarity

SCALES = (0.03, 0.02, 0.02, 0.02, 0.05, 0.05, 0.05)
"""Standard deviations of what an aligned pose is off by: log scale, translation, turns about z, x and y."""

NUMBERS = {"fixed": 0, "scale": 4, "yaw": 5, "similarity": 7}


def corrections(pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """pose: (B, 7) in units of SCALES -> scale (B,), rotation (B, 3, 3), translation (B, 3)."""
    amount = pose * pose.new_tensor(SCALES)
    c, s = amount[:, 4:].cos(), amount[:, 4:].sin()
    zero, one = torch.zeros_like(c[:, 0]), torch.ones_like(c[:, 0])

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, 1).view(-1, 3, 3)

    about_z = matrix(c[:, 0], -s[:, 0], zero, s[:, 0], c[:, 0], zero, zero, zero, one)
    about_x = matrix(one, zero, zero, zero, c[:, 1], -s[:, 1], zero, s[:, 1], c[:, 1])
    about_y = matrix(c[:, 2], zero, s[:, 2], zero, one, zero, -s[:, 2], zero, c[:, 2])
    return amount[:, 0].exp(), about_z @ about_x @ about_y, amount[:, 1:4]


def padded(pose: Tensor) -> Tensor:
    """(B, freedom) -> (B, 7): what is not free stays."""
    return torch.cat([pose, pose.new_zeros(len(pose), 7 - pose.shape[1])], 1)


def placed(points: Tensor, pose: Tensor) -> Tensor:
    """points: (N, 3), pose: (B, 7) in units of SCALES -> (B, N, 3)."""
    scale, rotation, translation = corrections(pose)
    return scale[:, None, None] * (points @ rotation.transpose(1, 2)) + translation[:, None]


def similarities(pose: Tensor) -> list[Similarity]:
    scales, rotations, translations = (part.detach().cpu().double().numpy() for part in corrections(pose))
    return [Similarity(float(scales[k]), rotations[k], translations[k]) for k in range(len(pose))]


def carried(points: Tensor, pose: Similarity) -> Tensor:
    """(N, 3) points moved by a similarity."""
    rotation = torch.as_tensor(pose.rotation, dtype=points.dtype, device=points.device)
    translation = torch.as_tensor(pose.translation, dtype=points.dtype, device=points.device)
    return pose.scale * (points @ rotation.T) + translation
