"""Symmetries that an observed part shows, and what they say of where the whole lies.

Furniture has a mirror plane, vessels and lamps have an axis: the pose network says roughly where, the points exactly. A
mirror plane is right where mirrored points lie on observed surface and not in space that was looked through; an axis
where all normals meet it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..geometry.clouds import PointCloud
from ..geometry.transforms import Float64Array, Similarity

POINTS = 4000
"""Looked at of a cloud."""

REACH = 0.05
"""How far the mirror plane may lie from where the network says, longest side 1."""

GAIN = 0.05
"""By how much of the points' share the moved plane must be better than the given one."""


def axis_of_revolution(
    points: NDArray[np.floating[Any]], normals: NDArray[np.floating[Any]], tolerance: float
) -> Float64Array | None:
    """(2,) where the vertical axis of a surface of revolution is, or None where the points are not of one.

    points, normals: (N, 3), z up. Robust least squares of the distances by which the normals' horizontal lines miss the
    axis; it is one where 85 % miss it by less than `tolerance` and they come from more than one side.
    """
    across = np.linalg.norm(normals[:, :2], axis=1)
    steep = across > 0.5
    if steep.sum() < 50:
        return None
    h = np.asarray(normals[steep, :2], np.float64) / across[steep, None]
    rows = np.stack([-h[:, 1], h[:, 0]], 1)  # distance of a place c from the line: rows . (c - point)
    wanted = (rows * points[steep, :2]).sum(1)
    weight = np.ones(len(rows))
    centre = np.zeros(2)
    for _ in range(10):
        system = (rows * weight[:, None]).T @ rows
        if np.linalg.eigvalsh(system / weight.sum())[0] < 0.1:
            return None  # seen from one direction: the depth of the axis is anybody's guess
        centre = np.linalg.solve(system, (rows * weight[:, None]).T @ wanted)
        miss = np.abs(rows @ centre - wanted)
        weight = 1 / (1 + (miss / (1.5 * np.median(miss) + 1e-6 * tolerance)) ** 2)
    return centre if float((miss < tolerance).mean()) >= 0.85 else None


def mirror_plane(cloud: PointCloud) -> float | None:
    """x of the mirror plane of a canonical cloud with normals and a viewpoint, near 0; None where none is clearly
    better than x = 0."""
    assert cloud.normals is not None and cloud.viewpoint is not None
    viewpoint = cloud.viewpoint
    points, normals = cloud.points.astype(np.float64), cloud.normals.astype(np.float64)
    tree = cKDTree(points)
    rays, depths = _directions(points, viewpoint)
    seen = cKDTree(rays)
    some = slice(None, None, max(1, len(points) // 1000))
    flip = np.array([-1.0, 1.0, 1.0])

    def agreement(x: float) -> tuple[float, float]:
        """Share of mirrored points on observed surface, share of them in space that was looked through."""
        mirrored = points[some] * flip + [2 * x, 0.0, 0.0]
        distance, k = tree.query(mirrored, distance_upper_bound=0.03)
        near = np.isfinite(distance)
        k = np.where(near, k, 0)
        facing = (normals[k] * normals[some] * flip).sum(1).clip(0.0)
        off = ((mirrored - points[k]) * normals[k]).sum(1)
        on = float((near * facing * np.exp(-((off / 0.006) ** 2))).mean())
        ray, depth = _directions(mirrored, viewpoint)
        angle, k = seen.query(ray, distance_upper_bound=0.02)
        looked = np.isfinite(angle)
        return on, float((looked & (depth < depths[np.where(looked, k, 0)] - 0.02)).mean())

    def look(places: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([[x, *agreement(float(x))] for x in places])

    table = look(np.linspace(-REACH, REACH, 11))
    best = table[int(np.argmax(table[:, 1] - table[:, 2]))]
    table = np.concatenate([table, look(best[0] + np.linspace(-0.0075, 0.0075, 7))])
    table = table[np.argsort(table[:, 0], kind="stable")]
    score = table[:, 1] - table[:, 2]
    k = int(np.argmax(score))
    given = agreement(0.0)
    if abs(table[k, 0]) > REACH - 0.005 or table[k, 1] < given[0] or score[k] < given[0] - given[1] + GAIN:
        return None
    return float(table[k, 0])


def _directions(points: Float64Array, viewpoint: NDArray[Any]) -> tuple[Float64Array, Float64Array]:
    away = points - np.asarray(viewpoint, np.float64)
    depth = np.linalg.norm(away, axis=1)
    return away / depth[:, None], depth


def centred_by_symmetry(cloud: PointCloud, to_scene: Similarity) -> tuple[Similarity, str]:
    """A pose (canonical -> the cloud's frame) moved so that an axis of revolution, or else a mirror plane, of the cloud
    lies where the canonical frame has it, and which of the two was found ('axis', 'mirror plane', '').

    Clouds without normals or without a viewpoint keep their pose: nothing tells where they contradict a symmetry.
    """
    if cloud.normals is None or cloud.viewpoint is None:
        return to_scene, ""
    inverse = to_scene.inverse()
    some = slice(None, None, max(1, len(cloud.points) // POINTS))
    seen = PointCloud(
        inverse.apply(cloud.points[some]), inverse.apply_to_directions(cloud.normals[some]),
        inverse.apply(cloud.viewpoint[None])[0],
    )  # fmt: skip
    assert seen.normals is not None
    axis = axis_of_revolution(seen.points, seen.normals, 0.02)
    if axis is not None and float(np.abs(axis).max()) < 0.25:
        return to_scene.after(Similarity(translation=np.array([*axis, 0.0]))), "axis"
    x = mirror_plane(seen)
    if x is None:
        return to_scene, ""
    return to_scene.after(Similarity(translation=np.array([x, 0.0, 0.0]))), "mirror plane"
