"""Fit Shape as a job: scene arrays -> clean cloud in the unit frame -> a method's field -> mesh -> scene."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ...device import describe_device, resolve_device
from ...errors import InputError, JobFailed
from ...finish import soundness
from ...finish.colours import Observed
from ...finish.colours import report as appearance
from ...finish.finishing import Finish, finished
from ...frames import BOUND
from ...geometry.clouds import PointCloud
from ...geometry.connected import is_watertight, vertex_components
from ...geometry.meshes import Material, Mesh
from ...geometry.metrics import distances_to_surface
from ...geometry.sampling import sample_cloud
from ...geometry.transforms import Similarity, moved_cloud
from ...jobs.base import Clock, JobArrays, JobCallbacks, JobResult, Preview, Progress, Reporter, mesh_to_scene
from ...surface_fit.auto import plane_field
from ...surface_fit.base import FitSettings, FittedField, find_method
from ...surface_fit.finish import guessed, trimmed, without_crumbs
from ...surface_fit.prepare import FitInput, Prepared, prepare
from ...surface_fit.store import KeptField, keep_field, load_field, some_of
from ...surfaces.marching import Extraction, extract_sparse
from .report import OF_THE_MESH, facts, mesh_warnings
from .request import FitRequest

KEPT_POINTS = 60_000
DENSE_POINTS = 200_000
FIRST_LOOK = 64
"""Cells along the box of the previews while a method fits, at most."""


@dataclass
class _Fitted:
    """kept: the field and some of the points, unit frame.  report: what every extraction of it has to say.
    materials: of the input."""

    kept: KeptField
    to_scene: Similarity
    flat: bool
    noise: float
    report: dict[str, Any]
    materials: tuple[Material, ...] = ()


def run_fit(request: FitRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """One mesh in the input's frame. The contract is in engine.jobs.base."""
    device = resolve_device(request.device)
    progress, clock = Reporter(callbacks), Clock()
    if request.reuse:
        progress("Reading the fitted field", 0.05)
        fitted = _fitted_before(request, device)
        clock.lap("load")
    else:
        if arrays is None:
            raise InputError(
                "input_missing", "There is nothing to fit.", "The request came without points.", "Send an input."
            )
        fitted = _fit(request, arrays, device, callbacks, progress, clock)
    extraction = _extract(fitted, request.resolution, device, callbacks, progress)
    cell = 2 * BOUND / request.resolution
    mesh = without_crumbs(extraction.mesh, fitted.kept, cell)
    is_open = request.open_boundaries or fitted.flat
    if is_open:
        mesh = trimmed(mesh, fitted.kept, cell)
    mesh = finished(mesh, Finish(request.max_faces, request.uvs), request.resolution, fitted.to_scene.scale)
    clock.lap("extract")
    look = None if fitted.kept.dense is None else Observed(fitted.kept.dense, fitted.materials).look(mesh)
    placed = mesh_to_scene(mesh if look is None else look.on(mesh), fitted.to_scene)
    clock.lap("appearance")
    report = fitted.report | _measured(fitted, mesh, placed, cell, is_open) | {
        "reused": bool(request.reuse),
        "open_boundaries": is_open,
        "evaluations": extraction.evaluations,
        "device": describe_device(device),
        "appearance": appearance(look),
    }  # fmt: skip
    field_id: str | None = request.reuse
    if not request.reuse:
        kept, to_scene = fitted.kept, fitted.to_scene
        scale_and_place = [to_scene.scale, *to_scene.translation.tolist()]
        about = {
            "report": report, "to_scene": scale_and_place, "flat": fitted.flat, "noise": fitted.noise,
            "materials": [(one.name, one.colour) for one in fitted.materials],
        }  # fmt: skip
        field_id = keep_field(kept.field, kept.points, kept.reach, about, kept.dense)
    clock.lap("measure")
    report |= {"field_id": field_id, "timings": clock.laps}
    callbacks.on_progress(Progress("Done", 1.0, 0.0))
    return JobResult([placed], report)


def _fitted_before(request: FitRequest, device: torch.device) -> _Fitted:
    kept = load_field(request.reuse, device)
    about = kept.about
    report = dict(about["report"])
    report["warnings"] = [warning for warning in report["warnings"] if warning["code"] not in OF_THE_MESH]
    report["settings"] |= {"resolution": request.resolution, "open_boundaries": request.open_boundaries}
    to_scene = Similarity(about["to_scene"][0], np.eye(3), np.array(about["to_scene"][1:], np.float64))
    materials = tuple(Material(name, colour and tuple(colour)) for name, colour in about.get("materials", ()))
    return _Fitted(kept, to_scene, bool(about["flat"]), float(about["noise"]), report, materials)


def _fit(
    request: FitRequest,
    arrays: JobArrays,
    device: torch.device,
    callbacks: JobCallbacks,
    progress: Reporter,
    clock: Clock,
) -> _Fitted:
    method = find_method(request.method)
    rng = np.random.default_rng([request.seed, 11])
    cloud = _cloud_of(arrays, request)
    given = FitInput(
        arrays.points, arrays.normals, arrays.faces, request.normals, cloud.viewpoint, request.noise,
        request.resolution, cloud.scans,
    )  # fmt: skip
    prepared = prepare(given, method, device, rng, progress, callbacks.should_stop)
    clock.lap("prepare")

    def show(fitted: FittedField) -> None:
        resolution = min(FIRST_LOOK, request.resolution)
        try:
            first = extract_sparse(fitted.signed_distance, resolution, device=device, lipschitz=fitted.lipschitz)
        except JobFailed:
            return  # nothing to show yet
        callbacks.on_preview(Preview(mesh_to_scene(first.mesh, prepared.to_scene), resolution))

    if prepared.flat:
        assert prepared.data.normals is not None
        field: FittedField = plane_field(prepared.data.points.mean(0), prepared.data.normals[0], device)
    else:
        settings = FitSettings(request.resolution, request.smoothness, request.iterations, request.seed)
        field = method.fit(
            prepared.data, settings, device, progress.part(0.15, 0.75), show, callbacks.should_stop
        )
    clock.lap("fit")
    kept = _kept(field, prepared, request.seed)
    kept.dense = _dense(arrays, request, prepared.to_scene.inverse())
    return _Fitted(
        kept, prepared.to_scene, prepared.flat, prepared.data.noise, facts(request, given, prepared, field),
        arrays.materials,
    )  # fmt: skip


def _cloud_of(arrays: JobArrays, request: FitRequest) -> PointCloud:
    """The input's points; several scans are of points alone."""
    cloud = arrays.cloud(request.viewpoint)
    return replace(cloud, viewpoint=None, scans=None) if arrays.has_faces and cloud.scans is not None else cloud


def _kept(field: FittedField, prepared: Prepared, seed: int) -> KeptField:
    points, reach = some_of(prepared.data.points, prepared.statistics.area, KEPT_POINTS, seed)
    return KeptField(field, points, np.maximum(reach, 4 * prepared.data.noise).astype(np.float32), {})


def _dense(arrays: JobArrays, request: FitRequest, to_unit: Similarity) -> PointCloud | None:
    """What the surface looks like where the input has points, at most DENSE_POINTS of them; None where it says nothing
    of that. Draws by itself, so that no surface depends on it."""
    if arrays.colours is None and arrays.face_materials is None:
        return None
    rng = np.random.default_rng([request.seed, 17])
    if arrays.has_faces:
        cloud = replace(sample_cloud(arrays.mesh, DENSE_POINTS, rng), viewpoint=_cloud_of(arrays, request).viewpoint)
    else:
        cloud = _cloud_of(arrays, request)
        if len(cloud.points) > DENSE_POINTS:
            cloud = cloud.at(np.sort(rng.choice(len(cloud.points), DENSE_POINTS, replace=False, shuffle=False)))
    return moved_cloud(replace(cloud, normals=None), to_unit)


def _extract(
    fitted: _Fitted, resolution: int, device: torch.device, callbacks: JobCallbacks, progress: Reporter
) -> Extraction:
    def on_level(mesh: Mesh, level: int) -> None:
        if level < resolution:
            callbacks.on_preview(Preview(mesh_to_scene(mesh, fitted.to_scene), level))
        progress("Extracting the surface", 0.75 + 0.2 * level / resolution)

    field = fitted.kept.field
    return extract_sparse(
        field.signed_distance, resolution, device=device, on_level=on_level, should_stop=callbacks.should_stop,
        lipschitz=field.lipschitz, with_normals=True,
    )  # fmt: skip


def _measured(fitted: _Fitted, mesh: Mesh, placed: Mesh, cell: float, is_open: bool) -> dict[str, Any]:
    """mesh: in the unit frame.  placed: the same in the scene."""
    kept, scale, report = fitted.kept, fitted.to_scene.scale, fitted.report
    off = distances_to_surface(mesh, kept.points[:: max(1, len(kept.points) // 4000)])
    far = 0.0 if is_open else guessed(mesh, kept.points, max(0.06, 5 * report["spacing"] / scale))
    return {
        "residual": {"median": float(np.median(off)) * scale, "p95": float(np.percentile(off, 95)) * scale},
        "watertight": is_watertight(placed),
        "soundness": soundness.report(mesh, scale=scale, standing=False),
        "components": int(vertex_components(placed).max()) + 1,
        "vertices": len(placed.vertices),
        "faces": len(placed.faces),
        "warnings": [
            *report["warnings"], *mesh_warnings(off, cell, fitted.noise, report["opposed"], far, is_open)
        ],
    }  # fmt: skip
