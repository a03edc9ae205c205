"""Blender's objects to arrays: what the engine will see of a source.

Frames. `read_scan` sends points in world axes and world scale, measured from the source's origin: float32 then stays
precise far from the world's origin. For align 'none' the source's own axes are the canonical frame, so its local
coordinates are sent. `Scan.frame` is the matrix that carries what was sent, and so what comes back, to the world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from ..link.problem import EngineProblem
from .reference import PREVIEW_PROPERTY, Reference
from .transform import transform_normals, transform_points

READABLE_TYPES = ("MESH", "POINTCLOUD")


@dataclass
class Scan:
    """A source object as the engine will see it.

    arrays(): points (N, 3), normals (N, 3) or None, faces (F, 3) or None, in the frame that is sent; slow for large
    scans and free of bpy, so that it is called off the main thread.
    frame: (4, 4) float64, sent frame -> world.  viewpoint: in the sent frame.
    """

    source: Reference
    collections: list[Reference]
    frame: np.ndarray
    arrays: Callable[[], dict[str, np.ndarray | None]]
    viewpoint: tuple[float, float, float] | None = None
    point_count: int = 0
    notes: list[str] = field(default_factory=list)


def why_unreadable(obj: bpy.types.Object | None) -> str:
    """A sentence on why the object cannot be completed; '' where it can. Cheap enough for an operator's poll."""
    if obj is None:
        return "Select the object to complete"
    if obj.type not in READABLE_TYPES:
        return f"'{obj.name}' is neither a mesh nor a point cloud"
    if PREVIEW_PROPERTY in obj:
        return f"'{obj.name}' is the preview of a running job"
    return ""


def read_scan(
    obj: bpy.types.Object,
    depsgraph: bpy.types.Depsgraph,
    align: str = "scale",
    viewpoint: Sequence[float] | None = None,
) -> Scan:
    """Reads an evaluated object (modifiers applied; edits in Edit Mode included).

    viewpoint: where the sensor stood, in world space, or None.
    Raises EngineProblem where the object holds no points.
    """
    if obj.mode == "EDIT":
        obj.update_from_editmode()
        depsgraph.update()
    evaluated = obj.evaluated_get(depsgraph)
    world = np.array(evaluated.matrix_world, np.float64)
    points, normals, faces = _read_geometry(evaluated, depsgraph)
    if len(points) == 0:
        raise EngineProblem(
            "source_empty",
            f"'{obj.name}' cannot be completed.",
            "It has no points.",
            "Select an object with points: a scan, a mesh or a point cloud.",
        )
    if align == "none":
        frame = world
    else:
        frame = np.eye(4)
        frame[:3, 3] = world[:3, 3]
    to_sent = np.linalg.inv(frame) @ world if align != "none" else np.eye(4)

    notes: list[str] = []
    if normals is not None and not _usable_normals(normals):
        notes.append("The attribute 'normal' holds zero or non-finite vectors; it was left out.")
        normals = None

    def arrays() -> dict[str, np.ndarray | None]:
        return {
            "points": transform_points(points, to_sent),
            "normals": None if normals is None else transform_normals(normals, to_sent),
            "faces": faces if faces is None or np.linalg.det(to_sent[:3, :3]) >= 0 else faces[:, ::-1].copy(),
        }

    seen_from = None
    if viewpoint is not None:
        x, y, z = np.linalg.solve(frame, np.array([*viewpoint, 1.0], np.float64))[:3]
        seen_from = (float(x), float(y), float(z))
    return Scan(
        Reference.of(obj),
        [Reference.of(collection) for collection in obj.users_collection],
        frame,
        arrays,
        seen_from,
        len(points),
        notes,
    )


def _read_geometry(
    evaluated: bpy.types.Object, depsgraph: bpy.types.Depsgraph
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Points (N, 3), normals or None, faces or None, in the object's local frame."""
    if evaluated.type == "POINTCLOUD":
        return _read_points(evaluated.data)
    mesh = evaluated.to_mesh()
    try:
        if len(mesh.vertices):
            return _read_mesh(mesh)
    finally:
        evaluated.to_mesh_clear()
    # A mesh object whose modifiers make a point cloud: it appears as an instance beside the (empty) mesh.
    for instance in depsgraph.object_instances:
        shown = instance.object
        if (
            instance.parent is not None
            and shown.type == "POINTCLOUD"
            and instance.parent.original == evaluated.original
        ):
            points, normals, _ = _read_points(shown.data)
            to_local = np.linalg.inv(np.array(evaluated.matrix_world)) @ np.array(instance.matrix_world)
            return (
                transform_points(points, to_local),
                None if normals is None else transform_normals(normals, to_local),
                None,
            )
    return np.empty((0, 3), np.float32), None, None


def _read_mesh(mesh: bpy.types.Mesh) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    points = _read_vectors(mesh.attributes["position"], len(mesh.vertices))
    if len(mesh.polygons) == 0:
        return points, _read_normals(mesh.attributes, len(points)), None
    mesh.calc_loop_triangles()
    faces = np.empty(3 * len(mesh.loop_triangles), np.int32)
    mesh.loop_triangles.foreach_get("vertices", faces)
    return points, None, faces.reshape(-1, 3)


def _read_points(cloud: Any) -> tuple[np.ndarray, np.ndarray | None, None]:
    position = cloud.attributes.get("position")
    if position is None:
        return np.empty((0, 3), np.float32), None, None
    points = _read_vectors(position, len(position.data))
    return points, _read_normals(cloud.attributes, len(points)), None


def _read_vectors(attribute: bpy.types.Attribute, count: int) -> np.ndarray:
    values = np.empty(3 * count, np.float32)
    attribute.data.foreach_get("vector", values)
    return values.reshape(-1, 3)


def _read_normals(attributes: Any, count: int) -> np.ndarray | None:
    """The point attribute 'normal' (or 'nx', 'ny', 'nz', as Blender's PLY importer names it), unchecked."""
    attribute = attributes.get("normal") or attributes.get("normals")
    if attribute is not None and attribute.domain == "POINT" and attribute.data_type == "FLOAT_VECTOR":
        return _read_vectors(attribute, count)
    axes = [attributes.get(name) for name in ("nx", "ny", "nz")]
    if all(axis is not None and axis.domain == "POINT" and axis.data_type == "FLOAT" for axis in axes):
        normals = np.empty((count, 3), np.float32)
        for number, axis in enumerate(axes):
            column = np.empty(count, np.float32)
            axis.data.foreach_get("value", column)
            normals[:, number] = column
        return normals
    return None


def _usable_normals(normals: np.ndarray) -> bool:
    lengths = np.einsum("ij,ij->i", normals, normals)
    return bool(np.isfinite(lengths).all() and (lengths > 1e-12).all())
