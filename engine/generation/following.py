"""One mesh for all steps of a blend: the first one's vertices carried along with the surface, step by step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from ..errors import Cancelled, JobFailed
from ..frames import BOUND
from ..geometry.clouds import FloatArray
from ..geometry.meshes import Mesh
from ..geometry.metrics import distances_to_surface
from ..geometry.sampling import sample_surface
from ..priors.file import Prior
from .codes import DecodedShape, decode

TOLERANCE = 0.02
"""Of the surface 95 % may lie this far from what the vertices make of it, and the other way round; canonical units."""

_PARTS = 4
_PROJECTIONS, _SMOOTHED = 5, 3
_SMOOTH = 0.4
_STEP = 0.004
_LONGEST = 0.017


def follow_surface(
    mesh: Mesh, codes: Sequence[Tensor], prior: Prior, should_stop: Callable[[], bool] = lambda: False
) -> list[FloatArray]:
    """mesh: the surface of codes[0], canonical. Returns its vertices (V, 3) on the surface of every code.

    Between two codes the vertices go in small steps along the field's gradient (Newton's on f = 0), and are spread
    within the surface (a Laplacian without its normal part) so that the triangles keep their shape. Where the surface
    gets a new part nothing follows: see `check`.
    """
    at = torch.as_tensor(mesh.vertices, device=codes[0].device)
    mean = _neighbour_mean(mesh)
    found = [mesh.vertices]
    for here, there in itertools.pairwise(codes):
        for part in range(1, _PARTS + 1):
            shape = decode(prior, torch.lerp(here, there, part / _PARTS))
            for projection in range(_PROJECTIONS):
                if should_stop():
                    raise Cancelled
                slope = _gradient(shape, at)
                step = -(shape.signed_distance(at) / slope.square().sum(1).clamp(min=0.05))[:, None] * slope
                length = step.norm(dim=1, keepdim=True)
                at = at + step * (_LONGEST / length.clamp(min=1e-9)).clamp(max=1)
                if projection < _SMOOTHED:
                    normal = slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-6)
                    pull = torch.as_tensor((mean @ at.cpu().numpy()).astype(np.float32), device=at.device) - at
                    at = at + _SMOOTH * (pull - (pull * normal).sum(1, keepdim=True) * normal)
                at = at.clamp(-BOUND, BOUND)
        found.append(at.cpu().numpy().astype(np.float32))
    return found


def check(mesh: Mesh, own: Mesh, number: int, count: int, seed: int = 0) -> float:
    """How far the followed mesh of step `number` of `count` lies from the step's own: the larger of the two distances
    that 95 % of the surface keep, canonical units. Raises JobFailed 'blend_topology' beyond TOLERANCE."""
    rng = np.random.default_rng([seed, 29])
    apart = max(
        float(np.percentile(distances_to_surface(to, sample_surface(of, 3000, rng)[0]), 95))
        for of, to in ((own, mesh), (mesh, own))
    )
    if apart > TOLERANCE:
        raise JobFailed(
            "blend_topology",
            "These shapes cannot turn into each other with one mesh.",
            f"At step {number + 1} of {count} parts come or go that the first shape's surface cannot follow: it misses "
            f"by {100 * apart:.0f} % of the size ({100 * TOLERANCE:.0f} % are allowed).",
            "Blend them in a row or on the timeline, where every step has a mesh of its own; or choose shapes that are "
            "more alike.",
        )
    return apart


def _gradient(shape: DecodedShape, at: Tensor) -> Tensor:
    """(V, 3) the field's gradient, by central differences."""
    offsets = torch.eye(3, device=at.device) * _STEP
    probes = torch.cat([at + offset for offset in offsets] + [at - offset for offset in offsets])
    values = shape.signed_distance(probes.clamp(-BOUND, BOUND)).view(6, -1)
    return ((values[:3] - values[3:]) / (2 * _STEP)).T


def _neighbour_mean(mesh: Mesh) -> scipy.sparse.csr_matrix:
    """(V, V): times the vertices, the mean of each one's neighbours."""
    a, b, c = mesh.faces.T
    start, end = np.concatenate([a, b, c, b, c, a]), np.concatenate([b, c, a, a, b, c])
    links = scipy.sparse.coo_matrix((np.ones(len(start)), (start, end)), shape=(len(mesh.vertices),) * 2).tocsr()
    links.data[:] = 1.0
    return scipy.sparse.diags(1.0 / np.maximum(np.asarray(links.sum(1)).ravel(), 1.0)) @ links
