"""What an extracted mesh loses before anybody sees it."""

from __future__ import annotations

import numpy as np
import scipy.spatial
from numpy.typing import NDArray

from ..geometry.connected import vertex_components
from ..geometry.meshes import Mesh, compacted, face_areas

UNSEEN = 0.1
"""Of the area: what hangs in the air and nobody saw has more, or goes."""


def clean_mesh(
    mesh: Mesh, min_component_fraction: float = 0.01, observed: NDArray[np.float32] | None = None, reach: float = 0.01
) -> Mesh:
    """Removes crumbs: connected components with less than this fraction of the surface's area, where nothing is said of
    what was observed. The largest stays.

    observed: (N, 3) points in the mesh's frame. A component that one point in 500 of them (at least five) lies nearest
    to, within `reach`, was seen and is no crumb: a thin leg may come out in pieces. One that nobody saw hangs in the
    air by imagination alone: it goes where it has less than `UNSEEN` of the area.
    Vertices that no remaining face uses go too. Same frame, same winding.
    """
    if len(mesh.faces) == 0:
        return mesh
    component_of_vertex = vertex_components(mesh)
    component = component_of_vertex[mesh.faces[:, 0]]
    areas = np.bincount(component, weights=face_areas(mesh))
    keep = areas >= (min_component_fraction if observed is None else UNSEEN) * areas.sum()
    keep[np.argmax(areas)] = True
    if observed is not None and len(observed) and not bool(keep.all()):
        distance, nearest = scipy.spatial.cKDTree(mesh.vertices).query(observed, distance_upper_bound=reach)
        owner = component_of_vertex[nearest[np.isfinite(distance)]]
        seen = np.bincount(owner, minlength=len(areas))
        keep |= seen >= max(5, len(observed) // 500)
    keep_face = keep[component]
    if bool(keep_face.all()):
        return compacted(mesh)
    return compacted(Mesh(mesh.vertices, mesh.faces[keep_face], mesh.normals))
