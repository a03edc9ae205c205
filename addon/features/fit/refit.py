"""A fit's surface taken anew from its field."""

from __future__ import annotations

import json
from typing import Any

import bpy
import numpy as np

from ...carried.fit_field import FIELD, field_frame, store_field
from ...link.mesh_arrays import MeshArrays
from ...link.problem import EngineProblem
from ...scene.appearance import Appearance, colour_attribute, dress
from ...scene.reference import Reference
from ...scene.write import build_mesh, swap_mesh
from ...writers.base import JobWriter


class RefitWriter(JobWriter):
    """Another resolution of a fit that is there: its object gets the new mesh, wherever it has been moved to."""

    def __init__(self, obj: bpy.types.Object) -> None:
        super().__init__()
        self.target = Reference.of(obj)
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
        matrix = field_frame(obj)  # now, not when it was asked for: an Apply may have come between
        mesh = build_mesh(obj.data.name, _outside_out(self._mesh, matrix), matrix)
        for material in obj.data.materials:
            mesh.materials.append(material)
        colours = colour_attribute(obj.data)
        dress(mesh, self._mesh, Appearance("" if colours is None else colours.name))
        name = obj.data.name
        swap_mesh(obj, mesh)
        mesh.name = name
        obj["shapewright_resolution"] = int(request["resolution"])
        obj["shapewright_open_boundaries"] = bool(request.get("open_boundaries"))
        obj["shapewright_report"] = json.dumps(report, sort_keys=True)
        store_field(obj, str(report.get("field_id") or obj[FIELD]), matrix)

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


def _outside_out(arrays: MeshArrays, matrix: np.ndarray) -> MeshArrays:
    """The mesh as it has to be for the matrix: a mirroring would turn its faces inside out."""
    if np.linalg.det(matrix[:3, :3]) >= 0:
        return arrays
    return MeshArrays.of(
        arrays.vertices, arrays.faces[:, ::-1], arrays.normals, arrays.colours, arrays.seen, arrays.face_materials
    )
