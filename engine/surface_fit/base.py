"""What a single-shape fit is given, what it answers, and the registry of methods.

The unit frame: the input's bounding box centred at 0, its longest side `UNIT_SIDE`; fields live on [-0.55, 0.55]^3 and
are negative inside. The margin is where a surface may bulge over a hole.

A method is a file in methods/ that says METHOD.
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
from . import methods

UNIT_SIDE = 0.9
"""Longest side of the input's bounding box in the unit frame."""

Needs = Literal["points", "oriented", "mesh"]


@dataclass
class FitData:
    """The input of a fit in the unit frame, cleaned.

    points: (N, 3) float32, N >= 10: the cloud without duplicates, or samples of the mesh's surface.
    normals: (N, 3) float32 unit, or None.  oriented: whether the normals' signs are trusted to look outwards; else only
    their lines may be used.  viewpoint: (3,), (N, 3) or None.  mesh: the input itself where it has faces, else None.
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


FromState = Callable[[dict[str, Tensor], dict[str, Any]], FittedField]


@dataclass
class Method:
    """needs: what the input must have at least: 'points'; 'oriented' = trusted normals (estimated and oriented by the
    job where the input has none); 'mesh' = triangles with an inside."""

    name: str
    summary: str
    citation: str
    needs: Needs
    fit: FitFunction


_METHODS: dict[str, Method] = {}
_FIELDS: dict[str, FromState] = {}


def register_field(kind: str, from_state: FromState) -> None:
    """Make the fields of one kind (FittedField.kind) ones that can be kept and read again."""
    _FIELDS[kind] = from_state


def field_kinds() -> dict[str, FromState]:
    """FittedField.kind -> from_state(tensors, arguments)."""
    every_method()
    return _FIELDS


def every_method() -> dict[str, Method]:
    """All methods by name, 'auto' first. Imports them."""
    for name in methods.names():
        if name not in _METHODS:
            _METHODS[name] = importlib.import_module(f"{methods.__name__}.{name}").METHOD
    return _METHODS


def find_method(name: str) -> Method:
    """Raises InputError 'method_unknown', which names those there are."""
    known = every_method()
    if name not in known:
        raise InputError(
            "method_unknown",
            f"The method '{name}' is not known.",
            f"This engine fits with {', '.join(known)}.",
            "Choose one of them; 'auto' suits most inputs.",
        )
    return known[name]


def no_progress(stage: str, fraction: float) -> None:
    """An OnProgress that does nothing."""


def no_field(fitted: FittedField) -> None:
    """An OnField that does nothing."""


def never() -> bool:
    """A should_stop that never asks to."""
    return False
