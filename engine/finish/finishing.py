"""What every result goes through at its end, whatever kind of job made it."""

from __future__ import annotations

from dataclasses import dataclass

from ..geometry.meshes import Mesh
from ..surfaces.decimation import decimate
from .slivers import shortest_edge, without_slivers


@dataclass(frozen=True)
class Finish:
    """max_faces: triangles that are left at most, 0 = as many as come."""

    max_faces: int = 0


def finished(mesh: Mesh, finish: Finish, resolution: int, scale: float) -> Mesh:
    """A canonical mesh without slivers and within its budget of faces.

    resolution: cells along the canonical box that it was extracted at.  scale: from the canonical frame to the scene.
    """
    mesh = without_slivers(mesh, resolution, scale)
    if finish.max_faces:
        mesh = decimate(mesh, finish.max_faces, shortest_edge(resolution, scale))
    return mesh
