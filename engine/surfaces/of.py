"""The mesh of any shape that a family decodes: implicit, points, patches or parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import JobFailed
from ..fields.shapes import Implicit, Parts, Patches, Points, Shape
from ..geometry.meshes import IntArray, Mesh, vertex_normals
from .marching import Extraction, Field, LevelCallback, extract_sparse
from .shell import solid_about

BY_SIGNS = 64
"""Cells along the box that are all looked at where a field's steepness is unknown: what is thinner may be missed."""

Mesher = Callable[[NDArray[np.float32], int], Mesh]
"""(points (N, 3), resolution) -> a mesh of their surface."""


@dataclass
class Surface(Extraction):
    """uvs: (F, 3, 2) in [0, 1], of the corners of the faces; of patches alone."""

    uvs: NDArray[np.float32] | None = None


def field_of(shape: Shape) -> Implicit:
    """A field whose zero set is the shape's surface: a shape of one's own kind, or a solid about points and patches.

    shape: a batch of one.
    """
    match shape:
        case Implicit():
            return shape
        case Parts():
            return Implicit(lambda _, points: shape.values(points), shape.sizes)
        case Points() | Patches():
            points = shape.points if isinstance(shape, Points) else shape.sampled
            solid = solid_about(points[0].detach().cpu().numpy().astype(np.float32))
            return Implicit(solid.query, solid.features.to(points.device), lipschitz=solid.lipschitz)


def signed_distance(shape: Shape) -> Field:
    """(N, 3) -> (N,) of `field_of`; no gradients are kept."""
    field = field_of(shape)

    def values(points: Tensor) -> Tensor:
        with torch.no_grad():
            return field.values(points[None])[0]

    return values


def of(
    shape: Shape,
    resolution: int,
    *,
    device: torch.device | str = "cpu",
    on_level: LevelCallback | None = None,
    should_stop: Callable[[], bool] | None = None,
    with_normals: bool = False,
    mesher: Mesher | None = None,
) -> Surface:
    """The surface of a shape (a batch of one) in the canonical frame.

    Implicit: coarse-to-fine marching cubes (see `extract_sparse`).  Points: the same on the solid about them, or what
    `mesher` makes of them.  Patches: their own triangles, about resolution / 8 squares along a patch, with UVs.
    Parts: each part's own mesh, closed; they overlap.
    Raises JobFailed "empty_surface", "field_not_finite"; Cancelled.
    """
    with torch.no_grad():
        if isinstance(shape, Patches):
            return _of_patches(shape, max(2, resolution // 8))
        if isinstance(shape, Parts):
            return Surface(_of_parts(shape, max(8, resolution // 4)), 0)
        if isinstance(shape, Points) and mesher is not None:
            return Surface(mesher(shape.points[0].cpu().numpy().astype(np.float32), resolution), 0)
    field = field_of(shape)
    known = field.lipschitz > 0
    found = extract_sparse(
        signed_distance(field), resolution, device=device, on_level=on_level, should_stop=should_stop,
        lipschitz=field.lipschitz if known else 1.0, safety=1.1 if known else 0.0, coarse=32 if known else BY_SIGNS,
        with_normals=with_normals,
    )  # fmt: skip
    return Surface(found.mesh, found.evaluations, found.peak_bytes, found.levels)


# --- patches ----------------------------------------------------------------------------------------------------------


def _of_patches(shape: Patches, side: int) -> Surface:
    if shape.closed:
        uv, faces, corners = _globe(2 * side, side)
    else:
        uv, faces = _sheet(side)
        corners = uv[faces]
    placed = shape.place(shape.features, torch.as_tensor(uv, device=shape.features.device))[0].cpu().numpy()
    count = len(placed)
    every = np.concatenate([faces + k * len(uv) for k in range(count)]).astype(np.int32)
    mesh = Mesh(placed.reshape(-1, 3).astype(np.float32), every)
    mesh.normals = vertex_normals(mesh)
    return Surface(mesh, placed.size // 3, uvs=np.tile(corners, (count, 1, 1)))


def _sheet(side: int) -> tuple[NDArray[np.float32], IntArray]:
    """(side + 1)^2 places in the unit square and the triangles between them."""
    axis = np.linspace(0, 1, side + 1, dtype=np.float32)
    uv = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    a = (np.arange(side)[:, None] * (side + 1) + np.arange(side)).ravel()
    b, c, d = a + side + 1, a + side + 2, a + 1
    return uv, np.stack([np.c_[a, b, c], np.c_[a, c, d]], 1).reshape(-1, 3).astype(np.int32)


def _globe(around: int, up: int) -> tuple[NDArray[np.float32], IntArray, NDArray[np.float32]]:
    """Places on a sphere as (longitude, latitude) in [0, 1], closed triangles, and the UVs of their corners: at the
    seam and the poles a place has several."""
    u, v = np.arange(around) / around, np.arange(1, up) / up
    inner = np.stack(np.meshgrid(u, v, indexing="ij"), -1).transpose(1, 0, 2).reshape(-1, 2)
    uv = np.concatenate([inner, [[0, 0], [0, 1]]]).astype(np.float32)
    south, north = len(inner), len(inner) + 1
    faces, corners = [], []
    for k in range(around):
        left, right, after = k / around, (k + 1) / around, (k + 1) % around
        middle = (left + right) / 2
        faces.append((south, after, k))
        corners.append(((middle, 0), (right, v[0]), (left, v[0])))
        for row in range(up - 2):
            a, b = row * around + k, row * around + after
            c, d = b + around, a + around
            low, high = v[row], v[row + 1]
            faces += [(a, b, c), (a, c, d)]
            corners += [((left, low), (right, low), (right, high)), ((left, low), (right, high), (left, high))]
        last = (up - 2) * around
        faces.append((north, last + k, last + after))
        corners.append(((middle, 1), (left, v[-1]), (right, v[-1])))
    return uv, np.array(faces, np.int32), np.array(corners, np.float32)


# --- parts ------------------------------------------------------------------------------------------------------------

_BOX_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]], np.int32,
)  # fmt: skip
"""Of the corners (x, y, z) in the order of binary numbers."""


def part_meshes(shape: Parts, detail: int = 16) -> list[Mesh]:
    """The mesh of every part that exists, canonical. shape: a batch of one.  detail: of superquadrics, along a half."""
    meshes = []
    for k in range(shape.sizes.shape[1]):
        if shape.existence is not None and float(shape.existence[0, k]) < 0.5:
            continue
        size, turn, centre = (t[0, k].detach().cpu().numpy() for t in (shape.sizes, shape.rotations, shape.centres))
        if shape.exponents is None:
            local = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
            faces = _BOX_FACES
        else:
            first, second = shape.exponents[0, k].detach().cpu().numpy()
            uv, faces, _ = _globe(2 * detail, detail)
            longitude, latitude = 2 * np.pi * uv[:, 0].astype(np.float64), np.pi * (uv[:, 1].astype(np.float64) - 0.5)

            def power(base: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
                return np.asarray(np.sign(base) * np.abs(base) ** exponent, np.float64)

            flat = power(np.cos(latitude), first)
            local = np.stack(
                [flat * power(np.cos(longitude), second), flat * power(np.sin(longitude), second),
                 power(np.sin(latitude), first)], -1,
            )  # fmt: skip
        vertices = ((local * size) @ turn.T + centre).astype(np.float32)
        mesh = Mesh(vertices, faces.copy())
        mesh.normals = vertex_normals(mesh)
        meshes.append(mesh)
    return meshes


def _of_parts(shape: Parts, detail: int) -> Mesh:
    meshes = part_meshes(shape, detail)
    if not meshes:
        raise JobFailed(
            "empty_surface", "No shape came out.", "None of its parts exists.", "Try another seed, or another prior."
        )
    offsets = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    normals = [mesh.normals for mesh in meshes if mesh.normals is not None]
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=False)]).astype(np.int32),
        np.concatenate(normals),
    )
