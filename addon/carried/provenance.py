"""How a result was made, as its custom properties say it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..scene.read import Scan


def pose_in(report: dict[str, Any]) -> list[list[float]] | None:
    """The alignment that a report (or a hypothesis's row of it) names: canonical -> sent frame, 4 x 4 numbers."""
    alignment = report.get("alignment")
    matrix = alignment.get("matrix") if isinstance(alignment, dict) else None
    if matrix is None:
        return None
    try:
        found = np.array(matrix, np.float64)
    except (ValueError, TypeError):
        return None
    if found.size != 16 or not np.isfinite(found).all() or abs(np.linalg.det(found.reshape(4, 4))) < 1e-300:
        return None
    return found.reshape(4, 4).tolist()


def provenance(request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any]) -> dict[str, Any]:
    """What a result says about how it was made, as custom properties (each named 'shapewright_' + key)."""
    prior = report.get("prior", request.get("prior", ""))
    prior_hash = report.get("prior_hash", "")
    if isinstance(prior, dict):
        prior_hash = prior_hash or prior.get("hash") or prior.get("sha256") or ""
        prior = prior.get("name") or request.get("prior", "")
    versions = report.get("versions") if isinstance(report.get("versions"), dict) else {}
    engine_version = versions.get("shapewright") or versions.get("engine") or engine_info.get("version") or ""
    return {
        "prior": str(prior),
        "prior_hash": str(prior_hash),
        "seed": int(report.get("seed") or request.get("seed") or 0),
        "settings": json.dumps(request, sort_keys=True),
        "engine_version": str(engine_version),
    }


def provenance_of(
    request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any], scan: Scan
) -> dict[str, Any]:
    """The same of a result that was made from a scan.

    'settings' and 'report' speak of the frame that was sent; 'frame' is the matrix from there to the world.
    """
    return {
        **provenance(request, report, engine_info),
        "source": scan.source.name,
        "frame": json.dumps(scan.frame.tolist()),
        "report": json.dumps(report, sort_keys=True),
    }
