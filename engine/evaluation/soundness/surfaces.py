"""What lies where on the truth's surface: its flat regions, its creases, its connected and its thin parts.

All in canonical units (longest side 1). Probes are points of the truth's visible surface with their outward normals;
of an answer it is asked how far from each probe its surface is, along the normal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ...extras import need
from ...finish.topology import components, welded
from ...geometry.connected import labels_of
from ...geometry.meshes import Mesh, face_areas, face_normals
from ...geometry.signed_distance import SHEET_HALF_THICKNESS, SignedDistance

Float = NDArray[np.float64]
Index = NDArray[np.int64]

NEAR = 0.02
"""An answer's surface within this distance of the truth's is meant to be the same surface."""
WELD = 1e-4
FLAT_ANGLE = np.deg2rad(1.0)
THIN = 0.05
_TINY = 0.012
"""Flat regions are judged this far from their rims: there they have creases."""


@dataclass
class Skin:
    """Points (N, 3) of a surface, unit normals (N, 3), and a tree of the points."""

    points: Float
    normals: Float
    tree: cKDTree

    @classmethod
    def of(cls, points: NDArray[Any], normals: NDArray[Any]) -> Skin:
        points = np.asarray(points, np.float64)
        return cls(points, np.asarray(normals, np.float64), cKDTree(points))

    def off(self, points: Float, normals: Float) -> Float:
        """(M,) how far this surface lies from each point (M, 3) along its outward normal (M, 3): of the nearest points
        that look the same way, within `NEAR`; NaN where there is none."""
        distance, near = self.tree.query(points, k=8, distance_upper_bound=1.25 * NEAR)
        near = np.minimum(near, len(self.points) - 1)
        alike = np.isfinite(distance) & (np.einsum("nki,ni->nk", self.normals[near], normals) > 0.5)
        across = self.points[near] - points[:, None]
        along = np.einsum("nki,ni->nk", across, normals)
        aside = np.linalg.norm(across - along[..., None] * normals[:, None], axis=2)
        alike &= (np.abs(along) <= NEAR) & (aside <= 0.5 * NEAR)
        first = np.argmax(alike, axis=1)
        rows = np.arange(len(points))
        return np.where(alike[rows, first], along[rows, first], np.nan)


def flat_regions(mesh: Mesh) -> Index:
    """(F,) the flat region of each face of a welded mesh, -1 where it is of none: neighbours whose normals differ by
    less than a degree, together within 0.2 % of one plane, of at least 0.5 % of the area."""
    normals, areas = face_normals(mesh).astype(np.float64), face_areas(mesh)
    left, right, _ = neighbours(mesh)
    level = np.einsum("ni,ni->n", normals[left], normals[right]) > np.cos(FLAT_ANGLE)
    label = labels_of(len(mesh.faces), left[level], right[level])
    region = np.full(len(mesh.faces), -1, np.int64)
    sums = np.bincount(label, weights=areas)
    number = 0
    for k in np.flatnonzero(sums > 0.005 * areas.sum()):
        faces = np.flatnonzero(label == k)
        normal = (normals[faces] * areas[faces, None]).sum(0)
        normal /= max(float(np.linalg.norm(normal)), 1e-12)
        heights = mesh.vertices[np.unique(mesh.faces[faces])].astype(np.float64) @ normal
        if np.ptp(heights) < 0.002:
            region[faces] = number
            number += 1
    return region


def neighbours(mesh: Mesh) -> tuple[Index, Index, Index]:
    """Faces that share an edge, (E,) and (E,), and (E, 2) the edge's vertices, of edges with exactly two faces."""
    faces = mesh.faces.astype(np.int64)
    ends = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2), axis=1)
    _, edge, counts = np.unique(ends[:, 0] * len(mesh.vertices) + ends[:, 1], return_inverse=True, return_counts=True)
    order = np.argsort(edge.ravel(), kind="stable")
    first = (np.cumsum(counts) - counts)[counts == 2]
    a, b = order[first], order[first + 1]
    return a // 3, b // 3, ends[a]


def within_rims(skin: Skin, region: Index, chosen: Index) -> NDArray[np.bool_]:
    """Whether the surface of the same flat region goes on for `_TINY` on all sides of the chosen points of a skin whose
    points have regions (N,)."""
    normals = skin.normals[chosen]
    side = np.cross(normals, np.where(np.abs(normals[:, :1]) < 0.8, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]))
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
    other = np.cross(normals, side)
    inner = region[chosen] >= 0
    for angle in np.arange(6) * np.pi / 3:
        places = skin.points[chosen] + _TINY * (np.cos(angle) * side + np.sin(angle) * other)
        distance, near = skin.tree.query(places)
        inner &= (distance < 0.01) & (region[near] == region[chosen])
    return inner


@dataclass
class Creases:
    """Places (C, 2, 3) on the two faces beside a crease, 1 % of the size from it, the outward normals there (C, 2, 3),
    and the angle between them (C,), radians."""

    beside: Float
    normals: Float
    angle: Float


def creases_of(mesh: Mesh, skin: Skin, rng: np.random.Generator, count: int = 800) -> Creases:
    """Of a welded mesh, at random places along its edges of 30 to 150 degrees that can be seen; skin: the visible
    surface."""
    left, right, ends = neighbours(mesh)
    faces = np.stack([left, right], 1)
    normals = face_normals(mesh).astype(np.float64)
    angle = np.arccos(np.einsum("ni,ni->n", normals[left], normals[right]).clip(-1, 1))
    corners = mesh.vertices.astype(np.float64)[ends]
    length = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
    sharp = (angle > np.deg2rad(30)) & (angle < np.deg2rad(150)) & (length > 0)
    nothing = Creases(np.zeros((0, 2, 3)), np.zeros((0, 2, 3)), np.zeros(0))
    if not sharp.any():
        return nothing
    at = rng.choice(np.flatnonzero(sharp), count, p=length[sharp] / length[sharp].sum())
    place = corners[at, 0] + rng.random((count, 1)) * (corners[at, 1] - corners[at, 0])
    along = (corners[at, 1] - corners[at, 0]) / length[at, None]
    beside, outward, seen = np.zeros((count, 2, 3)), np.zeros((count, 2, 3)), np.ones(count, bool)
    for k in range(2):
        normal = normals[faces[at, k]]
        into = np.cross(normal, along)
        middle = mesh.vertices.astype(np.float64)[mesh.faces[faces[at, k]]].mean(1)
        into *= np.where(np.einsum("ni,ni->n", middle - place, into) < 0, -1.0, 1.0)[:, None]
        beside[:, k] = place + 0.01 * into
        distance, near = skin.tree.query(beside[:, k])
        outward[:, k] = skin.normals[near]
        seen &= (distance < 0.008) & (np.abs(np.einsum("ni,ni->n", outward[:, k], normal)) > 0.95)
    between = np.arccos(np.einsum("ni,ni->n", outward[:, 0], outward[:, 1]).clip(-1, 1))
    seen &= between > np.deg2rad(30)
    return Creases(beside[seen], outward[seen], between[seen])


def creases_kept(creases: Creases, answer: Skin) -> float | None:
    """Mean share of the angle that the answer keeps, 1 % of the size beside the crease: 1 less the angles by which its
    normals there are off, over the crease's. A bevel or a round of more than that keeps nothing."""
    if len(creases.angle) < 20:
        return None
    off = np.zeros(len(creases.angle))
    for k in range(2):
        distance, near = answer.tree.query(creases.beside[:, k], k=5, distance_upper_bound=0.015)
        there = np.isfinite(distance)
        normals = np.where(there[..., None], answer.normals[np.minimum(near, len(answer.points) - 1)], 0.0).sum(1)
        length = np.linalg.norm(normals, axis=1)
        cosine = np.einsum("ni,ni->n", normals, creases.normals[:, k]) / np.maximum(length, 1e-12)
        off += np.where(length > 0, np.arccos(cosine.clip(-1, 1)), np.pi / 2)
    return float(np.maximum(0.0, 1.0 - off / creases.angle).mean())


def flatness(off: Float, points: Float, region: Index) -> tuple[float | None, float | None]:
    """RMS distance of the answer from planes of its own, over the truth's flat regions of which it has at least half,
    and the share of all their points at which it has a surface. off: (N,) its distances at points (N, 3) of regions
    (N,). Without any such region it is as far off as a surface can be."""
    total, weight, covered, whole = 0.0, 0, 0, 0
    for k in np.unique(region):
        which = region == k
        if which.sum() < 20:
            continue
        there = which & np.isfinite(off)
        covered, whole = covered + int(there.sum()), whole + int(which.sum())
        if there.sum() >= max(10, 0.5 * which.sum()):
            centred = points[there] - points[there].mean(0)
            basis = np.linalg.svd(centred, full_matrices=False)[2][:2]
            design = np.concatenate([centred @ basis.T, np.ones((len(centred), 1))], 1)
            left = off[there] - design @ np.linalg.lstsq(design, off[there], rcond=None)[0]
            total += float(np.sqrt((left**2).mean())) * int(which.sum())
            weight += int(which.sum())
    if whole == 0:
        return None, None
    return (total / weight if weight else NEAR), covered / whole


def part_of(mesh: Mesh, points: Float) -> tuple[Index, Index]:
    """(N,) the face of a mesh nearest to each of its surface's points (N, 3), and (N,) the connected part it is of."""
    igl = need("igl", "The soundness of a mesh against the truth cannot be measured.")

    _, face, _ = igl.point_mesh_squared_distance(
        np.asarray(points, np.float64), np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    )
    return np.asarray(face, np.int64), components(mesh)[face]


def repeated(skin: Skin, part: Index, fewest: int = 150, most: int = 24) -> list[tuple[Index, Index]]:
    """Pairs of index arrays (K,), (K,) into a skin: points of a part and those of a like part, one for one. Like are
    parts that a move, perhaps with a mirroring in x, in y or in both, brings into one place."""
    names, counts = np.unique(part, return_counts=True)
    order = [names[k] for k in np.argsort(-counts)[:most] if counts[k] >= fewest]
    members = {name: np.flatnonzero(part == name) for name in order}
    pairs, done = [], set()
    for a_name in order:
        a = members[a_name]
        for b_name in order:
            b = members[b_name]
            if b_name == a_name or a_name in done or b_name in done or not 0.7 < len(a) / len(b) < 1.4:
                continue
            tree = cKDTree(skin.points[b])
            centre_a, centre_b = (0.5 * (skin.points[m].min(0) + skin.points[m].max(0)) for m in (a, b))
            for mirror in ((1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, 1)):
                moved = (skin.points[a] - centre_a) * mirror + centre_b
                distance, near = tree.query(moved)
                alike = (distance < 0.012) & (
                    np.einsum("ni,ni->n", skin.normals[a] * mirror, skin.normals[b][near]) > 0.8
                )
                if alike.mean() > 0.8 and distance.mean() < 0.008:
                    pairs.append((a[alike], b[near[alike]]))
                    done.add(b_name)
                    break
        done.add(a_name)
    return pairs


def unlikeness(off: Float, pairs: list[tuple[Index, Index]]) -> float | None:
    """Mean difference between like parts of how far the answer is off; `NEAR` where it lacks either."""
    if not pairs:
        return None
    a, b = (off[np.concatenate([pair[k] for pair in pairs])] for k in range(2))
    return float(np.where(np.isfinite(a - b), np.abs(a - b), NEAR).mean())


def mirrored_off(skin: Skin, count: int = 5000) -> float:
    """Mean distance of a surface from its own mirror image in x = 0."""
    some = np.random.default_rng(0).permutation(len(skin.points))[:count]
    places = skin.points[some] * [-1.0, 1.0, 1.0]
    distance, near = skin.tree.query(places)
    along = np.abs(np.einsum("ni,ni->n", places - skin.points[near], skin.normals[near]))
    return float(np.where(distance < 0.01, np.minimum(along, distance), distance).mean())


def thickness(field: SignedDistance, points: Float, normals: Float) -> Float:
    """(N,) how thick the truth is below points (N, 3) of its surface with outward normals (N, 3); inf from `THIN` on. A
    sheet is as thick as the signed distance takes it."""
    step = 0.0025
    found = np.full(len(points), np.inf)
    for depth in np.arange(step, THIN + step, step):
        left = np.flatnonzero(~np.isfinite(found))
        out = field.outside((points[left] - depth * normals[left]).astype(np.float32))
        found[left[out]] = 2 * SHEET_HALF_THICKNESS if depth == step else depth - 0.5 * step
    return found


def thickness_off(caster: Any, points: Float, normals: Float, thick: Float) -> tuple[float, float]:
    """Mean difference of the answer's thickness from the truth's (N,) below points (N, 3), and the share of these at
    which it has no wall at all (its thickness is 0 there). caster: of the answer, which is closed."""
    origins, directions = points + NEAR * normals, -normals
    start = np.zeros(len(points))
    entry, leave = np.full(len(points), np.nan), np.full(len(points), np.nan)
    for _ in range(8):
        face, ahead = caster.first_hits(origins + start[:, None] * directions, directions)
        hit = (face >= 0) & (start + ahead < NEAR + 2 * THIN)
        if not hit.any():
            break
        at = start + np.where(hit, ahead, 0.0)
        inward = np.einsum("ni,ni->n", caster.face_normals[face], directions) < 0
        nearer = hit & inward & (at < 2 * NEAR) & ~(np.abs(entry - NEAR) <= np.abs(at - NEAR))
        entry[nearer], leave[nearer] = at[nearer], np.nan
        out = hit & ~inward & np.isfinite(entry) & ~np.isfinite(leave)
        leave[out] = at[out]
        start = np.where(hit, at + 1e-5, NEAR + 2 * THIN)
    missing = ~np.isfinite(entry)
    found = np.where(missing, 0.0, np.where(np.isfinite(leave), leave - entry, 2 * THIN))
    return float(np.minimum(np.abs(found - thick), THIN).mean()), float(missing.mean())


def truth_of(mesh: Mesh) -> Mesh:
    """The truth with vertices at one place joined."""
    return welded(mesh, WELD)
