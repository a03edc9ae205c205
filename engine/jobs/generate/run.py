"""New shapes from the prior's latent distribution."""

from __future__ import annotations

from ...finish.finishing import Finish
from ...generation import sampling
from ...generation.codes import decode, largest_piece
from ...geometry.transforms import Similarity
from ...jobs.base import JobArrays, JobCallbacks, JobResult
from ..delivery import Delivery
from .request import GenerateRequest


def run_generate(request: GenerateRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """request.count new shapes in the canonical frame, in the order of their numbers."""
    job = Delivery(
        request.kind, request.prior, "", request.resolution, request.seed, request.device, callbacks,
        Finish(request.max_faces, request.uvs),
    )  # fmt: skip
    job.progress("Drawing shapes", 0.05)
    draws = sampling.draw(
        job.latent,
        request.count,
        first=request.first,
        seed=request.seed,
        class_name=request.class_name,
        temperature=request.temperature,
        distribution=request.distribution,
        avoid_duplicates=request.avoid_duplicates,
        largest_piece=(
            (lambda coefficients: largest_piece(decode(job.prior, job.latent.expand(coefficients[None])[0])))
            if request.avoid_pieces
            else None
        ),
        should_stop=callbacks.should_stop,
    )
    job.clock.lap("draw")
    for done, drawn in enumerate(draws.shapes):
        code = job.latent.expand(drawn.coefficients[None])[0]
        row = {
            "class_name": drawn.class_name,
            "nearest": {"name": drawn.nearest, "distance": drawn.distance},
            "redrawn": drawn.redrawn_training + drawn.redrawn_each_other + drawn.redrawn_broken,
            "duplicate": drawn.duplicate,
        }
        shape = decode(job.prior, code)
        job.deliver(shape.whole, code, Similarity(), drawn.index, row, (done, len(draws.shapes)))
    return job.finish(
        settings={
            "class_name": request.class_name, "temperature": request.temperature, "resolution": request.resolution,
            "distribution": job.latent.default if request.distribution == "default" else request.distribution,
            "avoid_duplicates": request.avoid_duplicates, "avoid_pieces": request.avoid_pieces, "first": request.first,
        },
        duplicates={
            "training": sum(drawn.redrawn_training for drawn in draws.shapes),
            "each_other": sum(drawn.redrawn_each_other for drawn in draws.shapes),
            "accepted": sum(drawn.duplicate for drawn in draws.shapes),
            "threshold": draws.threshold,
        },
        pieces=sum(drawn.redrawn_broken for drawn in draws.shapes),
    )  # fmt: skip
