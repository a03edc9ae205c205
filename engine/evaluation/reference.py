"""The reference procedure, as a yardstick: an auto-decoder's code found by many Adam steps, then dense marching cubes.

After DeepSDF (Park et al., CVPR 2019, sections 4.2, 4.3 and 6.3): the code that maximises the posterior (equation 10)
of points at a small distance on either side of the observed surface, whose normals are estimated and turned to the
viewpoint, and of samples of the space that was looked through, which must not lie inside. 8 layers of 512, 800 steps
of Adam at 8,000 points each, and one query for every node of the grid.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import parametrize

from ..completion.alignment import observed_frame
from ..errors import Cancelled, InputError
from ..fields import losses
from ..fields.families.deepsdf import DeepSDF
from ..frames import BOUND
from ..geometry.clouds import PointCloud
from ..geometry.meshes import Mesh
from ..geometry.sampling import estimate_normals
from ..geometry.transforms import Similarity
from ..priors.file import Prior, load_prior
from ..surfaces.marching import extract_dense
from .protocol import Completer


@dataclass
class ReferenceSettings:
    """steps, points: of the optimisation, as in the paper; fewer where a machine cannot afford them, and said so.

    rate: of Adam, a tenth of it in the second half.  offset: distance of the two samples from an observed point.
    empty: share of the points drawn from seen-empty space.  latent: weight of the code's squared length.
    precision: of the wide layers, 'float32' as published, or 'bfloat16' (several times faster on processors with it).
    """

    steps: int = 800
    points: int = 8000
    rate: float = 5e-3
    offset: float = 0.01
    empty: float = 0.25
    latent: float = 1e-4
    resolution: int = 128
    precision: str = "float32"
    seed: int = 0


@dataclass
class ReferenceRun:
    """mesh: canonical.  seconds and evaluations: by stage ('optimise', 'extract').  history: the loss, step by step."""

    mesh: Mesh
    code: torch.Tensor
    seconds: dict[str, float]
    evaluations: dict[str, int]
    history: list[float] = field(default_factory=list)


def fit_code(
    prior: Prior,
    cloud: PointCloud,
    settings: ReferenceSettings,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[torch.Tensor, list[float]]:
    """(code (1, C), loss of every step) for a canonical cloud with a viewpoint or with normals. Raises Cancelled."""
    network, device = prior.field, prior.device
    if not isinstance(network, DeepSDF):
        raise InputError(
            "reference_architecture",
            f"The prior {prior.name} is not one for the reference procedure.",
            f"Its architecture is {network.name}; the procedure optimises the code of a 'deepsdf'.",
            "Train one: shapewright train DATASET --name deepsdf --set architecture=deepsdf.",
        )
    rng = np.random.default_rng([settings.seed, 11])
    points = cloud.points.astype(np.float32)
    normals = cloud.normals
    if normals is None:
        normals = estimate_normals(points, 16, cloud.viewpoint)
    code = torch.as_tensor(0.01 * rng.standard_normal((1, *network.code_shape)), dtype=torch.float32, device=device)
    code.requires_grad_(True)
    optimiser = torch.optim.Adam([code], lr=settings.rate)
    empty = 0 if cloud.viewpoint is None else round(settings.empty * settings.points)
    pairs = max(1, (settings.points - empty) // 2)
    distances = torch.full((pairs,), settings.offset, device=device)
    distances = torch.cat([distances, -distances])
    history: list[float] = []

    def tensor(rows: NDArray[np.floating[Any]]) -> torch.Tensor:
        return torch.as_tensor(rows, dtype=torch.float32, device=device)

    with parametrize.cached():  # the weights are frozen: their norms are taken once
        for step in range(settings.steps):
            if should_stop():
                raise Cancelled
            if step == settings.steps // 2:
                optimiser.param_groups[0]["lr"] = settings.rate / 10
            picked = rng.integers(0, len(points), pairs)
            aside = settings.offset * normals[picked]
            asked = np.concatenate([points[picked] + aside, points[picked] - aside])
            if empty:
                assert cloud.viewpoint is not None
                ends = points[rng.integers(0, len(points), empty)]
                free = ends + (cloud.viewpoint - ends) * rng.random((empty, 1))
                asked = np.concatenate([asked, free[(np.abs(free) < BOUND).all(1)]])
            with torch.enable_grad():
                with _precision(device, settings.precision):
                    values = network.decode(code).values(tensor(asked)[None])[0]
                loss = losses.clamped_l1(values[: 2 * pairs], distances)
                if len(asked) > 2 * pairs:
                    loss = loss + losses.seen_empty(values[2 * pairs :])
                loss = loss + settings.latent * code.square().sum()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            history.append(float(loss.detach()))
    return code.detach(), history


def _precision(device: torch.device, name: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16")


def query_nodes(prior: Prior, code: torch.Tensor, count: int, precision: str = "float32") -> float:
    """Seconds for `count` queries in marching cubes' chunks: for a timing of a slice of the dense grid."""
    draw = torch.Generator().manual_seed(0)
    points = ((torch.rand(count, 3, generator=draw) * 2 - 1) * BOUND).to(prior.device)
    began = time.perf_counter()
    with torch.no_grad(), parametrize.cached(), _precision(prior.device, precision):
        for part in torch.split(points, 65_536 if prior.device.type == "cpu" else 262_144):
            prior.field.decode(code).values(part[None])
    if prior.device.type == "cuda":
        torch.cuda.synchronize(prior.device)
    return time.perf_counter() - began


def complete_by_reference(
    prior: Prior,
    cloud: PointCloud,
    settings: ReferenceSettings,
    should_stop: Callable[[], bool] = lambda: False,
) -> ReferenceRun:
    """The whole procedure on a canonical cloud. Raises JobFailed "empty_surface", Cancelled."""
    began = time.perf_counter()
    code, history = fit_code(prior, cloud, settings, should_stop)
    between = time.perf_counter()

    def signed_distance(points: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), parametrize.cached(), _precision(prior.device, settings.precision):
            return prior.field.decode(code).values(points[None])[0]

    extraction = extract_dense(signed_distance, settings.resolution, device=prior.device, should_stop=should_stop)
    return ReferenceRun(
        extraction.mesh,
        code,
        {"optimise": between - began, "extract": time.perf_counter() - between},
        {"optimise": settings.steps * settings.points, "extract": extraction.evaluations},
        history,
    )


def reference_completer(
    path: str, settings: ReferenceSettings, device: str, knows_frame: bool = True
) -> tuple[str, Completer]:
    """(fingerprint, completer) for the protocol. knows_frame: clouds come in the canonical frame; else the input's own
    bounding box stands for the shape's, as in the procedure."""
    prior = load_prior(path, device)

    def complete(cloud: PointCloud) -> Mesh:
        into = Similarity() if knows_frame else observed_frame(cloud.points)
        viewpoint = None if cloud.viewpoint is None else into.apply(cloud.viewpoint[None])[0]
        run = complete_by_reference(prior, PointCloud(into.apply(cloud.points), None, viewpoint), settings)
        return Mesh(into.inverse().apply(run.mesh.vertices), run.mesh.faces)

    mark = [1, prior.sha256, asdict(settings), knows_frame]
    return hashlib.sha256(json.dumps(mark).encode()).hexdigest()[:16], complete
