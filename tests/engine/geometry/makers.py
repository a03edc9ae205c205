"""Shapes that several tests of geometry look at."""

from __future__ import annotations

import numpy as np
import trimesh

from engine.geometry.clouds import PointCloud
from engine.geometry.meshes import Mesh, vertex_normals

Array = np.ndarray


def ball(subdivisions: int = 2) -> Mesh:
    sphere = trimesh.creation.icosphere(subdivisions, radius=0.37)
    vertices = np.asarray(sphere.vertices, np.float32) + np.float32([0.1, -2.0, 3.0])
    mesh = Mesh(vertices, np.asarray(sphere.faces, np.int32))
    mesh.normals = vertex_normals(mesh)
    return mesh


def cloud(n: int = 60, normals: bool = True) -> PointCloud:
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return PointCloud(
        (directions * 0.7 + [1, 2, 3]).astype(np.float32), directions.astype(np.float32) if normals else None
    )


def box_surface(low: Array, high: Array, spacing: float, rng: np.random.Generator) -> Array:
    """Points on the sides of a box, about `spacing` apart."""
    size = high - low
    parts = []
    for axis in range(3):
        u, v = [a for a in range(3) if a != axis]
        count = max(1, int(size[u] * size[v] / spacing**2))
        for end in (0.0, 1.0):
            at = rng.random((count, 3))
            at[:, axis] = end
            parts.append(low + at * size)
    return np.concatenate(parts)


def table(spacing: float = 0.012, legs: float = 0.012, seed: int = 0) -> tuple[Array, Array]:
    """(N, 3) points of a table with legs 2 % thick, z from 0 to 0.5, and which of them are legs'."""
    rng = np.random.default_rng(seed)
    top = box_surface(np.array([-0.5, -0.3, 0.47]), np.array([0.5, 0.3, 0.5]), spacing, rng)
    feet = [
        box_surface(np.array([x, y, 0.0]), np.array([x + 0.02, y + 0.02, 0.47]), legs, rng)
        for x in (-0.48, 0.46)
        for y in (-0.28, 0.26)
    ]
    points = np.concatenate([top, *feet])
    return points.astype(np.float32), np.arange(len(points)) >= len(top)
