"""The completers that the protocol judges: the product itself, through the job a user runs, and the prior's mean."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..fields.shapes import Implicit
from ..generation.codes import implicit
from ..geometry.clouds import PointCloud
from ..jobs.base import JobArrays, JobCallbacks
from ..jobs.complete.request import CompleteRequest, Front
from ..jobs.complete.run import run_complete
from ..jobs.request import Align
from ..priors.file import load_prior
from ..surfaces.of import of, signed_distance
from .protocol import Answer, Completer

AS_CLICKED: dict[str, Any] = {
    "align": "scale", "front": "evident", "viewpoint_told": False, "resolution": 128, "hypotheses": 1,
}  # fmt: skip
"""What Blender's panel asks for before anything is set, of an object that nobody turned."""

COMPLETES = (
    "completion/**/*.py", "fields/**/*.py", "geometry/**/*.py", "priors/**/*.py", "surfaces/**/*.py",
    "jobs/complete/**/*.py",
)  # fmt: skip
"""Of the engine: what decides how a completion comes out."""


def source_mark() -> str:
    """Hash of that source: rows stored by other code are not taken for this one's."""
    root = Path(__file__).resolve().parent.parent
    files = sorted(file for pattern in COMPLETES for file in root.glob(pattern))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def product(
    prior: str, align: Align, resolution: int, device: str, seed: int = 0, hypotheses: int = 1, front: Front = "given",
    viewpoint_told: bool = True,
) -> tuple[str, Completer]:
    """(fingerprint, completer): Complete Shape as the command line and Blender run it, points and viewpoint given.

    viewpoint_told: False = the viewpoint is not given.
    hypotheses: asked for; the best is judged, and of several their diversity and fidelity are told.
    """
    loaded = load_prior(prior, device)

    def complete(cloud: PointCloud) -> Answer:
        viewpoint = None
        if viewpoint_told and cloud.viewpoint is not None:
            x, y, z = (float(c) for c in cloud.viewpoint)
            viewpoint = (x, y, z)
        request = CompleteRequest(
            prior=prior, align=align, viewpoint=viewpoint, resolution=resolution, seed=seed, device=device,
            hypotheses=hypotheses, front=front,
        )  # fmt: skip
        result = run_complete(request, JobArrays(cloud.points), JobCallbacks())
        figures = {}
        if hypotheses > 1:
            diversity = result.report["diversity"]
            figures = {
                "tmd": diversity["total_mutual_difference"], "uhd": diversity["unidirectional_hausdorff"],
                "answers": float(len(result.meshes)),
            }  # fmt: skip
        return Answer(result.meshes[0], figures)

    settings = [source_mark(), loaded.sha256, align, front, resolution, seed, hypotheses, viewpoint_told]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16], complete


def mean_shape(prior: str, resolution: int, device: str) -> tuple[str, Completer]:
    """(fingerprint, completer): the shape of the code 0 without any evidence, whatever the scan."""
    loaded = load_prior(prior, device)

    code = torch.zeros(1, *loaded.field.code_shape, device=loaded.device)
    with torch.no_grad():
        shape = loaded.field.decode(code)
    if isinstance(shape, Implicit):
        # Without evidence there may be no zero at all; the mean shape is then where the field is lowest.
        field = signed_distance(shape)
        probe = torch.as_tensor(
            np.random.default_rng(0).uniform(-0.5, 0.5, (20_000, 3)), dtype=torch.float32, device=loaded.device
        )
        level = max(0.0, float(field(probe).quantile(0.02)))
        shape = implicit(lambda points: field(points) - level, code[0], shape.lipschitz)
    mesh = of(shape, resolution, device=loaded.device).mesh
    return f"{loaded.sha256[:16]}-{resolution}", lambda cloud: mesh
