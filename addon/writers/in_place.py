"""What a job leaves in the scene: its preview while it runs, its results at its end, and how they say they were made.

As in scene.py, nothing here keeps a reference to a Blender object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import bpy
import numpy as np

from ..carried import alignment as poses
from ..carried import answers as hypotheses
from ..carried import code as codes
from ..link.client import EngineProblem, MeshArrays
from ..scene.read import (
    PREVIEW_PROPERTY,
    Reference,
    Scan,
    build_mesh,
    hide,
    move_to,
    placement,
    remove_object,
    swap_mesh,
)


class JobWriter:
    """The objects that one job leaves in the scene: first a preview, then the results.

    Every method is called on the main thread and leaves the scene whole; `discard` takes back all that was made. What
    is common to all kinds of jobs is here; where the objects go and what they are called, a subclass says.
    """

    expects_results = True
    """Whether a job that ends without a mesh has failed."""

    def __init__(self, job_id: str = "") -> None:
        self.job_id = job_id
        self.preview: Reference | None = None
        self.results: dict[int, Reference] = {}
        """The result objects by their place among the results."""
        self.kept: dict[int, MeshArrays] = {}
        """What they were made of, for as long as the job runs and an undo may take them away."""
        self.made_collections: list[Reference] = []
        """Collections that this job has made, the innermost last."""

    def show_preview(self, arrays: MeshArrays) -> None:
        """Makes the preview object, or gives the one that is there a new mesh."""
        raise NotImplementedError

    def add_result(self, arrays: MeshArrays, number: int, count: int) -> bpy.types.Object:
        """One finished mesh, the `number`th of `count`, from 0."""
        raise NotImplementedError

    def finish(self, request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any]) -> None:
        """All results are there: they are told how they were made."""
        raise NotImplementedError

    def discard_preview(self) -> None:
        """Takes the preview away, and what undo and redo may have brought back of it."""
        for obj in [obj for obj in bpy.data.objects if obj.get(PREVIEW_PROPERTY) == self.job_id]:
            remove_object(obj)
        self.preview = None

    def discard(self) -> None:
        """Takes back everything: the scene is as it was before the job."""
        self.discard_preview()
        for reference in self.results.values():
            obj = reference.find(bpy.data.objects)
            if obj is not None:
                remove_object(obj)
        for reference in reversed(self.made_collections):
            collection = reference.find(bpy.data.collections)
            if collection is not None:
                bpy.data.collections.remove(collection)
        self.results, self.kept, self.made_collections = {}, {}, []

    def lost(self) -> list[tuple[int, MeshArrays]]:
        """Results that an undo has taken away while the job runs: to be added once more."""
        return [
            (number, arrays)
            for number, arrays in sorted(self.kept.items())
            if self.results[number].find(bpy.data.objects) is None
        ]

    def _remember(self, number: int, obj: bpy.types.Object, arrays: MeshArrays) -> None:
        self.results[number] = Reference.of(obj)
        self.kept[number] = arrays

    def _found(self) -> list[tuple[int, bpy.types.Object]]:
        """The results that still exist, each with its place; what they were made of is forgotten."""
        self.kept = {}
        found = [(number, ref.find(bpy.data.objects)) for number, ref in sorted(self.results.items())]
        return [(number, obj) for number, obj in found if obj is not None]

    def _find_preview(self) -> bpy.types.Object | None:
        """The preview object; the one that an undo or redo has put in its place, where ours is gone."""
        if self.preview is None:
            return None
        obj = self.preview.find(bpy.data.objects)
        if obj is None or obj.get(PREVIEW_PROPERTY) != self.job_id:
            obj = next((other for other in bpy.data.objects if other.get(PREVIEW_PROPERTY) == self.job_id), None)
        if obj is None or obj.type != "MESH":
            return None
        self.preview = Reference.of(obj)
        return obj

    def _new_collection(self, name: str, parents: Iterable[bpy.types.Collection]) -> bpy.types.Collection:
        collection = bpy.data.collections.new(name)
        for parent in parents:
            parent.children.link(collection)
        self.made_collections.append(Reference.of(collection))
        return collection


class ResultWriter(JobWriter):
    """Results in the place of one source object: the completions or fits of a scan.

    label: what a result is, in its name ("Chair Complete").  clouds: whether a result may be points without faces.
    Several results come as a collection of their own, the first of them shown and the others hidden: see hypotheses.py.
    """

    def __init__(self, scan: Scan, job_id: str = "", label: str = "Complete", clouds: bool = False) -> None:
        super().__init__(job_id)
        self.scan = scan
        self.label = label
        self.clouds = clouds
        self._matrix, self._bake = placement(scan.frame)

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
        mesh = build_mesh(self.name, arrays, self._bake)
        obj = self._find_preview() if number == 0 else None
        if obj is None:
            obj = self._new_object(self.name, mesh, homes)
        else:
            swap_mesh(obj, mesh)
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
            codes.store(obj, arrays.code, self._local(arrays.pose))
        self._remember(number, obj, arrays)
        return obj

    def finish(self, request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any]) -> None:
        facts = provenance_of(request, report, engine_info, self.scan)
        results = self._found()
        rows = report.get("hypotheses") if isinstance(report.get("hypotheses"), list) else []
        for number, obj in results:
            row = rows[number] if number < len(rows) and isinstance(rows[number], dict) else {}
            for key, value in facts.items():
                obj[f"shapewright_{key}"] = value
            if isinstance(row.get("score"), int | float):
                obj["shapewright_score"] = float(row["score"])
            pose = pose_in(row) or pose_in(report)
            if pose is not None and codes.POSE not in obj:
                codes.store_pose(obj, self._local(np.array(pose)))
            codes.name_class(obj, request.get("class_name") or row.get("classes") or report.get("classes"))
        if not results:
            return
        if self.made_collections:
            collection = self.made_collections[0].find(bpy.data.collections)
            if collection is not None:
                hypotheses.record(collection, [obj for _, obj in results])
        if request.get("align") != "none" and not request.get("pose"):
            source = self.scan.source.find(bpy.data.objects)
            poses.show(results[0][1], source)

    def _local(self, pose: np.ndarray) -> np.ndarray:
        """Canonical -> sent frame, as canonical -> the result's own coordinates: so it moves with the object."""
        return np.linalg.inv(np.array(self._matrix, np.float64)) @ self.scan.frame @ pose

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

    def _new_object(self, name: str, mesh: bpy.types.Mesh, homes: Iterable[bpy.types.Collection]) -> bpy.types.Object:
        obj = bpy.data.objects.new(name, mesh)
        obj.matrix_world = self._matrix
        for collection in homes:
            collection.objects.link(obj)
        return obj


def pose_in(report: dict[str, Any]) -> list[list[float]] | None:
    """The alignment that a report (or a hypothesis's row of it) names: canonical -> sent frame, 4 x 4 numbers."""
    alignment = report.get("alignment")
    matrix = alignment.get("matrix") if isinstance(alignment, dict) else None
    if matrix is None:
        return None
    try:
        found = np.array(matrix, np.float64)
    except (ValueError, TypeError):
        return None
    if found.size != 16 or not np.isfinite(found).all() or abs(np.linalg.det(found.reshape(4, 4))) < 1e-300:
        return None
    return found.reshape(4, 4).tolist()


def provenance(request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any]) -> dict[str, Any]:
    """What a result says about how it was made, as custom properties (each named 'shapewright_' + key)."""
    prior = report.get("prior", request.get("prior", ""))
    prior_hash = report.get("prior_hash", "")
    if isinstance(prior, dict):
        prior_hash = prior_hash or prior.get("hash") or prior.get("sha256") or ""
        prior = prior.get("name") or request.get("prior", "")
    versions = report.get("versions") if isinstance(report.get("versions"), dict) else {}
    engine_version = versions.get("shapewright") or versions.get("engine") or engine_info.get("version") or ""
    return {
        "prior": str(prior),
        "prior_hash": str(prior_hash),
        "seed": int(report.get("seed") or request.get("seed") or 0),
        "settings": json.dumps(request, sort_keys=True),
        "engine_version": str(engine_version),
    }


def provenance_of(
    request: dict[str, Any], report: dict[str, Any], engine_info: dict[str, Any], scan: Scan
) -> dict[str, Any]:
    """The same of a result that was made from a scan.

    'settings' and 'report' speak of the frame that was sent; 'frame' is the matrix from there to the world.
    """
    return {
        **provenance(request, report, engine_info),
        "source": scan.source.name,
        "frame": json.dumps(scan.frame.tolist()),
        "report": json.dumps(report, sort_keys=True),
    }
