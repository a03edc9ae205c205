"""Fit Shape's side of the scene: several objects read as one cloud, and what becomes of the fitted surface.

As in scene.py, nothing here keeps a reference to a Blender object.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import bmesh
import bpy
import numpy as np

from ...link.client import EngineProblem, MeshArrays
from ...scene import read as scene
from ...scene.read import Reference, Scan, build_mesh, placement, remove_object, swap_mesh
from ...writers.in_place import JobWriter, ResultWriter, provenance_of

FIELD_PROPERTY = "shapewright_field_id"
"""Custom property of a fit: what the engine calls its field, which can be extracted again at another resolution."""

LOOSE_SHARE = 0.01
"""A mesh with faces whose loose vertices are a smaller part of it than this is a surface with a few strays."""
SAMPLES_A_MESH = (20_000, 200_000)


def sources_of(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The objects that a click on Fit Shape takes: the selected ones that hold points, the active one first."""
    active = context.active_object
    found = [obj for obj in context.selected_objects if not scene.why_unreadable(obj)]
    if not found and not scene.why_unreadable(active):
        found = [active]
    return sorted(found, key=lambda obj: (obj != active, obj.name))


def read_clouds(
    objects: Sequence[bpy.types.Object],
    depsgraph: bpy.types.Depsgraph,
    viewpoint: Sequence[float] | None = None,
) -> Scan:
    """Several evaluated objects as one input, in world axes and scale, measured from the first one's origin.

    Meshes alone stay meshes; where points (a point cloud, a mesh without faces, loose vertices) are among them, every
    surface is sampled and all becomes one cloud. Normals are sent where every point has one.
    Raises EngineProblem where an object holds no points.
    """
    scans = [scene.read_scan(obj, depsgraph) for obj in objects]
    first = scans[0]

    def arrays() -> dict[str, np.ndarray | None]:
        return _joined([scan.arrays() for scan in scans], [scan.frame[:3, 3] - first.frame[:3, 3] for scan in scans])

    seen_from = None
    if viewpoint is not None:
        x, y, z = np.asarray(viewpoint, np.float64) - first.frame[:3, 3]
        seen_from = (float(x), float(y), float(z))
    return Scan(
        first.source,
        first.collections,
        first.frame,
        arrays,
        seen_from,
        sum(scan.point_count for scan in scans),
        [note for scan in scans for note in scan.notes],
    )


def _joined(parts: Sequence[dict[str, np.ndarray | None]], offsets: Sequence[np.ndarray]) -> dict[str, Any]:
    """One cloud or mesh from several; free of bpy. offsets: (3,) each, added to the part's points."""
    pieces = []
    for part, offset in zip(parts, offsets, strict=True):
        points, faces = part["points"], part["faces"]
        assert points is not None
        points = (points.astype(np.float64) + offset).astype(np.float32)
        loose = np.zeros(len(points), bool)
        if faces is not None:
            loose[:] = True
            loose[faces.reshape(-1)] = False
        pieces.append((points, part["normals"], faces, loose))
    clouds = [faces is None or loose.sum() > LOOSE_SHARE * len(points) for points, _, faces, loose in pieces]
    if not any(clouds):
        starts = np.cumsum([0, *(len(points) for points, *_ in pieces)])
        return {
            "points": np.concatenate([points for points, *_ in pieces]),
            "normals": None,
            "faces": np.concatenate([faces + start for (_, _, faces, _), start in zip(pieces, starts, strict=False)]),
        }
    rng = np.random.default_rng(0)
    points_out: list[np.ndarray] = []
    normals_out: list[np.ndarray | None] = []
    for points, normals, faces, loose in pieces:
        if faces is None:
            points_out.append(points)
            normals_out.append(normals)
            continue
        sampled, across = sample_surface(points, faces, rng)
        points_out.append(sampled)
        normals_out.append(across)
        if loose.sum() > LOOSE_SHARE * len(points):
            points_out.append(points[loose])
            normals_out.append(None)
    complete = all(normals is not None for normals in normals_out)
    return {
        "points": np.concatenate(points_out),
        "normals": np.concatenate(normals_out) if complete else None,  # type: ignore[arg-type]
        "faces": None,
    }


def sample_surface(
    points: np.ndarray, faces: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) points spread evenly over the triangles, and the triangles' unit normals there."""
    a, b, c = (points[faces[:, k]].astype(np.float64) for k in range(3))
    across = np.cross(b - a, c - a)
    areas = np.linalg.norm(across, axis=1)
    if not areas.sum() > 0:
        return points[:0], points[:0]
    count = int(np.clip(2 * len(faces), *SAMPLES_A_MESH))
    chosen = np.searchsorted(np.cumsum(areas), rng.random(count) * areas.sum(), side="right").clip(0, len(faces) - 1)
    u, v = rng.random((2, count, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    sampled = a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]
    normals = across[chosen] / np.maximum(areas[chosen, None], 1e-300)
    return sampled.astype(np.float32), normals.astype(np.float32)


def facts_of(
    request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any], scan: Scan, sources: Sequence[str]
) -> dict[str, Any]:
    """What a fit says about how it was made, as custom properties (each named 'shapewright_' + key)."""
    facts = provenance_of(request, report, engine_info, scan)
    for key in ("prior", "prior_hash"):  # a fit knows none
        del facts[key]
    facts["sources"] = json.dumps(list(sources))
    facts["method"] = str(report.get("method") or request.get("method") or "auto")
    facts["resolution"] = int(request["resolution"])
    facts["open_boundaries"] = bool(request.get("open_boundaries"))
    return facts


class FitWriter(ResultWriter):
    """One fitted surface. becomes: 'BESIDE' = a new object, the sources stay; 'REPLACE' = it takes the place of the
    sources; 'JOIN' = sources and surface become one object.
    """

    def __init__(self, scan: Scan, sources: Sequence[bpy.types.Object], becomes: str = "BESIDE") -> None:
        super().__init__(scan, label="Fit")
        self.sources = [Reference.of(obj) for obj in sources]
        self.becomes = becomes

    def finish(self, request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any]) -> None:
        result = self.results[0].find(bpy.data.objects)
        if result is None:
            return
        sources = [obj for ref in self.sources if (obj := ref.find(bpy.data.objects)) is not None]
        facts = facts_of(request, report, engine_info, self.scan, [ref.name for ref in self.sources])
        if self.becomes != "JOIN" and report.get("field_id"):
            facts["field_id"] = str(report["field_id"])
        for key, value in facts.items():
            result[f"shapewright_{key}"] = value
        del result["shapewright_hypothesis"]
        if self.becomes == "BESIDE" or not sources:
            return
        own = [obj for obj in sources if obj.library is None and obj != result]
        if self.becomes == "JOIN":
            join_into(result, own)
        else:
            for slot in next((obj.material_slots for obj in own if obj.material_slots), ()):
                result.data.materials.append(slot.material)
        name, active = self.scan.source.name, bpy.context.view_layer.objects.active
        was_active, was_selected = active in own, any(obj.select_get() for obj in own)
        for obj in own:
            for child in list(obj.children):  # what hung on a source hangs on its successor, where it is
                world = child.matrix_world.copy()
                child.parent = result
                child.matrix_parent_inverse = result.matrix_basis.inverted_safe()
                child.matrix_basis = world
            remove_object(obj)
        result.name = name
        result.data.name = name
        if result.name in bpy.context.view_layer.objects:
            result.select_set(was_selected)
            if was_active:
                bpy.context.view_layer.objects.active = result


def join_into(result: bpy.types.Object, sources: Sequence[bpy.types.Object]) -> None:
    """Adds the sources' geometry, as modifiers have made it, to the result's mesh, with its materials."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    into = result.matrix_basis.inverted_safe()
    joined = bmesh.new()
    materials = list(result.data.materials)
    made: list[bpy.types.Mesh] = []
    try:
        joined.from_mesh(result.data)
        for obj in sources:
            mesh = _mesh_of(obj, depsgraph)
            made.append(mesh)
            mesh.transform(into @ obj.matrix_world)
            first, faces = len(materials), len(joined.faces)
            if len(mesh.materials) or materials:
                materials.extend(mesh.materials if len(mesh.materials) else [None])
            joined.from_mesh(mesh)
            joined.faces.ensure_lookup_table()
            for face in joined.faces[faces:]:
                face.material_index += first
        for material in materials[len(result.data.materials) :]:
            result.data.materials.append(material)
        joined.to_mesh(result.data)
    finally:
        joined.free()
        for mesh in made:
            bpy.data.meshes.remove(mesh)
    result.data.update()


def _mesh_of(obj: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> bpy.types.Mesh:
    """A mesh data-block of its own with what the object holds: the points alone where that is a point cloud."""
    evaluated = obj.evaluated_get(depsgraph)
    if obj.type == "MESH":
        return bpy.data.meshes.new_from_object(evaluated, preserve_all_data_layers=True, depsgraph=depsgraph)
    position = evaluated.data.attributes.get("position")
    count = len(position.data) if position is not None else 0
    values = np.empty(3 * count, np.float32)
    mesh = bpy.data.meshes.new(obj.name)
    mesh.vertices.add(count)
    if count:
        position.data.foreach_get("vector", values)
        mesh.attributes["position"].data.foreach_set("vector", values)
    return mesh


class RefitWriter(JobWriter):
    """Another resolution of a fit that is there: its object gets the new mesh, wherever it has been moved to."""

    def __init__(self, obj: bpy.types.Object) -> None:
        super().__init__()
        self.target = Reference.of(obj)
        self._bake = placement(frame_of(obj))[1]
        self._mesh: MeshArrays | None = None

    def show_preview(self, arrays: MeshArrays) -> None:
        """None is shown: the surface that is there already is the best preview."""

    def add_result(self, arrays: MeshArrays, number: int, count: int) -> bpy.types.Object:
        obj = self._find()
        if len(arrays.faces) == 0:
            raise EngineProblem(
                "result_empty",
                "The result has no surface.",
                "The engine found nothing at this resolution.",
                "Choose another resolution.",
            )
        self._mesh = arrays
        self.results[number] = self.target
        return obj

    def finish(self, request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any]) -> None:
        obj = self._find()
        assert self._mesh is not None
        mesh = build_mesh(obj.data.name, self._mesh, self._bake)
        for material in obj.data.materials:
            mesh.materials.append(material)
        name = obj.data.name
        swap_mesh(obj, mesh)
        mesh.name = name
        obj["shapewright_resolution"] = int(request["resolution"])
        obj["shapewright_open_boundaries"] = bool(request.get("open_boundaries"))
        obj["shapewright_report"] = json.dumps(report, sort_keys=True)
        if report.get("field_id"):
            obj[FIELD_PROPERTY] = str(report["field_id"])

    def discard(self) -> None:
        self.results, self._mesh = {}, None

    def _find(self) -> bpy.types.Object:
        obj = self.target.find(bpy.data.objects)
        if obj is None:
            raise EngineProblem(
                "target_gone",
                "The fit was not extracted again.",
                f"The object '{self.target.name}' was deleted meanwhile.",
                "Undo the deletion, or fit the shape anew.",
            )
        return obj


def frame_of(obj: bpy.types.Object) -> np.ndarray:
    """(4, 4) of the frame that the object's mesh came back in -> the world, as it was then."""
    try:
        frame = np.array(json.loads(obj["shapewright_frame"]), np.float64)
    except (KeyError, ValueError, TypeError):
        return np.eye(4)
    return frame if frame.shape == (4, 4) and np.isfinite(frame).all() else np.eye(4)
