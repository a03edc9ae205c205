"""From answers to rows: the truth of a shape, and the measures of what answers it."""

from __future__ import annotations

import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..folders import user_cache_folder
from ..frames import BOUND
from ..geometry.clouds import PointCloud
from ..geometry.files import write_mesh
from ..geometry.meshes import Mesh
from ..geometry.metrics import evaluate_cloud_pair, iou
from ..geometry.sampling import sample_surface
from ..geometry.signed_distance import SignedDistance, winding_number
from ..training.library import Library
from ..training.scans import true_surface
from ..training.shapes import canonicalise
from .baselines import Retrieval, poisson
from .pictures import CLAY, COMPLETED, Picture, camera_for, draw_cloud, draw_mesh, save_picture
from .protocol import INVENTED, VERSION, Answer, Item, Protocol, digest, is_solid, partial_scan
from .soundness import TrueAsset


@dataclass
class Judgement:
    """What a worker is asked: answers of the completers (None: it failed) and baselines to compute itself."""

    item: Item
    answers: dict[str, tuple[Answer | None, float, str]]
    baselines: list[str]
    pictures: list[str]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


class Judge:
    """Turns answers into rows; keeps the truth of the shape it saw last. Travels to workers."""

    def __init__(self, library: Library, protocol: Protocol, out: Path) -> None:
        self.library, self.protocol, self.out = library, protocol, out
        self._truth: tuple[int, Truth] | None = None
        self._retrieval: Retrieval | None = None

    def __call__(self, judgement: Judgement) -> Judgement:
        item = judgement.item
        if self._truth is None or self._truth[0] != item.index:
            self._truth = (item.index, Truth(self.library, item.index, self.protocol))
        truth = self._truth[1]
        cloud, back = partial_scan(self.library, item.index, item.view, self.protocol)
        viewpoint = None if cloud.viewpoint is None else back.apply(cloud.viewpoint[None])[0]
        observed = PointCloud(back.apply(cloud.points), None, viewpoint)
        for method in judgement.baselines:
            started = time.perf_counter()
            answer = self._baseline(method, observed)
            judgement.rows[method] = truth.row(answer, observed, time.perf_counter() - started)
        for method, (given, seconds, fingerprint) in judgement.answers.items():
            row = truth.row(None if given is None else given.mesh, observed, seconds, self.protocol.soundness)
            judgement.rows[method] = row if given is None else row | given.figures
            if given is not None and self.protocol.soundness:
                folder = self.meshes(method, fingerprint)
                folder.mkdir(parents=True, exist_ok=True)
                write_mesh(folder / f"{item.file_name}.ply", given.mesh)
        for method in judgement.pictures:
            given, _, fingerprint = judgement.answers[method]
            strip = draw_row(observed, None if given is None else given.mesh, truth.mesh)
            save_picture(self.picture_path(item, method, fingerprint), np.concatenate(strip, axis=1))
        judgement.answers = {}
        return judgement

    def picture_path(self, item: Item, method: str, fingerprint: str) -> Path:
        mark = digest(VERSION, asdict(self.protocol), item.name, method, fingerprint)
        return self.out / "pictures" / f"{mark}.png"

    def meshes(self, method: str, fingerprint: str) -> Path:
        mark = digest(VERSION, asdict(self.protocol), method, fingerprint)
        return self.out / "meshes" / f"{method.replace(' ', '-')}-{mark}"

    def _baseline(self, method: str, observed: PointCloud) -> Mesh | PointCloud | None:
        if method == "input":
            return observed
        if method == "input + mirror":
            mirrored = observed.points * np.array([-1, 1, 1], np.float32)
            return PointCloud(np.concatenate([observed.points, mirrored]))
        if method == "retrieval":
            if self._retrieval is None:
                self._retrieval = Retrieval(self.library)
            return self._retrieval.nearest(observed.points)
        return poisson(observed)


class Truth:
    """A shape as the answers are compared with it, canonical."""

    def __init__(self, library: Library, index: int, protocol: Protocol) -> None:
        self.protocol = protocol
        self.mesh, _ = canonicalise(library.mesh(index))
        rng = np.random.default_rng([protocol.seed, zlib.crc32(library.shapes[index].key.encode()), 1 << 20])
        self.points, self.normals = true_surface(self.mesh, protocol.points, rng)
        self.inside: NDArray[np.bool_] | None = None
        self.volume = np.zeros((0, 3), np.float32)
        if is_solid(self.mesh, SignedDistance(self.mesh), rng):
            self.volume = rng.uniform(-BOUND, BOUND, (protocol.points, 3)).astype(np.float32)
            self.inside = winding_number(self.mesh, self.volume) > 0.5
        self._asset: TrueAsset | None = None

    @property
    def asset(self) -> TrueAsset:
        if self._asset is None:
            self._asset = TrueAsset(self.mesh, self.points, self.normals, user_cache_folder() / "soundness")
        return self._asset

    def row(
        self, answer: Mesh | PointCloud | None, observed: PointCloud, seconds: float, soundness: bool = False
    ) -> dict[str, Any]:
        """The measures of METRICS and, for soundness, of COLUMNS (raw, canonical units); None where one does not
        apply."""
        row: dict[str, Any] = {"observed_points": len(observed.points), "solid": self.inside is not None}
        row |= {"failed": False, "seconds": seconds, "iou": None, "normal_consistency": None}
        rng = np.random.default_rng(0)
        if answer is None or (isinstance(answer, Mesh) and not _has_area(answer)):
            row |= {"failed": True, "f_score": 0.0, "normal_consistency": 0.0, "iou": 0.0 if row["solid"] else None}
            if soundness:
                row |= self.asset.measure(None, _NOWHERE, _NOWHERE, observed.viewpoint)
            return row | dict.fromkeys(("chamfer_l1", "accuracy", "completeness", "observed", "invented"))
        if isinstance(answer, Mesh):
            points, normals = sample_surface(answer, self.protocol.points, rng)
            if self.inside is not None:
                row["iou"] = iou(winding_number(answer, self.volume) > 0.5, self.inside)
        else:
            points, normals = answer.points, None
        threshold = self.protocol.threshold
        measures = evaluate_cloud_pair(points, normals, self.points, self.normals, (threshold, INVENTED))
        row["f_score"] = measures[f"f_score@{threshold:g}"]
        for key in ("chamfer_l1", "accuracy", "completeness"):
            row[key] = measures[key]
        row["invented"] = 1.0 - measures[f"precision@{INVENTED:g}"]
        if normals is not None:
            row["normal_consistency"] = measures["normal_consistency"]
        row["observed"] = float(cKDTree(points).query(observed.points)[0].mean())
        if soundness and isinstance(answer, Mesh) and normals is not None:
            row |= self.asset.measure(answer, points, normals, observed.viewpoint)
        return row


_NOWHERE = np.zeros((0, 3), np.float32)


def _has_area(mesh: Mesh) -> bool:
    corners = np.asarray(mesh.vertices, np.float64)[mesh.faces]
    if len(corners) == 0 or not np.isfinite(corners).all():
        return False
    return bool((np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) != 0).any())


_worker: Judge | None = None


def start_worker(judge: Judge) -> None:
    global _worker
    _worker = judge


def work(judgement: Judgement) -> Judgement:
    assert _worker is not None
    return _worker(judgement)


def draw_row(observed: PointCloud, answer: Mesh | None, truth: Mesh, size: int = 220) -> list[Picture]:
    """Input, answer and truth (all canonical) from one camera, 40 degrees beside the scanner so that the unseen side
    shows."""
    azimuth = -60.0
    if observed.viewpoint is not None:
        azimuth = float(np.rad2deg(np.arctan2(observed.viewpoint[1], observed.viewpoint[0]))) + 40.0
    camera = camera_for(truth.vertices, azimuth, 24.0, size)
    ground = float(truth.vertices[:, 2].min())
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    return [
        draw_cloud(observed.points, camera, viewpoint=observed.viewpoint),
        draw_mesh(answer or nothing, camera, COMPLETED, ground=ground),
        draw_mesh(truth, camera, CLAY, ground=ground),
    ]
