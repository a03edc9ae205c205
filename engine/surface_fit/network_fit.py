"""A recipe as a method of Fit Shape: its source made of the job's data, its network as a field of the unit frame."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn

from ..errors import InputError
from ..fields.implicit import NETWORKS
from ..geometry.meshes import Mesh
from ..geometry.sampling import sample_surface
from ..geometry.transforms import Similarity
from .base import (
    UNIT_SIDE,
    FitData,
    FitSettings,
    FittedField,
    Method,
    OnField,
    OnProgress,
    never,
    no_field,
    no_progress,
    register_field,
)
from .recipe import NETWORK_SCALE, Array, At, Recipe, SignedQuery, Source, Weight
from .training import train

MESH_SAMPLES = 150_000
"""Surface samples of a mesh, for its unsigned distance and as its data points."""


@dataclass
class NetworkField:
    """A FittedField that is a network in its own frame: f(x) = g(scale x) / scale."""

    network: nn.Module
    lipschitz: float = 1.5
    scale: float = NETWORK_SCALE
    warnings: list[dict[str, str]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    kind: str = "network"

    def signed_distance(self, points: Tensor) -> Tensor:
        """(N, 3) unit frame -> (N,)."""
        answer: Tensor = self.network(points * self.scale) / self.scale
        return answer

    def to_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        network: Any = self.network
        if network.name not in NETWORKS:
            raise ValueError(f"only {', '.join(NETWORKS)} can be stored, not {network.name}")
        arguments = {"network": network.name, "arguments": network.arguments, "scale": self.scale}
        return dict(self.network.state_dict()), {**arguments, "lipschitz": self.lipschitz}

    @staticmethod
    def from_state(tensors: dict[str, Tensor], arguments: dict[str, Any]) -> NetworkField:
        network = NETWORKS[arguments["network"]](**arguments["arguments"])
        network.load_state_dict(tensors)
        network.requires_grad_(False)
        return NetworkField(network.eval(), float(arguments["lipschitz"]), float(arguments["scale"]))


def unit_data(points: Array, normals: Array | None = None, mesh: Mesh | None = None) -> tuple[FitData, Similarity]:
    """FitData of clean points (N, 3) in any frame, with normals (outwards) and mesh in the same, and the transform of
    the unit frame back to theirs. The job `fit` does more: duplicates, noise, orientation."""
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    scale = UNIT_SIDE / max(float((high - low).max()), 1e-12)
    to_unit = Similarity(scale, np.eye(3), -scale * 0.5 * (low + high))
    unit = to_unit.apply(points)
    spacing = float(np.median(cKDTree(unit).query(unit[:: max(1, len(unit) // 2000)], [2])[0]))
    moved = None if mesh is None else Mesh(to_unit.apply(mesh.vertices), mesh.faces)
    return FitData(unit, normals, normals is not None, None, moved, 0.0, spacing), to_unit.inverse()


def fit_recipe(
    recipe: Recipe,
    data: FitData,
    settings: FitSettings,
    device: torch.device | str = "cpu",
    on_progress: OnProgress = no_progress,
    on_field: OnField = no_field,
    should_stop: Callable[[], bool] = never,
) -> NetworkField:
    """The recipe's network fitted to the data (unit frame). Smoothness 0.5 leaves the recipe's weights as they are; its
    ends make the recipe's data terms four times stronger or weaker. Raises InputError where the data lacks what the
    recipe needs; Cancelled; JobFailed."""
    device = torch.device(device)
    on_progress("Preparing samples", 0.0)
    began = time.perf_counter()
    source = _source(recipe, data, settings.seed)
    strength = 4.0 ** (1.0 - 2.0 * settings.smoothness)
    terms = {n: (_scaled(w, strength) if n in recipe.data_terms else w, t) for n, (w, t) in recipe.terms.items()}

    def on_step(step: int, steps: int, network: nn.Module) -> None:
        on_progress("Fitting", 0.05 + 0.95 * step / steps)
        if step in (steps // 6, steps // 2):
            on_field(_as_field(network, source))

    network, values = train(
        source,
        replace(recipe, terms=terms),
        iterations=settings.iterations,
        seed=settings.seed,
        device=device,
        on_step=on_step,
        should_stop=should_stop,
    )
    fitted = _as_field(network, source)
    fitted.report = {
        "losses": values,
        "iterations": settings.iterations or recipe.iterations,
        "parameters": sum(p.numel() for p in network.parameters()),
        "smoothness_used": bool(recipe.data_terms),
        "seconds": time.perf_counter() - began,
    }
    return fitted


def _scaled(weight: Weight, factor: float) -> Weight:
    return (lambda progress: factor * weight(progress)) if callable(weight) else factor * weight


def _as_field(network: nn.Module, source: Source) -> NetworkField:
    """Measures the slope about the data, where the extraction needs to know it."""
    rng = np.random.default_rng(0)
    row = rng.integers(len(source.points), size=1000)
    near = source.points[row] + 0.05 * rng.standard_normal((1000, source.points.shape[1])).astype(np.float32)
    device = next(network.parameters()).device
    with torch.enable_grad():
        at = At(network, torch.from_numpy(near.astype(np.float32)).to(device))
        slope = float(torch.linalg.vector_norm(at.gradient.detach(), dim=1).quantile(0.98))
    return NetworkField(network, min(max(1.2 * slope, 1.0), 20.0) if math.isfinite(slope) else 1.5)


def _source(recipe: Recipe, data: FitData, seed: int) -> Source:
    if recipe.needs == "oriented" and (data.normals is None or not data.oriented):
        raise InputError(
            "normals_missing",
            "The surface cannot be fitted with this method.",
            "It learns from normals that look outwards, and the input has none.",
            "Give points with normals, or use 'digs' or 'auto', which need none.",
        )
    points, signed = data.points, None
    if recipe.distances == "signed":
        signed = _signed_query(data)
    if recipe.distances != "none" and data.mesh is not None:
        points = sample_surface(data.mesh, MESH_SAMPLES, np.random.default_rng([seed, 6]))[0]
        normals = None  # of other points than these; recipes with distances use none
    else:
        normals = data.normals if data.oriented else None
    return Source((points * np.float32(NETWORK_SCALE)).astype(np.float32), normals, signed)


def _signed_query(data: FitData) -> SignedQuery:
    if data.mesh is None or len(data.mesh.faces) == 0:
        raise _no_inside("The input is points, which have no inside to learn from.")
    from ..geometry.signed_distance import SignedDistance  # its packages are those of training

    field_ = SignedDistance(data.mesh)
    points, normals = sample_surface(data.mesh, 2000, np.random.default_rng(0))
    beside = [~field_.outside((points + side * 0.004 * normals).astype(np.float32)) for side in (-1.0, 1.0)]
    share = float((beside[0] | beside[1]).mean())
    if share < 0.7:
        raise _no_inside(f"Of its surface {1 - share:.0%} can be seen from both sides.")

    def query(points: Array) -> tuple[Array, Array]:
        distance, direction = field_((points / np.float32(NETWORK_SCALE)).astype(np.float32))
        return (distance * np.float32(NETWORK_SCALE)).astype(np.float32), direction

    return query


def _no_inside(why: str) -> InputError:
    return InputError(
        "no_inside",
        "The surface cannot be fitted with this method.",
        f"It learns from the inside of a closed mesh. {why}",
        "Use 'auto', 'sald' or 'digs', which learn from the surface alone.",
    )


def _fit(
    make: Callable[[], Recipe],
    data: FitData,
    settings: FitSettings,
    device: torch.device,
    on_progress: OnProgress,
    on_field: OnField,
    should_stop: Callable[[], bool],
) -> FittedField:
    recipe = make()
    recipe = replace(recipe, **{k: v for k, v in settings.options.items() if k in ("batch", "rate", "network")})
    return fit_recipe(recipe, data, settings, device, on_progress, on_field, should_stop)


def method(name: str, make: Callable[[], Recipe], summary: str, citation: str) -> Method:
    """What a file in methods/ says of itself: the name is the file's."""
    needs: Any = make().needs
    return Method(name, summary, citation, needs, partial(_fit, make))


register_field("network", NetworkField.from_state)
