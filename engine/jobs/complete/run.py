"""Complete Shape as a job: scene arrays -> canonical cloud -> completion -> mesh -> scene."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...completion.alignment import PoseEstimate
from ...completion.answers import Answering, Listener, Question
from ...completion.complete import Completion
from ...completion.confidence import measure
from ...completion.placing import align, check_inside, outward
from ...completion.settings import CompletionSettings
from ...device import resolve_device
from ...errors import Cancelled, InputError
from ...finish.colours import observed
from ...finish.finishing import Finish, finished, standing
from ...generation.codes import encode_mesh
from ...geometry.clouds import PointCloud
from ...geometry.meshes import Mesh
from ...geometry.transforms import Similarity, moved_cloud
from ...jobs.base import Clock, JobArrays, JobCallbacks, JobResult, Preview, Progress, ShapeCode, mesh_to_scene
from ...priors.file import Prior, load_prior
from .report import report, row_of
from .request import CompleteRequest
from .scan import RAW_POINTS, Scan, few, scan_of

log = logging.getLogger(__name__)


class _Reporter:
    """Stage fractions of the hypotheses in work -> the job's progress with time left."""

    def __init__(self, callbacks: JobCallbacks, hypotheses: int) -> None:
        self.callbacks, self.hypotheses = callbacks, hypotheses
        self.first, self.count = 0, 1
        """Of the hypotheses in work, and how many these are."""
        self.began = time.monotonic()

    def __call__(self, stage: str, within: float) -> None:
        """within: 0..1, of the hypotheses in work."""
        if self.callbacks.should_stop():
            raise Cancelled
        fraction = 0.05 + 0.95 * (self.first + self.count * min(within, 1.0)) / self.hypotheses
        elapsed = time.monotonic() - self.began
        left = elapsed * (1 - fraction) / fraction if fraction > 0.12 else None
        message = ""
        if self.hypotheses > 1:
            last = self.first + self.count
            message = f"Hypothesis {last}" if self.count == 1 else f"Hypotheses {self.first + 1} to {last}"
            message += f" of {self.hypotheses}"
        self.callbacks.on_progress(Progress(stage, min(fraction, 0.999), left, message))


def read(arrays: JobArrays, request: CompleteRequest, rng: np.random.Generator) -> tuple[Scan, Similarity]:
    """The scan about the input's own centre, for far from the origin float32 has no digits left for the shape; and the
    way from there to the input's frame. Raises InputError."""
    if len(arrays.points) == 0:
        raise InputError("no_points", "The input is empty.", "It holds no points.", "Give a scan with points.")
    centre = np.median(arrays.points[:: max(1, len(arrays.points) // RAW_POINTS)].astype(np.float64), axis=0)
    if request.viewpoint is not None:
        x, y, z = (float(c) for c in np.asarray(request.viewpoint, np.float64) - centre)
        request = request.but(viewpoint=(x, y, z))
    near = arrays
    if not arrays.has_faces:  # before they are copied
        drawn = few(replace(arrays.cloud(None), viewpoint=None, scans=arrays.scans), rng)
        near = JobArrays(drawn.points, drawn.normals, colours=drawn.colours, scans=drawn.scans)
    near = replace(
        near,
        points=(near.points.astype(np.float64) - centre).astype(np.float32),
        viewpoints=None
        if arrays.viewpoints is None
        else (arrays.viewpoints.astype(np.float64) - centre).astype(np.float32),
    )
    return scan_of(near, request, rng, -centre), Similarity(translation=centre)


@dataclass
class Placed:
    """A scan in the canonical frame. canonical: its cloud there.  to_input: from there to the input's frame.
    observed: its points in the input's frame.  pose: how the frame was found."""

    canonical: PointCloud
    to_input: Similarity
    observed: NDArray[np.float32]
    pose: PoseEstimate


def place(prior: Prior, scan: Scan, to_input: Similarity, request: CompleteRequest) -> Placed:
    """scan: about its own centre, of which `to_input` leads to the input's frame; what its normals are worth is noted
    in it. Raises InputError 'outside_frame'."""
    cloud, given = scan.cloud, None
    if request.pose is not None:
        given = to_input.inverse().after(Similarity.from_matrix(np.array(request.pose, np.float64).reshape(4, 4)))
    elif request.align == "none":
        # The frame itself is the statement, so the centring has to be taken back.
        cloud, to_input = moved_cloud(cloud, to_input), Similarity()
    pose = align(
        prior, cloud, request.align, request.up, request.front == "evident", given, scan.support, scan.image_up
    )
    canonical = moved_cloud(cloud, pose.to_scene.inverse())
    check_inside(canonical)
    if canonical.viewpoint is None and canonical.normals is not None:
        canonical, scan.about["normals"] = outward(prior, canonical)
    return Placed(canonical, to_input.after(pose.to_scene), to_input.apply(cloud.points), pose)


def run_complete(request: CompleteRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """Up to request.hypotheses whole shapes, best first, in the input's frame. The contract is in engine.jobs.base."""
    if arrays is None:
        raise InputError(
            "input_missing", "There is nothing to complete.", "The request came without points.", "Send an input."
        )
    clock = Clock()
    callbacks.on_progress(Progress("Loading the prior", 0.01))
    prior = load_prior(request.prior, str(resolve_device(request.device)))
    clock.lap("load")

    progress = _Reporter(callbacks, request.hypotheses)
    rng = np.random.default_rng([request.seed, 1])
    progress("Reading the scan", 0.0)
    scan, to_input = read(arrays, request, rng)
    clock.lap("prepare")

    progress("Finding scale and place", 0.02)
    placed = place(prior, scan, to_input, request)
    _check_class(prior, request.class_name)
    clock.lap("align")

    question = Question(
        placed.canonical, _settings(placed, scan), request.hypotheses, request.resolution, request.class_name,
        placed.pose.classes, request.seed, request.close_gaps,
    )  # fmt: skip
    answering = Answering(prior, question, _listener(callbacks, progress, clock, placed))
    # The encoder's own answer stays the first but where another explains the scan clearly better.
    answers = sorted(answering.run(), key=lambda answer: answer.completion.score)
    signals = measure(prior, placed.canonical, placed.pose.classes, question.settings.noise or 0.0)
    clock.lap("confidence")

    seen = None if scan.dense is None else observed(scan.dense, arrays.materials)
    meshes, rows, looks = [], [], []
    codes: list[ShapeCode | None] = []
    for answer in answers:
        mesh, own = answer.mesh, _to_input(answer.completion, placed)
        if prior.latent is not None:  # of the whole, so that it decodes without this evidence
            codes.append(ShapeCode(encode_mesh(prior, mesh).cpu().numpy(), own.matrix()))
        mesh = standing(finished(mesh, Finish(request.max_faces, request.uvs), request.resolution, own.scale))
        clock.lap("measure")
        look = None if seen is None else seen.look(mesh_to_scene(mesh, to_input.inverse().after(own)))
        looks.append(look)
        clock.lap("appearance")
        meshes.append(mesh_to_scene(mesh if look is None else look.on(mesh), own))
        rows.append(row_of(answer.completion, mesh, meshes[-1], placed.observed, own.scale))
    clock.lap("measure")
    told = report(
        request, arrays, prior, scan, placed.canonical, placed.pose, _to_input(answers[0].completion, placed),
        answering, answers, rows, signals, looks,
    )  # fmt: skip
    callbacks.on_progress(Progress("Done", 1.0, 0.0))
    return JobResult(meshes, told | {"timings": clock.laps}, codes)


def _settings(placed: Placed, scan: Scan) -> CompletionSettings:
    settings = CompletionSettings(noise=scan.noise / placed.to_input.scale)
    if placed.pose.found_by not in ("given", "caller"):
        # Scale and place were found, so they may be off: the optimiser moves them with the code, a little: Adam's ten
        # steps do; Levenberg-Marquardt, which goes farther, leaves places that a symmetry found. Not so the yaw, which
        # comes out worse than it went in (docs/ablation.md).
        settings.pose = "scale"
    return settings


def _to_input(whole: Completion, placed: Placed) -> Similarity:
    """From the frame of a completion, which corrected the pose that it was given."""
    return placed.to_input.after(whole.pose.inverse())


def _listener(callbacks: JobCallbacks, progress: _Reporter, clock: Clock, placed: Placed) -> Listener:
    def on_stage(work: tuple[int, int], stage: str, within: float) -> None:
        progress.first, progress.count = work[0], work[1] - work[0]
        progress(stage, within)

    def on_look(mesh: Mesh, resolution: int, completion: Completion) -> None:
        callbacks.on_preview(Preview(mesh_to_scene(mesh, _to_input(completion, placed)), resolution, 0))

    return Listener(on_stage, on_look, clock.lap, callbacks.should_stop)


def _check_class(prior: Prior, name: str) -> None:
    """InputError for a class that the prior does not know; '' is none."""
    if name and name not in prior.classes:
        raise InputError(
            "class_unknown",
            f"There is no class called {name} in this prior.",
            f"It knows: {', '.join(prior.classes)}.",
            "Choose one of them, or none to have it found.",
        )
