"""What all panels of the tab share."""

from collections.abc import Collection

import bpy

from .. import session
from .drawing import draw_job


class ShapewrightPanel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Shapewright"


def big_button(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    """A column for the button that a panel is about."""
    column = layout.column()
    column.scale_y = 1.4
    return column


def settings_column(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    """A column for settings: their names on the left, their values on the right."""
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    return column


def draw_viewpoint(column: bpy.types.UILayout, settings: bpy.types.PropertyGroup, scene: bpy.types.Scene) -> None:
    """What belongs to the viewpoint chosen: its place, or that there is no camera."""
    if settings.viewpoint == "POINT":
        column.prop(settings, "viewpoint_location")
    elif settings.viewpoint == "CAMERA" and scene.camera is None:
        column.label(text="The scene has no camera", icon="ERROR")


def draw_jobs(layout: bpy.types.UILayout, kinds: Collection[str]) -> None:
    """The jobs of these kinds, each with its bar and its Cancel."""
    for job in session.current().jobs:
        if job.kind in kinds:
            draw_job(layout, job)
