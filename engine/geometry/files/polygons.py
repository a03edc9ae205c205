"""Polygons into triangles: fans where a fan covers the polygon, ears cut off where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .gates import Int64Array

BLOCK = 1 << 20


def fans(counts: Int64Array, flat: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Polygons (counts (P,), their corners one after the other) -> (F, 3) triangles, each polygon a fan, and (F,) the
    polygon that each belongs to."""
    starts = np.cumsum(counts) - counts
    pieces = np.maximum(counts - 2, 0)
    polygon = np.repeat(np.arange(len(counts)), pieces)
    nth = np.arange(len(polygon)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = starts[polygon]
    return np.stack([flat[first], flat[first + nth + 1], flat[first + nth + 2]], axis=1), polygon


def triangulated(counts: Int64Array, flat: Int64Array, points: NDArray[Any]) -> tuple[Int64Array, Int64Array]:
    """As `fans`, but right for concave polygons too.

    points: (V, 3). A fan is right where none of its triangles looks against the polygon's own (Newell's) normal. Where
    one does, a quad gets its other diagonal and a larger polygon is cut by ear clipping (the library earcut) in its own
    plane. Polygons that refer to points which are not there stay fans: the checks refuse them.
    """
    triangles, polygon = fans(counts, flat)
    if len(triangles) == 0 or int(counts.max()) <= 3 or int(flat.min()) < 0 or int(flat.max()) >= len(points):
        return triangles, polygon
    concave = _concave(counts, triangles, polygon, points)
    if len(concave) == 0:
        return triangles, polygon
    starts = np.cumsum(counts) - counts
    keep = ~np.isin(polygon, concave)
    parts, owners = [triangles[keep]], [polygon[keep]]
    quads = concave[counts[concave] == 4]
    corners = flat[starts[quads][:, None] + np.arange(4)]
    parts.append(np.concatenate([corners[:, [1, 2, 3]], corners[:, [1, 3, 0]]]))
    owners.append(np.tile(quads, 2))
    for number in concave[counts[concave] > 4]:
        corners = flat[starts[number] : starts[number] + counts[number]]
        parts.append(corners[_ears(points[corners].astype(np.float64))])
        owners.append(np.full(len(parts[-1]), number))
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return np.concatenate(parts)[order], owner[order]


def _concave(counts: Int64Array, triangles: Int64Array, polygon: Int64Array, points: NDArray[Any]) -> Int64Array:
    """Numbers of the polygons whose fan folds back on itself."""
    normals = np.empty((len(triangles), 3))
    for start in range(0, len(triangles), BLOCK):
        a, b, c = np.moveaxis(points[triangles[start : start + BLOCK]].astype(np.float64), 1, 0)
        normals[start : start + BLOCK] = np.cross(b - a, c - a)
    whole = np.stack([np.bincount(polygon, normals[:, axis], len(counts)) for axis in range(3)], axis=1)
    with np.errstate(invalid="ignore"):
        along = np.einsum("ij,ij->i", normals, whole[polygon])
        size = np.einsum("ij,ij->i", whole, whole)
        against = along < -1e-6 * size[polygon]
    return np.asarray(np.unique(polygon[against]), np.int64)


def _ears(corners: NDArray[np.float64]) -> Int64Array:
    """(T, 3) numbers of the corners (C, 3) of one polygon, wound as it is; a fan where it has no area."""
    import mapbox_earcut

    count = len(corners)
    following = np.roll(corners, -1, axis=0)
    normal = np.cross(corners - corners[0], following - corners[0]).sum(axis=0)
    drop = int(np.argmax(np.abs(normal)))
    flat = corners[:, [(drop + 1) % 3, (drop + 2) % 3]]
    if normal[drop] < 0:
        flat = flat[:, ::-1]
    flat = flat - flat.min(axis=0)
    found = mapbox_earcut.triangulate_float64(np.ascontiguousarray(flat), np.array([count], np.uint32))
    ears = np.asarray(found, np.int64).reshape(-1, 3)
    if len(ears) == 0:
        fan = np.arange(1, count - 1)
        return np.stack([np.zeros_like(fan), fan, fan + 1], axis=1)
    a, b, c = np.moveaxis(flat[ears], 1, 0)
    turned = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]) < 0
    ears[turned] = ears[turned][:, ::-1]
    return ears
