"""Arrays to Blender's objects: meshes, where they stand, what is hidden, moved and removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

import bpy
import numpy as np
from mathutils import Matrix

from ..link.mesh_arrays import MeshArrays
from .reference import PREVIEW_PROPERTY
from .transform import transform_normals, transform_points


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
        if arrays.uvs is not None:
            mesh.uv_layers.new(name="UVMap").uv.foreach_set("vector", arrays.uvs.reshape(-1))
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


def in_own_frame(
    matrix: Matrix, bake: np.ndarray | None, own: np.ndarray | None
) -> tuple[Matrix, np.ndarray | None]:
    """As `placement` gives them, for an object that has its own frame (4, 4) within the sent one: its axes and origin
    lie there, and the vertices where they were. The same where there is none, or where the object would be sheared."""
    if own is None:
        return matrix, bake
    before = np.eye(4) if bake is None else bake
    rigid = before @ own
    scale = np.linalg.norm(rigid[:3, :3], axis=0)
    rigid[:3, :3] /= scale
    if not np.allclose(rigid[:3, :3] @ rigid[:3, :3].T, np.eye(3), atol=1e-5):
        return matrix, bake
    placed, sheared = placement(np.array(matrix, np.float64) @ rigid)
    return (matrix, bake) if sheared is not None else (placed, np.linalg.inv(rigid) @ before)


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
