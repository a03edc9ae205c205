"""In-betweens of shapes, as meshes of their own or as one mesh that follows the surface."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, JobFailed
from ...finish.finishing import finished
from ...generation import paths
from ...generation.codes import decode
from ...generation.following import check, follow_surface
from ...geometry.meshes import Mesh
from ...geometry.transforms import Similarity
from ...jobs.base import JobArrays, JobCallbacks, JobResult
from ..delivery import Delivery
from ..given import GivenShape, about_inputs, given_shapes, open_delivery
from .request import BlendRequest

Station = tuple[int, int, float, Tensor, Similarity]
"""Numbers of two shapes, the place between them (0..1), the code there (C, R, R, R) and where it stands."""


def run_blend(request: BlendRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """In-betweens of two or more shapes in order along the path."""
    job = open_delivery(request, callbacks)
    given = given_shapes(job, request, arrays, 2)
    stations = _stations(job, request, given)
    job.clock.lap("path")
    if request.one_mesh:
        _deliver_as_one_mesh(job, stations)
    else:
        for done, (a, b, t, code, pose) in enumerate(stations):
            shape = decode(job.prior, code)
            place = (done, len(stations))
            job.deliver(shape.whole, code, pose, done, {"from": a, "to": b, "t": t}, place)
    return job.finish(
        settings={
            "steps": request.steps, "ends": request.ends, "path": request.path, "resolution": request.resolution,
            "one_mesh": request.one_mesh,
        },
        inputs=about_inputs(given, job.latent),
    )  # fmt: skip


def _stations(job: Delivery, request: BlendRequest, given: list[GivenShape]) -> list[Station]:
    places = paths.stations(len(given), request.steps, request.ends)
    if not places:
        raise InputError(
            "request_invalid", "There is nothing to blend.", "No steps and no ends are asked for.", "Ask for steps."
        )
    found: list[Station] = []
    for a in range(len(given) - 1):
        times = [t for first, _, t in places if first == a]
        if not times:
            continue
        at = torch.tensor(times, dtype=torch.float32, device=job.prior.device)
        codes = paths.between(job.latent, given[a].code, given[a + 1].code, at, request.path, job.holds)
        poses = paths.poses_between(given[a].to_scene, given[a + 1].to_scene, np.asarray(times))
        found += [(a, a + 1, t, code, pose) for t, code, pose in zip(times, codes, poses, strict=True)]
    return found


def _deliver_as_one_mesh(job: Delivery, stations: list[Station]) -> None:
    """Nothing is handed out before every step is known to be good enough."""
    own: list[Mesh] = []
    for done, (_, _, _, code, _) in enumerate(stations):
        mesh = job.extract(decode(job.prior, code).whole, done, (done, 3 * len(stations)))
        if mesh is None:
            raise JobFailed(
                "blend_topology", "These shapes cannot turn into each other with one mesh.",
                f"Step {done + 1} of {len(stations)} has no surface.", "Blend them in a row or on the timeline.",
            )  # fmt: skip
        own.append(mesh)
    own[0] = finished(own[0], job.ending, job.resolution, min(pose.scale for _, _, _, _, pose in stations))
    job.progress("Following the surface", 0.4)
    found = follow_surface(own[0], [code for _, _, _, code, _ in stations], job.prior, job.callbacks.should_stop)
    followed = [Mesh(vertices, own[0].faces) for vertices in found]
    apart = []
    for done, (mesh, fair) in enumerate(zip(followed, own, strict=True)):
        job.progress("Comparing the steps", 0.7 + 0.2 * done / len(stations))
        apart.append(check(mesh, fair, done, len(stations), job.seed))
    job.clock.lap("follow")
    for done, (a, b, t, code, pose) in enumerate(stations):
        job.hand_out(followed[done], code, pose, done, {"from": a, "to": b, "t": t, "off": apart[done]})
