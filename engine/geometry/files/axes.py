"""Which way is up in a file, and the turn between its axes and Blender's.

The scene has z up. Blender's importer takes an OBJ's y for up where nobody says otherwise, and its exporter writes it
so; PLY, STL and point clouds are taken as they are. A shape that was read stands as Blender would show it, and what is
written stands so again, whatever the two formats are.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...frames import UP_AXES
from ..clouds import PointCloud
from ..meshes import Mesh
from .gates import Float64Array
from .loaded import Raw

TO_SCENE: dict[str, Float64Array] = {
    "+z": np.eye(3),
    "+y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
}
"""Of a format's up axis: the rotation from the file's axes to the scene's, as Blender's importers have it."""


def turned(points: NDArray[Any], turn: Float64Array) -> NDArray[Any]:
    """(N, 3) or (3,) points or directions, turned exactly: axes change places and signs, nothing is rounded."""
    if turn.trace() == 3.0 or points.ndim == 0 or points.shape[-1] != 3:
        return points
    if points.dtype.kind != "f":
        points = points.astype(np.float64)
    from_axis = np.abs(turn).argmax(axis=1)
    signs = turn[np.arange(3), from_axis]
    out = points[..., from_axis]
    out[..., signs < 0] = 0.0 - out[..., signs < 0]  # no negative zeros
    return out


def stood_up(raw: Raw, turn: Float64Array) -> Raw:
    """What a file holds, in the scene's axes."""
    return dataclasses.replace(
        raw,
        points=turned(np.asarray(raw.points), turn),
        normals=None if raw.normals is None else turned(np.asarray(raw.normals), turn),
        viewpoint=None if raw.viewpoint is None else turned(np.asarray(raw.viewpoint), turn),
    )


def mesh_in(mesh: Mesh, turn: Float64Array) -> Mesh:
    """A mesh of the scene in a file's axes. turn: from the file's axes to the scene's."""
    normals = None if mesh.normals is None else turned(mesh.normals, turn.T)
    own = None
    if mesh.own_frame is not None:
        own = np.eye(4)
        own[:3] = turn.T @ mesh.own_frame[:3]
    return dataclasses.replace(mesh, vertices=turned(mesh.vertices, turn.T), normals=normals, own_frame=own)


def cloud_in(cloud: PointCloud, turn: Float64Array) -> PointCloud:
    """As mesh_in, of a cloud."""
    normals = None if cloud.normals is None else turned(cloud.normals, turn.T)
    viewpoint = None if cloud.viewpoint is None else turned(cloud.viewpoint, turn.T)
    return dataclasses.replace(cloud, points=turned(cloud.points, turn.T), normals=normals, viewpoint=viewpoint)


def axis_in_scene(up: str, turn: Float64Array) -> str:
    """'+y' and so on in the file's axes -> the same direction by its name in the scene's. Unknown names stay."""
    if up not in UP_AXES:
        return up
    direction = np.zeros(3)
    direction["xyz".index(up[1])] = 1.0 if up[0] == "+" else -1.0
    there = turn @ direction
    axis = int(np.abs(there).argmax())
    return ("+" if there[axis] > 0 else "-") + "xyz"[axis]
