"""What Fit Shape tells of its result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError
from ...frames import BOUND
from ...geometry.cleaning import normals_not_believed
from ...jobs.base import versions
from ...surface_fit.base import UNIT_SIDE, FittedField
from ...surface_fit.finish import opposed
from ...surface_fit.prepare import FitInput, Prepared
from .request import FitRequest

OF_THE_MESH = ("thin_sheet", "points_missed", "mostly_guessed")
"""Warnings that a later extraction of the same field makes anew."""
GUESSED = 0.3
"""Share of the surface far from all points, from which on the user is told that most of it is a membrane."""

FEW_POINTS = 250
"""Fewer are told of: of a torus fifty points give five times the volume, a hundred 8 % more, 250 3 % more."""

Warnings = list[dict[str, str]]


def facts(request: FitRequest, given: FitInput, prepared: Prepared, fitted: FittedField) -> dict[str, Any]:
    """What a later extraction of the same field has to say too."""
    orientation, scale = prepared.orientation, prepared.to_scene.scale
    return {
        "kind": "fit",
        "method": request.method,
        "seed": request.seed,
        "input_points": {
            "given": len(given.points), "used": len(prepared.data.points), "stray": prepared.left_out,
            "normals": given.normals is not None, "faces": 0 if given.faces is None else len(given.faces),
        },
        "noise": prepared.data.noise * scale,
        "spacing": prepared.data.spacing * scale,
        "scale": scale,
        "orientation": None if orientation is None else {
            "found_by": orientation.found_by, "agreement": orientation.agreement
        },
        "opposed": opposed(prepared.data, 4 * BOUND / request.resolution),
        "fit": fitted.report,
        "settings": {
            "resolution": request.resolution, "smoothness": request.smoothness, "normals": request.normals,
            "open_boundaries": request.open_boundaries, "iterations": request.iterations,
            "viewpoint": request.viewpoint, "noise": request.noise,
        },
        "warnings": [*_input_warnings(prepared), *fitted.warnings],
        "notes": prepared.notes,
        "versions": versions(),
    }  # fmt: skip


def mesh_warnings(
    off: NDArray[np.float64], cell: float, noise: float, sheets: float, guessed: float, is_open: bool
) -> Warnings:
    """off: distances of points from the surface, unit frame, as cell and noise are.  sheets: share of the points on
    sheets thinner than two cells.  guessed: share of the surface far from all points."""
    found: Warnings = []
    missed = float((off > max(1.5 * cell, 5 * noise)).mean())
    if missed >= 0.01 and sheets > 0.02:
        found.append(_warning(
            "thin_sheet",
            "Thin parts may have closed up or have holes.",
            f"{missed:.0%} of the points are not on the surface, and parts are thinner than two cells of the grid.",
            "Raise the resolution, or give a denser scan of the thin parts.",
        ))  # fmt: skip
    elif missed >= 0.05:
        found.append(_warning(
            "points_missed",
            "The surface leaves out part of the points.",
            f"{missed:.0%} of them are further from it than {'its edge' if is_open else 'the noise explains'}.",
            "They may lie inside the shape or be outliers; if not, raise the resolution or lower the smoothness.",
        ))  # fmt: skip
    if guessed >= GUESSED and not is_open:
        found.append(_warning(
            "mostly_guessed",
            "Much of the surface is a membrane over places that were not seen.",
            f"{guessed:.0%} of it lies far from all points, as where a scan is from one side only.",
            "Leave holes open (--open), give the viewpoint, add scans from other sides, or use Complete Shape.",
        ))  # fmt: skip
    return found


def _input_warnings(prepared: Prepared) -> Warnings:
    found: Warnings = [normals_not_believed(prepared.doubt)] if prepared.doubt else []
    count, spacing = len(prepared.data.points), float(np.median(prepared.data.spacing)) / UNIT_SIDE
    if count < FEW_POINTS and prepared.data.mesh is None:
        found.append(_warning(
            "few_points",
            f"{count} points say little of the surface.",
            f"They lie {spacing:.0%} of the size apart: what is narrower than about twice that, a hole, a gap or a "
            "thin part, is not in them, and which side is inside is a guess too. Volume and shape may be far off.",
            "Give some hundreds of points, or their normals; or use Complete Shape, which knows such shapes.",
        ))  # fmt: skip
    if prepared.flat:
        found.append(_warning(
            "flat_input",
            "The input is flat, so the result is a sheet.",
            "All its points lie in a plane, which encloses no volume.",
            "Give points from all sides for a solid; a sheet can be thickened in Blender (Solidify).",
        ))  # fmt: skip
    if prepared.turned:
        assert prepared.orientation is not None
        found.append(_warning(
            "normals_contradict",
            "The input's normals were turned where they pointed inwards.",
            f"They contradict one another: {1 - (prepared.orientation.agreement or 0):.0%} of them pointed inwards.",
            "Look at the result; if it is wrong, choose the normals 'given' or 'none'.",
        ))  # fmt: skip
    return found


def _warning(code: str, what: str, why: str, remedy: str) -> dict[str, str]:
    return EngineError(code, what, why, remedy).as_dict()
