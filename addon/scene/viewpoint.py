"""Where the scanner stood, and whether somebody turned what it saw."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np

from ..link.problem import EngineProblem

FACES_ELSEWHERE = 0.1
"""Radians about the world's z from which on a person has turned an object to face somewhere."""


def viewpoint_of(
    kind: str, location: Sequence[float], context: bpy.types.Context, depsgraph: bpy.types.Depsgraph
) -> tuple[float, float, float] | None:
    """The viewpoint in world space that the settings name: kind 'ESTIMATE', 'VIEW', 'CAMERA', 'POINT' or 'NONE'; None
    where it is unknown or the engine's to find.

    Raises EngineProblem where there is no camera or no view.
    """
    if kind == "VIEW":
        return view_position(context)
    if kind == "CAMERA":
        return camera_position(context.scene, depsgraph)
    if kind == "POINT":
        x, y, z = location
        return float(x), float(y), float(z)
    return None


def camera_position(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> tuple[float, float, float]:
    """Where the scene's camera stands, in world space. Raises EngineProblem where there is none."""
    camera = scene.camera
    if camera is None:
        raise EngineProblem(
            "camera_missing",
            "The viewpoint cannot be taken from the camera.",
            "The scene has no active camera.",
            "Add a camera where the scanner stood, or set the viewpoint to 'Unknown'.",
        )
    x, y, z = camera.evaluated_get(depsgraph).matrix_world.translation
    return float(x), float(y), float(z)


def view_position(context: bpy.types.Context) -> tuple[float, float, float]:
    """Where the 3D view of the context looks from, in world space. Raises EngineProblem where there is none."""
    space = context.space_data
    if space is None or space.type != "VIEW_3D":
        raise EngineProblem(
            "view_missing",
            "The viewpoint cannot be taken from the view.",
            "No 3D view is under the pointer.",
            "Start it from the sidebar of a 3D view, or set the viewpoint to 'Estimate' or 'Unknown'.",
        )
    # In an orthographic view too this lies view_distance before what is looked at.
    x, y, z = space.region_3d.view_matrix.inverted().translation
    return float(x), float(y), float(z)


def was_turned(obj: bpy.types.Object) -> bool:
    """Whether a person has turned the object to face somewhere: a rotation about the world's z.

    What stands it up is no such thing: the quarter turn about x by which Blender's importers do that, or a scan
    levelled by hand. Of the world rotation q = (w, x, y, z) the part about z is (w, 0, 0, z) normalised, whatever
    tilts come before it (swing and twist); where both are zero the object was turned over, and nothing tells. Two tilts
    after one another turn a little about z themselves: less than FACES_ELSEWHERE is nobody's intention.
    """
    rotation = obj.matrix_world.to_quaternion()
    angle = 2.0 * np.arctan2(rotation.z, rotation.w) if np.hypot(rotation.z, rotation.w) > 1e-4 else 0.0
    return bool(abs((angle + np.pi) % (2.0 * np.pi) - np.pi) > FACES_ELSEWHERE)
