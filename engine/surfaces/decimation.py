"""Fewer triangles, by fast-simplification, and the sheets that this makes touch parted again."""

from __future__ import annotations

import numpy as np

from ..extras import need
from ..geometry.connected import loose_edges
from ..geometry.meshes import Mesh, compacted


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """At most about this many triangles, by quadric edge collapse (Garland and Heckbert 1997). Normals are dropped.

    A mesh that is small enough already comes back as it is. Collapsing thin parts can make sheets share an edge: these
    are parted again, so that what was closed stays closed, every edge between two triangles.
    """
    fast_simplification = need("fast_simplification", "The mesh cannot be decimated.")
    if faces < 4:
        raise ValueError("a closed surface has at least 4 triangles")
    if len(mesh.faces) <= faces:
        return mesh
    best: Mesh | None = None
    fewest, wanted = 0, faces
    for _ in range(6):
        vertices, triangles = fast_simplification.simplify(mesh.vertices, mesh.faces, target_count=wanted)
        made = _parted(compacted(Mesh(np.asarray(vertices, np.float32), np.asarray(triangles, np.int32))))
        loose = loose_edges(made)
        if best is None or (max(len(made.faces) - faces, 0), loose) < (max(len(best.faces) - faces, 0), fewest):
            best, fewest = made, loose
        if len(best.faces) <= faces and fewest == 0:
            break
        # Parting adds triangles, and some knots it cannot undo: aim a little lower.
        wanted = max(4, wanted - max(len(made.faces) - faces, faces // 50))
    assert best is not None
    return best


def _parted(mesh: Mesh) -> Mesh:
    """Sheets that share an edge parted: of an edge with four or more triangles, those that bound one solid wedge keep
    company, and each pair gets a midpoint of its own. Nothing moves. Triangles that lie back to back, with all three
    corners in common, bound nothing and go."""
    while True:  # taking some away may lay others back to back
        _, which, counts = np.unique(np.sort(mesh.faces, axis=1), axis=0, return_inverse=True, return_counts=True)
        flaps = counts[which.ravel()] == 2
        if not flaps.any() or flaps.all():
            break
        kept = compacted(Mesh(mesh.vertices, mesh.faces[~flaps]))
        if loose_edges(kept) > loose_edges(mesh):
            break
        mesh = kept
    faces = [tuple(int(v) for v in face) for face in mesh.faces]
    points = [np.asarray(v, np.float64) for v in mesh.vertices]
    for _ in range(12):
        corners = np.asarray(faces, np.int64)
        start, end = corners.ravel(), np.roll(corners, -1, axis=1).ravel()
        key = np.minimum(start, end) * len(points) + np.maximum(start, end)
        crowded, counts = np.unique(key, return_counts=True)
        crowded = crowded[counts > 2]
        if len(crowded) == 0:
            break
        users: dict[int, list[int]] = {}
        for half in np.flatnonzero(np.isin(key, crowded)).tolist():
            users.setdefault(int(key[half]), []).append(half // 3)
        touched: set[int] = set()
        changed = False
        for edge, around in users.items():
            if touched & set(around) or len(set(around)) < len(around):
                continue  # in the next round
            a, b = edge // len(points), edge % len(points)
            there = [f for f in around if (a, b) in _sides(faces[f])]
            back = [f for f in around if (b, a) in _sides(faces[f])]
            if len(there) != len(back):
                continue
            axis = points[b] - points[a]
            for f in there:
                ahead = points[_third(faces[f], a, b)] - points[a]
                outward = np.cross(axis, ahead)
                out = ahead - axis * (ahead @ axis) / max(float(axis @ axis), 1e-30)
                inward = -outward / max(float(np.linalg.norm(outward)), 1e-30) * np.linalg.norm(out)

                others = np.array([points[_third(faces[g], a, b)] - points[a] for g in back])
                partner = back.pop(int(np.argmin(np.arctan2(others @ inward, others @ out) % (2 * np.pi))))
                middle = len(points)
                points.append((points[a] + points[b]) / 2)
                for g, (s, e) in ((f, (a, b)), (partner, (b, a))):
                    tip = _third(faces[g], a, b)
                    faces[g] = (s, middle, tip)
                    faces.append((middle, e, tip))
                    touched.add(g)
                changed = True
        if not changed:
            break
    return Mesh(np.asarray(points, np.float32), np.asarray(faces, np.int32))


def _sides(face: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return (face[0], face[1]), (face[1], face[2]), (face[2], face[0])


def _third(face: tuple[int, ...], a: int, b: int) -> int:
    return next(v for v in face if v != a and v != b)
