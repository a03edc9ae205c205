"""Results in the place of one source object: the completions or fits of a scan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..carried import alignment, answers, code
from ..carried.pose import has_pose, store_pose
from ..carried.provenance import pose_in, provenance_of
from ..carried.source import record
from ..link.mesh_arrays import MeshArrays
from ..link.problem import EngineProblem
from ..scene.appearance import dress
from ..scene.read import Scan
from ..scene.reference import PREVIEW_PROPERTY, Reference
from ..scene.write import build_mesh, hide, in_own_frame, move_to, placement, swap_mesh
from .base import JobWriter


class ResultWriter(JobWriter):
    """Results in the place of one source object: the completions or fits of a scan.

    label: what a result is, in its name ("Chair Complete").  clouds: whether a result may be points without faces.
    Several results come as a collection of their own, the first shown, the others hidden: carried/answers.py.
    """

    def __init__(self, scan: Scan, job_id: str = "", label: str = "Complete", clouds: bool = False) -> None:
        super().__init__(job_id)
        self.scan = scan
        self.label = label
        self.clouds = clouds
        self._matrix, self._bake = placement(scan.frame)
        self._places: dict[int, Matrix] = {}
        """Where each result's object stands."""

    @property
    def name(self) -> str:
        return f"{self.scan.source.name} {self.label}"

    def show_preview(self, arrays: MeshArrays) -> None:
        if len(arrays.faces) == 0:
            return
        mesh = build_mesh(f"{self.scan.source.name} Preview", arrays, self._bake)
        obj = self._find_preview()
        if obj is None:
            obj = self._new_object(f"{self.scan.source.name} Preview", mesh, self._homes())
            obj[PREVIEW_PROPERTY] = self.job_id
            obj.hide_select = True
            self.preview = Reference.of(obj)
        else:
            swap_mesh(obj, mesh)

    def add_result(self, arrays: MeshArrays, number: int, count: int) -> bpy.types.Object:
        """The first takes the preview's object; further ones come hidden."""
        if len(arrays.faces) == 0 and not (self.clouds and len(arrays.vertices)):
            raise EngineProblem(
                "result_empty",
                "The result has no surface.",
                "The engine found nothing at this size.",
                "Check the object's scale and the alignment, or raise the resolution.",
            )
        # The source may have been renamed meanwhile: the result carries the name that it has now.
        self.scan.source.find(bpy.data.objects)
        homes = self._homes()
        if count > 1:
            made = self.made_collections[0].find(bpy.data.collections) if self.made_collections else None
            homes = [made or self._new_collection(f"{self.scan.source.name} Hypotheses", homes)]
        matrix, bake = in_own_frame(self._matrix, self._bake, arrays.own_frame)
        self._places[number] = matrix
        mesh = build_mesh(self.name, arrays, bake)
        dress(mesh, arrays, self.scan.look)
        obj = self._find_preview() if number == 0 else None
        if obj is None:
            obj = self._new_object(self.name, mesh, homes, matrix)
        else:
            swap_mesh(obj, mesh)
            obj.matrix_world = matrix
            del obj[PREVIEW_PROPERTY]
            obj.hide_select = False
            obj.name = self.name
            self.preview = None
            move_to(obj, homes)
        mesh.name = obj.name
        obj["shapewright_hypothesis"] = number
        if number > 0:
            obj.hide_render = True
            hide(obj, True)
        if arrays.code is not None and arrays.pose is not None:
            code.store(obj, arrays.code, self._local(arrays.pose, number))
        self._remember(number, obj, arrays)
        return obj

    def finish(self, request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any]) -> None:
        facts = provenance_of(request, report, engine_info, self.scan)
        results = self._found()
        source = self.scan.source.find(bpy.data.objects)
        rows = report.get("hypotheses") if isinstance(report.get("hypotheses"), list) else []
        for number, obj in results:
            row = rows[number] if number < len(rows) and isinstance(rows[number], dict) else {}
            for key, value in facts.items():
                obj[f"shapewright_{key}"] = value
            if source is not None:
                record(obj, source)
            if isinstance(row.get("score"), int | float):
                obj["shapewright_score"] = float(row["score"])
            pose = pose_in(row) or pose_in(report)
            if pose is not None and not has_pose(obj):
                store_pose(obj, self._local(np.array(pose), number))
            code.name_class(obj, request.get("class_name") or row.get("classes") or report.get("classes"))
        if not results:
            return
        if self.made_collections:
            collection = self.made_collections[0].find(bpy.data.collections)
            if collection is not None:
                answers.record(collection, [obj for _, obj in results])
        if request.get("align") != "none" and not request.get("pose"):
            alignment.show_alignment(results[0][1], source)

    def _local(self, pose: np.ndarray, number: int) -> np.ndarray:
        """Canonical -> sent frame, as canonical -> a result's own coordinates: so it moves with the object."""
        return np.linalg.inv(np.array(self._places[number], np.float64)) @ self.scan.frame @ pose

    def _homes(self) -> list[bpy.types.Collection]:
        """The collections that results go to: the source's own."""
        source = self.scan.source.find(bpy.data.objects)
        if source is not None and source.users_collection:
            collections = list(source.users_collection)
        else:  # the source was deleted: where it used to be
            collections = [
                found for ref in self.scan.collections if (found := ref.find(bpy.data.collections)) is not None
            ]
        # Collections that are linked from another file cannot be added to.
        own = [collection for collection in collections if collection.library is None]
        return own or [bpy.context.scene.collection]

    def _new_object(
        self, name: str, mesh: bpy.types.Mesh, homes: Iterable[bpy.types.Collection], matrix: Matrix | None = None
    ) -> bpy.types.Object:
        obj = bpy.data.objects.new(name, mesh)
        obj.matrix_world = self._matrix if matrix is None else matrix
        for collection in homes:
            collection.objects.link(obj)
        return obj
