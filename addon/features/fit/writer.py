"""What becomes of a fitted surface. Nothing here keeps a reference to a Blender object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import bmesh
import bpy
import numpy as np

from ...carried.fit_field import store_field
from ...carried.provenance import provenance_of
from ...carried.source import record
from ...scene.read import Scan
from ...scene.reference import Reference
from ...scene.write import remove_object
from ...writers.in_place import ResultWriter


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
        if self.becomes != "JOIN" and report.get("field_id"):  # another detail would lose what was joined
            store_field(result, str(report["field_id"]), np.eye(4) if self._bake is None else self._bake)
        for key, value in facts.items():
            result[f"shapewright_{key}"] = value
        del result["shapewright_hypothesis"]
        if self.becomes == "BESIDE" or not sources:
            if sources:
                record(result, sources[0])
            return
        own = [obj for obj in sources if obj.library is None and obj != result]
        if self.becomes == "JOIN":
            join_into(result, own)
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
    """Adds the sources' geometry, as modifiers have made it, to the result's mesh, with its materials, each once."""
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
            faces = len(joined.faces)
            own = list(mesh.materials) or ([None] if materials else [])
            for material in own:
                if material not in materials:
                    materials.append(material)
            joined.from_mesh(mesh)
            joined.faces.ensure_lookup_table()
            for face in joined.faces[faces:]:
                if own:
                    face.material_index = materials.index(own[min(face.material_index, len(own) - 1)])
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
