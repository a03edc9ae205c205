"""Which object a result was made from: a pointer, so that renaming the source loses nothing.

A result that is appended to another file brings its source along. A source that a person deletes is held by nothing but
its results; saving lets it go.
"""

from __future__ import annotations

from collections.abc import Iterable

import bpy

NAME, OBJECT = "shapewright_source", "shapewright_source_object"
"""Custom properties of a result: what the source was called when the result was made, for people and for results of
versions that knew only that; and the source itself, '' once it was let go."""


def record(result: bpy.types.Object, source: bpy.types.Object) -> None:
    result[OBJECT] = source


def has_source(result: bpy.types.Object) -> bool:
    """Whether it was made from an object, which may be gone."""
    return NAME in result


def source_of(result: bpy.types.Object) -> bpy.types.Object | None:
    """The object that it was made from; None where that was deleted."""
    if OBJECT in result:
        return present(result[OBJECT])
    return present(bpy.data.objects.get(str(result.get(NAME, ""))))


def present(obj: object) -> bpy.types.Object | None:
    """The object where it is one that has not been deleted: what is in no collection lives on only by a pointer."""
    return obj if isinstance(obj, bpy.types.Object) and obj.users_collection else None


def let_go_of_deleted(names: Iterable[str]) -> None:
    """Objects that were deleted and are held by custom properties of these names alone are held no longer."""
    for obj in bpy.data.objects:
        for name in names:
            if name in obj and obj.library is None and obj[name] != "" and present(obj[name]) is None:
                obj[name] = ""
