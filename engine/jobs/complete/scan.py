"""The input of Complete Shape as the engine uses it: an even cloud of the object alone, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...completion.evidence import estimate_noise
from ...completion.viewpoint import seen_from
from ...errors import InputError
from ...frames import up_rotation
from ...geometry.cleaning import crumbs, doubtful_normals, orientation_agreement, stray_points
from ...geometry.clouds import PointCloud
from ...geometry.sampling import estimate_normals, remove_duplicates, sample_cloud, subsample
from ...geometry.support import Support, camera_up, find_support
from ..base import JobArrays
from .request import CompleteRequest

Vector = NDArray[np.float64]

WORKING_POINTS = 20_000
RAW_POINTS = 200_000
"""Of a larger input so many points, drawn at random, are looked at: memory and time stay bounded."""


@dataclass
class Scan:
    """The input as the engine uses it. cloud: z up or not, as given.  noise: standard deviation of its points.  about:
    what was left out and estimated, for the report.  support: what the object stands on, where that was seen.
    image_up: (3,) up in the image where the cloud is in its camera's frame, so that the up axis says nothing.
    dense: the object's points before they were thinned, with what the surface looks like there."""

    cloud: PointCloud
    noise: float
    about: dict[str, Any]
    support: Support | None = None
    image_up: Vector | None = None
    dense: PointCloud | None = None


def scan_of(
    arrays: JobArrays, request: CompleteRequest, rng: np.random.Generator, origin: Vector = np.zeros(3)
) -> Scan:
    """The input as an even cloud of the object alone, in its own frame: at most RAW_POINTS are looked at.

    A mesh is sampled (its faces are not trusted to look outward, so their normals are used only where a viewpoint says
    which side was seen). Of points, duplicates and strays are left out; of both, what the object stands on, with
    what lies beyond and beside (engine.geometry.support): in a camera's own frame, the camera is the viewpoint.
    Normals are given, or estimated where a viewpoint tells their side; given ones that contradict their neighbours are
    not used. origin: (3,) of the input's frame, in that of the arrays. Raises InputError.
    """
    about: dict[str, Any] = {"duplicates": 0, "strays": 0, "ground": None, "viewpoint_found": None}
    if arrays.has_faces:
        viewpoint = None if request.viewpoint is None else np.asarray(request.viewpoint, np.float32)
        cloud = replace(sample_cloud(arrays.mesh, 4 * WORKING_POINTS, rng), viewpoint=viewpoint)
        if viewpoint is None:
            cloud.normals = None
    else:
        cloud = few(arrays.cloud(request.viewpoint), rng)
        before = len(cloud.points)
        cloud = remove_duplicates(cloud)
        about["duplicates"] = before - len(cloud.points)
        cloud = cloud.at(~stray_points(cloud.points))
        about["strays"] = before - about["duplicates"] - len(cloud.points)
    about["viewpoint"] = cloud.viewpoint is not None
    about["scans"] = 1 if cloud.scans is None else len(np.unique(cloud.scans))
    image_up = camera_up(cloud.points, origin, cloud.viewpoint) if _free(request) and cloud.scans is None else None
    support = None
    if request.ground == "auto":
        cloud, support = _stood(cloud, request, origin, image_up, about, strays=not arrays.has_faces)
    if support is not None and support.level:
        image_up = None
    if image_up is not None and support is None and request.ground == "auto":  # a table may have left a few points
        before = len(cloud.points)
        cloud = cloud.at(~crumbs(cloud.points))
        about["strays"] += before - len(cloud.points)
    if image_up is not None and cloud.viewpoint is None:
        about["viewpoint"] = True
        cloud = replace(cloud, viewpoint=origin.astype(np.float32))
    about["frame"] = "given" if image_up is None else "its camera's"
    if cloud.viewpoint is None and request.seen_from == "estimate":
        cloud = replace(cloud, viewpoint=_found_viewpoint(cloud, arrays, origin, about))
    dense, cloud = cloud, subsample(cloud, WORKING_POINTS, rng)
    if len(cloud.points) < 10:
        raise InputError(
            "too_few_points",
            "The input cannot be completed.",
            f"It has {len(cloud.points)} different points; at least 10 are needed, and hundreds to get a good result.",
            "Give a denser scan.",
        )
    noise = estimate_noise(cloud.points, rng) if request.noise is None else request.noise
    about["noise"] = "estimated" if request.noise is None else "given"
    normals_ = cloud.normals
    about["normals"] = "none" if normals_ is None else "given"
    about["normals_doubt"] = ""
    if normals_ is not None and not arrays.has_faces:
        about["normals_doubt"] = doubtful_normals(cloud.points, normals_)
        if about["normals_doubt"]:
            normals_ = None
            about["normals"] = "not believed"
    eyes = cloud.seen_from
    if eyes is not None:
        if normals_ is None:
            normals_ = estimate_normals(cloud.points, 16, eyes)
            about["normals"] = "estimated"
        else:  # towards the viewpoint: it saw them
            facing = ((eyes - cloud.points) * normals_).sum(1, keepdims=True)
            normals_ = np.where(facing < 0, -normals_, normals_)
    elif normals_ is not None and orientation_agreement(cloud.points, normals_) < 0.9:
        normals_ = None
        about["normals"] = "without a consistent side, not used"
    shape_alone = PointCloud(cloud.points, normals_, cloud.viewpoint, scans=cloud.scans)
    return Scan(shape_alone, noise, about, support, image_up, dense)


def _found_viewpoint(
    cloud: PointCloud, arrays: JobArrays, origin: Vector, about: dict[str, Any]
) -> NDArray[np.float32] | None:
    """Where one sensor stood that saw these points (of a mesh its vertices: a depth image's, where it is a scan)."""
    found = seen_from(arrays.points if arrays.has_faces else cloud.points, np.random.default_rng(0))
    if found is None:
        return None
    about["viewpoint"] = True
    about["viewpoint_found"] = {
        "at": (found.viewpoint - origin).tolist(), "by": found.by, "confidence": found.confidence,
    }  # fmt: skip
    return found.viewpoint.astype(np.float32)


def few(cloud: PointCloud, rng: np.random.Generator) -> PointCloud:
    """At most RAW_POINTS, at random: what stays is as dense here and as sparse there as before, which tells strays."""
    count = len(cloud.points)
    if count <= RAW_POINTS:
        return cloud
    return cloud.at(np.sort(rng.choice(count, RAW_POINTS, replace=False, shuffle=False)))


def _free(request: CompleteRequest) -> bool:
    """Whether the frame may be doubted; else it is a statement."""
    return request.align != "none" and request.pose is None


def _stood(
    cloud: PointCloud, request: CompleteRequest, origin: Vector, image_up: Vector | None, about: dict[str, Any],
    strays: bool,
) -> tuple[PointCloud, Support | None]:
    """The cloud without what the object stands on and what lies beyond and beside, and that support."""
    up = up_rotation(request.up)[2]
    # Several scanners stand above what they all see it stand on, so their middle does.
    sensor = None if cloud.viewpoint is None else cloud.viewpoint.reshape(-1, 3).mean(axis=0)
    support = find_support(
        cloud.points, up, viewpoint=sensor, origin=origin if _free(request) else None, image_up=image_up
    )
    if support is None:
        return cloud, None
    kept = cloud.at(support.kept)
    if strays:  # what is left of the floor's noise lies about in crumbs
        kept = kept.at(~stray_points(kept.points))
    what = "a level floor"
    if not support.level:
        what = f"support plane found, tilted by {support.tilt:.0f} degrees from the up axis: taken as the floor"
        what += "; the points are in their camera's frame" if support.frame == "sensor" else ""
    about["ground"] = {
        "what": what, "points": len(cloud.points) - len(kept.points), "beyond": int(support.beyond.sum()),
        "beside": int(support.beside.sum()), "tilt": support.tilt, "normal": support.normal.tolist(),
        "height": support.offset - float(support.normal @ origin),
    }  # fmt: skip
    return kept, support
