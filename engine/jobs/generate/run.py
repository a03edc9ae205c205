"""Generate, vary, blend and arithmetic as jobs: codes -> meshes that arrive one after another, each with its code."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import __version__
from ...completion.alignment import network_pose
from ...device import describe_device, resolve_device
from ...errors import Cancelled, InputError, JobFailed
from ...finish import soundness
from ...frames import BOUND, up_rotation
from ...generation import paths, sampling
from ...generation.codes import (
    DecodedShape,
    code_tensor,
    decode,
    encode_points,
    largest_piece,
    latent_of,
    prior_of,
    similarity_of,
    surface_points,
)
from ...generation.following import check, follow_surface
from ...generation.variants import keep, kept_part
from ...geometry.clouds import PointCloud
from ...geometry.meshes import Mesh
from ...geometry.metrics import distances_to_surface
from ...geometry.sampling import subsample
from ...geometry.transforms import Similarity, yaw_rotation
from ...priors.file import Prior
from ...priors.latent import LatentModel
from ...surfaces.marching import clean_mesh, extract_sparse, is_watertight
from ..base import (
    ArithmeticRequest,
    BlendRequest,
    CompleteRequest,
    FinishedMesh,
    GenerateRequest,
    JobArrays,
    JobCallbacks,
    JobResult,
    Preview,
    Progress,
    ShapeCode,
    VaryRequest,
)

log = logging.getLogger(__name__)

LIPSCHITZ = 1.5
CRUMBS = 0.03
"""Share of the surface below which a loose piece is left out: what was drawn from noise may leave some about."""
OfShapes = VaryRequest | BlendRequest | ArithmeticRequest


class _Job:
    """What all these jobs share: the prior, the clock, and meshes handed out as they are done."""

    def __init__(self, request: GenerateRequest | OfShapes, callbacks: JobCallbacks) -> None:
        callbacks.on_progress(Progress("Loading the prior", 0.01))
        self.request, self.callbacks = request, callbacks
        self.device = resolve_device(request.device)
        self.prior = prior_of(request.prior, getattr(request, "prior_sha256", ""), str(self.device))
        self.latent = latent_of(self.prior)
        self.began = self.clock = time.perf_counter()
        self.times: dict[str, float] = {}
        self.meshes: list[Mesh] = []
        self.codes: list[ShapeCode | None] = []
        self.rows: list[dict[str, Any]] = []
        self.empty: list[int] = []
        self.evaluations = 0

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.times[stage] = self.times.get(stage, 0.0) + now - self.clock
        self.clock = now

    def progress(self, stage: str, fraction: float, message: str = "") -> None:
        if self.callbacks.should_stop():
            raise Cancelled
        elapsed = time.perf_counter() - self.began
        left = elapsed * (1 - fraction) / fraction if fraction > 0.15 else None
        self.callbacks.on_progress(Progress(stage, min(fraction, 0.999), left, message))

    def largest_piece(self, coefficients: Tensor) -> float:
        return largest_piece(decode(self.prior, self.latent.expand(coefficients[None])[0]))

    def holds(self, code: Tensor) -> float:
        """How far the shape of a code (C, R, R, R) holds together."""
        if self.callbacks.should_stop():
            raise Cancelled
        return largest_piece(decode(self.prior, code))

    def deliver(
        self,
        field: Callable[[Tensor], Tensor],
        code: Tensor,
        to_scene: Similarity,
        number: int,
        row: dict[str, Any],
        place: tuple[int, int],
        measure: Callable[[Mesh], dict[str, Any]] = lambda mesh: {},
    ) -> None:
        """Extract one shape and hand it out. A shape without a surface is left out, and the report says so.

        code: what the field was decoded from.  place: it is the a-th of b.  measure: more for the row, of the mesh in
        the scene.
        """
        extracted = self.extract(field, number, place)
        if extracted is not None:
            self.hand_out(extracted, code, to_scene, number, row, measure)

    def extract(self, field: Callable[[Tensor], Tensor], number: int, place: tuple[int, int]) -> Mesh | None:
        """The field's surface in the canonical frame; None, and a note for the report, where it has none."""
        done, total = place
        self.progress("Making shapes", 0.1 + 0.9 * done / total, f"Shape {done + 1} of {total}")
        try:
            extraction = extract_sparse(
                field, self.request.resolution, device=self.device, should_stop=self.callbacks.should_stop,
                lipschitz=LIPSCHITZ, with_normals=True,
            )  # fmt: skip
        except JobFailed as error:
            if error.code != "empty_surface":
                raise
            log.info("Shape %s has no surface", number)
            self.empty.append(number)
            return None
        self.evaluations += extraction.evaluations
        return clean_mesh(extraction.mesh, CRUMBS)

    def hand_out(
        self,
        mesh: Mesh,
        code: Tensor,
        to_scene: Similarity,
        number: int,
        row: dict[str, Any],
        measure: Callable[[Mesh], dict[str, Any]] = lambda mesh: {},
    ) -> None:
        """Put a canonical mesh in its place and hand it out."""
        normals = None if mesh.normals is None else to_scene.apply_to_directions(mesh.normals)
        placed = Mesh(to_scene.apply(mesh.vertices), mesh.faces, normals)
        self.lap("extract")
        index = len(self.meshes)
        kept = ShapeCode(code.detach().cpu().numpy().astype(np.float32), to_scene.matrix())
        coefficients = self.latent.project(code[None])
        row = {
            "index": index,
            "number": number,
            "prior": {"name": self.prior.name, "sha256": self.prior.sha256},
            **row,
            "log_density": float(-0.5 * coefficients.square().sum() / self.latent.size),
            "vertices": len(placed.vertices),
            "faces": len(placed.faces),
            "watertight": is_watertight(placed),
            "soundness": soundness.report(mesh, scale=to_scene.scale),
            **measure(placed),
        }
        self.meshes.append(placed)
        self.codes.append(kept)
        self.rows.append(row)
        self.lap("measure")
        self.callbacks.on_mesh(FinishedMesh(index, placed, kept, row))

    def finish(self, **more: Any) -> JobResult:
        if not self.meshes:
            raise JobFailed(
                "empty_surface",
                "No shape came out.",
                f"None of the {len(self.empty)} codes has a surface.",
                "Lower the temperature or the strength, or try another seed.",
            )
        request = self.request
        report: dict[str, Any] = {
            "kind": request.kind,
            "prior": {"name": self.prior.name, "version": self.prior.card["version"], "sha256": self.prior.sha256},
            "seed": request.seed,
            **more,
            "shapes": self.rows,
            "empty": self.empty,
            "timings": self.times,
            "evaluations": self.evaluations,
            "device": describe_device(self.device),
            "versions": {
                "shapewright": __version__, "torch": torch.__version__, "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }
        self.callbacks.on_progress(Progress("Done", 1.0, 0.0))
        return JobResult(self.meshes, report, self.codes)


# ------------------------------------------------------------------------------------------------------------ generate


def run_generate(request: GenerateRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """request.count new shapes in the canonical frame, in the order of their numbers."""
    job = _Job(request, callbacks)
    job.lap("load")
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
        largest_piece=job.largest_piece if request.avoid_pieces else None,
        should_stop=callbacks.should_stop,
    )
    job.lap("draw")
    for done, drawn in enumerate(draws.shapes):
        code = job.latent.expand(drawn.coefficients[None])[0]
        row = {
            "class_name": drawn.class_name,
            "nearest": {"name": drawn.nearest, "distance": drawn.distance},
            "redrawn": drawn.redrawn_training + drawn.redrawn_each_other + drawn.redrawn_broken,
            "duplicate": drawn.duplicate,
        }
        shape = decode(job.prior, code)
        job.deliver(shape.signed_distance, code, Similarity(), drawn.index, row, (done, len(draws.shapes)))
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
    )


# ------------------------------------------------------------------------------------------------- shapes of a request


@dataclass
class _Given:
    """A shape of the request: its code (C, R, R, R), where it stands, and how the code was come by: 'given', 'encoded'
    or 'completed'."""

    code: Tensor
    to_scene: Similarity
    how: str


def given_shape(job: _Job, arrays: JobArrays, span: tuple[float, float]) -> _Given:
    """The shape's code as given, or that of its mesh or scan. span: the job's fractions this may take."""
    request = job.request
    assert not isinstance(request, GenerateRequest)
    if arrays.code is not None:
        return _Given(code_tensor(job.prior, arrays.code.code), similarity_of(arrays.code.pose), "given")
    whole = request.input_is == "whole"
    if request.input_is == "auto":
        faces = arrays.faces
        whole = faces is not None and len(faces) > 0 and is_watertight(Mesh(arrays.points, faces))
    if whole:
        job.progress("Reading the shape", span[0])
        return encode_whole(job.prior, arrays, request)
    from ..complete.run import run_complete

    viewpoint = request.viewpoint if isinstance(request, VaryRequest) else None
    settings = CompleteRequest(
        prior=request.prior, align=request.align, up=request.up, viewpoint=viewpoint, resolution=64,
        seed=request.seed, device=request.device,
    )  # fmt: skip

    def on_progress(progress: Progress) -> None:
        job.progress(progress.stage, span[0] + (span[1] - span[0]) * progress.fraction)

    def on_preview(preview: Preview) -> None:
        job.callbacks.on_preview(preview)

    result = run_complete(settings, arrays, JobCallbacks(on_progress, on_preview, job.callbacks.should_stop))
    code = result.codes[0]
    assert code is not None  # the prior has a latent distribution
    return _Given(code_tensor(job.prior, code.code), similarity_of(code.pose), "completed")


def encode_whole(prior: Prior, arrays: JobArrays, request: OfShapes) -> _Given:
    """A whole surface in the scene -> its code and pose: the box of what is there is the canonical one."""
    centre = np.zeros(3) if request.align == "none" else arrays.points.astype(np.float64).mean(0)
    local = Similarity(translation=-centre)
    rng = np.random.default_rng([request.seed, 11])
    near = local.apply(arrays.points)
    if arrays.faces is not None and len(arrays.faces):
        points = surface_points(Mesh(near, arrays.faces), rng)
        corners = near[np.unique(arrays.faces)]
    else:
        points, corners = subsample(PointCloud(near), 4096, rng).points, near
    upright = Similarity(rotation=up_rotation(request.up))
    if request.align == "similarity" and prior.pose is not None:
        pose = network_pose(prior, PointCloud(upright.apply(points)), turned=True).to_scene.rotation
        upright = Similarity(rotation=yaw_rotation(-float(np.arctan2(pose[1, 0], pose[0, 0])))).after(upright)
    to_canonical = upright.after(local)
    if request.align != "none":
        standing = upright.apply(corners).astype(np.float64)
        low, high = standing.min(0), standing.max(0)
        size = float((high - low).max())
        box = Similarity(1.0 / size, np.eye(3), -(low + high) / (2 * size))
        to_canonical = box.after(to_canonical)
        points = box.apply(upright.apply(points))
    else:
        points = upright.apply(points)
    return _Given(encode_points(prior, points), to_canonical.inverse(), "encoded")


def given_shapes(job: _Job, arrays: JobArrays | None, least: int, most: int | None = None) -> list[_Given]:
    if arrays is None:
        raise InputError(
            "input_missing", "There is no shape to start from.", "The request came without one.", "Send a code or mesh."
        )
    every = [arrays, *arrays.others]
    if len(every) < least or (most is not None and len(every) > most):
        wanted = f"{least}" if least == most else f"at least {least}"
        raise InputError(
            "shapes_wrong_number",
            f"A '{job.request.kind}' job cannot be done with {len(every)} shapes.",
            f"It needs {wanted}.",
            "Select the shapes and try again.",
        )
    given = [
        given_shape(job, one, (0.02 + 0.3 * k / len(every), 0.02 + 0.3 * (k + 1) / len(every)))
        for k, one in enumerate(every)
    ]
    job.lap("read shapes")
    return given


# ---------------------------------------------------------------------------------------------------------------- vary


def run_vary(request: VaryRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """Relatives number first .. first + count - 1 of the arrays' shape, in its place."""
    job = _Job(request, callbacks)
    job.lap("load")
    given = given_shapes(job, arrays, 1, 1)[0]
    assert arrays is not None
    original = decode(job.prior, given.code)
    part = None
    if arrays.kept is not None:
        job.progress("Reading the kept part", 0.1)
        into = given.to_scene.inverse()
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
        part = kept_part(original, points[inside], None if normals is None else normals[inside], request.seed)
        job.lap("kept part")

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
        field: Callable[[Tensor], Tensor] = shape.signed_distance
        if part is not None:
            job.progress("Keeping the part", 0.1 + 0.9 * done / request.count)
            shape, field = keep(shape, part, seed=request.seed + number, should_stop=callbacks.should_stop)
        job.lap("vary")
        job.deliver(field, shape.code, given.to_scene, number, {}, (done, request.count), measure)
    return job.finish(
        settings={"strength": request.strength, "resolution": request.resolution, "first": request.first},
        inputs=_inputs([given], job.latent),
    )


# --------------------------------------------------------------------------------------------------- blend, arithmetic


def run_blend(request: BlendRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """In-betweens of two or more shapes in order along the path."""
    job = _Job(request, callbacks)
    job.lap("load")
    given = given_shapes(job, arrays, 2)
    places = paths.stations(len(given), request.steps, request.ends)
    if not places:
        raise InputError(
            "request_invalid", "There is nothing to blend.", "No steps and no ends are asked for.", "Ask for steps."
        )
    ready: list[tuple[int, int, float, Tensor, Similarity]] = []
    for a in range(len(given) - 1):
        times = [t for first, _, t in places if first == a]
        if not times:
            continue
        at = torch.tensor(times, dtype=torch.float32, device=job.prior.device)
        codes = paths.between(job.latent, given[a].code, given[a + 1].code, at, request.path, job.holds)
        poses = paths.poses_between(given[a].to_scene, given[a + 1].to_scene, np.asarray(times))
        ready += [(a, a + 1, t, code, pose) for t, code, pose in zip(times, codes, poses, strict=True)]
    job.lap("path")
    if request.one_mesh:
        _blend_as_one_mesh(job, ready)
        ready = []
    for done, (a, b, t, code, pose) in enumerate(ready):
        shape: DecodedShape = decode(job.prior, code)
        job.deliver(shape.signed_distance, code, pose, done, {"from": a, "to": b, "t": t}, (done, len(ready)))
    return job.finish(
        settings={
            "steps": request.steps, "ends": request.ends, "path": request.path, "resolution": request.resolution,
            "one_mesh": request.one_mesh,
        },
        inputs=_inputs(given, job.latent),
    )


def _blend_as_one_mesh(job: _Job, ready: list[tuple[int, int, float, Tensor, Similarity]]) -> None:
    """Nothing is handed out before every step is known to be good enough."""
    own: list[Mesh] = []
    for done, (_, _, _, code, _) in enumerate(ready):
        mesh = job.extract(decode(job.prior, code).signed_distance, done, (done, 3 * len(ready)))
        if mesh is None:
            raise JobFailed(
                "blend_topology", "These shapes cannot turn into each other with one mesh.",
                f"Step {done + 1} of {len(ready)} has no surface.", "Blend them in a row or on the timeline.",
            )  # fmt: skip
        own.append(mesh)
    job.progress("Following the surface", 0.4)
    found = follow_surface(own[0], [code for _, _, _, code, _ in ready], job.prior, job.callbacks.should_stop)
    followed = [Mesh(vertices, own[0].faces) for vertices in found]
    apart = []
    for done, (mesh, fair) in enumerate(zip(followed, own, strict=True)):
        job.progress("Comparing the steps", 0.7 + 0.2 * done / len(ready))
        apart.append(check(mesh, fair, done, len(ready), job.request.seed))
    job.lap("follow")
    for done, (a, b, t, code, pose) in enumerate(ready):
        job.hand_out(followed[done], code, pose, done, {"from": a, "to": b, "t": t, "off": apart[done]})


def run_arithmetic(request: ArithmeticRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """C + amount (A - B), in C's place."""
    job = _Job(request, callbacks)
    job.lap("load")
    a, b, c = given_shapes(job, arrays, 3, 3)
    code = paths.arithmetic(job.latent, a.code, b.code, c.code, request.amount)
    job.deliver(decode(job.prior, code).signed_distance, code, c.to_scene, 0, {}, (0, 1))
    return job.finish(
        settings={"amount": request.amount, "resolution": request.resolution}, inputs=_inputs([a, b, c], job.latent)
    )


def _inputs(given: list[_Given], latent: LatentModel) -> list[dict[str, Any]]:
    rows = []
    for one in given:
        coefficients = latent.project(one.code[None])
        rows.append({
            "code": one.how,
            "class_name": sampling.class_of(latent, coefficients[0]),
            "log_density": float(-0.5 * coefficients.square().sum() / latent.size),
        })
    return rows
