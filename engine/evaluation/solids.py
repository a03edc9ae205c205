"""Solid test shapes that every machine can make: a few parts, household things and free forms, from code alone.

Watertight, outward, longest side 1, centred at 0, z up. Chosen as the Surface Reconstruction Benchmark (Berger et al.
2013) chose its scans: sharp edges, thin parts, handles and holes, fine relief, and parts that lie close together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..extras import need
from ..geometry.meshes import Mesh
from ..surfaces.marching import extract_sparse

ROUND = 96
"""Segments of a full circle."""


def solid(name: str) -> Mesh:
    """One of SOLIDS, longest side 1, centred at 0."""
    mesh = SOLIDS[name]()
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    scaled = (mesh.vertices - 0.5 * (low + high)) / float((high - low).max())
    return Mesh(scaled.astype(np.float32), mesh.faces)


def _manifold() -> Any:
    return need("manifold3d", "The test shapes cannot be made.")


def _mesh(body: Any) -> Mesh:
    made = body.to_mesh()
    return Mesh(np.asarray(made.vert_properties, np.float32)[:, :3], np.asarray(made.tri_verts, np.int32))


def _cylinder(m: Any, radius: float, low: float, high: float, x: float = 0.0, y: float = 0.0) -> Any:
    return m.Manifold.cylinder(high - low, radius, radius, ROUND).translate((x, y, low))


def _box(m: Any, low: tuple[float, float, float], high: tuple[float, float, float]) -> Any:
    size = tuple(b - a for a, b in zip(low, high, strict=True))
    return m.Manifold.cube(size).translate(low)


def _rounded_box(m: Any, half: tuple[float, float, float], radius: float) -> Any:
    ball = m.Manifold.sphere(radius, ROUND // 2)
    corners = [
        ball.translate(tuple(s * (h - radius) for s, h in zip(signs, half, strict=True)))
        for signs in np.ndindex(2, 2, 2)
        for signs in [tuple(2 * s - 1 for s in signs)]
    ]
    return m.Manifold.batch_hull(corners)


def gear() -> Mesh:
    """A spur gear with a hub, a keyed bore and holes in its web."""
    m = _manifold()
    teeth, outline = 18, []
    for tooth in range(teeth):
        for part, radius in ((0.0, 0.86), (0.22, 0.86), (0.36, 1.0), (0.64, 1.0), (0.78, 0.86)):
            angle = 2 * math.pi * (tooth + part) / teeth
            outline.append((radius * math.cos(angle), radius * math.sin(angle)))
    body = m.Manifold.extrude(m.CrossSection([outline]), 0.3).translate((0, 0, -0.15))
    body -= _cylinder(m, 0.7, 0.06, 0.2) + _cylinder(m, 0.7, -0.2, -0.06)
    body += _cylinder(m, 0.32, -0.26, 0.26)
    body -= _cylinder(m, 0.16, -1, 1) + _box(m, (0.0, -0.05, -1.0), (0.22, 0.05, 1.0))
    for k in range(6):
        angle = 2 * math.pi * k / 6
        body -= _cylinder(m, 0.1, -1, 1, 0.51 * math.cos(angle), 0.51 * math.sin(angle))
    return _mesh(body)


def mug() -> Mesh:
    """A mug with a wall of 4 % of its size and a handle."""
    m = _manifold()
    wall = 0.06
    ring = m.CrossSection.circle(0.075, 48).translate((0.4, 0.0))
    handle = m.Manifold.revolve(ring, ROUND).rotate((90, 0, 0)).scale((0.8, 1.0, 1.0)).translate((0.55, 0, 0.0))
    body = _cylinder(m, 0.6, -0.7, 0.7)
    return _mesh((body + handle) - _cylinder(m, 0.6 - wall, -0.7 + wall, 1.0))


def knot() -> Mesh:
    """A tube along a trefoil knot."""
    along, around, radius = 480, 40, 0.42
    t = np.linspace(0, 2 * np.pi, along, endpoint=False)[:, None]
    centre = np.concatenate([np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)], 1)
    tangent = np.concatenate([np.cos(t) + 4 * np.cos(2 * t), -np.sin(t) + 4 * np.sin(2 * t), -3 * np.cos(3 * t)], 1)
    bend = np.concatenate([-np.sin(t) - 8 * np.sin(2 * t), -np.cos(t) + 8 * np.cos(2 * t), 9 * np.sin(3 * t)], 1)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = bend - (bend * tangent).sum(1, keepdims=True) * tangent
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    other = np.cross(tangent, side)
    a = np.linspace(0, 2 * np.pi, around, endpoint=False)[None, :, None]
    vertices = centre[:, None] + radius * (np.cos(a) * side[:, None] + np.sin(a) * other[:, None])
    i, j = np.meshgrid(np.arange(along), np.arange(around), indexing="ij")
    here, right = i * around + j, i * around + (j + 1) % around
    up, both = (i + 1) % along * around + j, (i + 1) % along * around + (j + 1) % around
    faces = np.stack([np.stack([here, both, up], -1), np.stack([here, right, both], -1)], 2).reshape(-1, 3)
    return Mesh(vertices.reshape(-1, 3).astype(np.float32), faces.astype(np.int32))


def bracket() -> Mesh:
    """A rounded block with a pocket, through holes along two axes and a slot."""
    m = _manifold()
    body = _rounded_box(m, (1.0, 0.6, 0.4), 0.14)
    body -= _rounded_box(m, (0.5, 0.36, 0.4), 0.1).translate((-0.3, 0.0, 0.3))
    body -= _cylinder(m, 0.22, -1, 1, 0.62)
    body -= m.Manifold.cylinder(3, 0.1, 0.1, ROUND).rotate((90, 0, 0)).translate((0.62, 1.5, 0.0))
    body -= _box(m, (-1.2, -0.07, -0.5), (-0.82, 0.07, 0.5))
    for y in (-0.42, 0.42):
        body -= _cylinder(m, 0.07, -1, 1, 0.15, y)
    return _mesh(body)


def chair() -> Mesh:
    """A chair with thin slats and round legs."""
    m = _manifold()
    body = _rounded_box(m, (0.45, 0.45, 0.04), 0.03)
    for x in (-0.37, 0.37):
        for y in (-0.37, 0.37):
            leg = m.Manifold.cylinder(0.9, 0.03, 0.045, 48).translate((x, y, -0.9))
            body += leg
        body += _cylinder(m, 0.035, 0.0, 1.0, x, 0.38)
        body += m.Manifold.cylinder(0.74, 0.022, 0.022, 32).rotate((90, 0, 0)).translate((x, 0.37, -0.45))
    for z in (0.38, 0.62, 0.9):
        body += _box(m, (-0.37, 0.36, z - 0.06), (0.37, 0.4, z + 0.06))
    return _mesh(body)


def statue() -> Mesh:
    """A figure on a plinth: smoothly joined limbs, with a fine relief."""

    def capsule(p: torch.Tensor, a: tuple[float, ...], b: tuple[float, ...], r0: float, r1: float) -> torch.Tensor:
        start, axis = p.new_tensor(a), p.new_tensor(b) - p.new_tensor(a)
        along = (((p - start) @ axis) / (axis @ axis)).clamp(0, 1)
        length: torch.Tensor = torch.linalg.vector_norm(p - start - along[:, None] * axis, dim=1)
        return length - (r0 + (r1 - r0) * along)

    def join(a: torch.Tensor, b: torch.Tensor, width: float) -> torch.Tensor:
        mix = (0.5 + 0.5 * (b - a) / width).clamp(0, 1)
        return b + (a - b) * mix - width * mix * (1 - mix)

    def figure(p: torch.Tensor) -> torch.Tensor:
        body = capsule(p, (0, 0, -0.08), (0, 0.01, 0.14), 0.085, 0.115)
        for side in (-1.0, 1.0):
            body = join(body, capsule(p, (0.05 * side, 0, -0.1), (0.07 * side, -0.03, -0.38), 0.06, 0.04), 0.03)
        body = join(body, capsule(p, (0.12, 0, 0.19), (0.26, -0.05, 0.05), 0.04, 0.033), 0.03)
        body = join(body, capsule(p, (0.26, -0.05, 0.05), (0.16, -0.17, 0.0), 0.033, 0.025), 0.015)
        body = join(body, capsule(p, (-0.12, 0, 0.19), (-0.22, -0.02, 0.36), 0.04, 0.03), 0.03)
        body = join(body, capsule(p, (-0.22, -0.02, 0.36), (-0.17, -0.05, 0.48), 0.03, 0.022), 0.015)
        body = join(body, capsule(p, (0, 0, 0.2), (0, 0, 0.32), 0.04, 0.04), 0.04)
        head = capsule(p, (0, -0.01, 0.36), (0, 0.0, 0.4), 0.065, 0.075)
        head = join(head, capsule(p, (0, -0.08, 0.38), (0, -0.09, 0.365), 0.012, 0.015), 0.012)
        body = join(body, head, 0.02)
        relief = torch.sin(70 * p[:, 0]) * torch.sin(70 * p[:, 1]) * torch.sin(70 * p[:, 2])
        body = body + 0.005 * relief * torch.sigmoid((0.24 - p[:, 2]) * 60)
        low = p.new_tensor([0.0, 0.0, -0.44])
        away = (p - low).abs() - p.new_tensor([0.16, 0.13, 0.05])
        plinth = torch.linalg.vector_norm(away.clamp(min=0), dim=1) + away.amax(1).clamp(max=0) - 0.01
        return join(body, plinth, 0.012)

    return extract_sparse(figure, 224, lipschitz=1.6).mesh


SOLIDS: dict[str, Callable[[], Mesh]] = {
    "gear": gear, "mug": mug, "knot": knot, "bracket": bracket, "chair": chair, "statue": statue,
}  # fmt: skip
