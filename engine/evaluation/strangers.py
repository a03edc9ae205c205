"""Things that no furniture prior knows, made from spheres, capsules and tubes: what a confidence is calibrated against.

Every maker takes a generator and returns a mesh of overlapping closed parts, z up, front -y, in its own size; the same
seed gives the same mesh.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..geometry.meshes import Mesh

Array = NDArray[np.float64]


def _joined(parts: list[tuple[Array, NDArray[np.int64]]]) -> Mesh:
    vertices, faces, count = [], [], 0
    for points, triangles in parts:
        vertices.append(points)
        faces.append(triangles + count)
        count += len(points)
    return Mesh(np.concatenate(vertices).astype(np.float32), np.concatenate(faces).astype(np.int32))


def _grid_faces(rows: int, columns: int) -> NDArray[np.int64]:
    """Two triangles a cell of a grid of points, closed around in the columns."""
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = row * columns + column, row * columns + (column + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])


def _blob(
    centre: object, radii: object, rng: np.random.Generator | None = None, bumps: float = 0.0
) -> tuple[Array, NDArray[np.int64]]:
    """An ellipsoid, with random smooth bumps of relative height `bumps`."""
    theta = np.linspace(0, np.pi, 26)[:, None]
    phi = np.linspace(0, 2 * np.pi, 40, endpoint=False)[None]
    unit = np.stack(
        [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta) * np.ones_like(phi)], -1
    ).reshape(-1, 3)
    size = np.ones(len(unit))
    if rng is not None and bumps > 0:
        for _ in range(8):
            direction = rng.normal(size=3)
            direction /= np.linalg.norm(direction)
            size += bumps * rng.uniform(0.4, 1) * np.exp(6 * (unit @ direction - 1))
    return unit * size[:, None] * np.asarray(radii, float) + np.asarray(centre, float), _grid_faces(26, 40)


def _tube(path: Array, radius: object, closed: bool = False) -> tuple[Array, NDArray[np.int64]]:
    """A tube along path (N, 3), radius a number or (N,), with pointed ends unless closed."""
    radii = np.broadcast_to(np.asarray(radius, float), len(path)).copy()
    if closed:
        path, radii = np.concatenate([path, path[:1]]), np.append(radii, radii[0])
        tangent = np.roll(path[:-1], -1, 0) - np.roll(path[:-1], 1, 0)
        tangent = np.concatenate([tangent, tangent[:1]])
    else:
        tangent = np.gradient(path, axis=0)
        path = np.concatenate(
            [path[:1] - 0.3 * radii[0] * _unit(tangent[:1]), path, path[-1:] + 0.3 * radii[-1] * _unit(tangent[-1:])]
        )
        radii = np.concatenate([[1e-4], radii, [1e-4]])
        tangent = np.concatenate([tangent[:1], tangent, tangent[-1:]])
    tangent = _unit(tangent)
    side = np.cross(tangent[0], [0.31, 0.52, 0.79])
    rings = []
    for point, along, r in zip(path, tangent, radii, strict=True):
        side = side - along * (side @ along)  # carried along without twist
        side /= np.linalg.norm(side)
        other = np.cross(along, side)
        angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)[:, None]
        rings.append(point + r * (np.cos(angle) * side + np.sin(angle) * other))
    return np.concatenate(rings), _grid_faces(len(path), 16)


def _unit(v: Array) -> Array:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))


def _line(*points: object, steps: int = 12) -> Array:
    """Points along straight pieces."""
    corners = np.asarray(points, float)
    t = np.linspace(0, len(corners) - 1, steps * (len(corners) - 1) + 1)
    return np.stack([np.interp(t, np.arange(len(corners)), corners[:, k]) for k in range(3)], -1)


def elephant(rng: np.random.Generator) -> Mesh:
    s = rng.uniform(0.85, 1.15, 8)
    parts = [_blob((0, 0.1, 0.1), (0.34 * s[0], 0.5 * s[1], 0.36)), _blob((0, -0.5, 0.35), (0.22, 0.24, 0.26))]
    for x in (-0.18, 0.18):
        for y in (-0.22, 0.42):
            parts.append(_tube(_line((x, y, 0.0), (x, y, -0.55 * s[2])), 0.11 * s[3]))
        parts.append(_blob((1.9 * x * s[4], -0.42, 0.38), (0.2 * s[4], 0.05, 0.24)))
    t = np.linspace(0, 1, 24)
    trunk = np.stack([0.06 * np.sin(4 * t), -0.68 - 0.28 * np.sin(2.2 * t) * s[5], 0.3 - 0.85 * t * s[6]], -1)
    parts.append(_tube(trunk, 0.09 - 0.05 * t))
    parts.append(_tube(_line((0, 0.58, 0.2), (0, 0.68, -0.2)), 0.02))
    return _joined(parts)


def bunny(rng: np.random.Generator) -> Mesh:
    s = rng.uniform(0.8, 1.2, 6)
    parts = [
        _blob((0, 0.1, 0), (0.36 * s[0], 0.45, 0.38 * s[1]), rng, 0.12),
        _blob((0, -0.35, 0.38), (0.22, 0.24 * s[2], 0.22), rng, 0.1),
    ]
    for x in (-0.1, 0.1):
        parts.append(
            _tube(_line((x, -0.3, 0.5), (1.5 * x, -0.2, 0.8 * s[3]), (2 * x, 0.05, 1.0 * s[3])), np.full(25, 0.06))
        )
        parts.append(_blob((2.2 * x, -0.35, -0.32), (0.1, 0.2, 0.07)))
        parts.append(_blob((2.8 * x, 0.3, -0.2), (0.14, 0.26, 0.2)))
    parts.append(_blob((0, 0.58, 0.05), (0.1, 0.1, 0.1)))
    return _joined(parts)


def knot(rng: np.random.Generator) -> Mesh:
    p, q = ((2, 3), (3, 2), (2, 5), (3, 4))[int(rng.integers(4))]
    t = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    r = 0.6 + 0.25 * np.cos(q * t)
    path = np.stack([r * np.cos(p * t), r * np.sin(p * t), 0.3 * np.sin(q * t)], -1)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return _joined([_tube(path @ turn.T, rng.uniform(0.05, 0.1), closed=True)])


def hand(rng: np.random.Generator) -> Mesh:
    parts = [_blob((0, 0, 0), (0.26, 0.09, 0.3))]
    for k, x in enumerate((-0.19, -0.06, 0.07, 0.19)):
        length, bend = rng.uniform(0.32, 0.5), rng.uniform(0.0, 0.25)
        parts.append(
            _tube(
                _line((x, 0, 0.22), (1.2 * x, -bend * 0.4, 0.22 + length / 2), (1.3 * x, -bend, 0.22 + length)),
                0.055 - 0.005 * (k == 3),
            )
        )
    parts.append(_tube(_line((-0.2, 0, -0.05), (-0.42, -0.08, 0.08), (-0.46, -0.12, 0.25)), 0.065))
    parts.append(_tube(_line((0, 0, -0.2), (0, 0.02, -0.6)), 0.14))
    return _joined(parts)


def figure(rng: np.random.Generator) -> Mesh:
    s = rng.uniform(-0.25, 0.25, 8)
    parts = [_blob((0, 0, 0.15), (0.17, 0.11, 0.3)), _blob((0, -0.02, 0.62), (0.1, 0.11, 0.13))]
    for sign, a, b, c, d in ((-1, s[0], s[1], s[2], s[3]), (1, s[4], s[5], s[6], s[7])):
        hip, knee = (0.09 * sign, 0, -0.1), (0.12 * sign, a, -0.48)
        parts.append(_tube(_line(hip, knee, (0.13 * sign, a + 0.3 * b, -0.9)), 0.065))
        shoulder, elbow = (0.17 * sign, 0, 0.38), (0.36 * sign, c, 0.2 + d)
        parts.append(_tube(_line(shoulder, elbow, (0.45 * sign, c - 0.25, 0.15 + 2 * d)), 0.045))
    return _joined(parts)


def dog(rng: np.random.Generator) -> Mesh:
    s = rng.uniform(0.8, 1.2, 6)
    parts = [
        _blob((0, 0.05, 0.1), (0.14 * s[0], 0.42 * s[1], 0.15)),
        _blob((0, -0.46, 0.38), (0.11, 0.16, 0.12)),
        _blob((0, -0.63, 0.34), (0.05, 0.12, 0.05)),
    ]
    parts.append(_tube(_line((0, -0.3, 0.15), (0, -0.42, 0.35)), 0.09))
    for x in (-0.09, 0.09):
        for y in (-0.25, 0.32):
            parts.append(_tube(_line((x, y, 0.05), (x, y + 0.05, -0.2 * s[2]), (x, y, -0.45 * s[2])), 0.045))
        parts.append(_blob((x, -0.4, 0.52), (0.03, 0.03, 0.09)))
    parts.append(_tube(_line((0, 0.42, 0.18), (0, 0.62, 0.3 * s[3]), (0, 0.66, 0.5 * s[3])), 0.025))
    return _joined(parts)


def fish(rng: np.random.Generator) -> Mesh:
    s = rng.uniform(0.8, 1.2, 4)
    parts = [_blob((0, 0, 0), (0.13 * s[0], 0.5, 0.24 * s[1])), _blob((0, 0.62, 0), (0.02, 0.2, 0.26 * s[2]))]
    parts += [
        _blob((0, 0.05, 0.25), (0.015, 0.25, 0.14 * s[3])),
        _blob((0.16, -0.1, -0.05), (0.12, 0.08, 0.015)),
        _blob((-0.16, -0.1, -0.05), (0.12, 0.08, 0.015)),
    ]
    return _joined(parts)


def aeroplane(rng: np.random.Generator) -> Mesh:
    s = rng.uniform(0.75, 1.25, 5)
    parts = [
        _tube(
            _line((0, -0.7, 0), (0, 0.7, 0.03)),
            np.r_[np.linspace(0.03, 0.1, 4), np.full(6, 0.1), np.linspace(0.1, 0.03, 3)],
        )
    ]
    for x in (-1, 1):
        parts.append(_blob((0.4 * x * s[0], 0.05 * s[1], -0.02), (0.4 * s[0], 0.11, 0.015)))
        parts.append(_blob((0.15 * x, 0.62, 0.05), (0.16, 0.06, 0.012)))
        parts.append(_tube(_line((0.3 * x, -0.15, -0.07), (0.3 * x, 0.05, -0.07)), 0.045 * s[2]))
    parts.append(_blob((0, 0.62, 0.16 * s[3]), (0.012, 0.08, 0.15 * s[3])))
    return _joined(parts)


def tree(rng: np.random.Generator) -> Mesh:
    parts = [_tube(_line((0, 0, -0.6), (0.02, 0, 0.1)), np.linspace(0.09, 0.05, 13))]
    for _ in range(9):
        a, r, z = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.4), rng.uniform(0.0, 0.6)
        end = (r * np.cos(a), r * np.sin(a), z + 0.1)
        parts.append(_tube(_line((0, 0, z - 0.25), end), 0.025))
        parts.append(_blob(end, rng.uniform(0.1, 0.2, 3), rng, 0.3))
    return _joined(parts)


def spring(rng: np.random.Generator) -> Mesh:
    turns = rng.uniform(3, 6)
    t = np.linspace(0, turns * 2 * np.pi, 260)
    path = np.stack([0.3 * np.cos(t), 0.3 * np.sin(t), t / t[-1] * rng.uniform(0.6, 1.2)], -1)
    return _joined([_tube(path, rng.uniform(0.03, 0.06))])


def starfish(rng: np.random.Generator) -> Mesh:
    arms = int(rng.integers(5, 9))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    parts = [_blob((0, 0, 0), (0.2, 0.2, 0.15))]
    for k in range(arms):
        a = 2 * np.pi * k / arms
        end = np.array([np.cos(a), np.sin(a), rng.uniform(-0.3, 0.3)]) * rng.uniform(0.6, 0.9)
        parts.append(_tube(_line((0, 0, 0), end), np.linspace(0.14, 0.03, 13)))
    return _joined([(points @ turn.T, faces) for points, faces in parts])


def rock(rng: np.random.Generator) -> Mesh:
    parts = [
        _blob(rng.uniform(-0.25, 0.25, 3), rng.uniform(0.2, 0.5, 3), rng, 0.35) for _ in range(int(rng.integers(1, 5)))
    ]
    return _joined(parts)


STRANGERS: dict[str, Callable[[np.random.Generator], Mesh]] = {
    maker.__name__: maker
    for maker in (elephant, bunny, knot, hand, figure, dog, fish, aeroplane, tree, spring, starfish, rock)
}
