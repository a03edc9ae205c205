"""A collection of the scene as a shape library: what Train Prior sends.

Nothing here keeps a reference to a Blender object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from ...link.problem import EngineProblem
from ...scene.read import read_scan
from ...scene.reference import PREVIEW_PROPERTY


@dataclass
class Shapes:
    """Meshes to learn from. rows: of the request ({"name", "class_name", "vertices"}), in the arrays' order.

    arrays(): points (N, 3) of all meshes one after the other, each at the origin and of size 1, and faces; free of bpy.
    skipped: objects without a surface.
    """

    rows: list[dict[str, Any]]
    arrays: Callable[[], dict[str, np.ndarray | None]]
    skipped: list[str] = field(default_factory=list)

    @property
    def classes(self) -> dict[str, int]:
        """Class -> number of shapes."""
        found: dict[str, int] = {}
        for row in self.rows:
            found[row["class_name"]] = found.get(row["class_name"], 0) + 1
        return found


def shapes_in(collection: bpy.types.Collection) -> list[tuple[str, bpy.types.Object]]:
    """(class, object) of every shape: a subcollection is a class, with all that is below it; the collection's own
    objects are of the class that it names. An object and what hangs on it are one shape."""
    found: dict[bpy.types.Object, str] = {}
    for child in collection.children:
        for obj in child.all_objects:
            found.setdefault(obj, child.name)
    for obj in collection.objects:
        found.setdefault(obj, collection.name)
    roots = [(name, obj) for obj, name in found.items() if obj.parent not in found and PREVIEW_PROPERTY not in obj]
    return sorted(roots, key=lambda row: (row[0], row[1].name))


def read_shapes(collection: bpy.types.Collection, depsgraph: bpy.types.Depsgraph) -> Shapes:
    """Every shape of the collection as modifiers have made it, turned and scaled as in the world.

    Raises EngineProblem where there is none.
    """
    rows: list[dict[str, Any]] = []
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    skipped: list[str] = []
    names: set[str] = set()
    for class_name, root in shapes_in(collection):
        pieces = []
        for obj in (root, *root.children_recursive):
            if obj.type != "MESH" or PREVIEW_PROPERTY in obj:
                continue
            try:
                scan = read_scan(obj, depsgraph, align="none")
            except EngineProblem:  # an empty mesh
                continue
            pieces.append((scan.arrays(), scan.frame))
        points, faces = _as_one_mesh(pieces)
        if len(faces) == 0 or not np.isfinite(points).all():
            skipped.append(root.name)
            continue
        name = root.name
        while name in names:  # objects linked from other files may share their names
            name += "_"
        names.add(name)
        rows.append({"name": name[:256], "class_name": class_name[:256], "vertices": len(points)})
        parts.append((points, faces))
    if not rows:
        raise EngineProblem(
            "shapes_missing",
            "There is nothing to learn from.",
            f"The collection '{collection.name}' holds no mesh with faces.",
            "Choose a collection of meshes: each of its subcollections is a class.",
        )

    def arrays_of() -> dict[str, np.ndarray | None]:
        starts = np.cumsum([0, *(len(points) for points, _ in parts)])
        return {
            "points": np.concatenate([_of_size_1(points) for points, _ in parts]),
            "faces": np.concatenate([faces + start for (_, faces), start in zip(parts, starts, strict=False)]),
        }

    return Shapes(rows, arrays_of, skipped)


def _as_one_mesh(pieces: list[tuple[dict[str, np.ndarray | None], np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Local arrays and their frames -> points (N, 3) float64 in the world, faces. Vertices without a face stay out."""
    points_out, faces_out, start = [np.empty((0, 3))], [np.empty((0, 3), np.int32)], 0
    for arrays, frame in pieces:
        points, faces = arrays["points"], arrays["faces"]
        if faces is None or points is None or len(faces) == 0:
            continue
        used, renumbered = np.unique(faces, return_inverse=True)
        renumbered = renumbered.reshape(-1, 3)
        if np.linalg.det(frame[:3, :3]) < 0:  # a mirroring turns the faces over
            renumbered = renumbered[:, ::-1]
        points_out.append(points[used].astype(np.float64) @ frame[:3, :3].T + frame[:3, 3])
        faces_out.append((renumbered + start).astype(np.int32))
        start += len(used)
    return np.concatenate(points_out), np.concatenate(faces_out)


def _of_size_1(points: np.ndarray) -> np.ndarray:
    low, high = points.min(0), points.max(0)
    return ((points - (low + high) / 2) / max(float((high - low).max()), 1e-300)).astype(np.float32)
