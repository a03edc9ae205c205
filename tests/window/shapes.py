"""What the story of new shapes asks for, in a window and without one, and its meshes in a file to be compared."""

from pathlib import Path
from typing import Any

import numpy as np

COUNT, STEPS, STRENGTH = 10, 5, 0.5
SEED, RESOLUTION, CLASS = 3, 64, "chair"
BLENDED = ("Chair 2", "Chair 7")
"""The first of them is varied, too."""


def local_points(obj: Any) -> np.ndarray:
    """(V, 3) vertices of a mesh object in its own coordinates, which for a new shape of size 1 are canonical."""
    points = np.empty(3 * len(obj.data.vertices), np.float32)
    obj.data.attributes["position"].data.foreach_get("vector", points)
    return points.reshape(-1, 3)


def save_shapes(path: Path, objects: list[Any]) -> None:
    """Vertices, triangles and code of each, as 0_vertices, 0_faces, 0_code, ... in the order of their numbers."""
    arrays = {}
    ordered = sorted(objects, key=lambda obj: int(obj.name.split()[-1]))
    for number, obj in enumerate(ordered):
        faces = np.empty(3 * len(obj.data.polygons), np.int32)
        obj.data.attributes[".corner_vert"].data.foreach_get("value", faces)
        arrays[f"{number}_vertices"] = local_points(obj)
        arrays[f"{number}_faces"] = faces.reshape(-1, 3)
        arrays[f"{number}_code"] = np.frombuffer(obj["shapewright_code"], "<f4")
    np.savez(path, **arrays)
