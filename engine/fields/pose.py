"""Where the whole shape lies, and what it is, from the part that was seen.

Input is the evidence in the *observed frame*: the observed points' own bounding box centred at 0, longest side 1.
Output is the similarity that carries the canonical frame there, as (centre, log scale, yaw), and the class. Trained on
simulated partial views; the start of alignment, and the class of a report.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import evidence as ev


@dataclass
class PoseGuess:
    """centre: (B, 3), the canonical origin in the observed frame.  log_scale: (B,), of the whole's longest side there.
    yaw: (B, 2), (cos, sin) of the whole's turn about z, not normalised.  classes: (B, K) logits."""

    centre: Tensor
    log_scale: Tensor
    yaw: Tensor
    classes: Tensor


class PoseNet(nn.Module):
    """classes: how many the prior knows.  width: channels after the first layer; doubled at each of three halvings."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.arguments = {"classes": classes, "width": width}
        self.resolution = 32
        w = width
        self.layers = nn.Sequential(
            nn.Conv3d(ev.CHANNELS + 1, w, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv3d(w, 2 * w, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv3d(2 * w, 2 * w, 3, padding=1), nn.SiLU(),
            nn.Conv3d(2 * w, 4 * w, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv3d(4 * w, 4 * w, 3, padding=1), nn.SiLU(),
        )
        self.head = nn.Sequential(nn.Linear(4 * w * 4**3, 128), nn.SiLU(), nn.Linear(128, 6 + classes))

    def forward(self, grid: Tensor, turned: Tensor) -> PoseGuess:
        """grid: (B, CHANNELS, 32, 32, 32) in the observed frame.  turned: (B,) 1 where the yaw is not to be trusted."""
        flag = turned[:, None, None, None, None].to(grid.dtype).expand(-1, 1, *grid.shape[2:])
        out = self.head(self.layers(torch.cat([grid, flag], 1)).flatten(1)).float()
        return PoseGuess(0.2 * out[:, :3], 0.2 * out[:, 3], out[:, 4:6], out[:, 6:])


def pose_loss(guess: PoseGuess, centre: Tensor, log_scale: Tensor, yaw: Tensor, classes: Tensor) -> Tensor:
    """Robust errors of centre (B, 3), log scale (B,), yaw (B, radians) and the cross-entropy of class (B, long)."""
    turn = torch.stack([yaw.cos(), yaw.sin()], 1)
    place = F.smooth_l1_loss(guess.centre, centre, beta=0.02, reduction="none").sum(1).mean()
    size = F.smooth_l1_loss(guess.log_scale, log_scale, beta=0.02)
    return 5 * place + 5 * size + F.mse_loss(guess.yaw, turn) + 0.3 * F.cross_entropy(guess.classes, classes)
