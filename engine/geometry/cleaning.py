"""What a scan holds besides the object: stray points, and the ground that it stands on.

Both tests are relative to the cloud's own density and size, so they hold in any unit. All clouds have z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
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


@dataclass
class Ground:
    """A plane z = height + slope . (x, y) under an object, slope (2,). on, below: points that lie on it, under it."""

    height: float
    slope: NDArray[np.float64]
    on: Mask
    below: Mask


def find_ground(points: FloatArray, noise: float = 0.0) -> Ground | None:
    """The floor that the object of a cloud (N, 3), z up, stands on, or None where it stands on nothing that was seen.

    A floor is level (within six degrees), nothing lies under it but a few strays, something stands on it, it reaches
    well beyond that on at least two sides, and by more than a foot does: table tops and seats have legs under them, the
    feet of lamps and coat stands are small beside what they carry.
    noise: standard deviation of the points, in their unit; decides how thick a floor is.
    """
    count = len(points)
    if count < 50:
        return None
    low, high = np.percentile(points, [1.0, 99.0], axis=0).astype(np.float64)
    extent = float((high - low).max())
    if extent <= 0:
        return None
    thick = max(0.006 * extent, 3.0 * noise)
    # The most crowded layer in the lower half.
    z = points[:, 2].astype(np.float64)
    bins = np.arange(low[2] - 4 * thick, high[2] + 2 * thick, thick)
    if len(bins) < 4:
        return None
    crowd = np.histogram(z, bins)[0]
    layer = crowd[:-1] + crowd[1:]
    usable = bins[:-2] < low[2] + 0.5 * (high[2] - low[2])
    best = int(np.argmax(np.where(usable, layer, 0)))
    if layer[best] < 0.05 * count:
        return None
    height, slope = float(bins[best + 1]), np.zeros(2)
    for width in (3.0, 2.0, 1.0, 1.0):
        near = np.abs(z - height - points[:, :2] @ slope) < width * thick
        if near.sum() < 0.05 * count:
            return None
        flat = np.c_[points[near, :2].astype(np.float64), np.ones(int(near.sum()))]
        middle = flat[:, :2].mean(0)
        flat[:, :2] -= middle
        solved = np.linalg.lstsq(flat, z[near], rcond=None)[0]
        slope, height = solved[:2], float(solved[2] - solved[:2] @ middle)
    if float(np.linalg.norm(slope)) > np.tan(np.deg2rad(6.0)):
        return None
    above = z - height - points[:, :2] @ slope
    on = np.abs(above) < thick
    # A few strays may lie below a floor; the object's own legs lie below what is not one.
    if (above < -2 * thick).sum() > 0.02 * count:
        return None
    rest = points[above > 2 * thick]
    if len(rest) < max(20, 0.01 * count) or np.percentile(above, 99.5) < 6 * thick:
        return None
    inner_low, inner_high = np.percentile(rest[:, :2], [1.0, 99.0], axis=0).astype(np.float64)
    outer_low, outer_high = np.percentile(points[on][:, :2], [1.0, 99.0], axis=0).astype(np.float64)
    body = max(float((inner_high - inner_low).max()), float(np.percentile(above, 99.0)))
    beyond = np.concatenate([inner_low - outer_low, outer_high - inner_high])
    if (beyond > 0.06 * body).sum() < 2 or float((outer_high - outer_low).max()) < 0.75 * body:
        return None
    return Ground(height, slope, on, above <= -thick)


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
