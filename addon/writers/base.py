"""What all writers share. Nothing here keeps a reference to a Blender object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bpy

from ..link.mesh_arrays import MeshArrays
from ..scene.reference import PREVIEW_PROPERTY, Reference
from ..scene.write import remove_object


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

    def objects(self) -> list[bpy.types.Object]:
        """The result objects that still exist, best first."""
        found = [reference.find(bpy.data.objects) for _, reference in sorted(self.results.items())]
        return [obj for obj in found if obj is not None]

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
