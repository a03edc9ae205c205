"""How near two shapes are: distances between clouds sampled from their surfaces, and overlap of their volumes.

After the protocol of Convolutional Occupancy Networks (Peng et al. 2020), which took over that of Occupancy Networks
(Mescheder et al. 2019), and, for the F-score, "What Do Single-view 3D Reconstruction Networks Learn?" (Tatarchenko et
al. 2019). Names differ between papers, so each function says what it computes. All distances are in the clouds' unit;
in canonical units (longest side 1) a threshold of 0.01 is one per cent of the object.

pred: (N, 3) points of the reconstruction.  true: (M, 3) points of the reference.  N and M may differ.
Every function raises ValueError for an empty cloud.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .meshes import Mesh

Cloud = NDArray[np.floating[Any]]
Float64Array = NDArray[np.float64]


def nearest(source: Cloud, target: Cloud) -> tuple[Float64Array, NDArray[np.int64]]:
    """For each source point the distance to the nearest target point, and that point's index: (N,) and (N,)."""
    for cloud in (source, target):
        if cloud.ndim != 2 or cloud.shape[1] != 3 or len(cloud) == 0:
            raise ValueError(f"expected (N, 3) points, got {cloud.shape}")
    distance, index = cKDTree(target).query(source)
    return np.asarray(distance, np.float64), np.asarray(index, np.int64)


def distances_to_surface(mesh: Mesh, points: Cloud) -> Float64Array:
    """(N,) distances of points (N, 3) to the mesh's surface, exact. Raises ValueError where either is empty.

    A KD-tree over the triangles' centroids proposes, exact point-triangle distances decide: no triangle can be nearer
    than its centroid less its radius, so the search goes on until no other could win. Meant for the fairly even
    triangles of marching cubes and of scans; right, though slower, for others.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or len(mesh.faces) == 0:
        raise ValueError(f"expected (N, 3) points and faces, got {points.shape} and {mesh.faces.shape}")
    corners = mesh.vertices.astype(np.float64)[mesh.faces]  # (F, 3, 3)
    centroids = corners.mean(axis=1)
    radii = np.linalg.norm(corners - centroids[:, None], axis=2).max(axis=1)
    best = np.full(len(points), np.inf)
    # Triangles of like size together: one large one would otherwise spoil the bound for all the small ones.
    limits = [2 * float(np.median(radii))]
    while limits[-1] < radii.max():
        limits.append(4 * limits[-1] if limits[-1] > 0 else float(radii.max()))
    below = -1.0
    for limit in limits:
        members = np.flatnonzero((radii > below) & (radii <= limit))
        below = limit
        if len(members) == 0:
            continue
        tree, radius = cKDTree(centroids[members]), float(radii[members].max())
        # Nothing of this class is nearer than its nearest centroid less the radius.
        left = np.flatnonzero(tree.query(points)[0] - radius < best)
        count = 3
        while len(left):
            count = min(count, len(members))
            still = [np.zeros(0, np.int64)]
            block = max(1, 400_000 // count)
            for start in range(0, len(left), block):
                rows = left[start : start + block]
                distance, index = tree.query(points[rows], k=count)
                distance, face = distance.reshape(len(rows), count), members[index.reshape(len(rows), count)]
                row, column = np.nonzero(distance - radii[face] < best[rows, None])
                near = np.full(distance.shape, np.inf)
                near[row, column] = _distances_to_triangles(points[rows[row]], corners[face[row, column]])
                best[rows] = np.minimum(best[rows], near.min(axis=1))
                if count < len(members):
                    still.append(rows[distance[:, -1] - radius < best[rows]])
            left = np.concatenate(still)
            count *= 4
    return best


def _distances_to_triangles(points: Float64Array, corners: Float64Array) -> Float64Array:
    """(N,) distances of points (N, 3) to one triangle each (N, 3, 3)."""
    side = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(side, axis=1)
    best = np.full(len(points), np.inf)
    inside = double_area > 0  # a triangle without area is its edges
    for k in range(3):
        edge, to_point = corners[:, (k + 1) % 3] - corners[:, k], points - corners[:, k]
        square = np.einsum("ni,ni->n", edge, edge)
        along = np.einsum("ni,ni->n", to_point, edge)
        along = np.divide(along, square, out=np.zeros_like(along), where=square > 0).clip(0, 1)
        best = np.minimum(best, np.linalg.norm(to_point - along[:, None] * edge, axis=1))
        inside &= np.einsum("ni,ni->n", np.cross(edge, to_point), side) >= 0
    height = np.abs(np.einsum("ni,ni->n", points - corners[:, 0], side))
    plane = np.divide(height, double_area, out=np.full(len(points), np.inf), where=inside)
    return np.asarray(np.minimum(best, plane), np.float64)


def one_sided_distance(source: Cloud, target: Cloud) -> float:
    """Mean distance from the source's points to the target: 'accuracy' from pred to true, 'completeness' reversed."""
    return float(nearest(source, target)[0].mean())


def chamfer_l1(pred: Cloud, true: Cloud) -> float:
    """(accuracy + completeness) / 2 of unsquared Euclidean distances: 'Chamfer-L1' of the Occupancy Networks papers."""
    return 0.5 * (one_sided_distance(pred, true) + one_sided_distance(true, pred))


def chamfer_l2(pred: Cloud, true: Cloud) -> float:
    """Mean squared distance pred to true plus mean squared distance true to pred: DeepSDF's Chamfer distance."""
    return float((nearest(pred, true)[0] ** 2).mean() + (nearest(true, pred)[0] ** 2).mean())


def hausdorff(pred: Cloud, true: Cloud) -> float:
    """The largest distance from a point of either cloud to the other cloud."""
    return float(max(nearest(pred, true)[0].max(), nearest(true, pred)[0].max()))


def total_mutual_difference(clouds: Sequence[Cloud]) -> float:
    """TMD of K answers to one scan (Wu et al. 2020): the sum over answers of their mean Chamfer distance to the others.

    Chamfer distance as there: mean squared distances, both ways added. 0 for one answer; larger is more diverse.
    """
    if len(clouds) < 2:
        return 0.0
    pairs = {(i, j): chamfer_l2(clouds[i], clouds[j]) for i in range(len(clouds)) for j in range(i)}
    return float(2 * sum(pairs.values()) / (len(clouds) - 1))


def unidirectional_hausdorff(observed: Cloud, clouds: Sequence[Cloud]) -> float:
    """UHD of K answers (Wu et al. 2020): mean over them of the largest distance of an observed point."""
    return float(np.mean([nearest(observed, cloud)[0].max() for cloud in clouds]))


def precision(pred: Cloud, true: Cloud, threshold: float = 0.01) -> float:
    """Share of the prediction within the threshold of the reference, 0..1."""
    return float((nearest(pred, true)[0] <= threshold).mean())


def recall(pred: Cloud, true: Cloud, threshold: float = 0.01) -> float:
    """Share of the reference within the threshold of the prediction, 0..1."""
    return float((nearest(true, pred)[0] <= threshold).mean())


def f_score(pred: Cloud, true: Cloud, threshold: float = 0.01) -> float:
    """Harmonic mean of precision and recall, 0..1 (Tatarchenko et al. 2019)."""
    return _harmonic(precision(pred, true, threshold), recall(pred, true, threshold))


def normal_consistency(pred: Cloud, pred_normals: Cloud, true: Cloud, true_normals: Cloud) -> float:
    """Mean |cosine| between each point's unit normal and that of its nearest point, averaged over both directions.

    The absolute value as in Occupancy Networks, whose references' normals have no reliable sign. 1 is best.
    """
    _, to_true = nearest(pred, true)
    _, to_pred = nearest(true, pred)
    return _normal_consistency(pred_normals, true_normals, to_true, to_pred)


def iou(occupied_a: NDArray[np.bool_], occupied_b: NDArray[np.bool_]) -> float:
    """Intersection over union of two volumes, given whether each of the same sample points lies inside: 0..1.

    Points uniform in the box give the volumetric IoU. Two empty volumes are equal: 1.
    """
    a, b = np.asarray(occupied_a, bool), np.asarray(occupied_b, bool)
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"expected two equally shaped arrays, got {a.shape} and {b.shape}")
    union = int((a | b).sum())
    return 1.0 if union == 0 else int((a & b).sum()) / union


def evaluate_cloud_pair(
    pred_points: Cloud,
    pred_normals: Cloud | None,
    true_points: Cloud,
    true_normals: Cloud | None,
    thresholds: Sequence[float] = (0.01,),
) -> dict[str, float]:
    """All measures above from two KD-tree queries.

    Keys: accuracy, completeness, chamfer_l1, chamfer_l2, hausdorff, normal_consistency (where both have normals), and
    precision@T, recall@T, f_score@T for each threshold T ('f_score@0.01').
    """
    to_true, true_index = nearest(pred_points, true_points)
    to_pred, pred_index = nearest(true_points, pred_points)
    result = {
        "accuracy": float(to_true.mean()),
        "completeness": float(to_pred.mean()),
        "chamfer_l1": float(0.5 * (to_true.mean() + to_pred.mean())),
        "chamfer_l2": float((to_true**2).mean() + (to_pred**2).mean()),
        "hausdorff": float(max(to_true.max(), to_pred.max())),
    }
    if pred_normals is not None and true_normals is not None:
        result["normal_consistency"] = _normal_consistency(pred_normals, true_normals, true_index, pred_index)
    for threshold in thresholds:
        p, r = float((to_true <= threshold).mean()), float((to_pred <= threshold).mean())
        result[f"precision@{threshold:g}"] = p
        result[f"recall@{threshold:g}"] = r
        result[f"f_score@{threshold:g}"] = _harmonic(p, r)
    return result


def _harmonic(p: float, r: float) -> float:
    return 2.0 * p * r / (p + r) if p + r > 0 else 0.0


def _normal_consistency(
    pred_normals: Cloud, true_normals: Cloud, to_true: NDArray[np.int64], to_pred: NDArray[np.int64]
) -> float:
    forward = np.abs(np.einsum("ni,ni->n", pred_normals, true_normals[to_true])).mean()
    backward = np.abs(np.einsum("ni,ni->n", true_normals, pred_normals[to_pred])).mean()
    return float(0.5 * (forward + backward))
