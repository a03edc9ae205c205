"""Settings that several features have: the prior, its classes, the viewpoint."""

import zlib

from bpy.props import EnumProperty, FloatVectorProperty, IntProperty, StringProperty

from .. import session

DEFAULT_PRIOR = "household"

VIEWPOINTS = (
    ("VIEW", "Current View", "The scanner stood where this view looks from: what it saw to be empty stays empty", 4),
    ("CAMERA", "Camera", "The scene's camera stands where the scanner stood: what it saw to be empty stays empty", 1),
    ("POINT", "Point", "The scanner stood at a point given in world space", 2),
    ("NONE", "Unknown", "Nothing is known about where the scanner stood", 0),
)
"""Files keep the numbers."""
ESTIMATED = ("ESTIMATE", "Estimate", "Found from the points, where one scanner saw them from one place", 3)

_prior_items: list[tuple[str, str, str, int]] = []


def prior_items(_self: object, _context: object) -> list[tuple[str, str, str, int]]:
    """The engine's priors while it runs; the default one before that. Also called without a scene.

    Blender stores a choice by its number: a number made from the name keeps its meaning when the list changes.
    """
    global _prior_items  # Blender does not copy the texts: they must stay alive
    listed = session.current().priors
    priors: dict[str, str] = {}
    for prior in listed:
        about = prior if isinstance(prior, dict) else {"name": str(prior)}
        classes = about.get("classes")
        known = ", ".join(map(str, classes)) if isinstance(classes, list | tuple) else ""
        if about.get("name"):
            priors[str(about["name"])] = str(about.get("description") or known)
    if not priors:
        priors[DEFAULT_PRIOR] = "The prior that comes with the engine"
    names = sorted(priors, key=lambda name: (name != DEFAULT_PRIOR, name))
    items = [(name, name.replace("_", " ").capitalize(), priors[name], stable_number(name)) for name in names]
    if items != _prior_items:
        _prior_items = items
    return _prior_items


def stable_number(name: str) -> int:
    # 0 is what Blender takes where nothing was chosen yet
    return 0 if name == DEFAULT_PRIOR else zlib.crc32(name.encode("utf-8")) & 0x3FFFFFFF | 1


_class_items: dict[str, list[tuple[str, str, str, int]]] = {}


def class_items(self: object, _context: object) -> list[tuple[str, str, str, int]]:
    """'ANY' and the classes of the prior chosen beside it, as far as the engine has told them."""
    prior_name = str(getattr(self, "prior", ""))
    items = [("ANY", "Any", "Whatever the prior knows", 0)]
    for prior in session.current().priors:
        classes = prior.get("classes") if isinstance(prior, dict) else None
        if isinstance(classes, list | tuple) and prior.get("name") == prior_name:
            items += [(name, name.replace("_", " ").capitalize(), "", stable_number(name)) for name in sorted(classes)]
    if items != _class_items.get(prior_name):
        _class_items[prior_name] = items  # Blender does not copy the texts: they must stay alive
    return _class_items[prior_name]


def prior_named() -> dict[str, object]:
    """The prior by its name: which ones there are is not known before the engine runs, and a script need not wait."""
    return {
        "prior": StringProperty(name="Prior", description="What the engine knows about shapes", default=DEFAULT_PRIOR)
    }


def viewpoint_settings(estimated: bool = False) -> dict[str, object]:
    """estimated: the engine can find it, and does where nothing is chosen."""
    return {
        "viewpoint": EnumProperty(
            name="Viewpoint",
            description="Where the scanner stood",
            items=(ESTIMATED, *VIEWPOINTS) if estimated else VIEWPOINTS,
            default="ESTIMATE" if estimated else "NONE",
        ),
        "viewpoint_location": FloatVectorProperty(
            name="Location", description="Where the scanner stood, in world space", subtype="TRANSLATION", size=3
        ),
    }


def shape_settings() -> dict[str, object]:
    """What all features have that make new shapes."""
    return {
        "prior": EnumProperty(name="Prior", description="What the engine knows about shapes", items=prior_items),
        "resolution": IntProperty(
            name="Resolution", description="Cells along the longest side of each shape", default=128, min=16, max=512
        ),
        "seed": IntProperty(name="Seed", description="Another seed gives other shapes", default=0, min=0),
    }
