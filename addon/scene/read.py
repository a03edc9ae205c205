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
from .appearance import Appearance, read_colours, read_look
from .reference import PREVIEW_PROPERTY, Reference
from .transform import transform_normals, transform_points

READABLE_TYPES = ("MESH", "POINTCLOUD")


@dataclass
class Scan:
    """A source object as the engine will see it.

    arrays(): points (N, 3), normals (N, 3), faces (F, 3), colours (N, 3), face_materials (F,) with material_names, each
    None where there are none, in the frame that is sent; slow for large scans and free of bpy, so that it is called off
    the main thread.
    frame: (4, 4) float64, sent frame -> world.  viewpoint: in the sent frame.  look: of the source, for the results.
    """

    source: Reference
    collections: list[Reference]
    frame: np.ndarray
    arrays: Callable[[], dict[str, np.ndarray | None]]
    viewpoint: tuple[float, float, float] | None = None
    point_count: int = 0
    notes: list[str] = field(default_factory=list)
    look: Appearance = field(default_factory=Appearance)


@dataclass
class _Geometry:
    """In the object's local frame. points: (N, 3).  normals, faces, colours, face_materials: as of Scan.arrays."""

    points: np.ndarray
    normals: np.ndarray | None = None
    faces: np.ndarray | None = None
    colours: np.ndarray | None = None
    face_materials: np.ndarray | None = None
    look: Appearance = field(default_factory=Appearance)


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
    read = _read_geometry(evaluated, depsgraph)
    points, normals, faces, numbers = read.points, read.normals, read.faces, read.face_materials
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
            "colours": read.colours,
            "face_materials": numbers,
            "material_names": None if numbers is None else read.look.names(),
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
        read.look,
    )


def _read_geometry(evaluated: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> _Geometry:
    if evaluated.type == "POINTCLOUD":
        return _read_points(evaluated)
    mesh = evaluated.to_mesh()
    try:
        if len(mesh.vertices):
            return _read_mesh(evaluated, mesh)
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
            found = _read_points(shown)
            to_local = np.linalg.inv(np.array(evaluated.matrix_world)) @ np.array(instance.matrix_world)
            found.points = transform_points(found.points, to_local)
            found.normals = None if found.normals is None else transform_normals(found.normals, to_local)
            return found
    return _Geometry(np.empty((0, 3), np.float32))


def _read_mesh(shown: bpy.types.Object, mesh: bpy.types.Mesh) -> _Geometry:
    points = _read_vectors(mesh.attributes["position"], len(mesh.vertices))
    look, colours = read_look(shown, mesh), read_colours(mesh, len(points))
    if len(mesh.polygons) == 0:
        return _Geometry(points, _read_normals(mesh.attributes, len(points)), None, colours, None, look)
    mesh.calc_loop_triangles()
    faces = np.empty(3 * len(mesh.loop_triangles), np.int32)
    mesh.loop_triangles.foreach_get("vertices", faces)
    numbers = None
    if look.materials:
        numbers = np.empty(len(mesh.loop_triangles), np.int32)
        mesh.loop_triangles.foreach_get("material_index", numbers)
        numbers = numbers.clip(0, len(look.materials) - 1)  # as Blender shows a number beyond the slots
    return _Geometry(points, None, faces.reshape(-1, 3), colours, numbers, look)


def _read_points(shown: bpy.types.Object) -> _Geometry:
    cloud: Any = shown.data
    position = cloud.attributes.get("position")
    if position is None:
        return _Geometry(np.empty((0, 3), np.float32))
    points = _read_vectors(position, len(position.data))
    normals = _read_normals(cloud.attributes, len(points))
    return _Geometry(points, normals, None, read_colours(cloud, len(points)), None, read_look(shown, cloud))


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
