"""What a single-shape fit is given, what it answers, and the registry of methods.

The unit frame: the input's bounding box centred at 0, its longest side `UNIT_SIDE`; fields live on [-0.55, 0.55]^3 and
are negative inside. The margin is where a surface may bulge over a hole.

A module that adds methods puts them into METHODS and its field classes into FIELDS when it is imported, and its name
into METHOD_MODULES below.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..geometry.clouds import FloatArray
from ..geometry.meshes import Mesh

UNIT_SIDE = 0.9
"""Longest side of the input's bounding box in the unit frame."""

METHOD_MODULES = ("engine.surface_fit.auto", "engine.surface_fit.recipes")

Needs = Literal["points", "oriented", "mesh"]


@dataclass
class FitData:
    """The input of a fit in the unit frame, cleaned.

    points: (N, 3) float32, N >= 10: the cloud without duplicates, or samples of the mesh's surface.
    normals: (N, 3) float32 unit, or None.  oriented: whether the normals' signs are trusted to look outwards; else only
    their lines may be used.  viewpoint: (3,) or None.  mesh: the input itself where it has faces, else None.
    noise: standard deviation of the points along their normals.  spacing: median distance of neighbouring points.
    area: (N,) surface each point stands for, or None = all the same.
    """

    points: FloatArray
    normals: FloatArray | None = None
    oriented: bool = False
    viewpoint: FloatArray | None = None
    mesh: Mesh | None = None
    noise: float = 0.0
    spacing: float = 0.01
    area: NDArray[np.floating[Any]] | None = None


@dataclass
class FitSettings:
    """resolution: cells along [-0.55, 0.55] in the final mesh.  smoothness: 0..1, see FitRequest.
    iterations: optimiser steps, None = the method's own.
    options: a method's further settings, by name (Python only)."""

    resolution: int = 128
    smoothness: float = 0.5
    iterations: int | None = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)


class FittedField(Protocol):
    """An implicit surface in the unit frame.

    kind: its name in FIELDS.  lipschitz: a bound on |grad f| near the surface, for the extraction.
    warnings: EngineError.as_dict()s on what the user should know ({"code", "what", "why", "remedy"}).
    report: JSON-serialisable facts about the fit (orientation found, losses, ...), merged into the job's report.
    """

    kind: str
    lipschitz: float
    warnings: list[dict[str, str]]
    report: dict[str, Any]

    def signed_distance(self, points: Tensor) -> Tensor:
        """(N, 3) -> (N,), negative inside, same device; differentiable in the points where the field is a network."""
        ...

    def to_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name and JSON-serialisable arguments: what FIELDS[kind] makes the same field of."""
        ...


OnProgress = Callable[[str, float], None]
"""(a short word a user understands, fraction 0..1 of the fit)"""
OnField = Callable[[FittedField], None]
"""The field as it stands, for a preview. Call it a few times at most."""


class FitFunction(Protocol):
    def __call__(
        self,
        data: FitData,
        settings: FitSettings,
        device: torch.device,
        on_progress: OnProgress,
        on_field: OnField,
        should_stop: Callable[[], bool],
    ) -> FittedField:
        """Raises InputError, JobFailed, and Cancelled once should_stop()."""
        ...


@dataclass
class Method:
    """needs: what the input must have at least: 'points'; 'oriented' = trusted normals (estimated and oriented by the
    job where the input has none); 'mesh' = triangles with an inside."""

    name: str
    summary: str
    citation: str
    needs: Needs
    fit: FitFunction


METHODS: dict[str, Method] = {}

FIELDS: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], FittedField]] = {}
"""FittedField.kind -> from_state(tensors, arguments)."""


def load_methods() -> dict[str, Method]:
    """METHODS, filled."""
    for module in METHOD_MODULES:
        importlib.import_module(module)
    return METHODS


def find_method(name: str) -> Method:
    methods = load_methods()
    if name not in methods:
        raise InputError(
            "method_unknown",
            f"The method '{name}' is not known.",
            f"This engine fits with {', '.join(methods)}.",
            "Choose one of them; 'auto' suits most inputs.",
        )
    return methods[name]


def no_progress(stage: str, fraction: float) -> None:
    """An OnProgress that does nothing."""


def no_field(fitted: FittedField) -> None:
    """An OnField that does nothing."""


def never() -> bool:
    """A should_stop that never asks to."""
    return False
