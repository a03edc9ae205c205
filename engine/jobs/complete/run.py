"""Complete Shape as a job: scene arrays -> canonical cloud -> completion -> mesh -> scene."""

from __future__ import annotations

import logging
import platform
import time
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ... import __version__
from ...completion.alignment import PoseEstimate, find_pose, network_pose, to_up
from ...completion.complete import Completion, complete_several
from ...completion.confidence import calibration_of, confidence, measure
from ...completion.hypotheses import variation
from ...completion.settings import CompletionSettings
from ...device import describe_device, peak_memory, resolve_device
from ...errors import Cancelled, InputError, JobFailed
from ...fields.base import Clouds
from ...fields.shapes import Parts, Patches
from ...finish import soundness
from ...frames import BOUND, up_rotation
from ...generation.codes import encode_mesh
from ...geometry.cleaning import (
    normals_not_believed,
)
from ...geometry.clouds import FloatArray, PointCloud
from ...geometry.connected import is_watertight, loose_edges
from ...geometry.meshes import Mesh
from ...geometry.metrics import distances_to_surface, total_mutual_difference, unidirectional_hausdorff
from ...geometry.sampling import sample_surface
from ...geometry.support import Support
from ...geometry.transforms import Similarity
from ...jobs.base import JobArrays, JobCallbacks, JobResult, Preview, Progress, ShapeCode, mesh_to_scene
from ...priors.file import Prior, load_prior
from ...surfaces.cleanup import clean_mesh
from ...surfaces.decimation import decimate
from ...surfaces.marching import Field, field_normals
from ...surfaces.of import of
from .request import CompleteRequest
from .scan import RAW_POINTS, few, moved, scan_of

log = logging.getLogger(__name__)

FIRST_LOOK = 32
"""Cells along the box of the first preview; later ones are finer."""
SAME_SHAPE = 0.006
"""Hypotheses nearer than this to one another (mean distance, canonical) count as one."""
TOGETHER = 4
"""Hypotheses after the first are optimised so many at once: memory stays bounded."""


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


def align(
    prior: Prior, cloud: PointCloud, request: CompleteRequest, support: Support | None = None
) -> PoseEstimate:
    """Canonical -> input frame, and how it was found. cloud: in the input's frame.  support: what it stands on, where
    that was seen: tilted, it says what is up, and the front is found."""
    if request.pose is not None:
        given = Similarity.from_matrix(np.array(request.pose, np.float64).reshape(4, 4))
        seen = moved(cloud, given.inverse())
        return PoseEstimate(given, network_pose(prior, seen).classes if prior.pose is not None else {}, "caller")
    tilted = support is not None and not support.level
    upright = Similarity(rotation=to_up(support.normal) if support and tilted else up_rotation(request.up))
    standing = moved(cloud, upright)
    if request.align == "none":
        classes = network_pose(prior, standing).classes if prior.pose is not None else {}
        return PoseEstimate(upright.inverse(), classes, "given")
    pose = find_pose(prior, standing, "yaw" if tilted else request.align, request.front == "evident")
    return replace(pose, to_scene=upright.inverse().after(pose.to_scene))


def _placed(whole: Completion, to_scene: Similarity) -> Similarity:
    """Canonical -> scene of a completion that corrected the pose it was given."""
    return to_scene.after(whole.pose.inverse())


def run_complete(request: CompleteRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """Up to request.hypotheses whole shapes, best first, in the input's frame. The contract is in engine.jobs.base."""
    if arrays is None:
        raise InputError(
            "input_missing", "There is nothing to complete.", "The request came without points.", "Send an input."
        )
    times: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        times[stage] = times.get(stage, 0.0) + now - clock
        clock = now

    callbacks.on_progress(Progress("Loading the prior", 0.01))
    device = resolve_device(request.device)
    prior = load_prior(request.prior, str(device))
    lap("load")
    report_progress = _Reporter(callbacks, request.hypotheses)
    rng = np.random.default_rng([request.seed, 1])
    report_progress("Reading the scan", 0.0)

    # Far from the origin float32 has no digits left for the shape: work about the input's own centre.
    if len(arrays.points) == 0:
        raise InputError("no_points", "The input is empty.", "It holds no points.", "Give a scan with points.")
    centre = np.median(arrays.points[:: max(1, len(arrays.points) // RAW_POINTS)].astype(np.float64), axis=0)
    local = Similarity(translation=-centre)
    viewpoint = None
    if request.viewpoint is not None:
        x, y, z = (float(c) for c in np.asarray(request.viewpoint, np.float64) - centre)
        viewpoint = x, y, z
    in_frame = request.align == "none" and request.pose is None
    if request.pose is not None:
        given = local.matrix() @ np.array(request.pose, np.float64).reshape(4, 4)
        request = request.but(pose=tuple(given.ravel().tolist()))
    near = arrays
    if arrays.faces is None or not len(arrays.faces):  # before they are copied
        drawn = few(PointCloud(arrays.points, arrays.normals), rng)
        near = JobArrays(drawn.points, drawn.normals)
    near = JobArrays((near.points.astype(np.float64) - centre).astype(np.float32), near.normals, near.faces)
    scan = scan_of(near, request.but(viewpoint=viewpoint), rng, -centre)
    cloud, noise = scan.cloud, scan.noise
    lap("prepare")

    settings = CompletionSettings(seed=request.seed)
    report_progress("Finding scale and place", 0.02)
    if in_frame:
        # The frame itself is the statement, so the centring has to be taken back.
        cloud = moved(cloud, local.inverse())
        pose = align(prior, cloud, request, scan.support)
        to_scene = pose.to_scene
    else:
        pose = align(prior, cloud, request, scan.support)
        to_scene = local.inverse().after(pose.to_scene)
    canonical = moved(cloud, pose.to_scene.inverse())
    settings.noise = noise / to_scene.scale
    within = float((np.abs(canonical.points) < BOUND).all(1).mean())
    if within < 0.5:
        raise InputError(
            "outside_frame",
            "The input does not lie where the prior expects it.",
            f"Only {within:.0%} of the points are within the canonical box of side 1.1 about the origin.",
            "Use the alignment 'scale', or bring the shape to the canonical frame (centre 0, longest side 1).",
        )
    if canonical.viewpoint is None and canonical.normals is not None:
        canonical, scan.about["normals"] = _outward(prior, canonical)
    class_effect = _check_class(prior, request.class_name)
    lap("align")

    if pose.found_by not in ("given", "caller"):
        # Scale and place were found, so they may be off: the optimiser moves them with the code, a little: Adam's ten
        # steps do; Levenberg-Marquardt, which goes farther, leaves places that a symmetry found. Not so the yaw, which
        # comes out worse than it went in (docs/ablation.md).
        settings.pose = "scale"

    def preview(mesh: Mesh, resolution: int, whole: Completion) -> None:
        placed = mesh_to_scene(mesh, _placed(whole, to_scene))
        callbacks.on_preview(Preview(placed, resolution, 0))

    evaluations = 0
    device_peak: int | None = None
    completions: list[tuple[Completion, Mesh]] = []

    def first_look(completion: Completion) -> None:
        nonlocal evaluations
        try:
            extraction = of(completion.whole, FIRST_LOOK, device=device)
        except JobFailed:
            return  # nothing to show yet; the optimisation may still find a surface
        evaluations += extraction.evaluations
        preview(extraction.mesh, FIRST_LOOK, completion)

    def extract(completion: Completion, number: int, count: int) -> Mesh:
        """The mesh of a completion, which is `number` of the `count` in work."""
        nonlocal evaluations, device_peak

        def on_level(mesh: Mesh, resolution: int) -> None:
            # No finer than the first look, it may be farther from the result: thin parts fall through the lattice.
            if FIRST_LOOK < resolution < request.resolution and not completions:
                preview(mesh, resolution, completion)
            done = (number + resolution / request.resolution) / count
            report_progress("Extracting the surface", 0.65 + 0.35 * done)

        extraction = of(
            completion.whole, request.resolution, device=device, on_level=on_level,
            should_stop=callbacks.should_stop, with_normals=True,
        )  # fmt: skip
        evaluations += completion.evaluations + extraction.evaluations
        if extraction.peak_bytes is not None:
            device_peak = max(device_peak or 0, extraction.peak_bytes)
        if isinstance(completion.shape, Patches | Parts):
            return extraction.mesh  # of pieces by nature
        return clean_mesh(extraction.mesh, observed=completion.pose.apply(canonical.points))

    # The first alone, so that it is seen as early as if it were the only one; the others in batches.
    for start, end in pairwise([0, *range(1, request.hypotheses, TOGETHER), request.hypotheses]):
        report_progress.first, report_progress.count = start, end - start
        group = complete_several(
            prior,
            canonical,
            replace(settings, seed=request.seed + 1000 * start, temperature=1.0 if start else 0.0),
            [variation(prior, k, request.seed, request.class_name, pose.classes) for k in range(start, end)],
            on_stage=lambda stage, fraction: report_progress(stage, 0.05 + 0.6 * fraction),
            on_first=lambda completion: None if completions else first_look(completion),
            should_stop=callbacks.should_stop,
        )
        lap("optimise")
        for number, completion in enumerate(group):
            mesh = extract(completion, number, len(group))
            if not any(_same(mesh, other) for _, other in completions):
                completions.append((completion, mesh))
        lap("extract")

    signals = measure(prior, canonical, pose.classes, settings.noise)
    lap("confidence")
    # The encoder's own answer stays the first but where another explains the scan clearly better.
    completions.sort(key=lambda pair: pair[0].score)
    meshes, rows = [], []
    codes: list[ShapeCode | None] = []
    # Compared in the frame of the pose as it was found: each answer has corrected it on its own.
    clouds = [completion.pose.inverse().apply(_samples(mesh)) for completion, mesh in completions]
    sample = cloud.points if in_frame else local.inverse().apply(cloud.points)
    for completion, mesh in completions:
        if prior.latent is not None:  # of the whole, so that it decodes without this evidence
            codes.append(ShapeCode(encode_mesh(prior, mesh).cpu().numpy(), _placed(completion, to_scene).matrix()))
        if request.max_faces:
            mesh = _decimated(mesh, request.max_faces, completion.signed_distance, device)
        canonical_to_scene = _placed(completion, to_scene)
        placed = mesh_to_scene(mesh, canonical_to_scene)
        distances = distances_to_surface(placed, sample)
        meshes.append(placed)
        rows.append({
            "score": completion.score,
            "data": completion.data,
            "empty": completion.empty,
            "latent": completion.latent,
            "symmetry": completion.symmetry,
            "residual": _residual(distances, canonical_to_scene.scale),
            "vertices": len(placed.vertices),
            "faces": len(placed.faces),
            "watertight": is_watertight(placed),
            "loose_edges": loose_edges(placed),
            "soundness": soundness.report(mesh, scale=canonical_to_scene.scale),
        })
    to_scene = _placed(completions[0][0], to_scene)
    lap("measure")
    calibration = calibration_of(prior)
    warnings = []
    if scan.about["normals_doubt"]:
        warnings.append(normals_not_believed(scan.about["normals_doubt"]))
    if signals is not None and confidence(signals, calibration) < calibration.threshold:
        warnings.append(_not_known(prior, pose.classes))
    report: dict[str, Any] = {
        "kind": "complete",
        "prior": {"name": prior.name, "version": prior.card["version"], "sha256": prior.sha256},
        "seed": request.seed,
        "settings": {
            "align": request.align, "front": request.front, "up": request.up, "resolution": request.resolution,
            "hypotheses": request.hypotheses, "viewpoint": request.viewpoint, "class_name": request.class_name,
            "noise": request.noise, "ground": request.ground, "max_faces": request.max_faces,
        },
        "input_points": {"given": len(arrays.points), "used": len(cloud.points), "normals": arrays.normals is not None},
        "noise": noise,
        "evidence": scan.about,
        "alignment": {
            "mode": request.align, "found_by": pose.found_by, "symmetry": pose.symmetry, "scale": to_scene.scale,
            "matrix": to_scene.matrix().tolist(),
        },
        "classes": dict(sorted(pose.classes.items(), key=lambda item: -item[1])[:3]),
        "class": {"asked": request.class_name, "effect": class_effect},
        "confidence": None if signals is None else {
            "value": confidence(signals, calibration), "threshold": calibration.threshold, "signals": asdict(signals),
        },
        "residual": rows[0]["residual"],
        "diversity": {
            "total_mutual_difference": total_mutual_difference(clouds),
            "unidirectional_hausdorff": unidirectional_hausdorff(_inside(canonical.points), clouds),
        },
        "warnings": warnings,
        "hypotheses": rows,
        "timings": times,
        "evaluations": evaluations,
        "peak_memory": {"process": peak_memory(), "device": device_peak},
        "device": describe_device(device),
        "versions": {
            "shapewright": __version__, "torch": torch.__version__, "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    callbacks.on_progress(Progress("Done", 1.0, 0.0))
    return JobResult(meshes, report, codes)


def _same(mesh: Mesh, other: Mesh) -> bool:
    """Whether two canonical meshes are one answer: both mean vertex distances below SAME_SHAPE."""
    a, b = mesh.vertices[::7], other.vertices[::7]
    return (
        float(np.mean(cKDTree(b).query(a)[0])) < SAME_SHAPE and float(np.mean(cKDTree(a).query(b)[0])) < SAME_SHAPE
    )


def _samples(mesh: Mesh) -> FloatArray:
    return sample_surface(mesh, 4000, np.random.default_rng(0))[0]


def _inside(points: FloatArray) -> FloatArray:
    """Points within the canonical box: beyond it there can be no surface."""
    within: FloatArray = points[(np.abs(points) < BOUND).all(1)]
    return within


def _residual(distances: NDArray[np.float64], scale: float) -> dict[str, float]:
    """In the input's unit; relative: the median as a fraction of the whole's size."""
    median = float(np.median(distances))
    return {"median": median, "p95": float(np.percentile(distances, 95)), "relative": median / scale}


def _decimated(mesh: Mesh, faces: int, field: Field, device: torch.device) -> Mesh:
    """At most `faces` triangles, closed if the mesh was, with normals from the field's gradient."""
    small = decimate(mesh, faces)
    if small is mesh:
        return mesh
    step = 0.5 * float(np.ptp(mesh.vertices, axis=0).max()) / 128
    return Mesh(small.vertices, small.faces, field_normals(field, small.vertices, step, device=device))


def _outward(prior: Prior, cloud: PointCloud) -> tuple[PointCloud, str]:
    """A cloud in the canonical frame whose normals agree with one another, turned outward by what the encoder takes for
    the inside; without them where it cannot tell."""
    assert cloud.normals is not None
    some = np.random.default_rng(0).permutation(len(cloud.points))[:2048]
    points = torch.as_tensor(cloud.points[some], dtype=torch.float32, device=prior.device)
    normals = torch.as_tensor(cloud.normals[some], dtype=torch.float32, device=prior.device)
    with torch.no_grad():
        posterior = prior.field.encode(prior.field.observe(Clouds.seen(points, None)))
        shape = prior.field.decode(posterior.mean, posterior.evidence)
        if not shape.signed:
            return PointCloud(cloud.points, None, cloud.viewpoint), "of unknown side, not used"
        ahead, behind = (shape.values((points + s * 0.015 * normals)[None])[0] for s in (1, -1))
    share = float((ahead > behind).float().mean())
    if share > 0.65:
        return cloud, "given"
    if share < 0.35:
        return PointCloud(cloud.points, -cloud.normals, cloud.viewpoint), "given, turned outward"
    return PointCloud(cloud.points, None, cloud.viewpoint), "of unknown side, not used"


def _check_class(prior: Prior, name: str) -> str:
    """What choosing a class does with this prior, for the report. Raises InputError for one it does not know."""
    if not name:
        return "found automatically"
    if name not in prior.classes:
        raise InputError(
            "class_unknown",
            f"There is no class called {name} in this prior.",
            f"It knows: {', '.join(prior.classes)}.",
            "Choose one of them, or none to have it found.",
        )
    if prior.latent is None:
        return "none: this prior was trained without a distribution of codes by class"
    return "what was not seen leans towards the codes of this class"


def _not_known(prior: Prior, classes: dict[str, float]) -> dict[str, str]:
    kinds = ", ".join(prior.classes)
    likeliest = max(classes, key=lambda name: classes[name], default="")
    return {
        "code": "prior_does_not_know",
        "what": "The result may be made up.",
        "why": f"The prior '{prior.name}' does not explain this scan well: it knows {kinds}"
        + (f", and took it for a {likeliest}." if likeliest else "."),
        "remedy": "Use Fit Shape, which follows the points alone, or choose a prior trained on such shapes.",
    }
