"""Complete Shape as a job: scene arrays -> canonical cloud -> completion -> mesh -> scene."""

from __future__ import annotations

import logging
import platform
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from .. import __version__
from ..device import describe_device, resolve_device
from ..errors import Cancelled, InputError, JobFailed
from ..fields import evidence as ev
from ..fitting.alignment import PoseEstimate, network_pose, observed_frame, yaw_rotation
from ..fitting.completion import Completion, CompletionSettings, complete_canonical, estimate_noise
from ..geometry.clouds import PointCloud
from ..geometry.meshes import Mesh
from ..geometry.metrics import distances_to_surface
from ..geometry.sampling import estimate_normals, remove_duplicates, sample_surface, subsample, up_rotation
from ..geometry.transforms import Similarity
from ..meshing import clean_mesh, extract_sparse, is_watertight
from ..priors.prior import Prior, load_prior
from .types import CompleteRequest, JobArrays, JobCallbacks, JobResult, Preview, Progress

log = logging.getLogger(__name__)

WORKING_POINTS = 20_000
SAME_SHAPE = 0.006
"""Hypotheses nearer than this to one another (mean distance, canonical) count as one."""


class _Reporter:
    """Stage fractions of one hypothesis -> the job's progress with time left."""

    def __init__(self, callbacks: JobCallbacks, hypotheses: int) -> None:
        self.callbacks, self.hypotheses, self.hypothesis = callbacks, hypotheses, 0
        self.began = time.monotonic()

    def __call__(self, stage: str, within: float) -> None:
        if self.callbacks.should_stop():
            raise Cancelled
        fraction = 0.05 + 0.95 * (self.hypothesis + min(within, 1.0)) / self.hypotheses
        elapsed = time.monotonic() - self.began
        left = elapsed * (1 - fraction) / fraction if fraction > 0.12 else None
        message = f"Hypothesis {self.hypothesis + 1} of {self.hypotheses}" if self.hypotheses > 1 else ""
        self.callbacks.on_progress(Progress(stage, min(fraction, 0.999), left, message))


def cloud_of(arrays: JobArrays, request: CompleteRequest, rng: np.random.Generator) -> tuple[PointCloud, float]:
    """The input as an even cloud with z up, centred near 0 for float32's sake, and its noise in input units.

    A mesh is sampled (its faces are not trusted to look outward, so their normals are used only where a viewpoint says
    which side was seen).  Returns the cloud in the frame `request.up` was turned to.
    """
    viewpoint = None if request.viewpoint is None else np.asarray(request.viewpoint, np.float32)
    if arrays.faces is not None and len(arrays.faces):
        mesh = Mesh(arrays.points, arrays.faces, None)
        points, normals = sample_surface(mesh, 4 * WORKING_POINTS, rng)
        cloud = PointCloud(points, None if viewpoint is None else normals, viewpoint)
    else:
        cloud = remove_duplicates(PointCloud(arrays.points, arrays.normals, viewpoint))
    cloud = subsample(cloud, WORKING_POINTS, rng)
    if len(cloud.points) < 10:
        raise InputError(
            "too_few_points",
            "The input cannot be completed.",
            f"It has {len(cloud.points)} different points; at least 10 are needed, and hundreds to get a good result.",
            "Give a denser scan.",
        )
    noise = estimate_noise(cloud.points, rng)
    normals_ = cloud.normals
    if viewpoint is not None:
        if normals_ is None:
            normals_ = estimate_normals(cloud.points, 16, viewpoint)
        else:  # towards the viewpoint: it saw them
            facing = ((viewpoint - cloud.points) * normals_).sum(1, keepdims=True)
            normals_ = np.where(facing < 0, -normals_, normals_)
    return PointCloud(cloud.points, normals_, viewpoint), noise


def _moved(cloud: PointCloud, transform: Similarity) -> PointCloud:
    return PointCloud(
        transform.apply(cloud.points),
        None if cloud.normals is None else transform.apply_to_directions(cloud.normals),
        None if cloud.viewpoint is None else transform.apply(cloud.viewpoint[None])[0],
    )


def align(
    prior: Prior, cloud: PointCloud, request: CompleteRequest, settings: CompletionSettings
) -> tuple[PoseEstimate, str]:
    """Canonical -> input frame, and how it was found. cloud: in the input's frame."""
    if request.pose is not None:
        given = Similarity.from_matrix(np.array(request.pose, np.float64).reshape(4, 4))
        seen = _moved(cloud, given.inverse())
        return PoseEstimate(given, network_pose(prior, seen).classes if prior.pose is not None else {}), "caller"
    upright = Similarity(rotation=up_rotation(request.up))
    standing = _moved(cloud, upright)
    if request.align == "none":
        classes = network_pose(prior, standing).classes if prior.pose is not None else {}
        return PoseEstimate(upright.inverse(), classes), "given"
    if prior.pose is None:
        # A prior without a pose network: the part's own box is all there is to go by, and the report says so.
        return PoseEstimate(upright.inverse().after(observed_frame(standing.points).inverse()), {}), "bounding box"
    if request.align == "scale":
        pose = network_pose(prior, standing)
        return replace(pose, to_scene=upright.inverse().after(pose.to_scene)), "pose network"
    first = network_pose(prior, standing, turned=True)
    proposed = float(np.arctan2(first.to_scene.rotation[1, 0], first.to_scene.rotation[0, 0]))
    best: tuple[float, PoseEstimate] | None = None
    quick = replace(settings, steps=0, refine=False)
    for turn in np.deg2rad([0.0, -15.0, 15.0, 90.0, 180.0, 270.0]) + proposed:
        turned = Similarity(rotation=yaw_rotation(-turn))
        facing = _moved(standing, turned)
        pose = network_pose(prior, facing)
        score = complete_canonical(prior, _moved(facing, pose.to_scene.inverse()), quick).score
        if best is None or score < best[0]:
            best = score, replace(pose, to_scene=upright.inverse().after(turned.inverse().after(pose.to_scene)))
    assert best is not None
    return best[1], "yaw search"


def mesh_to_scene(mesh: Mesh, to_scene: Similarity) -> Mesh:
    normals = None if mesh.normals is None else to_scene.apply_to_directions(mesh.normals)
    return Mesh(to_scene.apply(mesh.vertices), mesh.faces, normals)


def run_complete(request: CompleteRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """Up to request.hypotheses whole shapes, best first, in the input's frame. The contract is in engine.jobs.types."""
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
    centre = np.median(arrays.points.astype(np.float64), axis=0)
    local = Similarity(translation=-centre)
    viewpoint = None
    if request.viewpoint is not None:
        x, y, z = (float(c) for c in np.asarray(request.viewpoint, np.float64) - centre)
        viewpoint = x, y, z
    in_frame = request.align == "none" and request.pose is None
    if request.pose is not None:
        moved = local.matrix() @ np.array(request.pose, np.float64).reshape(4, 4)
        request = replace(request, pose=tuple(moved.ravel().tolist()))
    near = JobArrays((arrays.points.astype(np.float64) - centre).astype(np.float32), arrays.normals, arrays.faces)
    cloud, noise = cloud_of(near, replace(request, viewpoint=viewpoint), rng)
    lap("prepare")

    settings = CompletionSettings(seed=request.seed)
    report_progress("Finding scale and place", 0.02)
    if in_frame:
        # The frame itself is the statement, so the centring has to be taken back.
        cloud = _moved(cloud, local.inverse())
        pose, found_by = align(prior, cloud, request, settings)
        to_scene = pose.to_scene
    else:
        pose, found_by = align(prior, cloud, request, settings)
        to_scene = local.inverse().after(pose.to_scene)
    canonical = _moved(cloud, pose.to_scene.inverse())
    settings.noise = noise / to_scene.scale
    within = float((np.abs(canonical.points) < ev.BOUND).all(1).mean())
    if within < 0.5:
        raise InputError(
            "outside_frame",
            "The input does not lie where the prior expects it.",
            f"Only {within:.0%} of the points are within the canonical box of side 1.1 about the origin.",
            "Use the alignment 'scale', or bring the shape to the canonical frame (centre 0, longest side 1).",
        )
    lap("align")

    def preview(mesh: Mesh, resolution: int) -> None:
        callbacks.on_preview(Preview(mesh_to_scene(mesh, to_scene), resolution, report_progress.hypothesis))

    evaluations = 0
    completions: list[tuple[Completion, Mesh]] = []
    for k in range(request.hypotheses):
        report_progress.hypothesis = k

        def first_look(completion: Completion, k: int = k) -> None:
            nonlocal evaluations
            if k > 0:
                return
            try:
                extraction = extract_sparse(completion.signed_distance, 32, device=device)
            except JobFailed:
                return  # nothing to show yet; the optimisation may still find a surface
            evaluations += extraction.evaluations
            preview(extraction.mesh, 32)

        completion = complete_canonical(
            prior,
            canonical,
            replace(settings, seed=request.seed + 1000 * k, temperature=0.0 if k == 0 else 1.5),
            on_stage=lambda stage, fraction: report_progress(stage, 0.05 + 0.6 * fraction),
            on_first=first_look,
            should_stop=callbacks.should_stop,
        )
        lap("optimise")

        def on_level(mesh: Mesh, resolution: int) -> None:
            if resolution < request.resolution and report_progress.hypothesis == 0:
                preview(mesh, resolution)
            report_progress("Extracting the surface", 0.65 + 0.35 * resolution / request.resolution)

        extraction = extract_sparse(
            completion.signed_distance,
            request.resolution,
            device=device,
            on_level=on_level,
            should_stop=callbacks.should_stop,
            lipschitz=1.5,
            with_normals=True,
        )
        evaluations += completion.evaluations + extraction.evaluations
        mesh = clean_mesh(extraction.mesh)
        if not any(_same(mesh, other) for _, other in completions):
            completions.append((completion, mesh))
        lap("extract")

    completions.sort(key=lambda pair: pair[0].score)
    meshes, rows = [], []
    sample = cloud.points if in_frame else local.inverse().apply(cloud.points)
    for completion, mesh in completions:
        placed = mesh_to_scene(mesh, to_scene)
        distances = distances_to_surface(placed, sample)
        meshes.append(placed)
        rows.append({
            "score": completion.score,
            "data": completion.data,
            "empty": completion.empty,
            "latent": completion.latent,
            "residual": {"median": float(np.median(distances)), "p95": float(np.percentile(distances, 95))},
            "vertices": len(placed.vertices),
            "faces": len(placed.faces),
            "watertight": is_watertight(placed),
        })
    lap("measure")
    report: dict[str, Any] = {
        "kind": "complete",
        "prior": {"name": prior.name, "version": prior.card["version"], "sha256": prior.sha256},
        "seed": request.seed,
        "settings": {
            "align": request.align, "up": request.up, "resolution": request.resolution,
            "hypotheses": request.hypotheses, "viewpoint": request.viewpoint,
        },
        "input_points": {"given": len(arrays.points), "used": len(cloud.points), "normals": arrays.normals is not None},
        "noise": noise,
        "alignment": {
            "mode": request.align, "found_by": found_by, "scale": to_scene.scale, "matrix": to_scene.matrix().tolist(),
        },
        "classes": dict(sorted(pose.classes.items(), key=lambda item: -item[1])[:3]),
        "residual": rows[0]["residual"],
        "hypotheses": rows,
        "timings": times,
        "evaluations": evaluations,
        "device": describe_device(device),
        "versions": {
            "shapewright": __version__, "torch": torch.__version__, "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    callbacks.on_progress(Progress("Done", 1.0, 0.0))
    return JobResult(meshes, report)


def _same(mesh: Mesh, other: Mesh) -> bool:
    """Whether two canonical meshes are one answer: both mean vertex distances below SAME_SHAPE."""
    a, b = mesh.vertices[::7], other.vertices[::7]
    return (
        float(np.mean(cKDTree(b).query(a)[0])) < SAME_SHAPE and float(np.mean(cKDTree(a).query(b)[0])) < SAME_SHAPE
    )
