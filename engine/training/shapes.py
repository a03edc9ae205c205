"""One shape of a library, and its canonical frame."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..geometry.meshes import Mesh
from ..geometry.transforms import Similarity
from .categories import OTHER, category_of

SCENE = "scene"
"""Source of the shapes that came from a person's own scene."""


@dataclass
class Shape:
    """One shape and where it came from.

    class_name: as in the index.  split: 'train', 'validation' or 'excluded' (a training twin of a validation shape).
    mesh: in the shape's own frame and scale (z up, front -y), or None while only the record is wanted.
    package_path: the file inside the package it was taken from, for the credits.
    """

    source: str
    class_name: str
    name: str
    split: str = "train"
    licence: str = ""
    creator: str = ""
    mesh: Mesh | None = None
    package_path: str = ""

    @property
    def category(self) -> str:
        """The class a prior learns, from `category_of`. What that leaves out is as good as any other class in a
        library of one's own."""
        found = category_of(self.class_name, self.name)
        return self.class_name if found == OTHER and self.source == SCENE else found

    @property
    def key(self) -> str:
        """Unique in a library: 'source/class/name'."""
        return f"{self.source}/{self.class_name}/{self.name}"


def canonicalise(mesh: Mesh) -> tuple[Mesh, Similarity]:
    """Bounding box centred at 0, longest side 1 (axes untouched: z up, front -y), and the transform that did it.

    Only vertices that a face uses count, and only those are kept. InputError where there is no surface with a size.
    """
    used = np.unique(mesh.faces)
    vertices = np.asarray(mesh.vertices, np.float64)[used]
    if len(used) < 3 or not np.isfinite(vertices).all():
        raise InputError(
            "mesh_empty" if len(used) < 3 else "mesh_not_finite",
            "The mesh cannot be brought to the canonical frame.",
            "It has no faces." if len(used) < 3 else "Some of its coordinates are not finite numbers.",
            "Check the file in a modelling program.",
        )
    low, high = vertices.min(0), vertices.max(0)
    longest = float((high - low).max())
    if not longest > 0:
        raise InputError(
            "mesh_degenerate",
            "The mesh cannot be brought to the canonical frame.",
            "All of its vertices lie in one point.",
            "Check the file in a modelling program.",
        )
    transform = Similarity(scale=1.0 / longest, translation=-(low + high) / (2.0 * longest))
    renumber = np.zeros(len(mesh.vertices), np.int32)
    renumber[used] = np.arange(len(used), dtype=np.int32)
    normals = None if mesh.normals is None else mesh.normals[used]
    return Mesh(transform.apply(vertices), renumber[mesh.faces], normals), transform


def split_by_hash(shapes: Sequence[Shape], fraction: float = 0.2) -> list[Shape]:
    """The shapes with `fraction` of each class set aside for validation: by a hash of the name, so that the choice is
    the same on every machine and hardly moves when shapes are added. The rest is 'train'."""
    by_class: dict[str, list[Shape]] = defaultdict(list)
    for shape in shapes:
        by_class[shape.class_name].append(shape)
    held_out: set[str] = set()
    for members in by_class.values():
        ranked = sorted(members, key=lambda shape: hashlib.sha256(shape.name.encode()).hexdigest())
        held_out.update(shape.key for shape in ranked[: round(fraction * len(ranked))])
    return [replace(shape, split="validation" if shape.key in held_out else "train") for shape in shapes]
