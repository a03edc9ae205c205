"""Which sliders there are for a class, and where a shape lies along each."""

from __future__ import annotations

from typing import Any

from ...device import resolve_device
from ...generation import directions as ways
from ...generation.codes import code_tensor, latent_of, prior_of
from ...jobs.base import JobArrays, JobCallbacks, JobResult, Progress, about_prior
from .request import DirectionsRequest


def run_directions(request: DirectionsRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """The report's `directions`: the sliders of a class, and where the arrays' shape lies along each. No meshes."""
    callbacks.on_progress(Progress("Loading the prior", 0.01))
    device = resolve_device(request.device)
    prior = prior_of(request.prior, request.prior_sha256, str(device))
    latent = latent_of(prior)
    code = None if arrays is None or arrays.code is None else code_tensor(prior, arrays.code.code)
    class_name = request.class_name
    if code is not None and not class_name:
        class_name = latent.classes[int(latent.class_posterior(latent.project(code[None]))[0].argmax())]
    callbacks.on_progress(Progress("Looking for directions", 0.2))
    found = ways.directions(prior, class_name)[: request.count]
    places = [0.0] * len(found)
    if code is not None:
        places = ways.place_along(latent, class_name, found, latent.project(code[None])[0])
    rows = [
        {
            "name": one.name,
            "measure": one.measure,
            "effect": one.effect,
            "value": place,
            "low": min(-ways.RANGE - place, -0.5),
            "high": max(ways.RANGE - place, 0.5),
        }
        for one, place in zip(found, places, strict=True)
    ]
    callbacks.on_progress(Progress("Done", 1.0, 0.0))
    report: dict[str, Any] = {
        "kind": request.kind,
        "prior": about_prior(prior),
        "class_name": class_name,
        "directions": rows,
    }
    return JobResult([], report)
