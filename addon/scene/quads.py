"""An object's mesh made of quads, by Blender's QuadriFlow."""

from __future__ import annotations

import bpy
import numpy as np

from ..link.problem import EngineProblem

SHORT = 1e-4
"""Blender takes a mesh with an edge whose ends differ by no more than this along every axis for one that is not
manifold, in the object's own unit."""


def make_quads(obj: bpy.types.Object, faces: int) -> int:
    """Gives a mesh object about so many quads in place of its faces; how many it has then. Slots, name and place stay,
    UVs go. Raises EngineProblem 'quads_refused', and the object is as it was."""
    before = obj.data
    work = before.copy()  # what QuadriFlow leaves behind where it fails is not promised anywhere
    obj.data = work
    try:
        with bpy.context.temp_override(object=obj, active_object=obj, selected_objects=[obj]):
            state = bpy.ops.object.quadriflow_remesh(mode="FACES", target_faces=faces)
    except RuntimeError:
        state = {"CANCELLED"}
    made = obj.data
    # Blender 4.2 also says that it has finished where it has refused, and left the mesh alone.
    alone = len(made.vertices) == len(before.vertices) and len(made.loops) == len(before.loops)
    if state != {"FINISHED"} or len(made.polygons) == 0 or alone:
        obj.data = before
        bpy.data.meshes.remove(made)
        raise EngineProblem(
            "quads_refused",
            f"'{obj.name}' could not be remeshed in quads.",
            _why(before),
            "Complete or fit the object again, without open boundaries, or remesh it with voxels first.",
        )
    name = before.name
    if before.users == 0:
        bpy.data.meshes.remove(before)
    made.name = name
    return len(made.polygons)


def _why(mesh: bpy.types.Mesh) -> str:
    ends = np.empty(2 * len(mesh.edges), np.int32)
    mesh.edges.foreach_get("vertices", ends)
    places = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", places)
    across = np.abs(np.diff(places.reshape(-1, 3)[ends.reshape(-1, 2)], axis=1)[:, 0]).max(1)
    corners = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("edge_index", corners)
    shared = np.bincount(corners, minlength=len(mesh.edges))
    if (shared > 2).any():
        return f"{int((shared > 2).sum())} of its edges belong to more than two faces."
    if len(across) and across.min() <= SHORT:
        return f"{int((across <= SHORT).sum())} of its edges are shorter than QuadriFlow takes ({SHORT:g} units)."
    return "QuadriFlow found no way, or the faces do not look to one side."
