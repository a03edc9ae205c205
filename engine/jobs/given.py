"""The shapes that a request starts from: codes as they came, or those of meshes and scans, which are encoded first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..finish.finishing import Finish
from ..generation import sampling
from ..generation.codes import code_tensor, encode_whole, similarity_of
from ..geometry.connected import is_watertight
from ..geometry.meshes import Mesh
from ..geometry.transforms import Similarity
from ..jobs.base import JobArrays, JobCallbacks, Progress
from ..priors.latent import LatentModel
from .complete.request import CompleteRequest
from .delivery import Delivery
from .kinds import find
from .request import OfShapesRequest, Viewpoint

READING = (0.02, 0.32)
"""Fractions of a job between which its shapes are read."""


@dataclass
class GivenShape:
    """code: (C, R, R, R).  to_scene: where the shape stands.  how: the code was 'given', 'encoded' or 'completed'.
    notes: what reading a scan left out, a sentence each."""

    code: Tensor
    to_scene: Similarity
    how: str
    notes: list[str] = field(default_factory=list)


def open_delivery(request: OfShapesRequest, callbacks: JobCallbacks) -> Delivery:
    """Raises InputError, as for a prior that is not installed."""
    return Delivery(
        request.kind, request.prior, request.prior_sha256, request.resolution, request.seed, request.device, callbacks,
        Finish(request.max_faces, request.uvs),
    )  # fmt: skip


def given_shapes(
    job: Delivery,
    request: OfShapesRequest,
    arrays: JobArrays | None,
    least: int,
    most: int | None = None,
    viewpoint: Viewpoint | None = None,
) -> list[GivenShape]:
    """The shapes of the arrays, `least` to `most` of them. viewpoint: of scans. Raises InputError."""
    if arrays is None:
        raise InputError(
            "input_missing", "There is no shape to start from.", "The request came without one.", "Send a code or mesh."
        )
    every = [arrays, *arrays.others]
    if len(every) < least or (most is not None and len(every) > most):
        wanted = f"{least}" if least == most else f"at least {least}"
        raise InputError(
            "shapes_wrong_number",
            f"A '{request.kind}' job cannot be done with {len(every)} shapes.",
            f"It needs {wanted}.",
            "Select the shapes and try again.",
        )
    low, each = READING[0], (READING[1] - READING[0]) / len(every)
    given = [
        _given_shape(job, request, one, (low + each * k, low + each * (k + 1)), viewpoint)
        for k, one in enumerate(every)
    ]
    job.clock.lap("read shapes")
    return given


def about_inputs(given: list[GivenShape], latent: LatentModel) -> list[dict[str, Any]]:
    """A report's `inputs`."""
    rows = []
    for one in given:
        coefficients = latent.project(one.code[None])
        rows.append({
            "code": one.how,
            "class_name": sampling.class_of(latent, coefficients[0]),
            "log_density": float(-0.5 * coefficients.square().sum() / latent.size),
            "notes": one.notes,
        })
    return rows


def _given_shape(
    job: Delivery, request: OfShapesRequest, arrays: JobArrays, span: tuple[float, float], viewpoint: Viewpoint | None
) -> GivenShape:
    """span: the job's fractions this may take."""
    if arrays.code is not None:
        return GivenShape(code_tensor(job.prior, arrays.code.code), similarity_of(arrays.code.pose), "given")
    whole = request.input_is == "whole"
    if request.input_is == "auto":
        faces = arrays.faces
        whole = faces is not None and len(faces) > 0 and is_watertight(Mesh(arrays.points, faces))
    if whole:
        job.progress("Reading the shape", span[0])
        code, to_scene = encode_whole(
            job.prior, arrays.points, arrays.faces, align=request.align, up=request.up, seed=request.seed
        )
        return GivenShape(code, to_scene, "encoded")
    settings = CompleteRequest(
        prior=request.prior, align=request.align, up=request.up, viewpoint=viewpoint, resolution=64,
        seed=request.seed, device=request.device,
    )  # fmt: skip
    part = job.progress.part(*span)

    def on_progress(progress: Progress) -> None:
        part(progress.stage, progress.fraction)

    callbacks = JobCallbacks(on_progress, job.callbacks.on_preview, job.callbacks.should_stop)
    completed = find("complete").runner()(settings, arrays.shape_alone, callbacks)
    code_and_pose, notes = completed.codes[0], completed.report["notes"]
    assert code_and_pose is not None  # the prior has a latent distribution
    return GivenShape(code_tensor(job.prior, code_and_pose.code), similarity_of(code_and_pose.pose), "completed", notes)
