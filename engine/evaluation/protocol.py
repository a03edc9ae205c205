"""What a completion is judged by: the protocol, its scans, and which shapes it takes."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy.spatial.transform import Rotation

from ..errors import InputError
from ..geometry.clouds import PointCloud
from ..geometry.meshes import Mesh
from ..geometry.sampling import sample_surface
from ..geometry.signed_distance import SignedDistance, winding_number
from ..geometry.transforms import Similarity, yaw_rotation
from ..training.categories import OTHER
from ..training.library import Library
from ..training.scans import random_viewpoint, scan, true_surface
from ..training.shapes import canonicalise


@dataclass
class Answer:
    """The whole surface, in the frame of the points; figures: further columns of its row (of METRICS, raw)."""

    mesh: Mesh
    figures: dict[str, float] = field(default_factory=dict)


Completer = Callable[[PointCloud], "Mesh | Answer"]
"""Points (with viewpoint where they are a scan, without normals) -> the whole surface, in the points' frame."""


Pose = Literal["canonical", "free", "any"]


METRICS = (
    "f_score", "chamfer_l1", "iou", "normal_consistency", "observed", "accuracy", "completeness", "invented", "tmd",
    "uhd", "answers", "seconds",
)  # fmt: skip


INVENTED = 0.02
"""Farther than this from the truth (longest side 1) an answer's surface is made up."""


SEVERAL = ("tmd", "uhd", "answers")
"""Metrics of completers that give several answers to a scan; the others are of the first."""


VERSION = 3
"""Part of the key of stored rows: raise it when the same settings would give other numbers."""


@dataclass
class Protocol:
    """What decides a row, and so names the file it is stored in.

    noise: standard deviation of the measured distance, fraction of the size.  outliers: share of stray points.
    pixels: longer side of the depth image.  points: evaluation points on answer and truth.  threshold: of the F-score.
    pose: 'canonical' = completers get points in the canonical frame; 'free' = turned about z, scaled (0.01 to 100) and
    moved at random; 'any' = turned anyhow, scaled and moved (answers are taken back by the true transform before they
    are judged).
    cloud: 0 = scans; else so many points evenly from the whole outer surface, with `noise` in any direction, seen from
    nobody knows where.  front_off: quarter turns by which the points' front is wrong, in a canonical pose.
    soundness: whether answers of completers are measured as assets too (engine.evaluation.soundness).
    """

    noise: float = 0.0
    outliers: float = 0.0
    seed: int = 0
    pixels: int = 160
    points: int = 100_000
    threshold: float = 0.01
    pose: Pose = "canonical"
    cloud: int = 0
    front_off: int = 0
    soundness: bool = True


@dataclass
class Item:
    index: int
    key: str
    category: str
    view: int

    @property
    def name(self) -> str:
        return f"{self.key}#{self.view}"

    @property
    def file_name(self) -> str:
        return "".join(c if c.isalnum() or c in "-_." else "-" for c in self.name)


def partial_scan(library: Library, index: int, view: int, protocol: Protocol) -> tuple[PointCloud, Similarity]:
    """The scan (or complete cloud) numbered `view` of shape `index` as a completer gets it (no normals), and the
    transform that takes its frame to the canonical one. Depends on the protocol's seed and the shape's key, not on its
    place in the library; the viewpoint does not depend on the noise."""
    mesh, _ = canonicalise(library.mesh(index))
    rng = np.random.default_rng([protocol.seed, zlib.crc32(library.shapes[index].key.encode()), view])
    viewpoint = random_viewpoint(rng)
    yaw, size, move = rng.uniform(-np.pi, np.pi), 10.0 ** rng.uniform(-2.0, 2.0), rng.uniform(-5, 5, 3)
    if protocol.cloud:
        surface, _ = true_surface(mesh, protocol.cloud, rng)
        cloud = PointCloud(surface + rng.normal(0.0, protocol.noise, surface.shape).astype(np.float32))
    else:
        cloud = scan(mesh, viewpoint, rng, pixels=protocol.pixels, noise=protocol.noise, outliers=protocol.outliers)
    out = Similarity(rotation=yaw_rotation(protocol.front_off * np.pi / 2))
    if protocol.pose == "free":
        out = Similarity(size, Rotation.from_rotvec([0.0, 0.0, yaw]).as_matrix(), move * size)
    elif protocol.pose == "any":
        turn = np.random.default_rng([protocol.seed, zlib.crc32(library.shapes[index].key.encode()), view, 1])
        out = Similarity(size, Rotation.random(random_state=int(turn.integers(2**31))).as_matrix(), move * size)
    seen_from = None if cloud.viewpoint is None else out.apply(cloud.viewpoint[None])[0]
    return PointCloud(out.apply(cloud.points), None, seen_from), out.inverse()


def is_solid(mesh: Mesh, field: SignedDistance, rng: np.random.Generator) -> bool:
    """Whether a canonical mesh encloses a volume that its winding numbers tell apart from the outside: near the surface
    they are nearly whole numbers, and agree with what can be seen from outside."""
    points, normals = sample_surface(mesh, 2000, rng)
    near = points + normals * rng.normal(0.0, 0.02, (len(points), 1)).astype(np.float32)
    winding = winding_number(mesh, near)
    whole = np.abs(winding - np.rint(winding)) < 0.1
    return bool(whole.mean() > 0.98 and ((winding > 0.5) == ~field.outside(near)).mean() > 0.95)


def select(
    library: Library, split: str, classes: Iterable[str] | None, sources: Iterable[str] | None, views: int,
    limit: int | None, only: Iterable[str] | None = None,
) -> list[Item]:  # fmt: skip
    indices = library.indices(split=split, categories=classes, sources=sources)
    if classes is None:
        indices = [i for i in indices if library.shapes[i].category != OTHER]
    if only is not None:
        wanted = set(only)
        indices = [i for i in indices if library.shapes[i].key in wanted]
    if not indices:
        known = ", ".join(f"{c} {n}" for c, n in library.counts().items())
        raise InputError(
            "nothing_to_evaluate",
            "There is nothing to evaluate.",
            f"No shape of the library is of the split '{split}' and of the classes, sources and keys asked for.",
            f"Choose among what it holds: {known}.",
        )
    if limit is not None and limit < len(indices):  # in turn from every class
        by_class: dict[str, list[int]] = defaultdict(list)
        for i in indices:
            by_class[library.shapes[i].category].append(i)
        ranked = sorted((rank, name, i) for name, members in by_class.items() for rank, i in enumerate(members))
        indices = sorted(i for _, _, i in ranked[:limit])
    shapes = library.shapes
    return [Item(i, shapes[i].key, shapes[i].category, view) for i in indices for view in range(views)]


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
