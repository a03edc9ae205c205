"""The part of a shape that its variants keep."""

from __future__ import annotations

import bpy
import numpy as np

from ...link.problem import EngineProblem
from ...scene.surface import sample_surface
from ...scene.transform import transform_normals, transform_points

KEPT_POINTS = 4000
"""How densely the kept part is sampled where its faces are large."""


def kept_part(obj: bpy.types.Object, keep: str, to_sent: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Points (K, 3) and normals (K, 3) of the part to keep, in the sent frame; None where nothing is kept.

    Raises EngineProblem where the part is empty.
    """
    if keep == "NONE":
        return None, None
    if obj.type != "MESH":
        raise _nothing_kept(obj, "It is not a mesh, and has neither selected vertices nor vertex groups.")
    if obj.mode == "EDIT":
        obj.update_from_editmode()
    mesh = obj.data
    chosen = np.zeros(len(mesh.vertices), bool)
    if keep == "SELECTED":
        mesh.vertices.foreach_get("select", chosen)
    else:
        group = obj.vertex_groups.active
        if group is None:
            raise _nothing_kept(obj, "It has no vertex group.")
        for vertex in mesh.vertices:
            chosen[vertex.index] = any(g.group == group.index and g.weight > 0.5 for g in vertex.groups)
    if not chosen.any():
        raise _nothing_kept(obj, "No vertex is selected." if keep == "SELECTED" else "Its vertex group is empty.")
    if chosen.all():
        raise _nothing_kept(obj, "All of it is to be kept, so that there is nothing to vary.")
    points = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.attributes["position"].data.foreach_get("vector", points)
    points = points.reshape(-1, 3)
    normals = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("normal", normals)
    kept, kept_normals = points[chosen], normals.reshape(-1, 3)[chosen]
    mesh.calc_loop_triangles()
    triangles = np.empty(3 * len(mesh.loop_triangles), np.int32)
    mesh.loop_triangles.foreach_get("vertices", triangles)
    triangles = triangles.reshape(-1, 3)
    triangles = triangles[chosen[triangles].all(1)]
    if len(triangles) and len(kept) < KEPT_POINTS:  # few large faces: their vertices alone say little
        more, more_normals = sample_surface(points, triangles, KEPT_POINTS - len(kept), np.random.default_rng(0))
        kept, kept_normals = np.concatenate([kept, more]), np.concatenate([kept_normals, more_normals])
    if len(triangles) == 0:
        kept_normals = np.zeros_like(kept)
    matrix = to_sent @ np.array(obj.matrix_world, np.float64)
    moved = transform_points(kept, matrix)
    if len(triangles) == 0 or not (np.linalg.norm(kept_normals, axis=1) > 1e-6).all():
        return moved, None
    return moved, transform_normals(kept_normals, matrix)


def _nothing_kept(obj: bpy.types.Object, why: str) -> EngineProblem:
    return EngineProblem(
        "kept_part_unusable",
        f"There is no part of '{obj.name}' to keep.",
        why,
        "Select in Edit Mode what is to stay, or make a vertex group of it, or keep nothing.",
    )
