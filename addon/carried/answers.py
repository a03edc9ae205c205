"""Several answers to one scan: a collection of which one is shown.

Which objects belong to it is written in the collection itself, and which of them is shown in the objects, so that it is
there again after saving, appending and undo. Copies that a person makes of a hypothesis do not belong to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import bpy

from ..scene.write import hide, move_to, remove_object
from .source import forget, source_of

ENTRIES, NUMBER = "shapewright_hypotheses", "shapewright_number"
"""Custom properties of the collection: its objects by their rank, and a number that grows from one collection to the
next. Which one is shown says the objects' own visibility in renders."""


def record(collection: bpy.types.Collection, objects: Sequence[bpy.types.Object]) -> None:
    """Makes the collection one of hypotheses: `objects`, best first, of which the first is shown."""
    collection[NUMBER] = 1 + max((int(other.get(NUMBER, 0)) for other in bpy.data.collections), default=0)
    collection[ENTRIES] = {str(rank): obj for rank, obj in enumerate(objects)}
    show_answer(collection, 0)


def answers_in(collection: bpy.types.Collection) -> list[bpy.types.Object]:
    """The hypotheses that still exist, best first. An object deleted by hand lives on only in the list."""
    entries = collection[ENTRIES].to_dict()
    found = [entries[rank] for rank in sorted(entries, key=int)]
    return [obj for obj in found if obj is not None and obj.users_collection]


def answers_of(obj: bpy.types.Object | None) -> bpy.types.Collection | None:
    """The collection to browse while `obj` is active: the one that it is in; of a source, the newest made from it."""
    if obj is None:
        return None
    for collection in _all_answers():
        if obj in answers_in(collection):
            return collection
    made = [c for c in _all_answers() if any(source_of(member) == obj for member in answers_in(c))]
    return max(made, key=lambda collection: collection[NUMBER], default=None)


def shown(collection: bpy.types.Collection) -> int:
    """The number of the one shown among those that still exist."""
    return next((number for number, obj in enumerate(answers_in(collection)) if not obj.hide_render), 0)


def show_answer(collection: bpy.types.Collection, number: int) -> bpy.types.Object:
    """Shows one and hides the others; where one of them was selected or active, the one shown is that now."""
    found = answers_in(collection)
    chosen = found[number % len(found)]
    hide(chosen, False)
    chosen.hide_render = False
    layer = bpy.context.view_layer
    others = [obj for obj in found if obj != chosen]
    with contextlib.suppress(RuntimeError):  # not in this view layer
        if any(obj.select_get() for obj in others):
            chosen.select_set(True)
        if layer.objects.active in others:
            layer.objects.active = chosen
    for obj in others:
        with contextlib.suppress(RuntimeError):
            obj.select_set(False)
        obj.hide_render = True
        hide(obj, True)
    # What was deleted by hand is let go: the list alone would keep it in the file for ever.
    gone = [obj for obj in collection[ENTRIES].to_dict().values() if obj is not None and obj not in found]
    collection[ENTRIES] = {str(rank): obj for rank, obj in enumerate(found)}
    for obj in gone:
        forget(obj)
        if obj.users == 0:
            remove_object(obj)
    return chosen


def keep(collection: bpy.types.Collection) -> bpy.types.Object:
    """Removes all but the one shown, and the collection: what remains lies where the collection lay."""
    found = answers_in(collection)
    kept = found[shown(collection)]
    homes = [parent for parent in _parents(collection) if parent.library is None]
    homes = homes or [bpy.context.scene.collection]
    for obj in list(collection.objects):
        if obj in found and obj != kept:
            continue
        move_to(obj, homes)
    for obj in found:
        if obj != kept:
            remove_object(obj)
    for child in list(collection.children):
        for home in homes:
            home.children.link(child)
    bpy.data.collections.remove(collection)
    return kept


def _all_answers() -> Iterator[bpy.types.Collection]:
    return (collection for collection in bpy.data.collections if ENTRIES in collection and answers_in(collection))


def _parents(collection: bpy.types.Collection) -> list[bpy.types.Collection]:
    candidates = [*bpy.data.collections, *(scene.collection for scene in bpy.data.scenes)]
    return [other for other in candidates if collection.name in other.children]
