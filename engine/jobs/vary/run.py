"""Relatives of a shape: its code moved at random, the part that is to stay kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import InputError
from ...frames import BOUND
from ...generation import sampling
from ...generation.codes import DecodedShape, decode, implicit, largest_piece
from ...generation.variants import KeptPart, keep, kept_part
from ...geometry.meshes import Mesh
from ...geometry.metrics import distances_to_surface
from ...geometry.transforms import Similarity
from ...jobs.base import JobArrays, JobCallbacks, JobResult
from ..given import about_inputs, given_shapes, open_delivery
from .request import VaryRequest


def run_vary(request: VaryRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """Relatives number first .. first + count - 1 of the arrays' shape, in its place."""
    job = open_delivery(request, callbacks)
    given = given_shapes(job, request, arrays, 1, 1, request.viewpoint)[0]
    assert arrays is not None
    part = None
    if arrays.kept is not None:
        job.progress("Reading the kept part", 0.1)
        part = _part(arrays, decode(job.prior, given.code), given.to_scene, request.seed)
        job.clock.lap("kept part")

    def measure(mesh: Mesh) -> dict[str, Any]:
        if arrays.kept is None:
            return {}
        sample = arrays.kept[:: max(1, len(arrays.kept) // 5000)]
        distances = distances_to_surface(mesh, sample)
        return {"kept": {
            "mean": float(distances.mean()), "p95": float(np.percentile(distances, 95)),
            "largest": float(distances.max()),
        }}  # fmt: skip

    for done in range(request.count):
        number = request.first + done
        code = sampling.relative(
            job.latent, given.code, request.strength, (request.seed, number, 1 << 20),
            (lambda one: largest_piece(decode(job.prior, one))) if request.avoid_pieces else None,
        )  # fmt: skip
        shape = decode(job.prior, code)
        whole = shape.whole
        if part is not None:
            job.progress("Keeping the part", 0.1 + 0.9 * done / request.count)
            shape, field = keep(shape, part, seed=request.seed + number, should_stop=callbacks.should_stop)
            whole = implicit(field, shape.code)
        job.clock.lap("vary")
        job.deliver(whole, shape.code, given.to_scene, number, {}, (done, request.count), measure)
    return job.finish(
        settings={"strength": request.strength, "resolution": request.resolution, "first": request.first},
        inputs=about_inputs([given], job.latent),
    )


def _part(arrays: JobArrays, original: DecodedShape, to_scene: Similarity, seed: int) -> KeptPart:
    """The arrays' kept points as the variants see them. Raises InputError 'kept_outside'."""
    assert arrays.kept is not None
    into = to_scene.inverse()
    points = into.apply(arrays.kept)
    normals = None if arrays.kept_normals is None else into.apply_to_directions(arrays.kept_normals)
    inside = (np.abs(points) < BOUND).all(1)
    if not inside.any():
        raise InputError(
            "kept_outside",
            "The kept part cannot be kept.",
            "None of its points lies near the shape.",
            "Select points of the object itself, in its own place.",
        )
    return kept_part(original, points[inside], None if normals is None else normals[inside], seed)
