"""Densify, reconstruct and generate with a gradient field: clouds (meshes without faces) or shells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from ...completion.alignment import observed_frame
from ...device import describe_device, resolve_device
from ...errors import Cancelled, InputError
from ...finish.colours import Look, Observed, observed
from ...finish.colours import report as appearance
from ...finish.slivers import without_slivers
from ...frames import up_rotation
from ...geometry.cleaning import doubtful_normals, orientation_agreement
from ...geometry.clouds import FloatArray
from ...geometry.meshes import Mesh
from ...geometry.sampling import estimate_normals, sample_cloud, sample_surface
from ...geometry.transforms import Similarity
from ...gradient_fields.model import GradientField
from ...gradient_fields.registry import find_gradient_field
from ...gradient_fields.sampling import densify, encode, extract_surface, new_code, observe, sample_points
from ...jobs.base import Clock, FinishedMesh, JobArrays, JobCallbacks, JobResult, Progress, mesh_to_scene, versions
from .request import GradientRequest

MESH_POINTS = 8192
"""So many points stand for the surface of a mesh."""
LOOKED_AT = 200_000
"""At most so many points say what the surface looks like."""

OnDone = Callable[[float], None]
"""Told the fraction of one shape that is done."""


def run_gradient(request: GradientRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """The contract is in engine.jobs.base. Clouds carry normals estimated from themselves, turned as those that came;
    colours and materials that came are seen in the results (engine.finish.colours)."""
    clock = Clock()
    callbacks.on_progress(Progress("Loading the gradient field", 0.01))
    device = resolve_device(request.device)
    model = find_gradient_field(request.field, device)
    canonical, to_scene = _canonical(request, given_points(request, arrays))
    seen = None if arrays is None or request.mode == "generate" else _observed(arrays, request.seed)
    look: Look | None = None
    count = request.count if request.mode == "generate" else 1
    meshes: list[Mesh] = []
    rows: list[dict[str, Any]] = []
    for number in range(count):
        if callbacks.should_stop():
            raise Cancelled

        def on_done(done: float, number: int = number) -> None:
            callbacks.on_progress(Progress("Moving points", min(0.99, (number + done) / count)))

        shape = _shape(model, request, canonical, number, on_done, callbacks.should_stop)
        placed = mesh_to_scene(without_slivers(shape, request.resolution, to_scene.scale), to_scene)
        if arrays is not None and arrays.normals is not None and request.mode != "generate" and not len(placed.faces):
            placed = _turned_as(placed, arrays.points, arrays.normals)
        if seen is not None:
            look = seen.look(placed)
            placed = look.on(placed)
        meshes.append(placed)
        rows.append({"vertices": len(placed.vertices), "faces": len(placed.faces)})
        if request.mode == "generate":
            callbacks.on_mesh(FinishedMesh(number, placed, about=rows[-1]))
    clock.lap("total")
    report = {
        "kind": request.kind, "mode": request.mode, "field": request.field, "prior": model.prior.name,
        "seed": request.seed,
        "settings": {
            "output": request.output, "points": request.points, "class_name": request.class_name,
            "latent": request.latent, "temperature": request.temperature, "align": request.align,
        },
        "input_points": {"given": 0 if arrays is None else len(arrays.points), "used": len(canonical)},
        "appearance": appearance(look), "shapes": rows, "timings": clock.laps,
        "device": describe_device(device), "versions": versions(),
    }  # fmt: skip
    callbacks.on_progress(Progress("Done", 1.0, 0.0))
    return JobResult(meshes, report)


def _observed(arrays: JobArrays, seed: int) -> Observed | None:
    rng = np.random.default_rng([seed, 17])
    cloud = sample_cloud(arrays.mesh, LOOKED_AT, rng) if arrays.has_faces else arrays.cloud(None)
    if len(cloud.points) > LOOKED_AT:
        cloud = cloud.at(np.sort(rng.choice(len(cloud.points), LOOKED_AT, replace=False, shuffle=False)))
    return observed(cloud, arrays.materials)


def _turned_as(cloud: Mesh, points: FloatArray, normals: FloatArray) -> Mesh:
    """A cloud's normals on the side of those (N, 3) that points (N, 3) of it came with, where these are of its surface
    and agree with one another. Of the nearest those have a say that lie in the plane of the normal: the other side of a
    thin wall may be nearer."""
    assert cloud.normals is not None
    if doubtful_normals(points, normals) or orientation_agreement(points, normals) < 0.9:
        return cloud
    distance, near = cKDTree(points).query(cloud.vertices, k=min(8, len(points)))
    across = np.einsum("nkj,nj->nk", points[near] - cloud.vertices[:, None], cloud.normals)
    along = np.einsum("nkj,nj->nk", normals[near], cloud.normals)
    distance = np.maximum(distance, 1e-30)
    say = along * np.exp(-((across / (0.15 * distance)) ** 2)) / distance
    against = say.sum(axis=1) < 0
    return replace(cloud, normals=np.where(against[:, None], -cloud.normals, cloud.normals))


def given_points(request: GradientRequest, arrays: JobArrays | None) -> FloatArray:
    """(N, 3) of what is to be worked on, in its own frame: a mesh is its surface, not its corners (a box has eight).
    None for what is generated. Raises InputError."""
    if request.mode == "generate":
        return np.zeros((0, 3), np.float32)
    if arrays is None or len(arrays.points) == 0:
        raise InputError(
            "input_missing", "There is nothing to work on.", "The request came without points.", "Send points."
        )
    if arrays.faces is None or not len(arrays.faces):
        return arrays.points
    return sample_surface(Mesh(arrays.points, arrays.faces), MESH_POINTS, np.random.default_rng([request.seed, 13]))[0]


def _canonical(request: GradientRequest, points: FloatArray) -> tuple[FloatArray, Similarity]:
    """Points (N, 3) in the canonical frame, and that frame -> scene."""
    if len(points) == 0 or request.align == "none":
        return points, Similarity()
    centre = Similarity(translation=-np.median(points.astype(np.float64), axis=0))
    upright = Similarity(rotation=up_rotation(request.up)).after(centre)
    into = observed_frame(upright.apply(points)).after(upright)
    return into.apply(points), into.inverse()


def _shape(
    model: GradientField,
    request: GradientRequest,
    canonical: FloatArray,
    number: int,
    on_done: OnDone,
    should_stop: Callable[[], bool],
) -> Mesh:
    """Shape `number` of the request in the canonical frame."""
    if request.mode == "densify" and request.output == "points":
        return _cloud(
            densify(model, canonical, request.points, request.seed, on_progress=on_done, should_stop=should_stop)
        )
    rng = np.random.default_rng([request.seed, 11])
    if request.mode == "generate":
        code = new_code(
            model, request.field, number, request.seed, request.class_name, request.latent, request.temperature
        )
        features = model.decode(code)
    elif request.mode == "densify":
        features = observe(model, canonical, rng)
    else:
        features = model.decode(encode(model, canonical, rng))
    if request.output == "mesh":
        return extract_surface(model, features, request.resolution, should_stop=should_stop)
    generator = torch.Generator().manual_seed((request.seed * 1_000_003 + number + 7) % 2**63)
    points = sample_points(
        model, features, request.points, generator, on_progress=on_done, should_stop=should_stop
    )
    return _cloud(points.cpu().numpy().astype(np.float32))


def _cloud(points: FloatArray) -> Mesh:
    centre = points.mean(0)
    normals = estimate_normals(points, 16, None)
    outward = np.where(((points - centre) * normals).sum(1, keepdims=True) < 0, -normals, normals)
    return Mesh(points, np.zeros((0, 3), np.int32), outward.astype(np.float32))
