"""Where the scanner stood, and whether somebody turned what it saw."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np

from ..link.problem import EngineProblem


def viewpoint_of(
    kind: str, location: Sequence[float], scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph
) -> tuple[float, float, float] | None:
    """The viewpoint in world space that the settings name: kind 'NONE', 'CAMERA' or 'POINT'; None where unknown.

    Raises EngineProblem where there is no camera.
    """
    if kind == "CAMERA":
        return camera_position(scene, depsgraph)
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


def never_turned(obj: bpy.types.Object) -> bool:
    """Whether the object's axes are the world's: nobody has turned it to face anywhere."""
    return np.allclose(np.array(obj.matrix_world.to_quaternion().to_matrix()), np.eye(3), atol=1e-3)
