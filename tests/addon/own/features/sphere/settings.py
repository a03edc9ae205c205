"""The settings of the feature."""

from bpy.props import IntProperty


def sphere_settings() -> dict[str, object]:
    return {"steps": IntProperty(name="Steps", default=2, min=1, max=100)}
