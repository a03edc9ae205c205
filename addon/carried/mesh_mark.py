"""Whether an object still has the mesh that it was given, and where in its coordinates that mesh has gone since.

Apply Scale, Apply Rotation and the like change a mesh's coordinates and leave the shape alone: what else the object
carries has to go with them. A mark of constant size is left on the object: a hash of all positions, which tells in
an instant that nothing has changed; some vertices, which tell by which affine map others came from them (the vertices
keep their order); and a few random sums over all vertices, to which that map must apply too, so that one vertex moved
by a person is noticed (a linear sketch: Alon, Matias, Szegedy 1996).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import bpy
import numpy as np

HASH, COUNT, ANCHORS, SUMS = (f"shapewright_mesh_{name}" for name in ("hash", "count", "anchors", "sums"))
"""Custom properties of the object: hexadecimal; number of vertices; (A, 3) and (S, 3) numbers, row by row."""
OLDER = "shapewright_code_mesh"
"""The mark of versions before: number of vertices and sum of their distances from the origin. It knows no rotation."""

MOST_ANCHORS = 64

ANCHOR_TOLERANCE = 5e-6
"""Of the size: what float32 and a few Applies after one another leave over."""
SUM_TOLERANCE = 1e-6
"""Of the size and of the square root of the number of vertices: what their rounding adds up to."""


@dataclass(frozen=True)
class Change:
    """What has become of the mesh. matrix: (4, 4), then -> now; None where no affine map explains it.

    why: a sentence where there is no matrix. similar: whether the matrix is one scale, a rotation and a translation.
    """

    matrix: np.ndarray | None
    why: str = ""
    similar: bool = False


UNCHANGED = Change(np.eye(4), similar=True)


def leave(obj: bpy.types.Object) -> None:
    """Marks the mesh that the object has now as the one that it was given."""
    points = positions(obj.data)
    obj[HASH], obj[COUNT] = _hash(points), len(points)
    obj[ANCHORS] = [float(value) for value in _anchors(points).reshape(-1)]
    obj[SUMS] = [float(value) for value in _sums(points)[0].reshape(-1)]
    if OLDER in obj:
        del obj[OLDER]


def change_of(obj: bpy.types.Object) -> Change | None:
    """What has become of the mesh since it was marked; None where it never was."""
    if obj.mode == "EDIT":
        obj.update_from_editmode()
    points = positions(obj.data)
    if HASH not in obj:
        return _older_change(obj, points)
    if len(points) != int(obj[COUNT]):
        return Change(None, f"It has {len(points)} vertices instead of {int(obj[COUNT])}.")
    if obj[HASH] == _hash(points):
        return UNCHANGED
    anchors = np.array(list(obj[ANCHORS]), np.float64).reshape(-1, 3)
    sums = np.array(list(obj[SUMS]), np.float64).reshape(-1, 3)
    if len(points) < 4 or len(anchors) != len(_anchors(points)):
        return Change(None, "Its vertices were moved.")
    for similar, solve in ((True, similarity_between), (False, affine_between)):
        matrix = solve(anchors, _anchors(points))
        if matrix is not None and _explains(matrix, anchors, sums, points):
            return Change(matrix, similar=similar)
    return Change(None, "Its vertices were moved.")


def positions(mesh: bpy.types.Mesh) -> np.ndarray:
    """(V, 3) float32."""
    points = np.empty(3 * len(mesh.vertices), np.float32)
    if len(points):
        mesh.attributes["position"].data.foreach_get("vector", points)
    return points.reshape(-1, 3)


def similarity_between(before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """The similarity that carries points (N, 3) to others in the same order, least squares (Umeyama 1991); (4, 4).

    None where all points are one. Without a mirroring: of mirrored points it is far off.
    """
    centre, target = before.mean(0), after.mean(0)
    spread = float(((before - centre) ** 2).sum())
    if not spread > 0:
        return None
    left, stretch, right = np.linalg.svd((after - target).T @ (before - centre))
    turn = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    linear = float((stretch * turn).sum()) / spread * (left * turn) @ right
    return _matrix(linear, target - linear @ centre)


def affine_between(before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """The affine map that carries points (N, 3) to others in the same order, least squares; (4, 4)."""
    centre, target = before.mean(0), after.mean(0)
    linear = np.linalg.lstsq(before - centre, after - target, rcond=1e-9)[0].T
    return _matrix(linear, target - linear @ centre)


def _matrix(linear: np.ndarray, offset: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, offset
    return matrix


def _explains(matrix: np.ndarray, anchors: np.ndarray, sums: np.ndarray, points: np.ndarray) -> bool:
    """Whether the map carries anchors and sums of then to those of `points`."""
    now, weights = _sums(points)
    size = float(np.abs(points).max())
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    off = np.abs(anchors @ linear.T + offset - _anchors(points)).max()
    off_sums = np.abs(sums @ linear.T + weights[:, None] * offset - now).max()
    return bool(off <= ANCHOR_TOLERANCE * size and off_sums <= SUM_TOLERANCE * size * np.sqrt(len(points)))


def _anchors(points: np.ndarray) -> np.ndarray:
    chosen = np.unique(np.linspace(0, max(len(points) - 1, 0), min(MOST_ANCHORS, len(points))).astype(np.int64))
    return points[chosen].astype(np.float64)


def _sums(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, 3) sums of the points with signs by chance, always the same for so many points; (S,) sums of the signs."""
    chance = np.frombuffer(np.random.default_rng(0).bytes(len(points)), np.uint8)
    # Vertices with the same byte have the same signs: they are added up first.
    together = np.stack([np.bincount(chance, points[:, axis], minlength=256) for axis in range(3)], axis=1)
    signs = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64) * 2.0 - 1.0
    return signs.T @ together, signs.T @ np.bincount(chance, minlength=256)


def _hash(points: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(points, "<f4").tobytes(), digest_size=16).hexdigest()


def _older_change(obj: bpy.types.Object, points: np.ndarray) -> Change | None:
    known = list(obj.get(OLDER, ()))
    if len(known) != 2:
        return None
    found = [float(len(points)), float(np.linalg.norm(points.astype(np.float64), axis=1).sum())]
    return UNCHANGED if np.allclose(known, found, rtol=1e-5, atol=1e-12) else Change(None, "Its mesh was changed.")
