"""What was observed, gathered for a completion: points, their normals, space that was looked through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from ..fields.base import Clouds
from ..frames import BOUND
from ..geometry.clouds import PointCloud
from ..geometry.transforms import Similarity
from .pose import carried
from .symmetry import revolved

EVIDENCE_POINTS = 4096
RAY_POINTS = 2048
MOST_IMAGES = 40_000
"""About an axis of revolution."""


@dataclass
class Constraints:
    """What a completed shape has to explain.

    clouds: the same as the family is shown it; None where no encoder is to see it.  images: of `points` about an axis
    of revolution, where there is one, and their normals.
    """

    points: Tensor  # (N, 3)
    normals: Tensor | None
    rays: Tensor  # (R, 3) samples of seen-empty space, possibly none
    clouds: Clouds | None = None
    viewpoint: Tensor | None = None  # (3,), or (S, 3) with `scans`
    images: tuple[Tensor, Tensor | None] | None = None  # (M, 3) each
    scans: NDArray[np.int32] | None = None  # (N,)


def gather(cloud: PointCloud, symmetry: bool, rng: np.random.Generator, device: torch.device) -> Constraints:
    """cloud: canonical.  symmetry: look for an axis of revolution, about which what was seen is evidence all around."""

    def tensor(values: NDArray[np.floating[Any]]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=device)

    points = tensor(cloud.points)
    normals = None if cloud.normals is None else tensor(cloud.normals)
    viewpoint = None if cloud.viewpoint is None else tensor(cloud.viewpoint)
    eyes = None if cloud.seen_from is None else tensor(cloud.seen_from)  # (3,) or (N, 3)
    which = torch.as_tensor(rng.permutation(len(points))[:EVIDENCE_POINTS], device=device)
    some, some_eyes = points[which], eyes if eyes is None or eyes.ndim == 1 else eyes[which]
    empty = points.new_zeros(0, 3)
    if eyes is not None:
        which = torch.as_tensor(rng.permutation(len(points))[:RAY_POINTS], device=device)
        ends = points[which]
        towards = (eyes if eyes.ndim == 1 else eyes[which]) - ends
        length = towards.norm(dim=1, keepdim=True)
        near = tensor(0.02 + 0.3 * rng.random((len(ends), 1)) ** 2)
        far = tensor(rng.random((len(ends), 1))) * length
        empty = torch.cat([ends + towards / length * torch.minimum(along, length) for along in (near, far)])
        empty = empty[(empty.abs() < BOUND).all(1)]
    turned = revolved(cloud, MOST_IMAGES) if symmetry else None
    if turned is None:
        clouds = Clouds.seen(some, some_eyes)
        images = None
    else:
        images = tensor(turned.points), None if turned.normals is None else tensor(turned.normals)
        chosen = np.random.default_rng(len(turned.points)).permutation(len(turned.points))[:EVIDENCE_POINTS]
        at = torch.cat([some, images[0][torch.as_tensor(chosen, device=device)]])[None]
        weights = at.new_full(at.shape[:2], min(1.0, Clouds.TRAINED_POINTS / len(some)))
        seen = (torch.arange(at.shape[1], device=device) < len(some)) * weights
        origins = torch.zeros_like(at)
        if some_eyes is not None:
            origins[0] = some_eyes.mean(0) if some_eyes.ndim == 2 else some_eyes
            origins[0, : len(some)] = some_eyes
        rays = torch.zeros_like(seen) if some_eyes is None else seen
        clouds = Clouds(at, weights, origins, rays)
    return Constraints(points, normals, empty, clouds, viewpoint, images, cloud.scans)


def moved(given: Constraints, pose: Similarity) -> Constraints:
    """In another frame, `clouds` excepted: they were read in their own."""
    def turned(normals: Tensor) -> Tensor:
        return normals @ torch.as_tensor(pose.rotation.T, dtype=normals.dtype, device=normals.device)

    images, viewpoint = given.images, given.viewpoint
    return Constraints(
        carried(given.points, pose),
        None if given.normals is None else turned(given.normals),
        carried(given.rays, pose),
        given.clouds,
        None if viewpoint is None else carried(viewpoint.reshape(-1, 3), pose).reshape(viewpoint.shape),
        None if images is None else (carried(images[0], pose), None if images[1] is None else turned(images[1])),
        given.scans,
    )


def estimate_noise(points: NDArray[np.floating[Any]], rng: np.random.Generator) -> float:
    """Standard deviation of a cloud's noise across its surface: the median of what local planes leave over."""
    sample = points[rng.permutation(len(points))[:1000]]
    _, index = cKDTree(points).query(sample, k=min(16, len(points)))
    local = points[index] - points[index].mean(1, keepdims=True)
    smallest = np.linalg.eigvalsh(np.einsum("nki,nkj->nij", local, local) / local.shape[1])[:, 0]
    return float(np.sqrt(np.median(smallest.clip(0)) * 16 / 13))
