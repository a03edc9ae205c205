"""What every result goes through at its end, whatever kind of job made it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

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


def standing(mesh: Mesh) -> Mesh:
    """A canonical mesh that knows its own frame: the origin in the middle of its base, the axes as they are."""
    low, high = mesh.vertices.min(axis=0).astype(np.float64), mesh.vertices.max(axis=0).astype(np.float64)
    own = np.eye(4)
    own[:3, 3] = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]
    return replace(mesh, own_frame=own)
