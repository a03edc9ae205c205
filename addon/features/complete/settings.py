"""The settings of Complete Shape, kept with the scene; the operator has the same ones, filled in from there."""

from bpy.props import BoolProperty, EnumProperty, IntProperty

from ...ui import choices

ALIGNMENTS = (
    ("none", "None", "The object's own frame is the prior's: z up, front towards -y, centred, size 1"),
    ("scale", "Place and Size", "Upright; place and size are found, and where it faces if nobody turned it about z"),
    ("similarity", "Place, Size and Turn", "The object may lie in any way; place, size and rotation are found"),
)


def completion_settings() -> dict[str, object]:
    """The settings' definitions, made anew for each class that has them."""
    return {
        "prior": EnumProperty(
            name="Prior", description="What the engine knows about shapes", items=choices.prior_items
        ),
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
        **choices.viewpoint_settings(estimated=True),
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


def panel_settings() -> dict[str, object]:
    """What the panel alone has."""
    return {
        "class_name": EnumProperty(
            name="Class", description="What the object is; any: found", items=choices.class_items
        ),
        "show_settings": BoolProperty(name="Settings", default=True),
    }
