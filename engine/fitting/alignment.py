"""From the scene to the canonical frame: where the whole shape is, of which only a part was seen.

The input's own bounding box is no answer (its centre and size are those of the part); the pose network gives a first
one and the completed shapes of a few candidates decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..fields import evidence as ev
from ..geometry.clouds import PointCloud
from ..geometry.transforms import Float64Array, Similarity
from ..priors.prior import Prior


@dataclass
class PoseEstimate:
    """to_scene: canonical -> scene.  classes: name -> probability."""

    to_scene: Similarity
    classes: dict[str, float]


def yaw_rotation(angle: float) -> Float64Array:
    """(3, 3) turn by `angle` radians about z."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def observed_frame(points: NDArray[np.floating[Any]]) -> Similarity:
    """Scene -> observed frame: bounding box of the points (without a few wild ones) centred at 0, longest side 1."""
    low, high = np.percentile(points.astype(np.float64), [0.5, 99.5], axis=0)
    # Outliers stretch a bounding box; the percentiles shrink it by the half per cent of points they leave out.
    tight = points[((points >= low - 0.1 * (high - low)) & (points <= high + 0.1 * (high - low))).all(1)]
    if len(tight) >= 10:
        low, high = tight.min(0).astype(np.float64), tight.max(0).astype(np.float64)
    scale = 1.0 / float((high - low).max())
    return Similarity(scale, np.eye(3), -(low + high) / 2 * scale)


def network_pose(prior: Prior, cloud: PointCloud, turned: bool = False) -> PoseEstimate:
    """The pose network's answer for a cloud with z up. turned: the front may look anywhere, so yaw is estimated too."""
    assert prior.pose is not None
    device = prior.device
    into = observed_frame(cloud.points)
    points = torch.as_tensor(into.apply(cloud.points), device=device)
    viewpoint = None
    if cloud.viewpoint is not None:
        viewpoint = torch.as_tensor(into.apply(cloud.viewpoint[None])[0], device=device)
    grid = ev.cloud_evidence(points, viewpoint, prior.pose.resolution)
    with torch.no_grad():
        guess = prior.pose(grid, torch.tensor([1.0 if turned else 0.0], device=device))
    yaw = float(torch.atan2(guess.yaw[0, 1], guess.yaw[0, 0])) if turned else 0.0
    canonical_to_observed = Similarity(
        float(guess.log_scale[0].exp()), yaw_rotation(yaw), guess.centre[0].double().cpu().numpy()
    )
    shares = guess.classes[0].softmax(0).tolist()
    return PoseEstimate(into.inverse().after(canonical_to_observed), dict(zip(prior.classes, shares, strict=True)))
