"""What of a scan is no surface: stray points, and normals that contradict one another.

All tests are relative to the cloud's own density and size, so they hold in any unit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ..errors import EngineError
from .clouds import FloatArray

Mask = NDArray[np.bool_]


def stray_points(points: FloatArray, neighbours: int = 8) -> Mask:
    """(N,) True where a point of (N, 3) belongs to nothing: far from its neighbours and not in line or plane with them.

    Distance to the k-th neighbour against the cloud's median, as in statistical outlier removal (Rusu et al. 2008). On
    its own that takes the sparse parts of a scan too: thin legs, surfaces seen at a grazing angle. So what is merely
    sparse stays where its neighbours lie about it in a line or a plane, as they do on any surface; points scattered in
    space lie about one another in all three directions. Points closer than that to the surface cannot be told from it.
    A cloud whose density falls off within a single surface keeps it.
    """
    count = len(points)
    if count < 4 * neighbours:
        return np.zeros(count, bool)
    tree = cKDTree(points)
    distance, index = tree.query(points, k=neighbours + 1)
    reach = distance[:, -1]
    typical = float(np.median(reach))
    if typical <= 0:
        return np.zeros(count, bool)
    sparse = np.flatnonzero(reach > 3.2 * typical)
    stray = np.zeros(count, bool)
    if len(sparse) == 0:
        return stray
    near = points[index[sparse]].astype(np.float64)
    near -= near.mean(axis=1, keepdims=True)
    spread = np.linalg.eigvalsh(np.einsum("nki,nkj->nij", near, near)).clip(0)
    # Thickness and width against length of the neighbourhood: a scatter of nine points in space has about 0.4 and 0.7.
    length = np.maximum(spread[:, 2], 1e-30)
    scattered = (np.sqrt(spread[:, 0] / length) > 0.12) & (np.sqrt(spread[:, 1] / length) > 0.4)
    stray[sparse[scattered | (reach[sparse] > 20 * typical)]] = True
    # What is left in small groups far from the rest: a few strays that happened to lie in line.
    kept = np.flatnonzero(~stray)
    again = np.flatnonzero(~stray & (reach > 3.2 * typical))
    if len(again) and len(kept) > 4 * neighbours:
        distance = cKDTree(points[kept]).query(points[again], k=neighbours + 1)[0]
        stray[again[distance[:, -1] > 1.7 * reach[again]]] = True
    return stray


CRUMB, APART = 0.005, 0.06
"""Of a cloud's points, and of its extent: what is smaller and farther from the rest belongs to something else."""


def crumbs(points: FloatArray) -> Mask:
    """(N,) True where a point of (N, 3) belongs to a few that hang together apart from the rest: what a mask cut out
    with an object and is no part of it."""
    low, high = np.percentile(points.astype(np.float64), [1.0, 99.0], axis=0)
    cell = APART * float((high - low).max())
    if cell <= 0:
        return np.zeros(len(points), bool)
    cells, of = np.unique(np.floor((points - low) / cell).astype(np.int64), axis=0, return_inverse=True)
    pairs = cKDTree(cells).query_pairs(1.0, p=np.inf, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(cells), len(cells)))
    part = connected_components(links, directed=False)[1][of.reshape(-1)]
    small: Mask = np.bincount(part)[part] < CRUMB * len(points)
    return small


SAME_SHARE = 0.98
ACROSS_SHARE = 0.6


def doubtful_normals(points: FloatArray, normals: FloatArray, neighbours: int = 16) -> str:
    """Why (N, 3) unit normals cannot be those of the surface that points (N, 3) show, a sentence; '' where they can.

    Either nearly all are the same while the neighbourhoods of the points lie in planes of several directions (exporters
    write 0 0 1 where they know none); or they have nothing to do with these planes (turned to another frame, columns
    that are something else): of directions at random half lie within 60 degrees of a plane's normal, of a surface's
    own nearly all, also where it is thin and noisy. The planes are those of principal components (Hoppe et al. 1992).
    """
    count = len(points)
    if count < 4 * neighbours:
        return ""
    step = max(1, count // 2000)
    near = points[cKDTree(points).query(points[::step], k=neighbours)[1]].astype(np.float64)
    near -= near.mean(axis=1, keepdims=True)
    spread, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", near, near))
    planar = spread[:, 0] < 0.1 * spread[:, 1]  # elsewhere no direction is the normal
    if planar.sum() < 50:
        return ""
    lines, own = axes[planar, :, 0], normals[::step][planar].astype(np.float64)
    along = np.abs(np.einsum("ni,ni->n", lines, own))
    middle = np.median(normals, axis=0).astype(np.float64)
    if np.linalg.norm(middle) > 0.5:
        middle /= np.linalg.norm(middle)
        if (normals @ middle > 0.999).mean() > SAME_SHARE and (np.abs(lines @ middle) < 0.9).mean() > 0.1:
            return "All its normals are the same, and its surface is not flat."
    if (along > 0.5).mean() < ACROSS_SHARE:
        return "Its normals have nothing to do with the surface that its points show."
    return ""


def normals_not_believed(why: str) -> dict[str, str]:
    """The warning of a report that goes with doubtful_normals."""
    return EngineError(
        "normals_not_believed",
        "The input's normals were not used.",
        why,
        "Leave them out when exporting, or compute them anew. Fit Shape takes them all the same where told so.",
    ).as_dict()


def orientation_agreement(points: FloatArray, normals: FloatArray, neighbours: int = 6) -> float:
    """0..1: share of neighbouring points whose normals, where they are nearly parallel, look the same way.

    1 for normals turned to one side of the surface, about 0.5 for normals of arbitrary sign. 1 where nothing can be
    compared.
    """
    if len(points) <= neighbours:
        return 1.0
    sample = points[:: max(1, len(points) // 4000)]
    own = normals[:: max(1, len(points) // 4000)]
    index = cKDTree(points).query(sample, k=neighbours + 1)[1][:, 1:]
    cosine = np.einsum("nj,nkj->nk", own, normals[index])
    alike = np.abs(cosine) > 0.8
    return float((cosine[alike] > 0).mean()) if alike.any() else 1.0
