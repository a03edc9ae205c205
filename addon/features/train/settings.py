"""The settings of Train Prior, kept with the scene."""

import bpy
from bpy.props import EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from ...ui.choices import prior_items

NO_PRIOR = "(none)"
LEARN_FROM = (
    ("COLLECTION", "Collection", "A collection of meshes: each of its subcollections is a class"),
    ("FOLDER", "Folder", "A folder of mesh files on the engine's machine: each of its subfolders is a class"),
)

_start_items: list[tuple[str, str, str, int]] = []


def start_items(_self: object, _context: object) -> list[tuple[str, str, str, int]]:
    """The priors that a training can begin with, and none of them."""
    global _start_items  # Blender does not copy the texts: they must stay alive
    none = (NO_PRIOR, "Nothing", "The network begins knowing nothing", 0)
    items = [(name, label, about, number + 2) for name, label, about, number in prior_items(None, None)]
    items = [none, *items]
    if items != _start_items:
        _start_items = items
    return _start_items


def train_settings() -> dict[str, object]:
    """The settings of Train Prior, made anew for each class that has them."""
    return {
        "name": StringProperty(name="Name", description="What the new prior is called", default="my prior"),
        "learn_from": EnumProperty(name="Learn From", description="Where the shapes are", items=LEARN_FROM),
        "folder": StringProperty(
            name="Folder", description="Mesh files (PLY, OBJ, STL, OFF, GLB), a subfolder a class", subtype="DIR_PATH"
        ),
        "minutes": FloatProperty(
            name="Minutes",
            description="How long the network trains; making the shapes ready comes before that",
            default=60,
            min=0.1,
            soft_max=600,
            max=100_000,
        ),
        "steps": IntProperty(
            name="Steps",
            description="Exactly so many steps instead; 0 takes as many as the minutes allow",
            default=0,
            min=0,
            max=10_000_000,
        ),
        "start_from": EnumProperty(
            name="Start From",
            description="A prior that the training begins with: it needs fewer shapes and less time then",
            items=start_items,
        ),
    }


def panel_settings() -> dict[str, object]:
    """What the panel alone has."""
    return {
        "collection": PointerProperty(
            type=bpy.types.Collection,
            name="Collection",
            description="The collection to learn from; empty takes the active one",
        ),
    }
