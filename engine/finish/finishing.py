"""What every result goes through at its end, whatever kind of job made it."""

from __future__ import annotations

from dataclasses import dataclass

from ..geometry.meshes import Mesh
from ..surfaces.decimation import decimate
from .slivers import shortest_edge, without_slivers
from .uvs import unwrapped


@dataclass(frozen=True)
class Finish:
    """max_faces: triangles that are left at most, 0 = as many as come.  uvs: whether the mesh is unwrapped."""

    max_faces: int = 0
    uvs: bool = False


def finished(mesh: Mesh, finish: Finish, resolution: int, scale: float) -> Mesh:
    """A canonical mesh without slivers, within its budget of faces, and unwrapped if that is asked for.

    resolution: cells along the canonical box that it was extracted at.  scale: from the canonical frame to the scene.
    """
    mesh = without_slivers(mesh, resolution, scale)
    if finish.max_faces:
        mesh = decimate(mesh, finish.max_faces, shortest_edge(resolution, scale))
    return unwrapped(mesh) if finish.uvs else mesh
