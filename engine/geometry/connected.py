"""What hangs together: connected components, and whether a mesh is closed."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import NDArray

from .meshes import Mesh

Indices = NDArray[np.int64]


def labels_of(count: int, left: Indices, right: Indices) -> Indices:
    """(count,) which connected component each of `count` things is in, 0, 1, ...; left[i] and right[i] are joined."""
    links = scipy.sparse.coo_matrix((np.ones(len(left), np.int32), (left, right)), shape=(count, count))
    return np.asarray(scipy.sparse.csgraph.connected_components(links, directed=False)[1], np.int64)


def vertex_components(mesh: Mesh) -> Indices:
    """(V,) the component of each vertex: the corners of a triangle belong together."""
    a, b, c = mesh.faces.T
    return labels_of(len(mesh.vertices), np.concatenate([a, b]), np.concatenate([b, c]))


def is_watertight(mesh: Mesh) -> bool:
    """Whether every edge is used by exactly two triangles, once in each direction: closed and consistently wound."""
    if len(mesh.faces) == 0:
        return False
    faces = mesh.faces.astype(np.int64)
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    if bool((start == end).any()):
        return False
    count = len(mesh.vertices)
    there, back = np.sort(start * count + end), np.sort(end * count + start)
    return bool((there[1:] != there[:-1]).all() and (there == back).all())


def loose_edges(mesh: Mesh) -> int:
    """How many edges are not shared by exactly two triangles: 0 for a closed manifold surface."""
    if len(mesh.faces) == 0:
        return 0
    faces = mesh.faces.astype(np.int64)
    edges = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2), axis=1)
    counts = np.unique(edges[:, 0] * len(mesh.vertices) + edges[:, 1], return_counts=True)[1]
    return int((counts != 2).sum())
