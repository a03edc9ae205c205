"""Several objects read as one cloud or mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np

from ...scene import read as scene
from ...scene.appearance import joined
from ...scene.read import Scan
from ...scene.surface import sample_coloured

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
    surface is sampled and all becomes one cloud. Normals are sent where every point has one; where only some have
    colours the others are white.
    Raises EngineProblem where an object holds no points.
    """
    scans = [scene.read_scan(obj, depsgraph) for obj in objects]
    first = scans[0]
    look, numbers = joined([scan.look for scan in scans])
    names = look.names()

    def arrays() -> dict[str, np.ndarray | None]:
        parts = [scan.arrays() for scan in scans]
        for part, own in zip(parts, numbers, strict=True):
            if part["faces"] is not None and len(own):
                used = part["face_materials"]
                part["face_materials"] = own[np.zeros(len(part["faces"]), np.int32) if used is None else used]
        one = _one_input(parts, [scan.frame[:3, 3] - first.frame[:3, 3] for scan in scans])
        return {**one, "material_names": None if one["face_materials"] is None else names}

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
        look,
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
        pieces.append((points, part["normals"], faces, loose, part["colours"]))
    clouds = [faces is None or loose.sum() > LOOSE_SHARE * len(points) for points, _, faces, loose, _ in pieces]
    if not any(clouds):
        starts = np.cumsum([0, *(len(points) for points, *_ in pieces)])
        numbers = [part["face_materials"] for part in parts]
        return {
            "points": np.concatenate([points for points, *_ in pieces]),
            "normals": None,
            "faces": np.concatenate([piece[2] + start for piece, start in zip(pieces, starts, strict=False)]),
            "colours": _together([piece[4] for piece in pieces], [len(piece[0]) for piece in pieces]),
            "face_materials": None if any(own is None for own in numbers) else np.concatenate(numbers),
        }
    rng = np.random.default_rng(0)
    points_out: list[np.ndarray] = []
    normals_out: list[np.ndarray | None] = []
    colours_out: list[np.ndarray | None] = []
    for points, normals, faces, loose, colours in pieces:
        if faces is None:
            points_out.append(points)
            normals_out.append(normals)
            colours_out.append(colours)
            continue
        count = int(np.clip(2 * len(faces), *SAMPLES_A_MESH))
        sampled, across, seen = sample_coloured(points, faces, colours, count, rng)
        points_out.append(sampled)
        normals_out.append(across)
        colours_out.append(seen)
        if loose.sum() > LOOSE_SHARE * len(points):
            points_out.append(points[loose])
            normals_out.append(None)
            colours_out.append(None if colours is None else colours[loose])
    complete = all(normals is not None for normals in normals_out)
    return {
        "points": np.concatenate(points_out),
        "normals": np.concatenate(normals_out) if complete else None,  # type: ignore[arg-type]
        "faces": None,
        "colours": _together(colours_out, [len(points) for points in points_out]),
        "face_materials": None,
    }


def _together(colours: Sequence[np.ndarray | None], counts: Sequence[int]) -> np.ndarray | None:
    """One array of colours, white for what has none; None where nothing has."""
    if all(one is None for one in colours):
        return None
    return np.concatenate([
        np.ones((count, 3), np.float32) if one is None else one for one, count in zip(colours, counts, strict=True)
    ])
