"""Sliders: directions in the latent space of a class, named by what they do.

For every measure that a class varies in (width, back height, fill ...) the direction is the conditional mean of the
codes given the measure, which among all ways to change it is the most likely one. The class's principal directions,
without what the named ones span, fill up the list. All are in units of the class's standard deviations.
"""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..folders import user_cache_folder
from ..frames import BOUND
from ..priors.file import Prior
from ..priors.latent import LatentModel, denoise
from ..surfaces.of import signed_distance
from .codes import latent_of
from .paths import TIDY_LEVEL, TIDY_STEPS
from .sampling import generator_for

log = logging.getLogger(__name__)

_VERSION = 1
_GRID = 28
_SHAPES, _FEWEST = 80, 48
_AXES = 16
MOST = 24
RANGE = 2.5
"""How far from the class's centre a slider goes, standard deviations."""

MEASURES: dict[str, str] = {
    "width": "Width",
    "depth": "Depth",
    "height": "Height",
    "back_height": "Back height",
    "front_height": "Front height",
    "fill": "Fill",
    "taper": "Wider top",
    "base": "Solid base",
    "roundness": "Squareness",
    "centre": "Top-heavy",
}
"""Measure -> what its slider is called, where the prior's card has no word of its own for the class ("words": class ->
measure -> word). Of canonical shapes, so that height means height for the length."""

_LONGEST_WORD = 40


@dataclass
class Direction:
    """name: for people.  measure: what it was made for, None of a principal direction.  vector: (K,) coefficients a
    unit.  effect: measure -> change a unit (lengths in canonical units).  explained: share of the measure's variance
    that the codes tell."""

    name: str
    measure: str | None
    vector: list[float]
    effect: dict[str, float] = field(default_factory=dict)
    explained: float = 0.0


def measures_of(distance: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Measures of a canonical shape from its signed distance on an (n, n, n) grid of cell centres, [x, y, z], -y front.

    Lengths in canonical units; the rest are ratios. All vary smoothly with the field.
    """
    n = len(distance)
    cell = 2 * BOUND / n
    solid = 1.0 / (1.0 + np.exp(np.clip(distance / (0.35 * cell), -30, 30)))
    third = n // 3

    def length(part: NDArray[Any], axis: int) -> float:
        return float(part.max(tuple(k for k in range(3) if k != axis), initial=0.0).sum()) * cell

    width, depth, height = (length(solid, axis) for axis in range(3))
    volume = float(solid.sum()) * cell**3
    middle = solid[n // 2 - max(1, n // 10) : n // 2 + max(1, n // 10)]
    occupied = np.flatnonzero(solid.max((0, 2)) > 0.5)
    front, back = (int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else (0, n)
    deep = max(1, (back - front) // 3)
    low = np.flatnonzero(solid.max((0, 1)) > 0.5)
    bottom, top = (int(low[0]), int(low[-1]) + 1) if len(low) else (0, n)

    def column_top(part: NDArray[Any]) -> float:
        """How high above the ground the part reaches."""
        heights = (np.arange(n) + 1 - bottom) * cell
        return float((part.max((0, 1)) * heights).max(initial=0.0)) if part.size else 0.0

    front_height = column_top(middle[:, front : front + deep])
    back_height = column_top(solid[:, back - deep : back])
    plan = solid.max(2)
    upper, lower = solid[:, :, top - third :].max(2).sum(), solid[:, :, : bottom + third].max(2).sum()
    levels = (np.arange(n) + 0.5 - bottom) * cell
    foot = solid[:, :, bottom : bottom + max(1, (top - bottom) // 4)]
    return {
        "width": width,
        "depth": depth,
        "height": height,
        "back_height": back_height - front_height,
        "front_height": front_height,
        "fill": volume / max(width * depth * height, 1e-9),
        "taper": float(np.log((upper + 1) / (lower + 1))),
        "base": float(foot.mean(2).sum()) * cell**2 / max(width * depth, 1e-9),
        "roundness": float(plan.sum()) * cell**2 / max(width * depth, 1e-9),
        "centre": float((solid.sum((0, 1)) * levels).sum() * cell**3 / max(volume, 1e-9)) / max(height, 1e-9),
    }


def class_axes(latent: LatentModel, class_name: str) -> Tensor:
    """(K, K) columns: the class's principal directions in coefficients, one standard deviation long, longest in the
    space of codes first. For '' those of all shapes: the coefficients themselves."""
    label = latent.label(class_name)
    if label is None:
        return torch.eye(latent.size, device=latent.device)
    factor = latent.factors[label]
    _, _, v = torch.linalg.svd(latent.scales[:, None] * factor)
    axes: Tensor = factor @ v.T
    return axes


def directions(prior: Prior, class_name: str) -> list[Direction]:
    """Up to MOST directions of a class ('' = of all shapes), best first: found once for a prior, then remembered (in
    memory, and in the user's cache folder). Raises InputError for an unknown class or a prior that cannot generate."""
    latent = latent_of(prior)
    latent.label(class_name)
    key = (prior.sha256, class_name)
    if prior.sha256 and key in _REMEMBERED:
        return _REMEMBERED[key]
    path = _cache_file(prior.sha256, class_name)
    found: list[Direction] = []
    try:
        kept = json.loads(path.read_text("utf-8"))
        found = [Direction(**row) for row in kept]
    except (OSError, ValueError, TypeError):
        found = find_directions(prior, class_name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
            temporary.write_text(json.dumps([asdict(one) for one in found]), "utf-8")
            temporary.replace(path)
        except OSError as error:
            log.info("The sliders' directions cannot be kept: %s", error)
    if len(_REMEMBERED) > 64:
        _REMEMBERED.clear()
    _REMEMBERED[key] = found
    return found


_REMEMBERED: dict[tuple[str, str], list[Direction]] = {}


def _cache_file(digest: str, class_name: str) -> Path:
    safe = "".join(c if c.isalnum() else "_" for c in class_name) or "any"
    return user_cache_folder() / "directions" / f"{digest[:32]}-{safe}-{_VERSION}.json"


@lru_cache(maxsize=4)
def _grid_points(device: str) -> Tensor:
    axis = (torch.arange(_GRID, device=device) + 0.5) / _GRID * 2 * BOUND - BOUND
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


def find_directions(prior: Prior, class_name: str) -> list[Direction]:
    """What `directions` remembers: decode shapes of the class on a coarse grid, measure them, regress."""
    latent = latent_of(prior)
    label = latent.label(class_name)
    members = latent.training if label is None else latent.training[latent.labels.to(latent.device) == label]
    rng = np.random.default_rng(0)
    if len(members) > _SHAPES:
        members = members[torch.as_tensor(np.sort(rng.permutation(len(members))[:_SHAPES]), device=latent.device)]
    if len(members) < _FEWEST:
        more = latent.sample(_FEWEST - len(members), class_name or None, 1.0, generator_for(0, 5), "mixture")
        members = torch.cat([members, more])
    rows = []
    with torch.no_grad():
        for one in members:
            distance = signed_distance(prior.field.decode(latent.expand(one[None])))(_grid_points(str(prior.device)))
            rows.append(list(measures_of(distance.view(_GRID, _GRID, _GRID).cpu().numpy()).values()))
    table = np.asarray(rows)
    names, labels = list(MEASURES), labels_for(prior.card, class_name)
    deviation = table.std(0)
    axes = class_axes(latent, class_name)
    within = torch.linalg.solve(axes, (members - latent.class_mean(class_name)).T).T.cpu().numpy()
    count = max(1, min(_AXES, within.shape[1], len(members) // 4))
    y = within[:, :count]
    y = y - y.mean(0)
    standard = (table - table.mean(0)) / np.maximum(deviation, 1e-9)
    ridge = 0.05 * len(y) * np.eye(count)
    slopes = np.linalg.solve(y.T @ y + ridge, y.T @ standard)  # (count, measures)
    explained = 1 - (standard - y @ slopes).var(0) / np.maximum(standard.var(0), 1e-9)

    def add(name: str, measure: str | None, way: NDArray[Any], told: float) -> None:
        vector = (axes[:, :count].cpu().numpy() @ way).astype(float)
        change = {m: float(slopes[:, j] @ way * deviation[j]) for j, m in enumerate(names)}
        found.append(Direction(name, measure, [round(float(v), 6) for v in vector], change, told))
        ways.append(way)

    found: list[Direction] = []
    ways: list[NDArray[Any]] = []
    enough = 0.02  # canonical units, or of a ratio: below that nobody would see the slider work
    for j, measure in enumerate(names):
        size = float(np.linalg.norm(slopes[:, j]))
        if deviation[j] < enough or explained[j] < 0.4 or size < 1e-6:
            continue
        way = slopes[:, j] / size
        if any(abs(float(way @ other)) > 0.8 for other in ways):
            continue
        add(labels[measure], measure, way, float(explained[j]))
    named = len(found)
    basis = np.linalg.qr(np.stack(ways, 1))[0] if ways else np.zeros((count, 0))
    for k in range(count):
        way = np.eye(count)[k]
        way = way - basis @ (basis.T @ way)
        size = float(np.linalg.norm(way))
        if size < 0.3 or len(found) >= MOST:
            continue
        way = way / size
        basis = np.concatenate([basis, way[:, None]], 1)
        shown = slopes.T @ way  # standardised change a unit
        best = int(np.abs(shown).argmax())
        if shown[best] < 0:
            way, shown = -way, -shown
        number = len(found) - named + 1
        hint = f" ({labels[names[best]].lower()})" if abs(shown[best]) > 0.3 else ""
        add(f"Form {number}{hint}", None, way, 0.0)
    return found


def labels_for(card: dict[str, Any], class_name: str) -> dict[str, str]:
    """Measure -> what its slider is called for a class: by the prior's card, which a stranger may have written, or as
    for all."""
    words = card.get("words")
    own = words.get(class_name) if isinstance(words, dict) else None
    if not isinstance(own, dict):
        return dict(MEASURES)
    fit = {m: own[m] for m in MEASURES if isinstance(own.get(m), str) and 0 < len(own[m]) <= _LONGEST_WORD}
    return MEASURES | fit


def place_along(latent: LatentModel, class_name: str, found: list[Direction], coefficients: Tensor) -> list[float]:
    """Where coefficients (K,) lie along each direction, standard deviations from the class's centre."""
    axes = class_axes(latent, class_name)
    inside = torch.linalg.solve(axes, coefficients - latent.class_mean(class_name))
    values = []
    for one in found:
        way = torch.linalg.solve(axes, torch.tensor(one.vector, device=latent.device))
        values.append(float(inside @ way / way.norm().clamp(min=1e-9)))
    return values


STRETCH = 1.2
"""How much further a shape is moved before it is denoised, which takes some of it back. Measured on chairs
(docs/generation.md)."""


def moved(
    latent: LatentModel, code: Tensor, found: list[Direction], values: tuple[float, ...], class_name: str = ""
) -> Tensor:
    """The code (C, R, R, R) with each value's share of its direction added. What the coefficients do not hold stays.

    A straight way leads through what lies between kinds of shapes (half a pedestal, half of four legs), which decodes
    to rubble. So with a diffusion model the moved shape is taken for one with a little noise and carried down the
    probability flow to a shape of the class. What that does to the shape itself is taken off again, so that nothing
    changes at 0 and little near it.
    """
    if not any(values):
        return code
    vectors = torch.tensor([one.vector for one in found[: len(values)]], device=latent.device)
    shift = torch.tensor(values, dtype=torch.float32, device=latent.device) @ vectors
    if not math.isfinite(float(shift.abs().max())):
        return code
    if latent.denoiser is not None:
        here = latent.project(code[None])
        label = latent.label(class_name)
        kind = torch.full((2,), len(latent.classes) if label is None else label, device=latent.device)
        both = torch.cat([here + STRETCH * shift, here])
        there, still = denoise(latent.denoiser, both, kind, TIDY_STEPS, TIDY_LEVEL)
        shift = there - still
    return code + ((shift * latent.scales) @ latent.basis).view(code.shape)
