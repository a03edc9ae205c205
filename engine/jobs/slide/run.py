"""Sliders as jobs: which there are for a class, and a code moved along them, fast enough to drag."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ...device import describe_device, resolve_device
from ...errors import Cancelled, InputError
from ...generation import directions as ways
from ...generation.codes import code_tensor, decode, latent_of, prior_of, similarity_of
from ...geometry.meshes import Mesh
from ...surfaces.marching import clean_mesh, extract_sparse
from ..base import DirectionsRequest, JobArrays, JobCallbacks, JobResult, Progress, ShapeCode, SlideRequest
from ..generate.run import CRUMBS

CRUMBS_FROM = 96
"""Resolution from which loose crumbs are removed: on the way there, while a slider moves, time counts more."""


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
        "kind": "directions",
        "prior": {"name": prior.name, "version": prior.card["version"], "sha256": prior.sha256},
        "class_name": class_name,
        "directions": rows,
    }
    return JobResult([], report)


@contextlib.contextmanager
def _half_the_cores() -> Iterator[None]:
    """Blender draws while a slider's step is computed. On two cores the second thread gains a step 7 %, and takes more
    than that from the drawing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // 2))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_half_the_cores()
def run_slide(request: SlideRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """The arrays' code moved along its class's directions: mesh and code in its place."""
    if arrays is None or arrays.code is None:
        raise InputError(
            "code_missing",
            "There is nothing to slide.",
            "The request came without a code.",
            "Send a shape's code; a mesh gets one by the job 'vary' with strength 0.",
        )
    times: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        times[stage] = now - clock
        clock = now
        if callbacks.should_stop():
            raise Cancelled

    device = resolve_device(request.device)
    prior = prior_of(request.prior, request.prior_sha256, str(device))
    latent = latent_of(prior)
    code = code_tensor(prior, arrays.code.code)
    to_scene = similarity_of(arrays.code.pose)
    lap("load")
    if any(request.values):
        found = ways.directions(prior, request.class_name)
        if len(request.values) > len(found):
            raise InputError(
                "slider_unknown",
                "There are more values than sliders.",
                f"{len(request.values)} values came for {len(found)} directions.",
                "Ask the job 'directions' which there are.",
            )
        code = ways.moved(latent, code, found, request.values, request.class_name)
        lap("move")
    shape = decode(prior, code)
    lap("decode")
    extraction = extract_sparse(
        shape.signed_distance, request.resolution, device=device, should_stop=callbacks.should_stop,
        lipschitz=1.5, with_normals=request.normals,
    )  # fmt: skip
    mesh = clean_mesh(extraction.mesh, CRUMBS) if request.resolution >= CRUMBS_FROM else extraction.mesh
    lap("extract")
    normals = None if mesh.normals is None else to_scene.apply_to_directions(mesh.normals)
    placed = Mesh(to_scene.apply(mesh.vertices), mesh.faces, normals)
    kept = ShapeCode(code.cpu().numpy().astype(np.float32), to_scene.matrix())
    lap("place")
    report: dict[str, Any] = {
        "kind": "slide",
        "prior": {"name": prior.name, "version": prior.card["version"], "sha256": prior.sha256},
        "resolution": request.resolution,
        "vertices": len(placed.vertices),
        "faces": len(placed.faces),
        "evaluations": extraction.evaluations,
        "timings": times,
        "device": describe_device(device),
    }
    return JobResult([placed], report, [kept])
