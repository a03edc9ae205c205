"""The truth as a solid at 1 % of its size: gaps and cracks narrower than that closed. Remembered on disk."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...finish.lattice import TOUCHING, Filled, Lattice, filled_by
from ...finish.topology import topology
from ...finish.tunnels import Tunnel, tunnels_of
from ...geometry.clouds import FloatArray
from ...geometry.meshes import Mesh
from ...geometry.signed_distance import SignedDistance

log = logging.getLogger(__name__)

OFFSET = 0.005
"""The truth is thickened by this much: gaps of 1 % of the size close, the least that counts as a tunnel."""
_VERSION = 1
_STRIDES = (8, 4, 2, 1)


@dataclass
class Solid:
    """filled: (n, n, n) of the lattice.  parts: how many of more than 0.2 % of it.  tunnels: where its handles are."""

    filled: Filled
    parts: int
    tunnels: list[Tunnel]


def solid_of(mesh: Mesh, field: SignedDistance, lattice: Lattice, cache: Path | None) -> Solid:
    """Of a mesh in canonical units and its signed distance. cache: a folder where it is kept for the next time."""
    file = None if cache is None else cache / f"solid-{_mark(mesh, lattice)}.npz"
    if file is not None and file.is_file():
        try:
            return _loaded(file, lattice)
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s is made again: %s", file.name, error)
    if topology(mesh).watertight:
        # Its winding number knows narrow tunnels that hardly a ray gets out of.
        near = below(lambda places: _distance(field, places), lattice, OFFSET)
        filled = np.asarray(ndimage.binary_fill_holes(near | filled_by(mesh, lattice)))
    else:
        filled = below(lambda places: field(places)[0], lattice, OFFSET)
    solid = Solid(filled, parts_of(filled), tunnels_of(filled))
    if file is not None:
        _save(file, solid)
    return solid


def below(distance: Callable[[FloatArray], FloatArray], lattice: Lattice, level: float) -> Filled:
    """(n, n, n) where a distance, signed or not, of points (N, 3) is below the level. Asked only near the surface and
    where inside and outside meet: a node between eight coarser ones of one sign, all of them farther from the surface
    than they are apart, is like them. nodes - 1 has to be a multiple of 8."""

    def ask(index: NDArray[np.int64]) -> FloatArray:
        blocks = [index[start : start + 200_000] for start in range(0, len(index), 200_000)]
        return np.concatenate([distance(lattice.points(block)) for block in blocks] or [np.zeros(0, np.float32)])

    stride = _STRIDES[0]
    side = lattice.nodes // stride + 1
    grid = ask(np.indices((side,) * 3).reshape(3, -1).T * stride).reshape((side,) * 3)
    for stride in _STRIDES[1:]:
        reach = 2.0 * stride * lattice.step * np.sqrt(3.0) + abs(level)
        low, high = _corners(grid, np.minimum), _corners(grid, np.maximum)
        plain = (low > reach) | (high < -reach)
        filler = np.where(low > reach, np.float32(1.0), np.float32(-1.0))
        side = 2 * grid.shape[0] - 1
        fine, mixed = np.empty((side,) * 3, np.float32), np.zeros((side,) * 3, bool)
        for corner in np.ndindex(3, 3, 3):  # of the cells, and of their neighbours
            window = tuple(slice(c, side - 2 + c, 2) for c in corner)
            mixed[window] |= ~plain
            fine[window] = np.where(plain, filler, fine[window])
        mixed[::2, ::2, ::2] = False
        todo = np.argwhere(mixed)
        fine[tuple(todo.T)] = ask(todo * stride)
        fine[::2, ::2, ::2] = grid
        grid = fine
    return np.asarray(grid < level)


def _corners(grid: FloatArray, pick: Callable[..., Any]) -> FloatArray:
    """Least or greatest of the eight corners of each cell."""
    for axis in range(3):
        ahead = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
        behind = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
        grid = pick(grid[ahead], grid[behind])
    return grid


def _distance(field: SignedDistance, places: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(places - field.closest(places), axis=1), np.float32)


def parts_of(filled: Filled) -> int:
    """Connected parts of more than 0.2 % of what is filled."""
    label, _ = ndimage.label(filled, TOUCHING)
    sizes = np.bincount(label.ravel())[1:]
    return int((sizes > 0.002 * max(int(sizes.sum()), 1)).sum())


def _mark(mesh: Mesh, lattice: Lattice) -> str:
    digest = hashlib.sha256(f"{_VERSION} {lattice} {OFFSET}".encode())
    digest.update(np.ascontiguousarray(mesh.vertices, np.float32).tobytes())
    digest.update(np.ascontiguousarray(mesh.faces, np.int32).tobytes())
    return digest.hexdigest()[:20]


def _save(file: Path, solid: Solid) -> None:
    rows = [np.concatenate([t.membrane, t.patch]).astype(np.int16) for t in solid.tunnels]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.part")
        with partial.open("wb") as stream:
            np.savez_compressed(
                stream, filled=np.packbits(solid.filled), parts=solid.parts,
                nodes=np.concatenate(rows) if rows else np.zeros((0, 3), np.int16),
                about=np.array(
                    [(len(t.membrane), len(t.patch), t.radius, t.handles) for t in solid.tunnels]
                ).reshape(-1, 4),
            )  # fmt: skip
        partial.replace(file)
    except OSError as error:
        log.warning("the solid could not be remembered: %s", error)


def _loaded(file: Path, lattice: Lattice) -> Solid:
    with np.load(file, allow_pickle=False) as stored:
        n = lattice.nodes
        filled = np.unpackbits(stored["filled"], count=n**3).reshape(n, n, n).astype(bool)
        nodes, start, tunnels = stored["nodes"].astype(np.int64), 0, []
        for membrane, patch, radius, handles in stored["about"]:
            middle = start + int(membrane)
            end = middle + int(patch)
            tunnels.append(Tunnel(nodes[start:middle], nodes[middle:end], float(radius), int(handles)))
            start = end
        return Solid(filled, int(stored["parts"]), tunnels)
