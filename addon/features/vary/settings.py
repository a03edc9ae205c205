"""The settings of Variants."""

from bpy.props import EnumProperty, FloatProperty, IntProperty

KEEPS = (
    ("NONE", "Nothing", "Everything may vary"),
    ("SELECTED", "Selected Part", "The vertices selected in Edit Mode stay as they are"),
    ("GROUP", "Vertex Group", "The vertices of the active vertex group stay as they are"),
)


def vary_settings() -> dict[str, object]:
    return {
        "variants": IntProperty(name="Count", description="How many variants", default=5, min=1, max=1000, soft_max=50),
        "strength": FloatProperty(
            name="Strength",
            description="How far they may go from the shape: 0 is the shape itself, 1 half way to any other",
            default=0.5,
            min=0,
            max=2,
            soft_max=1,
        ),
        "keep": EnumProperty(name="Keep", description="The part that stays as it is", items=KEEPS, default="NONE"),
    }
