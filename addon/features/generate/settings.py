"""The settings of Generate."""

from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty

from ...ui import choices


def generate_settings() -> dict[str, object]:
    return {
        "count": IntProperty(name="Count", description="How many shapes", default=10, min=1, max=1000, soft_max=100),
        "temperature": FloatProperty(
            name="Variety",
            description="How far from the likely the shapes may be: 0 is the mean shape, 1 as the prior was taught",
            default=0.9,
            min=0,
            max=2,
        ),
        "size": FloatProperty(
            name="Size", description="The longest side of each shape", default=1.0, min=0.001, unit="LENGTH"
        ),
        "avoid_duplicates": BoolProperty(
            name="Avoid Duplicates",
            description="Draw again what is nearly a known shape or an earlier one",
            default=True,
        ),
    }


def panel_settings() -> dict[str, object]:
    """What the panel alone has."""
    return {"class_name": EnumProperty(name="Class", description="What to make", items=choices.class_items)}
