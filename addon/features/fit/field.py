"""The field that a fit carries, and its surface taken anew."""

from __future__ import annotations

import json
from typing import Any

import bpy
import numpy as np

from ...link.mesh_arrays import MeshArrays
from ...link.problem import EngineProblem
from ...scene.reference import Reference
from ...scene.write import build_mesh, placement, swap_mesh
from ...writers.base import JobWriter

FIELD_PROPERTY = "shapewright_field_id"
"""Custom property of a fit: what the engine calls its field, which can be extracted again at another resolution."""


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
