"""Fit Shape as a job: scene arrays -> clean cloud in the unit frame -> a method's field -> mesh -> scene."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ... import __version__
from ...device import describe_device, resolve_device
from ...errors import Cancelled, EngineError, InputError, JobFailed
from ...finish import soundness
from ...frames import BOUND
from ...geometry.cleaning import doubtful_normals, normals_not_believed, stray_points
from ...geometry.clouds import FloatArray, PointCloud
from ...geometry.meshes import Mesh, compacted
from ...geometry.metrics import distances_to_surface
from ...geometry.sampling import remove_duplicates, sample_surface
from ...geometry.transforms import Similarity
from ...surface_fit.auto import plane_field
from ...surface_fit.base import UNIT_SIDE, FitData, FitSettings, FittedField, Method, find_method
from ...surface_fit.orientation import (
    CloudStatistics,
    Orientation,
    cloud_statistics,
    normal_lines,
    orient,
    refined_normals,
    sheet_noise,
)
from ...surface_fit.store import KeptField, keep_field, load_field, some_of
from ...surfaces.marching import extract_sparse, is_watertight
from ..base import FitRequest, JobArrays, JobCallbacks, JobResult, Preview, Progress
from ..complete.run import mesh_to_scene

log = logging.getLogger(__name__)

WORKING_POINTS = 400_000
"""At most so many are worked on, and at most eight times the resolution's square: larger clouds are averaged in cells
half as large as the grid's, and thinned where that is not enough."""
MOST_POINTS = 5_000_000
LEAST_POINTS = 10
KEPT_POINTS = 60_000
FLAT = 2e-3
"""A cloud thinner than this share of its length encloses nothing."""


class _Reporter:
    def __init__(self, callbacks: JobCallbacks) -> None:
        self.callbacks, self.began = callbacks, time.monotonic()

    def __call__(self, stage: str, fraction: float) -> None:
        if self.callbacks.should_stop():
            raise Cancelled
        elapsed = time.monotonic() - self.began
        left = elapsed * (1 - fraction) / fraction if fraction > 0.2 else None
        self.callbacks.on_progress(Progress(stage, min(fraction, 0.999), left))

    def part(self, low: float, high: float) -> Callable[[str, float], None]:
        """For the stages of a part of the job, which runs from `low` to `high`."""
        return lambda stage, within: self(stage, low + (high - low) * min(max(within, 0.0), 1.0))


@dataclass
class _Prepared:
    """data: in the unit frame.  statistics: of its points.  flat: no volume to speak of.  left_out: stray points."""

    data: FitData
    to_scene: Similarity
    statistics: CloudStatistics
    orientation: Orientation | None
    flat: bool
    left_out: int
    warnings: list[dict[str, str]]


def run_fit(request: FitRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """One mesh in the input's frame. The contract is in engine.jobs.base."""
    device = resolve_device(request.device)
    report_progress = _Reporter(callbacks)
    times: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        times[stage] = times.get(stage, 0.0) + now - clock
        clock = now

    if request.reuse:
        report_progress("Reading the fitted field", 0.05)
        kept = load_field(request.reuse, device)
        about = kept.about
        to_scene = Similarity(about["to_scene"][0], np.eye(3), np.array(about["to_scene"][1:], np.float64))
        report: dict[str, Any] = dict(about["report"])
        warnings = [warning for warning in report["warnings"] if warning["code"] not in _OF_THE_MESH]
        flat, noise = bool(about["flat"]), float(about["noise"])
        field_id: str | None = request.reuse
        lap("load")
    else:
        if arrays is None:
            raise InputError(
                "input_missing", "There is nothing to fit.", "The request came without points.", "Send an input."
            )
        method = find_method(request.method)
        rng = np.random.default_rng([request.seed, 11])
        prepared = _prepare(request, arrays, method, device, rng, report_progress, callbacks.should_stop)
        lap("prepare")
        to_scene, flat, warnings = prepared.to_scene, prepared.flat, prepared.warnings
        noise = prepared.data.noise

        def show(fitted: FittedField) -> None:
            try:
                first = extract_sparse(
                    fitted.signed_distance, min(64, request.resolution), device=device, lipschitz=fitted.lipschitz
                )
            except JobFailed:
                return  # nothing to show yet
            callbacks.on_preview(Preview(mesh_to_scene(first.mesh, to_scene), min(64, request.resolution)))

        settings = FitSettings(request.resolution, request.smoothness, request.iterations, request.seed)
        if flat:
            assert prepared.data.normals is not None
            fitted: FittedField = plane_field(prepared.data.points.mean(0), prepared.data.normals[0], device)
        else:
            fitted = method.fit(
                prepared.data, settings, device, report_progress.part(0.15, 0.75), show, callbacks.should_stop
            )
        lap("fit")
        warnings = [*warnings, *fitted.warnings]
        points, reach = some_of(prepared.data.points, prepared.statistics.area, KEPT_POINTS, request.seed)
        kept = KeptField(fitted, points, np.maximum(reach, 4 * noise).astype(np.float32), {})
        field_id = None
        report = _facts(request, arrays, prepared, fitted)

    def on_level(mesh: Mesh, resolution: int) -> None:
        if resolution < request.resolution:
            callbacks.on_preview(Preview(mesh_to_scene(mesh, to_scene), resolution))
        report_progress("Extracting the surface", 0.75 + 0.2 * resolution / request.resolution)

    extraction = extract_sparse(
        kept.field.signed_distance,
        request.resolution,
        device=device,
        on_level=on_level,
        should_stop=callbacks.should_stop,
        lipschitz=kept.field.lipschitz,
        with_normals=True,
    )
    cell = 2 * BOUND / request.resolution
    mesh = _without_crumbs(extraction.mesh, kept, cell)
    is_open = request.open_boundaries or flat
    if is_open:
        mesh = _trimmed(mesh, kept, cell)
    lap("extract")

    placed = mesh_to_scene(mesh, to_scene)
    asked = kept.points[:: max(1, len(kept.points) // 4000)]
    off = distances_to_surface(mesh, asked)
    warnings = [*warnings, *_mesh_warnings(off, cell, noise, report, is_open)]
    if not is_open:
        warnings += _guessed_warning(mesh, kept.points, max(0.06, 5 * report["spacing"] / to_scene.scale))
    residual = {"median": float(np.median(off)), "p95": float(np.percentile(off, 95))}
    report |= {
        "settings": {
            "resolution": request.resolution, "smoothness": request.smoothness, "normals": request.normals,
            "open_boundaries": request.open_boundaries, "iterations": request.iterations,
            "viewpoint": request.viewpoint, "noise": request.noise,
        } if not request.reuse else report["settings"] | {
            "resolution": request.resolution, "open_boundaries": request.open_boundaries
        },
        "reused": bool(request.reuse),
        "residual": {name: value * to_scene.scale for name, value in residual.items()},
        "watertight": is_watertight(placed),
        "soundness": soundness.report(mesh, scale=to_scene.scale, standing=False),
        "open_boundaries": is_open,
        "components": _parts(placed)[0],
        "vertices": len(placed.vertices),
        "faces": len(placed.faces),
        "evaluations": extraction.evaluations,
        "warnings": warnings,
        "device": describe_device(device),
    }  # fmt: skip
    if not request.reuse:
        scale_and_place = [to_scene.scale, *to_scene.translation.tolist()]
        about = {"report": report, "to_scene": scale_and_place, "flat": flat, "noise": noise}
        field_id = keep_field(kept.field, kept.points, kept.reach, about)
    lap("measure")
    report |= {"field_id": field_id, "timings": times}
    callbacks.on_progress(Progress("Done", 1.0, 0.0))
    return JobResult([placed], report)


def _facts(request: FitRequest, arrays: JobArrays, prepared: _Prepared, fitted: FittedField) -> dict[str, Any]:
    """What a later extraction of the same field has to say too."""
    orientation, scale = prepared.orientation, prepared.to_scene.scale
    return {
        "kind": "fit",
        "method": request.method,
        "seed": request.seed,
        "input_points": {
            "given": len(arrays.points), "used": len(prepared.data.points), "stray": prepared.left_out,
            "normals": arrays.normals is not None, "faces": 0 if arrays.faces is None else len(arrays.faces),
        },
        "noise": prepared.data.noise * scale,
        "spacing": prepared.data.spacing * scale,
        "scale": scale,
        "orientation": None if orientation is None else {
            "found_by": orientation.found_by, "agreement": orientation.agreement
        },
        "opposed": _opposed(prepared.data, 4 * BOUND / request.resolution),
        "fit": fitted.report,
        "warnings": prepared.warnings,
        "versions": {
            "shapewright": __version__, "torch": torch.__version__, "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- the input


def _prepare(
    request: FitRequest,
    arrays: JobArrays,
    method: Method,
    device: torch.device,
    rng: np.random.Generator,
    report_progress: _Reporter,
    should_stop: Callable[[], bool],
) -> _Prepared:
    report_progress("Reading the points", 0.01)
    if len(arrays.points) == 0:
        raise InputError("no_points", "The input is empty.", "It holds no points.", "Give a scan with points.")
    arrays = _fewer(arrays, rng)
    # Far from the origin float32 has no digits left for the shape: work about the input's own centre.
    centre = np.median(arrays.points, axis=0).astype(np.float64)
    local = (arrays.points.astype(np.float64) - centre).astype(np.float32)
    viewpoint = None if request.viewpoint is None else np.asarray(request.viewpoint, np.float64) - centre
    has_faces = arrays.faces is not None and len(arrays.faces) > 0
    mesh = None
    trusted = request.normals == "given"
    doubt = ""
    if has_faces:
        assert arrays.faces is not None
        mesh = Mesh(local, arrays.faces)
        count = int(np.clip(4 * request.resolution**2, 10_000, WORKING_POINTS))
        points, normals = sample_surface(mesh, count, rng)
        given: FloatArray | None = normals
    else:
        given = arrays.normals if request.normals != "none" else None
        if trusted and given is None:
            raise InputError(
                "normals_missing",
                "The input's normals cannot be trusted: it has none.",
                "The request says normals 'given', and the input came without.",
                "Choose 'auto', or give points with normals.",
            )
        points = local
        doubt = "" if trusted or given is None else doubtful_normals(local, given)
        if doubt:
            given = None
    # Steps of a size that adding or taking away an offset does not change: duplicates, then stray points.
    cloud = remove_duplicates(PointCloud(points, given))
    if len(cloud.points) < LEAST_POINTS:
        raise InputError(
            "too_few_points",
            "The input cannot be fitted.",
            f"It has {len(cloud.points)} different points; at least {LEAST_POINTS} are needed, and hundreds for a good "
            "result.",
            "Give a denser scan.",
        )
    cloud = _thinned(cloud, request.resolution, rng)
    left_out = 0
    if not has_faces:
        report_progress("Leaving out stray points", 0.04)
        stray = stray_points(cloud.points)
        left_out = int(stray.sum())
        if 0 < left_out < 0.6 * len(stray):
            cloud = PointCloud(cloud.points[~stray], None if cloud.normals is None else cloud.normals[~stray])
        else:
            left_out = 0
    low, high = cloud.points.min(0).astype(np.float64), cloud.points.max(0).astype(np.float64)
    scale = float((high - low).max()) / UNIT_SIDE
    to_local = Similarity(scale, np.eye(3), (low + high) / 2)
    to_unit = to_local.inverse()
    points = to_unit.apply(cloud.points)

    warnings = [normals_not_believed(doubt)] if doubt else []
    across = np.linalg.eigh(np.cov(points.T.astype(np.float64)))
    extents = np.ptp(points @ across[1], axis=0)  # thinnest first
    if extents[1] < FLAT * extents[2]:
        raise InputError(
            "input_collinear",
            "The input shows no surface.",
            "All its points lie on a line.",
            "Give points from all over the surface.",
        )
    flat = bool(extents[0] < FLAT * extents[2])
    report_progress("Measuring noise and density", 0.06)
    statistics = cloud_statistics(points, rng)
    if has_faces:
        statistics.noise = 0.0  # a mesh is what it is
    if request.noise is not None:
        statistics.noise = request.noise / scale
    eye = None if viewpoint is None else to_unit.apply(viewpoint[None])[0]
    orientation = None
    normals_out: FloatArray | None = None
    area = statistics.area
    oriented = False
    if flat:
        plane = across[1][:, 0]
        normals_out = np.tile(plane.astype(np.float32), (len(points), 1))
        if eye is not None and float((eye - points.mean(0)) @ plane) < 0:
            normals_out = -normals_out
        orientation, oriented = Orientation(normals_out, None, "plane"), True
        warnings.append(_warning(
            "flat_input",
            "The input is flat, so the result is a sheet.",
            "All its points lie in a plane, which encloses no volume.",
            "Give points from all sides for a solid; a sheet can be thickened in Blender (Solidify).",
        ))  # fmt: skip
        if method.name != "auto":
            raise InputError(
                "input_flat",
                f"The method '{method.name}' cannot fit a flat input.",
                "All its points lie in a plane, which encloses no volume.",
                "Choose the method 'auto', which makes a sheet of it, or give points from all sides.",
            )
    elif method.needs == "oriented":
        report_progress("Finding which way is out", 0.08)
        unit_given = cloud.normals is not None
        lines = cloud.normals if cloud.normals is not None else normal_lines(points, statistics)
        lines = _unit_rows(lines, points, statistics)
        orientation = orient(
            points, lines, statistics, device, rng,
            given=unit_given and request.normals != "none", trusted=trusted, viewpoint=eye,
            most_cells=min(96, max(64, request.resolution)), should_stop=should_stop,
        )  # fmt: skip
        normals_out, area = refined_normals(points, orientation.normals, statistics.spacing, statistics.noise)
        oriented = True
        if request.noise is None and not has_faces:
            statistics.noise = min(statistics.noise, sheet_noise(points, normals_out, rng))
        if unit_given and orientation.found_by == "winding number" and not has_faces:
            warnings.append(_warning(
                "normals_contradict",
                "The input's normals were turned where they pointed inwards.",
                f"They contradict one another: {1 - (orientation.agreement or 0):.0%} of them pointed inwards.",
                "Look at the result; if it is wrong, choose the normals 'given' or 'none'.",
            ))  # fmt: skip
    elif cloud.normals is not None:
        normals_out, oriented = _unit_rows(cloud.normals, points, statistics), trusted
    if method.needs == "mesh" and not has_faces:
        raise InputError(
            "mesh_needed",
            f"The method '{method.name}' needs a mesh.",
            "The input has points only, and this method learns from the inside and outside of triangles.",
            "Choose 'auto', or another method that takes points.",
        )
    unit_mesh = None if mesh is None else Mesh(to_unit.apply(mesh.vertices), mesh.faces)
    data = FitData(
        points, normals_out, oriented, eye, unit_mesh, statistics.noise, statistics.spacing, area
    )
    to_scene = Similarity(translation=centre).after(to_local)
    return _Prepared(data, to_scene, statistics, orientation, flat, left_out, warnings)


def _fewer(arrays: JobArrays, rng: np.random.Generator) -> JobArrays:
    """At most MOST_POINTS of a cloud, at random: more take memory and time, and show no finer surface."""
    if len(arrays.points) <= MOST_POINTS or (arrays.faces is not None and len(arrays.faces)):
        return arrays
    which = np.sort(rng.choice(len(arrays.points), MOST_POINTS, replace=False, shuffle=False))
    return JobArrays(arrays.points[which], None if arrays.normals is None else arrays.normals[which])


def _thinned(cloud: PointCloud, resolution: int, rng: np.random.Generator) -> PointCloud:
    """The means of the points in cells, which takes noise away too; then a random choice of what is wanted."""
    wanted = int(np.clip(8 * resolution**2, 60_000, WORKING_POINTS))
    if len(cloud.points) <= wanted:
        return cloud
    low = cloud.points.min(0)
    size = float(np.ptp(cloud.points, axis=0).max()) / (2 * resolution)
    at = ((cloud.points - low) / size).astype(np.int64)
    key = (at[:, 0] * 1025 + at[:, 1]) * 1025 + at[:, 2]  # resolution is at most 512
    if cloud.normals is not None:
        key = key * 8 + (cloud.normals > 0) @ np.array([4, 2, 1])
    _, group, count = np.unique(key, return_inverse=True, return_counts=True)

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(np.stack([np.bincount(group, column) / count for column in values.T], 1), np.float32)

    points = mean(cloud.points)
    normals = None if cloud.normals is None else mean(cloud.normals)
    if len(points) > wanted:
        chosen = np.sort(rng.choice(len(points), wanted, replace=False))
        points, normals = points[chosen], None if normals is None else normals[chosen]
    return PointCloud(points, normals)


def _unit_rows(normals: FloatArray, points: FloatArray, statistics: CloudStatistics) -> FloatArray:
    """Unit length; rows that have none or are no numbers get the line of their neighbourhood."""
    length = np.linalg.norm(normals, axis=1)
    good = np.isfinite(length) & (length > 1e-6)
    unit: FloatArray = (normals / np.where(good, length, 1.0)[:, None]).astype(np.float32)
    if not bool(good.all()):
        unit[~good] = normal_lines(points, statistics)[~good]
    return unit


# ---------------------------------------------------------------------------------------------------------- the result


def _trimmed(mesh: Mesh, kept: KeptField, cell: float) -> Mesh:
    """Without the triangles that no point is near to. Raises JobFailed where nothing is left."""
    distance, nearest = cKDTree(kept.points).query(mesh.vertices)
    near = distance <= np.maximum(kept.reach[nearest], 2.5 * cell)
    near &= np.abs(mesh.vertices).max(1) < BOUND - cell  # the extraction closes the shape there; nobody asked for that
    faces = mesh.faces[near[mesh.faces].all(1)]
    if len(faces) == 0:
        raise JobFailed(
            "nothing_near_points",
            "No surface came out.",
            "The fitted surface is nowhere near the points, so that nothing is left of it where boundaries stay open.",
            "Close the boundaries, or give a denser scan.",
        )
    return _without_crumbs(compacted(Mesh(mesh.vertices, faces, mesh.normals)), kept, cell)


def _parts(mesh: Mesh) -> tuple[int, Any]:
    """How many connected parts, and (V,) which one each vertex belongs to."""
    a, b, c = mesh.faces.T
    ends = np.concatenate([a, b]), np.concatenate([b, c])
    links = coo_matrix((np.ones(len(ends[0]), np.int8), ends), shape=(len(mesh.vertices),) * 2)
    count, part = connected_components(links, directed=False)
    return int(count), part


def _without_crumbs(mesh: Mesh, kept: KeptField, cell: float) -> Mesh:
    """Without the parts that hardly any points lie on: fewer than six of usual density. A stray point, about which
    there is much room, counts little. The largest part stays."""
    count, part = _parts(mesh)
    if count == 1:
        return mesh
    distance, nearest = cKDTree(mesh.vertices).query(kept.points)
    weight = np.minimum(1.0, (np.median(kept.reach) / kept.reach) ** 2) * (distance < 3 * cell)
    owned = np.bincount(part[nearest], weight, minlength=count)
    keep = owned >= max(6.0, 5e-4 * float(weight.sum()))
    keep[np.argmax(owned)] = True
    return compacted(Mesh(mesh.vertices, mesh.faces[keep[part[mesh.faces[:, 0]]]], mesh.normals))


def _opposed(data: FitData, reach: float) -> float:
    """Share of the points with another one within `reach` that looks the other way: a sheet thinner than that."""
    if data.normals is None or not data.oriented:
        return 0.0
    some = slice(None, None, max(1, len(data.points) // 60_000))
    points, normals = data.points[some], data.normals[some]
    asked = slice(None, None, max(1, len(points) // 4000))
    index = cKDTree(points).query(points[asked], k=min(16, len(points)), distance_upper_bound=reach)[1]
    there = np.concatenate([normals, np.zeros((1, 3), np.float32)])[index]
    return float((np.einsum("nki,ni->nk", there, normals[asked]).min(1) < -0.7).mean())


_OF_THE_MESH = ("thin_sheet", "points_missed", "mostly_guessed")

GUESSED = 0.3
"""Share of the surface far from all points, from which on the user is told that most of it is a membrane."""


def _mesh_warnings(
    off: Any, cell: float, noise: float, report: dict[str, Any], is_open: bool
) -> list[dict[str, str]]:
    missed = float((off > max(1.5 * cell, 5 * noise)).mean())
    if missed < 0.01:
        return []
    if report["opposed"] > 0.02:
        return [_warning(
            "thin_sheet",
            "Thin parts may have closed up or have holes.",
            f"{missed:.0%} of the points are not on the surface, and parts are thinner than two cells of the grid.",
            "Raise the resolution, or give a denser scan of the thin parts.",
        )]  # fmt: skip
    if missed < 0.05:
        return []
    return [_warning(
        "points_missed",
        "The surface leaves out part of the points.",
        f"{missed:.0%} of them are further from it than {'its edge' if is_open else 'the noise explains'}.",
        "They may lie inside the shape or be outliers; if not, raise the resolution or lower the smoothness.",
    )]  # fmt: skip


def _guessed_warning(mesh: Mesh, points: FloatArray, far: float) -> list[dict[str, str]]:
    """Told where more than `GUESSED` of the surface's area is further than `far` from all points (unit frame)."""
    samples, _ = sample_surface(mesh, 4000, np.random.default_rng(0))
    share = float((cKDTree(points).query(samples)[0] > far).mean())
    if share < GUESSED:
        return []
    return [_warning(
        "mostly_guessed",
        "Much of the surface is a membrane over places that were not seen.",
        f"{share:.0%} of it lies far from all points, as where a scan is from one side only.",
        "Leave holes open (--open), give the viewpoint, add scans from other sides, or use Complete Shape.",
    )]  # fmt: skip


def _warning(code: str, what: str, why: str, remedy: str) -> dict[str, str]:
    return EngineError(code, what, why, remedy).as_dict()
