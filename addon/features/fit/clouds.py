"""Several objects read as one cloud or mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np

from ...scene import read as scene
from ...scene.read import Scan
from ...scene.surface import sample_surface

LOOSE_SHARE = 0.01
"""A mesh with faces whose loose vertices are a smaller part of it than this is a surface with a few strays."""
SAMPLES_A_MESH = (20_000, 200_000)


def sources_of(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The objects that a click on Fit Shape takes: the selected ones that hold points, the active one first."""
    active = context.active_object
    found = [obj for obj in context.selected_objects if not scene.why_unreadable(obj)]
    if not found and not scene.why_unreadable(active):
        found = [active]
    return sorted(found, key=lambda obj: (obj != active, obj.name))


def read_clouds(
    objects: Sequence[bpy.types.Object],
    depsgraph: bpy.types.Depsgraph,
    viewpoint: Sequence[float] | None = None,
) -> Scan:
    """Several evaluated objects as one input, in world axes and scale, measured from the first one's origin.

    Meshes alone stay meshes; where points (a point cloud, a mesh without faces, loose vertices) are among them, every
    surface is sampled and all becomes one cloud. Normals are sent where every point has one.
    Raises EngineProblem where an object holds no points.
    """
    scans = [scene.read_scan(obj, depsgraph) for obj in objects]
    first = scans[0]

    def arrays() -> dict[str, np.ndarray | None]:
        return _one_input([scan.arrays() for scan in scans], [scan.frame[:3, 3] - first.frame[:3, 3] for scan in scans])

    seen_from = None
    if viewpoint is not None:
        x, y, z = np.asarray(viewpoint, np.float64) - first.frame[:3, 3]
        seen_from = (float(x), float(y), float(z))
    return Scan(
        first.source,
        first.collections,
        first.frame,
        arrays,
        seen_from,
        sum(scan.point_count for scan in scans),
        [note for scan in scans for note in scan.notes],
    )


def _one_input(parts: Sequence[dict[str, np.ndarray | None]], offsets: Sequence[np.ndarray]) -> dict[str, Any]:
    """One cloud or mesh from several; free of bpy. offsets: (3,) each, added to the part's points."""
    pieces = []
    for part, offset in zip(parts, offsets, strict=True):
        points, faces = part["points"], part["faces"]
        assert points is not None
        points = (points.astype(np.float64) + offset).astype(np.float32)
        loose = np.zeros(len(points), bool)
        if faces is not None:
            loose[:] = True
            loose[faces.reshape(-1)] = False
        pieces.append((points, part["normals"], faces, loose))
    clouds = [faces is None or loose.sum() > LOOSE_SHARE * len(points) for points, _, faces, loose in pieces]
    if not any(clouds):
        starts = np.cumsum([0, *(len(points) for points, *_ in pieces)])
        return {
            "points": np.concatenate([points for points, *_ in pieces]),
            "normals": None,
            "faces": np.concatenate([faces + start for (_, _, faces, _), start in zip(pieces, starts, strict=False)]),
        }
    rng = np.random.default_rng(0)
    points_out: list[np.ndarray] = []
    normals_out: list[np.ndarray | None] = []
    for points, normals, faces, loose in pieces:
        if faces is None:
            points_out.append(points)
            normals_out.append(normals)
            continue
        count = int(np.clip(2 * len(faces), *SAMPLES_A_MESH))
        sampled, across = sample_surface(points, faces, count, rng)
        points_out.append(sampled)
        normals_out.append(across)
        if loose.sum() > LOOSE_SHARE * len(points):
            points_out.append(points[loose])
            normals_out.append(None)
    complete = all(normals is not None for normals in normals_out)
    return {
        "points": np.concatenate(points_out),
        "normals": np.concatenate(normals_out) if complete else None,  # type: ignore[arg-type]
        "faces": None,
    }
