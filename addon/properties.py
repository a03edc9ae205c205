"""The settings of Complete Shape, kept with the scene; the operator has the same ones, filled in from here."""

import zlib

import bpy
from bpy.props import (
    BoolProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from .session import session

DEFAULT_PRIOR = "household"

ALIGNMENTS = (
    ("none", "None", "The object's own frame is the prior's: z up, front towards -y, centred, size 1"),
    ("scale", "Place and Size", "Upright; place and size are found, and where it faces if the object was never turned"),
    ("similarity", "Place, Size and Turn", "The object may lie in any way; place, size and rotation are found"),
)
VIEWPOINTS = (
    ("NONE", "Unknown", "Nothing is known about where the scanner stood"),
    ("CAMERA", "Camera", "The scene's camera stands where the scanner stood: what it saw to be empty stays empty"),
    ("POINT", "Point", "The scanner stood at a point given in world space"),
)

_prior_items: list[tuple[str, str, str, int]] = []


def prior_items(_self: object, _context: object) -> list[tuple[str, str, str, int]]:
    """The engine's priors while it runs; the default one before that. Also called without a scene.

    Blender stores a choice by its number: a number made from the name keeps its meaning when the list changes.
    """
    global _prior_items  # Blender does not copy the texts: they must stay alive
    listed = session.current().engine.info.get("priors") or session.current().known_priors
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
    for prior in session.current().engine.info.get("priors") or session.current().known_priors:
        classes = prior.get("classes") if isinstance(prior, dict) else None
        if isinstance(classes, list | tuple) and prior.get("name") == prior_name:
            items += [(name, name.replace("_", " ").capitalize(), "", stable_number(name)) for name in sorted(classes)]
    if items != _class_items.get(prior_name):
        _class_items[prior_name] = items  # Blender does not copy the texts: they must stay alive
    return _class_items[prior_name]


def completion_settings() -> dict[str, object]:
    """The settings' definitions, made anew for each class that has them."""
    return {
        "prior": EnumProperty(name="Prior", description="What the engine knows about shapes", items=prior_items),
        "resolution": IntProperty(
            name="Resolution", description="Cells along the longest side of the result", default=128, min=16, max=512
        ),
        "seed": IntProperty(name="Seed", description="Another seed may give another plausible whole", default=0, min=0),
        "hypotheses": IntProperty(
            name="Hypotheses",
            description="How many plausible wholes are asked for; the best is shown, the others come hidden",
            default=1,
            min=1,
            max=16,
        ),
        "viewpoint": EnumProperty(
            name="Viewpoint", description="Where the scanner stood", items=VIEWPOINTS, default="NONE"
        ),
        "viewpoint_location": FloatVectorProperty(
            name="Location", description="Where the scanner stood, in world space", subtype="TRANSLATION", size=3
        ),
        "align": EnumProperty(
            name="Align",
            description="What the engine finds out about the object's pose",
            items=ALIGNMENTS,
            default="scale",
        ),
        "max_faces": IntProperty(
            name="Face Budget",
            description="The result is simplified to at most so many triangles; 0: as many as the resolution gives",
            default=0,
            min=0,
            soft_max=100_000,
        ),
    }


FIT_METHODS = (
    ("auto", "Automatic", "A surface in seconds from any input"),
    ("sdf", "Signed Distance", "A network learns the signed distances of a mesh that has an inside (DeepSDF)"),
    ("igr", "IGR", "A network with points, normals and the Eikonal term"),
    ("sal", "SAL", "Sign-agnostic learning: from raw points or triangles without normals"),
    ("sal_l0", "SAL (L0)", "Sign-agnostic learning of inside and outside alone, without distances"),
    ("sald", "SALD", "Sign-agnostic learning with derivatives: sharper than SAL"),
    ("siren", "SIREN", "A network of sines: fine detail from points with normals"),
    ("digs", "DiGS", "Divergence-guided: fine detail from points without normals"),
    ("occupancy", "Occupancy", "A network learns the inside of a solid mesh"),
)
FIT_NORMALS = (
    ("auto", "Automatic", "Normals are trusted as far as they agree with one another"),
    ("given", "As Given", "The input's normals, or its faces, look outwards"),
    ("none", "Ignore", "Normals are estimated from the points"),
)
FIT_RESULTS = (
    ("BESIDE", "New Object", "The surface is an object of its own, the sources stay"),
    ("REPLACE", "Replace", "The surface takes the place of its sources"),
    ("JOIN", "Join", "Sources and surface become one object"),
)


def fit_settings() -> dict[str, object]:
    """The settings of Fit Shape, made anew for each class that has them."""
    return {
        "method": EnumProperty(name="Method", description="How the surface is found", items=FIT_METHODS),
        "resolution": IntProperty(
            name="Detail", description="Cells along the longest side of the result", default=128, min=16, max=512
        ),
        "smoothness": FloatProperty(
            name="Smoothness",
            description="0 goes through every point, 1 is very smooth; 0.5 smooths as much as the points are noisy",
            default=0.5,
            min=0,
            max=1,
            subtype="FACTOR",
        ),
        "noise": FloatProperty(
            name="Noise",
            description="How far the points lie from the surface (standard deviation); 0 lets the engine estimate it",
            default=0,
            min=0,
            soft_max=0.1,
            precision=4,
            unit="LENGTH",
        ),
        "normals": EnumProperty(name="Normals", description="What the input's normals are good for", items=FIT_NORMALS),
        "open_boundaries": BoolProperty(
            name="Keep Open",
            description="Leave holes open: the surface ends where no points are near. Off: every hole is closed",
            default=False,
        ),
        "viewpoint": EnumProperty(
            name="Viewpoint", description="Where the scanner stood", items=VIEWPOINTS, default="NONE"
        ),
        "viewpoint_location": FloatVectorProperty(
            name="Location", description="Where the scanner stood, in world space", subtype="TRANSLATION", size=3
        ),
        "iterations": IntProperty(
            name="Iterations",
            description="Steps of the methods that train a network; 0 takes the method's own number",
            default=0,
            min=0,
            max=1_000_000,
        ),
        "seed": IntProperty(name="Seed", description="Where the randomness begins", default=0, min=0),
        "becomes": EnumProperty(name="Result", description="What becomes of the fitted surface", items=FIT_RESULTS),
    }


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


class ShapewrightTrainSettings(bpy.types.PropertyGroup):
    __annotations__ = {
        **train_settings(),
        "collection": PointerProperty(
            type=bpy.types.Collection,
            name="Collection",
            description="The collection to learn from; empty takes the active one",
        ),
    }


class ShapewrightFitSettings(bpy.types.PropertyGroup):
    __annotations__ = fit_settings()


class ShapewrightSettings(bpy.types.PropertyGroup):
    __annotations__ = {
        **completion_settings(),
        "class_name": EnumProperty(name="Class", description="What the object is; any: found", items=class_items),
        "show_settings": BoolProperty(name="Settings", default=True),
    }


def register() -> None:
    bpy.utils.register_class(ShapewrightSettings)
    bpy.types.Scene.shapewright = PointerProperty(type=ShapewrightSettings)
    bpy.utils.register_class(ShapewrightFitSettings)
    bpy.types.Scene.shapewright_fit = PointerProperty(type=ShapewrightFitSettings)
    bpy.utils.register_class(ShapewrightTrainSettings)
    bpy.types.Scene.shapewright_train = PointerProperty(type=ShapewrightTrainSettings)


def unregister() -> None:
    del bpy.types.Scene.shapewright_train
    bpy.utils.unregister_class(ShapewrightTrainSettings)
    del bpy.types.Scene.shapewright_fit
    bpy.utils.unregister_class(ShapewrightFitSettings)
    del bpy.types.Scene.shapewright
    bpy.utils.unregister_class(ShapewrightSettings)
