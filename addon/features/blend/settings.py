"""The settings of Blend."""

from bpy.props import EnumProperty, IntProperty

LAYOUTS = (
    ("ROW", "In a Row", "The in-betweens stand side by side"),
    ("TIMELINE", "On the Timeline", "The in-betweens stand in one place, one after another in time: scrub to see them"),
    ("KEYS", "As Shape Keys", "One object whose mesh turns from shape to shape; only where the shapes are much alike"),
)
PATHS = (
    ("plausible", "Plausible", "Bent towards where the prior knows shapes"),
    ("spherical", "Spherical", "On a sphere in the space of shapes"),
    ("straight", "Straight", "The straight line in the space of shapes"),
)


def blend_settings() -> dict[str, object]:
    return {
        "steps": IntProperty(
            name="Steps", description="In-betweens from each shape to the next", default=5, min=1, max=256, soft_max=50
        ),
        "path": EnumProperty(name="Path", description="How the way between the shapes runs", items=PATHS),
        "layout": EnumProperty(name="Layout", description="Where the in-betweens stand", items=LAYOUTS),
        "hold": IntProperty(
            name="Frames Each", description="How many frames each in-between is shown", default=5, min=1, max=1000
        ),
    }
