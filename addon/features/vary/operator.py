"""Variants: relatives of one shape, with a part of it kept where that is wanted."""

import bpy
import numpy as np
from mathutils import Matrix

from ...carried import code as codes
from ...link.client import EngineProblem
from ...scene import read as scene
from ...session import session
from ...ui.job_operator import JobOperator, job_settings, prior_named
from ...writers import side_by_side as generation

KEPT_POINTS = 4000
"""How densely the kept part is sampled where its faces are large."""


class SHAPEWRIGHT_OT_vary(JobOperator, bpy.types.Operator):
    bl_idname = "shapewright.vary"
    bl_label = "Variants"
    bl_description = (
        "Make relatives of the active object, beside it in a new collection. "
        "A mesh that the prior did not make is taken up by it first"
    )

    __annotations__ = {**generation.common_settings(), **generation.vary_settings(), **prior_named(), **job_settings()}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        why = scene.why_unreadable(context.active_object)
        if why:
            cls.poll_message_set(why)
        return not why

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set:
        settings = context.scene.shapewright_generation
        self.take_settings(settings, (*generation.common_settings(), *generation.vary_settings()))
        return self.run(context)

    def execute(self, context: bpy.types.Context) -> set:
        return self.run(context)

    def make_job(self, context: bpy.types.Context) -> session.Job:
        obj = context.active_object
        depsgraph = context.evaluated_depsgraph_get()
        frame = frame_of(obj)
        shape = codes.read(obj, depsgraph, frame)
        kept, kept_normals = kept_part(obj, self.keep, np.linalg.inv(frame))

        def arrays() -> dict[str, np.ndarray | None]:
            return {**shape.arrays(), "kept": kept, "kept_normals": kept_normals}

        request = {
            "kind": "vary",
            **codes.one_prior([shape], self.prior),
            "count": self.variants,
            "strength": self.strength,
            **self.common_request(context, obj.name),
        }
        width, _ = generation.world_extent([obj])
        step = generation.GAP * width
        place = generation.row(step, (step, 0.0, 0.0))
        writer = generation.SetWriter(f"{obj.name} Variants", f"{obj.name} Variant", frame, place)
        title = f"{self.variants} variants of {obj.name}"
        job = session.Job(title, request, writer=writer, arrays=arrays, want_previews=False)
        job.result_count, job.shapes = self.variants, [shape]
        return job


def frame_of(obj: bpy.types.Object) -> np.ndarray:
    """The frame in which an object is sent and its relatives come back, (4, 4) -> world.

    An object with a code gives its own, so that what is made has its rotation; without one it is looked at as it
    stands in the world: what is up for it is not known.
    """
    world = np.array(obj.matrix_world, np.float64)
    scale = np.linalg.norm(world[:3, :3], axis=0)
    if codes.has_code(obj) and codes.fits_mesh(obj) and scale.min() > 0 and np.linalg.det(world[:3, :3]) > 0:
        rotation = world[:3, :3] / scale
        if np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-4):
            frame = world.copy()
            frame[:3, :3] = rotation
            return frame
    return np.array(Matrix.Translation(world[:3, 3].tolist()), np.float64)


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
        more, more_normals = _sample(points, triangles, KEPT_POINTS - len(kept))
        kept, kept_normals = np.concatenate([kept, more]), np.concatenate([kept_normals, more_normals])
    if len(triangles) == 0:
        kept_normals = np.zeros_like(kept)
    matrix = to_sent @ np.array(obj.matrix_world, np.float64)
    moved = scene.transform_points(kept, matrix)
    if len(triangles) == 0 or not (np.linalg.norm(kept_normals, axis=1) > 1e-6).all():
        return moved, None
    return moved, scene.transform_normals(kept_normals, matrix)


def _sample(points: np.ndarray, triangles: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points spread evenly over the triangles, and their normals."""
    rng = np.random.default_rng(0)
    a, b, c = (points[triangles[:, corner]].astype(np.float64) for corner in range(3))
    cross = np.cross(b - a, c - a)
    areas = np.linalg.norm(cross, axis=1)
    if not areas.sum() > 0:
        return np.empty((0, 3), np.float32), np.empty((0, 3), np.float32)
    which = rng.choice(len(triangles), count, p=areas / areas.sum())
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    sampled = a[which] + u[:, None] * (b - a)[which] + v[:, None] * (c - a)[which]
    return sampled.astype(np.float32), (cross[which] / areas[which, None]).astype(np.float32)


def _nothing_kept(obj: bpy.types.Object, why: str) -> EngineProblem:
    return EngineProblem(
        "kept_part_unusable",
        f"There is no part of '{obj.name}' to keep.",
        why,
        "Select in Edit Mode what is to stay, or make a vertex group of it, or keep nothing.",
    )


CLASSES = (SHAPEWRIGHT_OT_vary,)
