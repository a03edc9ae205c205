"""Which object a result was made from: by pointers, so that renaming the source loses nothing.

The pointers lie in the scene, a pair for each result. In the result itself they would make the source part of it for
Blender: whoever appends a completed chair to another file would get the scan with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import bpy

NAME, BY_POINTER = "shapewright_source", "shapewright_source_by_pointer"
"""Custom properties of a result: what the source was called when the result was made, for people; and whether a pointer
tells the source. Results of versions before have none, and their source is found by its name."""
PAIRS = "shapewright_made_from"
"""Custom property of the scene: {number: {"result": object, "source": object}}."""


def record(result: bpy.types.Object, source: bpy.types.Object) -> None:
    scene = bpy.context.scene
    _write(scene, [*(pair for pair in _pairs(scene) if pair["result"] != result), _pair(result, source)])
    result[BY_POINTER] = True


def has_source(result: bpy.types.Object) -> bool:
    """Whether it was made from an object, which may be gone."""
    return NAME in result


def source_of(result: bpy.types.Object) -> bpy.types.Object | None:
    """The object that it was made from; None where that was deleted, or is in another file."""
    if not result.get(BY_POINTER):
        return present(bpy.data.objects.get(str(result.get(NAME, ""))))
    found = (pair["source"] for scene in bpy.data.scenes for pair in _pairs(scene) if pair["result"] == result)
    return present(next(found, None))


def present(obj: object) -> bpy.types.Object | None:
    """The object where it is one that has not been deleted: what is in no collection lives on only by a pointer."""
    return obj if isinstance(obj, bpy.types.Object) and obj.users_collection else None


def forget(result: bpy.types.Object) -> None:
    """It was deleted, and is held no longer."""
    for scene in bpy.data.scenes:
        _write(scene, [pair for pair in _pairs(scene) if pair["result"] != result])


def let_go_of_deleted(properties: Iterable[str] = ()) -> None:
    """Objects that were deleted and are held only by the pairs, or by custom properties of these names, are held no
    longer."""
    for scene in bpy.data.scenes:
        _write(scene, [pair for pair in _pairs(scene) if present(pair["result"]) and present(pair["source"])])
    for obj in bpy.data.objects:
        for name in properties:
            if name in obj and obj.library is None and present(obj[name]) is None:
                del obj[name]


def _pairs(scene: bpy.types.Scene) -> Iterator[dict[str, Any]]:
    return iter(scene[PAIRS].to_dict().values()) if PAIRS in scene else iter(())


def _pair(result: bpy.types.Object, source: bpy.types.Object) -> dict[str, Any]:
    return {"result": result, "source": source}


def _write(scene: bpy.types.Scene, pairs: list[dict[str, Any]]) -> None:
    if scene.library is not None or (not pairs and PAIRS not in scene):
        return
    whole = [pair for pair in pairs if pair["result"] is not None and pair["source"] is not None]
    if whole:
        scene[PAIRS] = {str(number): pair for number, pair in enumerate(whole)}
    elif PAIRS in scene:
        del scene[PAIRS]
