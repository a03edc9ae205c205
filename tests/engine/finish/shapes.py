"""Meshes whose parts, handles and hollows are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.geometry.meshes import Mesh, face_areas


def box(low: tuple[float, float, float], high: tuple[float, float, float], cells: int = 1) -> Mesh:
    """Closed, looking outward; every side of cells x cells squares."""
    t = np.linspace(0.0, 1.0, cells + 1)
    u, v = np.meshgrid(t, t, indexing="ij")
    k = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    quads = np.stack([k[:-1, :-1], k[1:, :-1], k[1:, 1:], k[:-1, 1:]], -1).reshape(-1, 4)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    vertices, faces = [], []
    for axis in range(3):
        for side in (0.0, 1.0):
            points = np.zeros((u.size, 3))
            points[:, axis] = side
            points[:, (axis + 1) % 3], points[:, (axis + 2) % 3] = u.ravel(), v.ravel()
            faces.append((triangles if side else triangles[:, ::-1]) + sum(len(p) for p in vertices))
            vertices.append(points)
    spread = np.asarray(low) + np.concatenate(vertices) * (np.asarray(high) - np.asarray(low))
    return Mesh(spread.astype(np.float32), np.concatenate(faces).astype(np.int32))


def edge_lengths(mesh: Mesh) -> NDArray[np.float64]:
    """(F, 3) of each face's sides."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    return np.asarray(np.linalg.norm(corners - corners[:, [1, 2, 0]], axis=2), np.float64)


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces).astype(np.int32))


def turned_inside_out(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())


def blocks(*boxes: tuple[tuple[float, float, float], tuple[float, float, float]], step: float = 0.01) -> Mesh:
    """The surface of a union of boxes (in a cube of side 1 about 0) whose sides are multiples of the step: closed, each
    side in squares. Boxes that touch by an edge alone would share it."""
    n = round(1.0 / step)
    solid = np.zeros((n, n, n), bool)
    for low, high in boxes:
        spans = zip(low, high, strict=True)
        solid[tuple(slice(round((a + 0.5) / step), round((b + 0.5) / step)) for a, b in spans)] = True
    return surface_of(solid, step)


def carved(mesh_of: Callable[[np.ndarray], np.ndarray], step: float = 0.01) -> Mesh:
    """The same for what a function of points (N, 3) says is inside."""
    n = round(1.0 / step)
    points = (np.indices((n, n, n)).reshape(3, -1).T + 0.5) * step - 0.5
    return surface_of(np.asarray(mesh_of(points)).reshape(n, n, n), step)


def surface_of(solid: np.ndarray, step: float) -> Mesh:
    """Of voxels in a cube of side 1 about 0."""
    corners, faces = [], []
    padded = np.pad(solid, 1)
    for axis in range(3):
        u, v = np.eye(3, dtype=np.int64)[(axis + 1) % 3], np.eye(3, dtype=np.int64)[(axis + 2) % 3]
        for side in (0, 1):
            beyond = np.roll(padded, -1 if side else 1, axis)
            low = np.argwhere(padded & ~beyond) - 1 + side * np.eye(3, dtype=np.int64)[axis]
            quad = np.stack([low, low + u, low + u + v, low + v], 1)
            quad = quad if side else quad[:, ::-1]
            faces.append(np.arange(len(quad))[:, None] * 4 + [[0, 1, 2, 0, 2, 3]] + sum(map(len, corners)))
            corners.append(quad.reshape(-1, 3))
    points, number = np.unique(np.concatenate(corners), axis=0, return_inverse=True)
    triangles = number.ravel()[np.concatenate([f.reshape(-1, 3) for f in faces])]
    return Mesh((points * step - 0.5).astype(np.float32), triangles.astype(np.int32))


def torus(centre: tuple[float, float, float] = (0, 0, 0), ring: float = 0.3, tube: float = 0.08) -> Mesh:
    """About the z axis through its centre."""
    rows, columns = 64, 32
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    a, b = 2 * np.pi * i / rows, 2 * np.pi * j / columns
    r = ring + tube * np.cos(b)
    points = np.stack([r * np.cos(a), r * np.sin(a), tube * np.sin(b)], -1).reshape(-1, 3) + centre
    here, right = i * columns + j, i * columns + (j + 1) % columns
    up, both = (i + 1) % rows * columns + j, (i + 1) % rows * columns + (j + 1) % columns
    faces = np.stack([np.stack([here, up, both], -1), np.stack([here, both, right], -1)], 2).reshape(-1, 3)
    return Mesh(points.astype(np.float32), faces.astype(np.int32))


def slatted_back(gaps: int = 5) -> Mesh:
    """A frame of 0.8 x 0.05 x 1 with so many upright openings of 0.09 x 0.8."""
    bars = [((-0.4, -0.02, low), (0.4, 0.03, high)) for low, high in ((-0.5, -0.4), (0.4, 0.5))]
    lefts = np.round(np.linspace(-0.35, -0.35 + 0.14 * (gaps - 1), gaps), 2)
    rights = [-0.4, *(lefts + 0.09)]
    bars += [((float(a), -0.02, -0.4), (float(b), 0.03, 0.4)) for a, b in zip(rights, [*lefts, 0.4], strict=True)]
    return blocks(*bars)


def table(leg: float = 0.06, lower: float = 0.0) -> Mesh:
    """Four legs and a top in one piece; the leg at +x, +y ends `lower` above the others."""
    legs = [
        ((x, y, -0.35 + (lower if x > 0 and y > 0 else 0.0)), (round(x + leg, 2), round(y + leg, 2), 0.3))
        for x in (-0.5, 0.44)
        for y in (-0.3, 0.24)
    ]
    return blocks(((-0.5, -0.3, 0.3), (0.5, 0.3, 0.35)), *legs)


def rubble(mesh: Mesh, rng: np.random.Generator, count: int = 400, size: float = 0.012) -> Mesh:
    """Tetrahedra strewn about a surface."""
    areas = face_areas(mesh)
    face = rng.choice(len(areas), count, p=areas / areas.sum())
    weights = rng.dirichlet((1, 1, 1), count)
    places = np.einsum("nk,nkd->nd", weights, mesh.vertices[mesh.faces[face]]) + rng.normal(0, 0.01, (count, 3))
    corners = rng.normal(size=(count, 4, 3))
    corners *= size / np.linalg.norm(corners, axis=2, keepdims=True)
    a, b, c, d = np.moveaxis(corners, 1, 0)
    wrong = np.einsum("ni,ni->n", np.cross(b - a, c - a), d - a) > 0
    corners[wrong] = corners[wrong][:, [1, 0, 2, 3]]
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]) + 4 * np.arange(count)[:, None, None]
    return Mesh((places[:, None] + corners).reshape(-1, 3).astype(np.float32), faces.reshape(-1, 3).astype(np.int32))
