"""Blender's objects to arrays and back: reading a source, the preview while a job runs, the result at its end.

Nothing here keeps a reference to a Blender object: undo and file loading make those dangle. `Reference` names one.

Frames. `read_scan` sends points in world axes and world scale, measured from the source's origin: float32 then stays
precise far from the world's origin. For align 'none' the source's own axes are the canonical frame, so its local
coordinates are sent. `Scan.frame` is the matrix that carries what was sent, and so what comes back, to the world.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..link.client import EngineProblem, MeshArrays

log = logging.getLogger(__name__)

PREVIEW_PROPERTY = "shapewright_preview"
"""Custom property of a preview object: the id of its job. Where no such job runs, the object is a leftover."""

READABLE_TYPES = ("MESH", "POINTCLOUD")


@dataclass
class Reference:
    """A data-block by its session uid, which survives renaming and undo, and by its name, which finds it fast."""

    name: str
    session_uid: int

    @classmethod
    def of(cls, block: bpy.types.ID) -> Reference:
        return cls(block.name, block.session_uid)

    def find(self, blocks: Any) -> Any | None:
        """The data-block in bpy.data.objects, .collections, ...; None where it is gone."""
        found = blocks.get(self.name)
        if found is not None and found.session_uid == self.session_uid:
            return found
        for block in blocks:
            if block.session_uid == self.session_uid:
                self.name = block.name
                return block
        return None


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


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def why_unreadable(obj: bpy.types.Object | None) -> str:
    """A sentence on why the object cannot be completed; '' where it can. Cheap enough for an operator's poll."""
    if obj is None:
        return "Select the object to complete"
    if obj.type not in READABLE_TYPES:
        return f"'{obj.name}' is neither a mesh nor a point cloud"
    if PREVIEW_PROPERTY in obj:
        return f"'{obj.name}' is the preview of a running job"
    return ""


def never_turned(obj: bpy.types.Object) -> bool:
    """Whether the object's axes are the world's: nobody has turned it to face anywhere."""
    return np.allclose(np.array(obj.matrix_world.to_quaternion().to_matrix()), np.eye(3), atol=1e-3)


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


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(N, 3) points through a (4, 4) matrix, computed in float64, returned as float32."""
    moved = points.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    with np.errstate(over="ignore"):  # what leaves float32's range becomes infinite, and the engine says so
        return moved.astype(np.float32)


def transform_normals(normals: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(N, 3) normals under a (4, 4) matrix of any scale and shear: by its inverse transpose, unit length again.

    A mirroring matrix keeps the normals outside: it is the faces' winding that turns.
    """
    linear = matrix[:3, :3]
    if abs(np.linalg.det(linear)) < 1e-300:
        raise EngineProblem(
            "source_flat",
            "The object cannot be completed.",
            "Its scale is zero along an axis, so its normals have no direction.",
            "Give the object a scale that is not zero.",
        )
    turned = normals.astype(np.float64) @ np.linalg.inv(linear)
    lengths = np.linalg.norm(turned, axis=1, keepdims=True)
    return (turned / np.maximum(lengths, 1e-300)).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def build_mesh(name: str, arrays: MeshArrays, matrix: np.ndarray | None = None) -> bpy.types.Mesh:
    """A smooth-shaded mesh data-block. matrix: (4, 4) applied to the vertices first, or None.

    Writes whole attributes: Blender copies those in one go, where its collections of vertices and loops are walked item
    by item (measured at 318,000 triangles: 12 ms in all, of which 10 are the faces' offsets; `from_pydata` or
    `Mesh.update(calc_edges=True)` take 10 to 20 times that).
    """
    mesh = bpy.data.meshes.new(name)
    fill_mesh(mesh, arrays, matrix)
    return mesh


def fill_mesh(mesh: bpy.types.Mesh, arrays: MeshArrays, matrix: np.ndarray | None = None) -> None:
    """Gives a mesh data-block other geometry; its name, materials and users stay."""
    vertices = arrays.vertices if matrix is None else transform_points(arrays.vertices, matrix)
    corners = 3 * len(arrays.faces)
    if len(mesh.vertices):
        mesh.clear_geometry()
    mesh.vertices.add(len(vertices))
    mesh.edges.add(len(arrays.edges))
    mesh.loops.add(corners)
    mesh.polygons.add(len(arrays.faces))
    if len(vertices):
        mesh.attributes["position"].data.foreach_set("vector", vertices.reshape(-1))
    if corners:
        mesh.attributes[".edge_verts"].data.foreach_set("value", arrays.edges.reshape(-1))
        mesh.attributes[".corner_vert"].data.foreach_set("value", arrays.faces.reshape(-1))
        mesh.attributes[".corner_edge"].data.foreach_set("value", arrays.corner_edges)
        mesh.polygons.foreach_set("loop_start", np.arange(0, corners, 3, dtype=np.int32))
    elif arrays.normals is not None and len(vertices):  # a cloud: no faces say how its points are turned
        normals = arrays.normals if matrix is None else transform_normals(arrays.normals, matrix)
        mesh.attributes.new("normal", "FLOAT_VECTOR", "POINT").data.foreach_set("vector", normals.reshape(-1))
    mesh.update()


def hide(obj: bpy.types.Object, hidden: bool) -> None:
    """Hides an object in every view layer that shows it."""
    for owner in bpy.data.scenes:
        for layer in owner.view_layers:
            with contextlib.suppress(RuntimeError):  # not in this view layer
                obj.hide_set(hidden, view_layer=layer)


def move_to(obj: bpy.types.Object, homes: Sequence[bpy.types.Collection]) -> None:
    """Links the object into exactly these collections."""
    for collection in homes:
        if obj.name not in collection.objects:
            collection.objects.link(obj)
    for collection in list(obj.users_collection):
        if collection not in homes:
            collection.objects.unlink(obj)


def placement(frame: np.ndarray) -> tuple[Matrix, np.ndarray | None]:
    """(object matrix, matrix for the vertices or None) that together carry the sent frame to the world.

    An object holds location, rotation and scale, but no shear, which parents and non-uniform scale can cause: a frame
    with shear goes into the vertices, all but its translation.
    """
    matrix = Matrix(frame.tolist())
    rebuilt = np.array(Matrix.LocRotScale(*matrix.decompose()), np.float64)
    if np.allclose(rebuilt[:3, :3], frame[:3, :3], rtol=1e-5, atol=1e-6 * max(np.abs(frame[:3, :3]).max(), 1e-30)):
        return matrix, None
    linear = frame.copy()
    linear[:3, 3] = 0.0
    return Matrix.Translation(frame[:3, 3].tolist()), linear


def swap_mesh(obj: bpy.types.Object, mesh: bpy.types.Mesh) -> None:
    old = obj.data
    obj.data = mesh
    if old.users == 0:
        bpy.data.meshes.remove(old)


def remove_object(obj: bpy.types.Object) -> None:
    mesh = obj.data if obj.type == "MESH" else None
    bpy.data.objects.remove(obj, do_unlink=True)
    if mesh is not None and mesh.users == 0:
        bpy.data.meshes.remove(mesh)


def remove_stray_previews(running: Iterable[str]) -> int:
    """Removes previews whose job no longer runs: an undo, or a file saved at the wrong moment, brings them back."""
    keep = set(running)
    strays = [obj for obj in bpy.data.objects if obj.get(PREVIEW_PROPERTY, "") and obj[PREVIEW_PROPERTY] not in keep]
    for obj in strays:
        remove_object(obj)
    return len(strays)


def camera_position(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> tuple[float, float, float]:
    """Where the scene's camera stands, in world space. Raises EngineProblem where there is none."""
    camera = scene.camera
    if camera is None:
        raise EngineProblem(
            "camera_missing",
            "The viewpoint cannot be taken from the camera.",
            "The scene has no active camera.",
            "Add a camera where the scanner stood, or set the viewpoint to 'Unknown'.",
        )
    x, y, z = camera.evaluated_get(depsgraph).matrix_world.translation
    return float(x), float(y), float(z)


def push_undo(message: str) -> None:
    """One step in the undo history, from wherever this is called (a timer has no window of its own)."""
    windows = bpy.context.window_manager.windows if bpy.context.window_manager else []
    if bpy.context.window is None and len(windows):
        with bpy.context.temp_override(window=windows[0]):
            bpy.ops.ed.undo_push(message=message)
    elif bpy.ops.ed.undo_push.poll():
        bpy.ops.ed.undo_push(message=message)


def redraw_panels() -> None:
    """Asks for a redraw of every sidebar and of the preferences.

    Not of the 3D views themselves: drawing a heavy scene for every bit of progress would slow the window down, and
    Blender redraws them by itself when an object changes.
    """
    manager = bpy.context.window_manager
    for window in manager.windows if manager else []:
        for area in window.screen.areas:
            for region in area.regions:
                if area.type == "PREFERENCES" or (area.type == "VIEW_3D" and region.type == "UI"):
                    region.tag_redraw()
