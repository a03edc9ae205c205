"""Shapes that are the same design: one of them for training and the other for validation would be no test."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..errors import InputError
from ..folders import user_cache_folder
from ..geometry.connected import labels_of
from ..geometry.meshes import Mesh
from .shapes import Shape, canonicalise

log = logging.getLogger(__name__)

TWIN_DISTANCE = 0.014
"""Mean distance of the surfaces (fraction of the longest side, both ways) below which two shapes are one design."""


TWIN_PART_DISTANCE = 0.009
"""The same in one direction only: one shape is the other with something added (a cushion, a drawer)."""


_TWIN_VERSION = 1


def find_twins(meshes: Sequence[Mesh], names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (i < j) of meshes that are one design: canonical surfaces, one of them possibly turned by quarter turns
    about z or mirrored, that nearly coincide, or of which one nearly contains the other.

    Deterministic: sampling is seeded by `names`. O(n^2) comparisons of boxes, few of surfaces.
    """
    sparse: list[NDArray[np.float64]] = []
    trees: list[cKDTree] = []
    sides: list[NDArray[np.float64]] = []
    for mesh, name in zip(meshes, names, strict=True):
        canonical, _ = canonicalise(mesh)
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        points = _surface_points(canonical, 24_000, np.random.default_rng(seed))
        sparse.append(points[:600])
        trees.append(cKDTree(points))
        sides.append(np.ptp(np.asarray(canonical.vertices, np.float64), axis=0))
    boxes = np.array(sides).reshape(-1, 3)
    pairs = []
    for i in range(len(meshes)):
        for j in range(i + 1, len(meshes)):
            if any(
                _coincide(sparse[i], sparse[j] @ turn.T, trees[i], trees[j], turn)
                for turn in _TURNS
                if np.abs(np.abs(turn) @ boxes[j] - boxes[i]).max() < 0.06
            ):
                pairs.append((i, j))
    return pairs


_QUARTER = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


_TURNS = [
    np.linalg.matrix_power(_QUARTER, turns) @ mirror
    for turns in range(4)
    for mirror in (np.eye(3), np.diag([-1.0, 1, 1]))
]


def _coincide(
    mine: NDArray[np.float64], other: NDArray[np.float64], tree: cKDTree, other_tree: cKDTree, turn: NDArray[np.float64]
) -> bool:
    """Whether `mine` (points on the surface in `tree`) and `other` (points on the surface in `other_tree`, turned by
    `turn`) lie on one surface."""
    back_turned = mine @ turn  # x @ turn = turn^-1 x
    # A look at a few points settles most pairs: twins, and wholes beside their parts, have most points close.
    if max(np.median(other_tree.query(back_turned[:40])[0]), np.median(tree.query(other[:40])[0])) > 4 * TWIN_DISTANCE:
        return False
    there = float(other_tree.query(back_turned)[0].mean())
    back = float(tree.query(other)[0].mean())
    return max(there, back) < TWIN_DISTANCE or min(there, back) < TWIN_PART_DISTANCE


def _surface_points(mesh: Mesh, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(count, 3) points uniform by area. (Not engine.geometry.sampling: the twins must not change when that does.)"""
    corners = np.asarray(mesh.vertices, np.float64)[mesh.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    cumulative = np.cumsum(area)
    if not cumulative[-1] > 0:
        lone: NDArray[np.float64] = corners[rng.integers(len(corners), size=count), 0]
        return lone
    chosen = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right").clip(max=len(area) - 1)
    u, v = rng.random((2, count, 1))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    a, b, c = corners[chosen, 0], corners[chosen, 1], corners[chosen, 2]
    points: NDArray[np.float64] = a + u * (b - a) + v * (c - a)
    return points


def remembered_twins(
    shapes: Sequence[Shape], files: Sequence[Path], mesh: Callable[[int], Mesh], cache_folder: Path | None
) -> list[tuple[int, int]]:
    """Twins among the shapes of each source that has both training and validation shapes.

    files: where each shape lies; what was found is kept for as long as they stay as they are.  mesh: of a shape by its
    index, raises InputError where its file is damaged.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for shape in shapes:
        splits[shape.source].add(shape.split)
    concerned = [i for i, shape in enumerate(shapes) if {"train", "validation"} <= splits[shape.source]]
    if not concerned:
        return []
    digest = hashlib.sha256(f"{_TWIN_VERSION} {TWIN_DISTANCE} {TWIN_PART_DISTANCE}".encode())
    for file in sorted({files[i] for i in concerned}):
        stat = file.stat()
        digest.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    for i in concerned:
        digest.update(f"{shapes[i].key}\n".encode())
    folder = cache_folder or user_cache_folder()
    file = folder / f"twins-{digest.hexdigest()[:20]}.json"
    by_key = {shapes[i].key: i for i in concerned}
    try:
        pairs = [(by_key[a], by_key[b]) for a, b in json.loads(file.read_text(encoding="utf-8"))]
        log.debug("twins read from %s", file)
        return pairs
    except (OSError, ValueError, KeyError, TypeError):
        pass
    log.info("looking for twins among %d shapes", len(concerned))
    by_source: dict[str, list[int]] = defaultdict(list)
    for i in concerned:
        by_source[shapes[i].source].append(i)
    pairs = []
    for members in by_source.values():
        meshes = {}
        for i in members:
            try:
                meshes[i] = mesh(i)
                canonicalise(meshes[i])
            except InputError:  # nothing to compare; whoever wants the mesh is told why it is none
                meshes.pop(i, None)
        known = list(meshes)
        found = find_twins(list(meshes.values()), [shapes[i].key for i in known])
        pairs += [(known[a], known[b]) for a, b in found]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps([(shapes[a].key, shapes[b].key) for a, b in pairs], indent=0))
        os.replace(partial, file)
    except OSError as error:
        log.warning("the twins could not be remembered in %s (%s): they are looked for again next time", folder, error)
    return pairs


def exclude_twins(shapes: Sequence[Shape], twins: Sequence[tuple[int, int]]) -> None:
    """Training shapes that are twins of a validation shape, over whatever other twins, become 'excluded'."""
    left, right = np.array(twins, np.int64).reshape(-1, 2).T
    design = labels_of(len(shapes), left, right)
    held_out = {design[i] for i, shape in enumerate(shapes) if shape.split == "validation"}
    for i, shape in enumerate(shapes):
        if shape.split == "train" and design[i] in held_out:
            shape.split = "excluded"
