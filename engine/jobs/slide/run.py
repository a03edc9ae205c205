"""A code moved along directions, fast enough to drag."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ...device import describe_device, resolve_device
from ...errors import Cancelled, InputError
from ...finish.slivers import without_slivers
from ...generation import directions as ways
from ...generation.codes import CRUMBS, code_tensor, decode, latent_of, prior_of, similarity_of
from ...jobs.base import Clock, JobArrays, JobCallbacks, JobResult, ShapeCode, about_prior, mesh_to_scene
from ...surfaces.cleanup import clean_mesh
from ...surfaces.of import of
from .request import SlideRequest

CLEAN_FROM = 96
"""Resolution from which loose crumbs and slivers are removed: on the way there, while a slider moves, time counts."""


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
    clock = Clock()

    def lap(stage: str) -> None:
        clock.lap(stage)
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
    extraction = of(
        shape.whole, request.resolution, device=device, should_stop=callbacks.should_stop, with_normals=request.normals
    )
    mesh = extraction.mesh
    if request.resolution >= CLEAN_FROM:
        mesh = clean_mesh(mesh, CRUMBS)
    if request.resolution >= CLEAN_FROM or request.normals:
        mesh = without_slivers(mesh, request.resolution, to_scene.scale)
    lap("extract")
    placed = mesh_to_scene(mesh, to_scene)
    kept = ShapeCode(code.cpu().numpy().astype(np.float32), to_scene.matrix())
    lap("place")
    report: dict[str, Any] = {
        "kind": request.kind,
        "prior": about_prior(prior),
        "resolution": request.resolution,
        "vertices": len(placed.vertices),
        "faces": len(placed.faces),
        "evaluations": extraction.evaluations,
        "timings": clock.laps,
        "device": describe_device(device),
    }
    return JobResult([placed], report, [kept])
