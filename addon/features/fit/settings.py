"""The settings of Fit Shape, kept with the scene."""

from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty

from ...ui import choices

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
        **choices.viewpoint_settings(),
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
