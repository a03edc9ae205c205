"""The settings of Densify."""

from bpy.props import EnumProperty, IntProperty

DENSE_RESULTS = (
    ("points", "Points", "A dense cloud: a mesh of vertices with normals"),
    ("mesh", "Surface", "A closed surface about the points"),
)


def densify_settings() -> dict[str, object]:
    return {
        "points": IntProperty(
            name="Points", description="How many points", default=20_000, min=8, max=5_000_000, soft_max=200_000
        ),
        "output": EnumProperty(name="Result", description="What is made", items=DENSE_RESULTS),
    }
