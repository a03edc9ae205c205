"""A - B + C of shapes."""

from __future__ import annotations

from ...generation import paths
from ...generation.codes import decode
from ...jobs.base import JobArrays, JobCallbacks, JobResult
from ..given import about_inputs, given_shapes, open_delivery
from .request import ArithmeticRequest


def run_arithmetic(request: ArithmeticRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """C + amount (A - B), in C's place."""
    job = open_delivery(request, callbacks)
    a, b, c = given_shapes(job, request, arrays, 3, 3)
    code = paths.arithmetic(job.latent, a.code, b.code, c.code, request.amount)
    job.deliver(decode(job.prior, code).whole, code, c.to_scene, 0, {}, (0, 1))
    return job.finish(
        settings={"amount": request.amount, "resolution": request.resolution},
        inputs=about_inputs([a, b, c], job.latent),
    )
