"""What comes from the scene -> what a method fits: one clean cloud in the unit frame, its noise, which way is out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import InputError
from ..geometry.cleaning import doubtful_normals, stray_points
from ..geometry.clouds import FloatArray, PointCloud
from ..geometry.meshes import IntArray, Mesh
from ..geometry.sampling import remove_duplicates, sample_surface
from ..geometry.transforms import Similarity
from .base import UNIT_SIDE, FitData, Method, OnProgress
from .orientation import (
    CloudStatistics,
    Orientation,
    cloud_statistics,
    normal_lines,
    orient,
    refined_normals,
    sheet_noise,
)

WORKING_POINTS = 400_000
"""At most so many are worked on, and at most eight times the resolution's square: larger clouds are averaged in cells
half as large as the grid's, and thinned where that is not enough."""
MOST_POINTS = 5_000_000
LEAST_POINTS = 10
FLAT = 2e-3
"""A cloud thinner than this share of its length encloses nothing."""


@dataclass
class FitInput:
    """What is to be fitted, in the scene's frame and unit.

    points: (N, 3).  normals: (N, 3) or None.  faces: (F, 3) into points, or None.  trust: 'given' = the normals are
    trusted, 'none' = ignored, 'auto' = trusted as far as they agree with one another.  viewpoint: (3,) where the sensor
    stood, or None; (S, 3) with scans (N,), which of them saw each point.  noise: standard deviation of the points, None
    = estimated.  resolution: cells along the box of the final mesh.
    """

    points: FloatArray
    normals: FloatArray | None
    faces: IntArray | None
    trust: str
    viewpoint: FloatArray | None
    noise: float | None
    resolution: int
    scans: IntArray | None = None

    @property
    def has_faces(self) -> bool:
        return self.faces is not None and len(self.faces) > 0


@dataclass
class Prepared:
    """data: in the unit frame.  statistics: of its points.  flat: no volume to speak of.  left_out: stray points.
    turned: given normals contradicted one another and were turned.  doubt: why given normals were not believed, or ''.
    notes: what was left out, a sentence each.
    """

    data: FitData
    to_scene: Similarity
    statistics: CloudStatistics
    orientation: Orientation | None
    flat: bool
    left_out: int
    turned: bool
    doubt: str
    notes: list[str]


def prepare(
    given: FitInput,
    method: Method,
    device: torch.device,
    rng: np.random.Generator,
    on_progress: OnProgress,
    should_stop: Callable[[], bool],
) -> Prepared:
    """Raises InputError for what shows no surface, and for what the method cannot do."""
    on_progress("Reading the points", 0.01)
    if len(given.points) == 0:
        raise InputError("no_points", "The input is empty.", "It holds no points.", "Give a scan with points.")
    came = len(given.points)
    given = _fewer(given, rng)
    # Far from the origin float32 has no digits left for the shape: work about the input's own centre.
    centre = np.median(given.points, axis=0).astype(np.float64)
    local = (given.points.astype(np.float64) - centre).astype(np.float32)
    doubt = ""
    if given.normals is not None and not given.has_faces and given.trust == "auto":
        doubt = doubtful_normals(local, given.normals)
        given = replace(given, normals=None) if doubt else given
    cloud, left_out, notes = _clean_cloud(given, local, rng, on_progress, came)
    low, high = cloud.points.min(0).astype(np.float64), cloud.points.max(0).astype(np.float64)
    scale = float((high - low).max()) / UNIT_SIDE
    to_local = Similarity(scale, np.eye(3), (low + high) / 2)
    to_unit = to_local.inverse()
    points = to_unit.apply(cloud.points)

    plane, flat = _plane(points)
    on_progress("Measuring noise and density", 0.06)
    statistics = cloud_statistics(points, rng)
    if given.has_faces:
        statistics.noise = 0.0  # a mesh is what it is
    if given.noise is not None:
        statistics.noise = given.noise / scale
    eye = None
    if given.viewpoint is not None:
        places = np.asarray(given.viewpoint, np.float64)
        eye = to_unit.apply((places - centre).reshape(-1, 3)).reshape(places.shape)
    unit = PointCloud(points, cloud.normals, eye, scans=cloud.scans)
    orientation: Orientation | None = None
    area, normals, oriented, turned = statistics.area, None, False, False
    if flat:
        normals, oriented = _flat_normals(unit, plane, method), True
        orientation = Orientation(normals, None, "plane")
    elif method.needs == "oriented":
        on_progress("Finding which way is out", 0.08)
        orientation = _orientation(given, unit, statistics, device, rng, should_stop)
        normals, area = refined_normals(points, orientation.normals, statistics.spacing, statistics.noise)
        oriented = True
        if given.noise is None and not given.has_faces:
            statistics.noise = min(statistics.noise, sheet_noise(points, normals, rng))
        turned = cloud.normals is not None and orientation.found_by == "winding number" and not given.has_faces
    elif cloud.normals is not None:
        normals, oriented = _unit_rows(cloud.normals, points, statistics), given.trust == "given"
    if method.needs == "mesh" and not given.has_faces:
        raise InputError(
            "mesh_needed",
            f"The method '{method.name}' needs a mesh.",
            "The input has points only, and this method learns from the inside and outside of triangles.",
            "Choose 'auto', or another method that takes points.",
        )
    mesh = Mesh(to_unit.apply(local), given.faces) if given.faces is not None and given.has_faces else None
    data = FitData(points, normals, oriented, unit.seen_from, mesh, statistics.noise, statistics.spacing, area)
    to_scene = Similarity(translation=centre).after(to_local)
    return Prepared(data, to_scene, statistics, orientation, flat, left_out, turned, doubt, notes)


def _fewer(given: FitInput, rng: np.random.Generator) -> FitInput:
    """At most MOST_POINTS of a cloud, at random: more take memory and time, and show no finer surface."""
    if len(given.points) <= MOST_POINTS or given.has_faces:
        return given
    which = np.sort(rng.choice(len(given.points), MOST_POINTS, replace=False, shuffle=False))
    return replace(
        given,
        points=given.points[which],
        normals=None if given.normals is None else given.normals[which],
        scans=None if given.scans is None else given.scans[which],
    )


def _clean_cloud(
    given: FitInput, local: FloatArray, rng: np.random.Generator, on_progress: OnProgress, came: int
) -> tuple[PointCloud, int, list[str]]:
    """Samples of the mesh, or the points without duplicates and strays, thinned; how many strays there were; and what
    was left out, in sentences. came: how many points there were before all.

    Steps of a size that adding or taking away an offset does not change: duplicates, then stray points.
    """
    if given.faces is not None and given.has_faces:
        count = int(np.clip(4 * given.resolution**2, 10_000, WORKING_POINTS))
        cloud = PointCloud(*sample_surface(Mesh(local, given.faces), count, rng))
    else:
        normals = given.normals if given.trust != "none" else None
        if given.trust == "given" and normals is None:
            raise InputError(
                "normals_missing",
                "The input's normals cannot be trusted: it has none.",
                "The request says normals 'given', and the input came without.",
                "Choose 'auto', or give points with normals.",
            )
        cloud = PointCloud(local, normals, scans=given.scans)
    notes: list[str] = []
    before = len(cloud.points)
    cloud = remove_duplicates(cloud)
    if before > len(cloud.points) and not given.has_faces:
        notes.append(f"{before - len(cloud.points):,} points lie where others do and count once.")
    if len(cloud.points) < LEAST_POINTS:
        raise InputError(
            "too_few_points",
            "The input cannot be fitted.",
            f"It has {len(cloud.points)} different points; at least {LEAST_POINTS} are needed, and hundreds for a good "
            "result.",
            "Give a denser scan.",
        )
    before = len(cloud.points)
    cloud = _thinned(cloud, given.resolution, rng)
    if given.has_faces:
        return cloud, 0, notes
    if len(cloud.points) < before or len(given.points) < came:
        notes.insert(0, f"Of its {came:,} points {len(cloud.points):,} are used: means of those in a cell.")
    on_progress("Leaving out stray points", 0.04)
    stray = stray_points(cloud.points)
    left_out = int(stray.sum())
    if not 0 < left_out < 0.6 * len(stray):
        return cloud, 0, notes
    notes.append(f"{left_out:,} stray points, far from all others, are left out.")
    return cloud.at(~stray), left_out, notes


def _plane(points: FloatArray) -> tuple[FloatArray, bool]:
    """(3,) the direction in which the points are thinnest, and whether they lie in a plane. Raises InputError for
    points on a line."""
    across = np.linalg.eigh(np.cov(points.T.astype(np.float64)))
    extents = np.ptp(points @ across[1], axis=0)  # thinnest first
    if extents[1] < FLAT * extents[2]:
        raise InputError(
            "input_collinear",
            "The input shows no surface.",
            "All its points lie on a line.",
            "Give points from all over the surface.",
        )
    return across[1][:, 0], bool(extents[0] < FLAT * extents[2])


def _flat_normals(unit: PointCloud, plane: FloatArray, method: Method) -> FloatArray:
    """(N, 3) the plane's normal, towards the viewpoint where there is one. Raises InputError for a method that cannot
    make a sheet."""
    if method.name != "auto":
        raise InputError(
            "input_flat",
            f"The method '{method.name}' cannot fit a flat input.",
            "All its points lie in a plane, which encloses no volume.",
            "Choose the method 'auto', which makes a sheet of it, or give points from all sides.",
        )
    normals: FloatArray = np.tile(plane.astype(np.float32), (len(unit.points), 1))
    if unit.viewpoint is not None and float((unit.viewpoint.reshape(-1, 3).mean(0) - unit.points.mean(0)) @ plane) < 0:
        normals = -normals
    return normals


def _orientation(
    given: FitInput,
    unit: PointCloud,
    statistics: CloudStatistics,
    device: torch.device,
    rng: np.random.Generator,
    should_stop: Callable[[], bool],
) -> Orientation:
    lines = unit.normals if unit.normals is not None else normal_lines(unit.points, statistics)
    lines = _unit_rows(lines, unit.points, statistics)
    return orient(
        unit.points, lines, statistics, device, rng,
        given=unit.normals is not None and given.trust != "none", trusted=given.trust == "given",
        viewpoint=unit.seen_from, most_cells=min(96, max(64, given.resolution)), should_stop=should_stop,
    )  # fmt: skip


def _thinned(cloud: PointCloud, resolution: int, rng: np.random.Generator) -> PointCloud:
    """The means of the points in cells, which takes noise away too; then a random choice of what is wanted. Of several
    scans a cell's first point says by which it was seen."""
    wanted = int(np.clip(8 * resolution**2, 60_000, WORKING_POINTS))
    if len(cloud.points) <= wanted:
        return cloud
    low = cloud.points.min(0)
    size = float(np.ptp(cloud.points, axis=0).max()) / (2 * resolution)
    at = ((cloud.points - low) / size).astype(np.int64)
    key = (at[:, 0] * 1025 + at[:, 1]) * 1025 + at[:, 2]  # resolution is at most 512
    if cloud.normals is not None:
        key = key * 8 + (cloud.normals > 0) @ np.array([4, 2, 1])
    _, first, group, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(np.stack([np.bincount(group, column) / count for column in values.T], 1), np.float32)

    points = mean(cloud.points)
    normals = None if cloud.normals is None else mean(cloud.normals)
    thinned = PointCloud(points, normals, scans=None if cloud.scans is None else cloud.scans[first])
    if len(points) > wanted:
        return thinned.at(np.sort(rng.choice(len(points), wanted, replace=False)))
    return thinned


def _unit_rows(normals: FloatArray, points: FloatArray, statistics: CloudStatistics) -> FloatArray:
    """Unit length; rows that have none or are no numbers get the line of their neighbourhood."""
    length = np.linalg.norm(normals, axis=1)
    good = np.isfinite(length) & (length > 1e-6)
    unit: FloatArray = (normals / np.where(good, length, 1.0)[:, None]).astype(np.float32)
    if not bool(good.all()):
        unit[~good] = normal_lines(points, statistics)[~good]
    return unit
