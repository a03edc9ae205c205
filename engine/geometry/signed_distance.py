"""Signed distance to any triangle mesh: watertight, open, overlapping, inside out or soup.

Inside means: cannot be seen from outside. Real designs are overlapping open shells whose winding numbers contradict
one another, but what a scanner or an artist sees of them is never in doubt. A point is outside when rays from it
escape in at least two of a set of directions (all but those from steeply below: furniture is often left open
underneath). Sheets that can be seen from both sides get a thickness. The generalised winding number (Jacobson 2013)
serves as the second opinion: `winding_agreement` says how far the two agree, which is how a shape's samples are known
to be ambiguous. In a mesh that is cracked all over (triangles that miss their neighbours, so that rays slip through)
its word counts for more than a few escaping rays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..extras import need
from .clouds import FloatArray
from .meshes import Mesh
from .rays import RayCaster, warp_mesh

SHEET_HALF_THICKNESS = 0.005
"""Half the thickness given to surfaces without an inside, in canonical units (longest side 1)."""

_PROBE = 0.003
"""How far beside the surface its two sides are asked whether they can be seen, in canonical units."""


CRACKED = 0.3
"""A mesh is taken as cracked where more than this share of its edges' length has no neighbour."""




def sphere_directions(count: int, lowest_elevation: float = -1.0) -> FloatArray:
    """(count, 3) unit vectors spread evenly (Fibonacci lattice) over the sphere where z >= lowest_elevation."""
    k = np.arange(count) + 0.5
    z = 1.0 - (1.0 - lowest_elevation) * k / count
    angle = np.pi * (1.0 + 5.0**0.5) * k
    r = np.sqrt(np.maximum(0.0, 1.0 - z * z))
    return np.asarray(np.stack([r * np.cos(angle), r * np.sin(angle), z], 1), np.float32)


def winding_number(mesh: Mesh, points: FloatArray) -> NDArray[np.float64]:
    """(N,) generalised winding number of a mesh about points (N, 3) (Barill 2018)."""
    igl = need("igl", "Winding numbers of meshes cannot be computed.")
    winding = igl.fast_winding_number(
        np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64), np.asarray(points, np.float64)
    )
    return np.asarray(winding, np.float64)


class SignedDistance:
    """Queries against one mesh in canonical units (about 1 in size). Build once, ask often.

    Raises InputError for a mesh without area.
    """

    def __init__(self, mesh: Mesh, directions: int = 64) -> None:
        corners = mesh.vertices[mesh.faces] if len(mesh.faces) else np.zeros((0, 3, 3), np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # corners that are no numbers are sorted out below
            double_area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        faces = np.ascontiguousarray(mesh.faces[np.isfinite(double_area) & (double_area > 1e-12)], np.int32)
        if len(faces) == 0 or not np.isfinite(mesh.vertices[faces]).all():
            raise InputError(
                "mesh_without_area",
                "The mesh has no surface.",
                "It holds no triangle with an area and finite corners.",
                "Check the file; point clouds are read as points, not as meshes.",
            )
        self.mesh = Mesh(np.ascontiguousarray(mesh.vertices, np.float32), faces)
        even = sphere_directions(directions, lowest_elevation=-0.25)
        # In an order that covers the sphere early: most points are then decided after a few rays.
        self._directions = even[np.random.default_rng(0).permutation(len(even))]
        self._cracked = _boundary_share(self.mesh) > CRACKED
        self._rays = RayCaster(self.mesh)
        self._warp_mesh = warp_mesh(self.mesh.vertices, faces)

    def occluded(self, origins: FloatArray, directions: FloatArray) -> NDArray[np.bool_]:
        """(N,) whether the ray from each origin (N, 3) along its direction (N, 3) hits the mesh."""
        return self._rays.occluded(origins, directions)

    def outside(self, points: FloatArray) -> NDArray[np.bool_]:
        """(N,) whether points (N, 3) can be seen from outside: rays escape in at least two of the directions, or, where
        a cracked mesh winds around a point, in a third of them."""
        needed = np.full(len(points), 2)
        if self._cracked:
            needed[np.abs(self.winding(points)) > 0.5] = len(self._directions) // 3
        return self._escapes(points, needed)

    def _escapes(self, points: FloatArray, needed: NDArray[Any]) -> NDArray[np.bool_]:
        """(N,) whether rays escape in at least `needed` (N,) directions."""
        escapes = np.zeros(len(points), np.int32)
        open_points = np.arange(len(points))
        for k, direction in enumerate(self._directions):
            rays = points[open_points]
            escapes[open_points] += ~self.occluded(rays, np.broadcast_to(direction, rays.shape))
            if k % 4 == 3:  # most points are decided after a few directions
                open_points = open_points[escapes[open_points] < needed[open_points]]
                if len(open_points) == 0:
                    break
        return escapes >= needed

    def seen(self, points: FloatArray) -> NDArray[np.bool_]:
        """(N,) whether rays escape from points (N, 3) in at least two directions, cracked or not."""
        return self._escapes(points, np.full(len(points), 2))

    def winding(self, points: FloatArray) -> NDArray[np.float64]:
        """(N,) `winding_number` of the mesh about points (N, 3)."""
        return winding_number(self.mesh, points)

    def closest(self, points: FloatArray) -> FloatArray:
        """(N, 3) the nearest surface point of each query (N, 3)."""
        import warp

        from ._warp_kernels import closest_point

        out: Any = warp.zeros(len(points), dtype=warp.vec3, device="cpu")
        queries: Any = warp.array(np.ascontiguousarray(points, np.float32), dtype=warp.vec3, device="cpu")
        warp.launch(closest_point, len(points), inputs=[self._warp_mesh.id, queries], outputs=[out], device="cpu")
        return np.asarray(out.numpy(), np.float32)

    def __call__(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Signed distance (N,), negative inside, and its gradient (N, 3) (unit, outward) at points (N, 3)."""
        points = np.ascontiguousarray(points, np.float32)
        offset = points - self.closest(points)
        distance = np.linalg.norm(offset, axis=1)
        away = offset / np.maximum(distance, 1e-9)[:, None]
        outside = self.outside(points)
        # Seen from this side and from the other as well: a sheet, which gets a thickness.
        behind = points - away * (distance + _PROBE)[:, None]
        sheet = np.zeros(len(points), bool)
        near = outside & (distance < 0.1)
        sheet[near] = self.outside(behind[near])
        value = np.where(outside, distance - SHEET_HALF_THICKNESS * sheet, -distance)
        gradient = np.where(outside[:, None], away, -away)
        return value.astype(np.float32), gradient.astype(np.float32)

    def outer_surface(self, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Up to `count` points and normals (N, 3) of the surface that can be seen from outside, evenly by area.

        Faces hidden inside other parts are left out: nobody can see, scan or complete them. Normals point to the side
        that can be seen. Fewer than `count` only for a shape that hides itself.
        """
        points, normals = _sample(self.mesh, 2 * count, rng)
        front = self.outside(points + _PROBE * normals)
        back = self.outside(points - _PROBE * normals)
        seen = front | back
        normals = np.where((back & ~front)[:, None], -normals, normals)
        # A sheet's thickened surface lies beside the sheet, on either side of it.
        sheet = (front & back)[:, None]
        both = np.where(rng.random(len(points)) < 0.5, 1.0, -1.0)[:, None].astype(np.float32)
        normals = np.where(sheet, normals * both, normals)
        points = np.where(sheet, points + SHEET_HALF_THICKNESS * normals, points)
        keep = np.flatnonzero(seen)[:count]
        return points[keep].astype(np.float32), normals[keep].astype(np.float32)

    def winding_agreement(self, rng: np.random.Generator, count: int = 2000) -> float:
        """Share of points near the surface where the generalised winding number says the same as visibility, 0..1."""
        points, normals = _sample(self.mesh, count, rng)
        queries = points + normals * rng.normal(0.0, 0.02, (count, 1)).astype(np.float32)
        return float(np.mean((self.winding(queries) < 0.5) == self.seen(queries)))


def _boundary_share(mesh: Mesh) -> float:
    """Share, by length, of edges with a face on one side only, corners closer than 1e-4 taken as one."""
    welded = np.unique(np.round(mesh.vertices / 1e-4).astype(np.int64), axis=0, return_inverse=True)[1].reshape(-1)
    faces = welded[mesh.faces]
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    corners = mesh.vertices[np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])]
    length = np.linalg.norm(corners[:, 0].astype(np.float64) - corners[:, 1], axis=1)
    which, count = np.unique(edges, axis=0, return_inverse=True, return_counts=True)[1:]
    return float(length[count[which.reshape(-1)] == 1].sum() / max(length.sum(), 1e-12))


def _sample(mesh: Mesh, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    cross = np.cross(b - a, c - a)
    area = np.linalg.norm(cross, axis=1)
    face = rng.choice(len(area), count, p=area / area.sum())
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    points = (1 - u)[:, None] * a[face] + (u * (1 - v))[:, None] * b[face] + (u * v)[:, None] * c[face]
    return points.astype(np.float32), (cross[face] / area[face, None]).astype(np.float32)
