"""How well shapes are completed from one view, or from a complete and noisy cloud: protocol, baselines, report.

The measures follow Convolutional Occupancy Networks (Peng et al., ECCV 2020) and, for the F-score, Tatarchenko et al.
(CVPR 2019): 100,000 points on the answer and on the truth, distances with the longest side of the true shape 1.

For every shape of a split and every view: a partial scan by ray casting (engine.training.scans), the completion, and
the measures against the outer surface of the shape. The same scans are answered by baselines: the input itself, the
input and its mirror image, the nearest training shape, and screened Poisson reconstruction. Rows are kept on disk as
they come: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import multiprocessing
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ..errors import Cancelled, EngineError, InputError
from ..folders import user_cache_folder
from ..frames import BOUND
from ..geometry.clouds import FloatArray, PointCloud
from ..geometry.files import write_mesh
from ..geometry.meshes import Mesh
from ..geometry.metrics import evaluate_cloud_pair, iou
from ..geometry.sampling import estimate_normals, sample_surface
from ..geometry.signed_distance import SignedDistance, winding_number
from ..geometry.transforms import Similarity, yaw_rotation
from ..training.library import OTHER, Library, canonicalise
from ..training.scans import random_viewpoint, scan, true_surface
from .pictures import CLAY, COMPLETED, Picture, camera_for, contact_sheet, draw_cloud, draw_mesh, save_picture
from .soundness import COLUMNS, TrueAsset
from .soundness.sheet import close_sheet, soundness_table

log = logging.getLogger(__name__)


@dataclass
class Answer:
    """The whole surface, in the frame of the points; figures: further columns of its row (of METRICS, raw)."""

    mesh: Mesh
    figures: dict[str, float] = field(default_factory=dict)


Completer = Callable[[PointCloud], "Mesh | Answer"]
"""Points (with viewpoint where they are a scan, without normals) -> the whole surface, in the points' frame."""

Pose = Literal["canonical", "free", "any"]

BASELINES = ("input", "input + mirror", "retrieval", "poisson")

METRICS = (
    "f_score", "chamfer_l1", "iou", "normal_consistency", "observed", "accuracy", "completeness", "invented", "tmd",
    "uhd", "answers", "seconds",
)  # fmt: skip
INVENTED = 0.02
"""Farther than this from the truth (longest side 1) an answer's surface is made up."""
SEVERAL = ("tmd", "uhd", "answers")
"""Metrics of completers that give several answers to a scan; the others are of the first."""

LABELS = {
    "f_score": "F-score at 1 %",
    "chamfer_l1": "Chamfer-L1 x10",
    "iou": "IoU (solid shapes)",
    "normal_consistency": "normal consistency",
    "observed": "observed points to answer x1000",
    "accuracy": "accuracy x10",
    "completeness": "completeness x10",
    "invented": "surface farther than 2 % from the truth, %",
    "tmd": "total mutual difference x100",
    "uhd": "unidirectional Hausdorff x100",
    "answers": "answers that differ",
    "seconds": "seconds",
}

FOOTNOTES = {
    "input": "the observed points themselves taken as the answer",
    "input + mirror": "the observed points and their mirror image in x = 0; knows the shape's own frame",
    "retrieval": "the training shape nearest to the observed points (one-sided distance); knows the shape's own frame",
    "deepsdf": "the reference procedure: 8 x 512 auto-decoder, code found by Adam, dense marching cubes (Park 2019)",
    "poisson": "screened Poisson reconstruction of the observed points (Kazhdan and Hoppe 2013), no prior",
}

_VERSION = 3
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
class _Item:
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


@dataclass
class _Judgement:
    """What a worker is asked: answers of the completers (None: it failed) and baselines to compute itself."""

    item: _Item
    answers: dict[str, tuple[Answer | None, float, str]]
    baselines: list[str]
    pictures: list[str]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


def run_completion_evaluation(
    complete: Completer | None,
    library: Library,
    *,
    name: str = "completion",
    fingerprint: str = "",
    split: str = "validation",
    classes: Iterable[str] | None = None,
    sources: Iterable[str] | None = None,
    views: int = 1,
    noise: float = 0.0,
    outliers: float = 0.0,
    seed: int = 0,
    out_dir: str | Path = "evaluation",
    baselines: Sequence[str] = BASELINES,
    others: Sequence[tuple[str, str, Completer]] = (),
    limit: int | None = None,
    workers: int = 1,
    pose: Pose = "canonical",
    points: int = 100_000,
    pixels: int = 160,
    pictures: int = 48,
    cloud: int = 0,
    front_off: int = 0,
    only: Iterable[str] | None = None,
    soundness: bool = True,
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Run the protocol and write rows, report.json, report.md and contact_sheet.png into `out_dir`; return the report.

    complete: the completer judged, or None for the baselines alone; `name` is its column and `fingerprint` (a hash of
    its weights and settings) tells stored rows of one completer from those of another.
    classes: categories (None: all but 'other').  sources: parts of the library (None: all).  only: keys of the shapes
    ('source/class/name'; None: all that are left).  views: scans a shape.  cloud, front_off: see `Protocol`.
    others: further completers as (name, fingerprint, callable).  limit: at most so many shapes, in turn by class.
    workers: processes that judge while this one completes.  pictures: at most so many rows in the contact sheet.
    soundness: answers are measured as assets too, kept as meshes/NAME-FINGERPRINT/*.ply (canonical frame) and shown
    from close in close.png; what scripts/quads_verdict wrote about those meshes goes into the report.
    on_progress(done, total, what); should_stop() is asked between shapes and raises Cancelled.
    Raises InputError where no shape fits the selection. A completer that raises EngineError or returns an empty mesh
    has failed on that scan: F-score, IoU and normal consistency 0, no distances, counted in the report.
    """
    protocol = Protocol(
        noise, outliers, seed, pixels, points, pose=pose, cloud=cloud, front_off=front_off, soundness=soundness
    )
    out = Path(out_dir)
    items = _select(library, split, classes, sources, views, limit, only)
    completers: dict[str, tuple[str, Completer]] = {} if complete is None else {name: (fingerprint, complete)}
    completers.update({other: (mark, function) for other, mark, function in others})
    wanted = _available(baselines)
    if clash := set(completers) & set(BASELINES):
        raise ValueError(f"completers cannot be called {sorted(clash)}")
    stores = {method: _Store(out, protocol, method, completers.get(method, ("", None))[0], library) for method in
              [*wanted, *completers]}  # fmt: skip
    shown = _pictured(items, pictures) if completers else set()

    done, total = 0, len(items)
    pool: Executor | None = None
    pending: dict[Future[_Judgement], None] = {}
    judge = _Judge(library, protocol, out)

    def finish(judgement: _Judgement) -> None:
        nonlocal done
        for method, row in judgement.rows.items():
            stores[method].add(judgement.item, row)
        done += 1
        on_progress(done, total, judgement.item.name)

    try:
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(judge,))
        for item in items:
            if should_stop():
                raise Cancelled
            missing = [method for method in completers if not stores[method].has(item)]
            draw = [
                method
                for method in completers
                if item.name in shown and not judge.picture_path(item, method, completers[method][0]).is_file()
            ]
            answers = {}
            if missing or draw:
                scanned, back = partial_scan(library, item.index, item.view, protocol)
                for method in dict.fromkeys([*missing, *draw]):
                    answers[method] = (*_answer(completers[method][1], scanned, back), completers[method][0])
            todo = _Judgement(item, answers, [method for method in wanted if not stores[method].has(item)], draw)
            if not answers and not todo.baselines:
                finish(todo)
            elif pool is None:
                finish(judge(todo))
            else:
                pending[pool.submit(_work, todo)] = None
                while len(pending) > 2 * workers or any(future.done() for future in pending):
                    first = next((future for future in pending if future.done()), next(iter(pending)))
                    del pending[first]
                    finish(first.result())
        for future in list(pending):
            finish(future.result())
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    for method in completers:
        _add_verdicts(items, stores[method], judge.meshes(method, completers[method][0]))
    report = _report(protocol, library, items, stores, split, wanted, list(completers), fingerprint)
    out.mkdir(parents=True, exist_ok=True)
    if shown:
        sheet = _sheet(items, shown, stores, judge, completers)
        save_picture(out / "contact_sheet.png", sheet)
        report["contact_sheet"] = "contact_sheet.png"
        if soundness:
            judged, (mark, _) = next(iter(completers.items()))
            rows, meshes = stores[judged].rows, judge.meshes(judged, mark)
            told = [(rows[item.name], meshes / f"{item.file_name}.ply", item.index) for item in items]
            save_picture(out / "close.png", close_sheet(judged, told, library))
            report["close"] = "close.png"
    (out / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.md").write_text(markdown(report), encoding="utf-8")
    return report


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


# Judging -------------------------------------------------------------------------------------------------------------


class _Judge:
    """Turns answers into rows; keeps the truth of the shape it saw last. Travels to workers."""

    def __init__(self, library: Library, protocol: Protocol, out: Path) -> None:
        self.library, self.protocol, self.out = library, protocol, out
        self._truth: tuple[int, _Truth] | None = None
        self._retrieval: _Retrieval | None = None

    def __call__(self, judgement: _Judgement) -> _Judgement:
        item = judgement.item
        if self._truth is None or self._truth[0] != item.index:
            self._truth = (item.index, _Truth(self.library, item.index, self.protocol))
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

    def picture_path(self, item: _Item, method: str, fingerprint: str) -> Path:
        mark = _digest(_VERSION, asdict(self.protocol), item.name, method, fingerprint)
        return self.out / "pictures" / f"{mark}.png"

    def meshes(self, method: str, fingerprint: str) -> Path:
        mark = _digest(_VERSION, asdict(self.protocol), method, fingerprint)
        return self.out / "meshes" / f"{method.replace(' ', '-')}-{mark}"

    def _baseline(self, method: str, observed: PointCloud) -> Mesh | PointCloud | None:
        if method == "input":
            return observed
        if method == "input + mirror":
            mirrored = observed.points * np.array([-1, 1, 1], np.float32)
            return PointCloud(np.concatenate([observed.points, mirrored]))
        if method == "retrieval":
            if self._retrieval is None:
                self._retrieval = _Retrieval(self.library)
            return self._retrieval.nearest(observed.points)
        return poisson(observed)


class _Truth:
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


class _Retrieval:
    """The training shapes as points. Built once for a library and remembered in the user's cache folder."""

    COARSE, FINE = 512, 4096

    def __init__(self, library: Library) -> None:
        self.library = library
        self.members = [i for i in library.indices(split="train") if library.shapes[i].category != OTHER]
        if not self.members:
            raise InputError(
                "no_training_shapes",
                "The nearest training shape cannot be found.",
                "The library holds no training shapes.",
                "Leave out the baseline 'retrieval', or give the library the prior was trained on.",
            )
        keys = [library.shapes[i].key for i in self.members]
        file = user_cache_folder() / f"retrieval-{_digest(1, str(library.folder.resolve()), keys)}.npy"
        try:
            self.points = np.load(file, mmap_mode="r", allow_pickle=False)
            if self.points.shape != (len(keys), self.FINE, 3):
                raise ValueError
        except (OSError, ValueError):
            log.info("sampling %d training shapes for the retrieval baseline", len(keys))
            points = np.zeros((len(keys), self.FINE, 3), np.float16)
            for row, i in enumerate(self.members):
                mesh, _ = canonicalise(library.mesh(i))
                points[row] = sample_surface(mesh, self.FINE, np.random.default_rng(i))[0]
            self.points = points
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                partial = file.with_suffix(f".{multiprocessing.current_process().pid}.part")
                with partial.open("wb") as stream:
                    np.save(stream, points)
                partial.replace(file)
            except OSError as error:
                log.warning("the sampled training shapes could not be remembered: %s", error)
        self._trees = [cKDTree(np.asarray(cloud[: self.COARSE], np.float32)) for cloud in self.points]

    def nearest(self, observed: FloatArray) -> Mesh:
        """The training shape with the least mean distance from the observed points to its surface: coarse over all of
        them, fine over the best forty."""
        rng = np.random.default_rng(0)
        few = observed[rng.choice(len(observed), min(200, len(observed)), replace=False)]
        coarse = np.array([tree.query(few)[0].mean() for tree in self._trees])
        best = np.argsort(coarse)[:40]
        many = observed[rng.choice(len(observed), min(1500, len(observed)), replace=False)]
        fine = [cKDTree(np.asarray(self.points[k], np.float32)).query(many)[0].mean() for k in best]
        return canonicalise(self.library.mesh(self.members[int(best[int(np.argmin(fine))])]))[0]


def poisson(observed: PointCloud, depth: int = 8) -> Mesh | None:
    """Screened Poisson surface of the points (normals estimated, turned to the viewpoint), without a prior, or None
    where it finds none. Needs pymeshlab."""
    import pymeshlab  # type: ignore[import-untyped, unused-ignore]

    normals = estimate_normals(observed.points, 16, observed.viewpoint)
    work = pymeshlab.MeshSet()
    work.add_mesh(pymeshlab.Mesh(observed.points.astype(np.float64), v_normals_matrix=normals.astype(np.float64)))
    work.generate_surface_reconstruction_screened_poisson(depth=depth, preclean=True, threads=1)
    result = work.current_mesh()
    if result.face_number() == 0:
        return None
    return Mesh(result.vertex_matrix().astype(np.float32), result.face_matrix().astype(np.int32))


def _answer(complete: Completer, cloud: PointCloud, back: Similarity) -> tuple[Answer | None, float]:
    started = time.perf_counter()
    try:
        given = complete(PointCloud(cloud.points.copy(), None, cloud.viewpoint))
    except EngineError as error:
        log.warning("a completion failed: %s", error)
        return None, time.perf_counter() - started
    seconds = time.perf_counter() - started
    answer = given if isinstance(given, Answer) else Answer(given)
    mesh = answer.mesh
    normals = None if mesh.normals is None else back.apply_to_directions(mesh.normals)
    return Answer(Mesh(back.apply(mesh.vertices), mesh.faces, normals), answer.figures), seconds


def _has_area(mesh: Mesh) -> bool:
    corners = np.asarray(mesh.vertices, np.float64)[mesh.faces]
    if len(corners) == 0 or not np.isfinite(corners).all():
        return False
    return bool((np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) != 0).any())


_worker: _Judge | None = None


def _start_worker(judge: _Judge) -> None:
    global _worker
    _worker = judge


def _work(judgement: _Judgement) -> _Judgement:
    assert _worker is not None
    return _worker(judgement)


# Selection, storage --------------------------------------------------------------------------------------------------


def _select(
    library: Library, split: str, classes: Iterable[str] | None, sources: Iterable[str] | None, views: int,
    limit: int | None, only: Iterable[str] | None = None,
) -> list[_Item]:  # fmt: skip
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
    return [_Item(i, shapes[i].key, shapes[i].category, view) for i in indices for view in range(views)]


def _available(baselines: Sequence[str]) -> list[str]:
    wanted = []
    for method in baselines:
        if method not in BASELINES:
            raise ValueError(f"no baseline is called {method!r}; there are {BASELINES}")
        if method == "poisson" and importlib.util.find_spec("pymeshlab") is None:
            log.warning("the baseline 'poisson' is left out: pymeshlab is not installed (pip install pymeshlab)")
            continue
        wanted.append(method)
    return wanted


class _Store:
    """Rows of one method under one protocol, a JSON object a line; a line cut short by a crash is dropped."""

    def __init__(self, out: Path, protocol: Protocol, method: str, fingerprint: str, library: Library) -> None:
        training = ""
        if method == "retrieval":  # the only baseline that depends on anything but the scan
            training = _digest([shape.key for shape in library.shapes if shape.split == "train"])
        mark = _digest(_VERSION, asdict(protocol), method, fingerprint, training)
        safe = "".join(c if c.isalnum() else "-" for c in method)
        self.path = out / "rows" / f"{safe}-{mark}.jsonl"
        self.rows: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                    self.rows[row["item"]] = row
                except (ValueError, KeyError, TypeError):
                    log.warning("a damaged line in %s is dropped", self.path.name)

    def has(self, item: _Item) -> bool:
        return item.name in self.rows

    def add(self, item: _Item, row: dict[str, Any]) -> None:
        row = {"item": item.name, "class": item.category, **row}
        self.rows[item.name] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        broken = self.path.is_file() and self.path.stat().st_size > 0 and self.path.read_bytes()[-1:] != b"\n"
        with self.path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(("\n" if broken else "") + json.dumps(row) + "\n")


def _add_verdicts(items: Sequence[_Item], store: _Store, meshes: Path) -> None:
    """What scripts/quads_verdict wrote into the folder of the meshes, as a column of their rows."""
    try:
        verdicts = json.loads((meshes / "quads.json").read_text(encoding="utf-8"))["meshes"]
    except (OSError, ValueError, KeyError):
        return
    for item in items:
        verdict = verdicts.get(f"{item.file_name}.ply")
        if verdict is not None and item.name in store.rows:
            store.rows[item.name]["quads"] = float(verdict["accepted"])


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


# Reports -------------------------------------------------------------------------------------------------------------


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{metric: {mean, median, standard_error (of the mean), n}} over the rows where it applies, and how many failed."""
    summary: dict[str, Any] = {"scans": len(rows), "failed": sum(bool(row["failed"]) for row in rows)}
    for metric in (*METRICS, *COLUMNS):
        values = [row[metric] for row in rows if row.get(metric) is not None]
        if values:
            error = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None
            summary[metric] = {"mean": float(np.mean(values)), "median": float(np.median(values)), "n": len(values)}
            summary[metric]["standard_error"] = error
    return summary


def _report(
    protocol: Protocol, library: Library, items: Sequence[_Item], stores: dict[str, _Store], split: str,
    baselines: Sequence[str], completers: Sequence[str], fingerprint: str,
) -> dict[str, Any]:  # fmt: skip
    classes = sorted({item.category for item in items})
    methods: dict[str, Any] = {}
    for method, store in stores.items():
        rows = [store.rows[item.name] for item in items if item.name in store.rows]
        entry: dict[str, Any] = {"all": summarise(rows)}
        seats_and_tables = [row for row in rows if row["class"] in ("chair", "table")]
        if seats_and_tables:
            entry["chairs and tables"] = summarise(seats_and_tables)
        entry["by class"] = {c: summarise([row for row in rows if row["class"] == c]) for c in classes}
        if method in completers and protocol.soundness:
            entry["rows"] = rows
        if method in FOOTNOTES:
            entry["note"] = FOOTNOTES[method]
        methods[method] = entry
    return {
        "protocol": {**asdict(protocol), "split": split, "views": 1 + max(item.view for item in items)},
        "shapes": len({item.index for item in items}),
        "scans": len(items),
        "classes": {c: sum(item.category == c for item in items) for c in classes},
        "sources": sorted({library.shapes[item.index].source for item in items}),
        "solid": len({item.index for item in items for s in stores.values() if s.rows[item.name]["solid"]}),
        "fingerprint": fingerprint,
        "baselines": list(baselines),
        "completers": list(completers),
        "methods": methods,
    }


_SCALES = {
    "chamfer_l1": 10.0, "accuracy": 10.0, "completeness": 10.0, "invented": 100.0, "observed": 1000.0, "tmd": 100.0,
    "uhd": 100.0,
}  # fmt: skip


def _figure(summary: dict[str, Any], metric: str, kind: str) -> str:
    if metric not in summary:
        return "–"
    return f"{summary[metric][kind] * _SCALES.get(metric, 1.0):.3f}"


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown: a table of all measures, one for chairs and tables, one of F-scores by class."""
    protocol = report["protocol"]
    what = f"single-view scans ({protocol['pixels']} pixels, noise {protocol['noise']:g}, outliers "
    what += f"{protocol['outliers']:g}"
    if protocol["cloud"]:
        what = f"complete clouds ({protocol['cloud']:,} points, noise {protocol['noise']:g}"
    front = f", front off by {protocol['front_off']} quarter turns" if protocol["front_off"] else ""
    lines = [
        f"Split `{protocol['split']}` of {', '.join(report['sources'])}: {report['shapes']} shapes, {report['scans']} "
        f"{what}, pose {protocol['pose']}{front}, seed {protocol['seed']}), {protocol['points']:,} "
        f"evaluation points, longest side 1, {report['solid']} solid shapes. Mean / median.",
        "",
    ]
    for group in ("chairs and tables", "all"):
        summaries = [entry[group] for entry in report["methods"].values() if group in entry]
        if not summaries:
            continue
        columns = [c for c in METRICS if c not in SEVERAL or any(c in summary for summary in summaries)]
        lines += [f"**{group.capitalize()}**", "", "| method | " + " | ".join(LABELS[c] for c in columns) + " |"]
        lines += ["|---" * (len(columns) + 1) + "|"]
        for method, entry in report["methods"].items():
            if group not in entry:
                continue
            cells = [f"{_figure(entry[group], c, 'mean')} / {_figure(entry[group], c, 'median')}" for c in columns]
            failed = entry[group]["failed"]
            lines += [f"| {method}{f' ({failed} failed)' if failed else ''} | " + " | ".join(cells) + " |"]
        lines += ["", *soundness_table(report, group)]
    lines += ["**F-score at 1 % by class (mean / median)**", ""]
    lines += ["| class (scans) | " + " | ".join(report["methods"]) + " |", "|---" * (len(report["methods"]) + 1) + "|"]
    for c, count in report["classes"].items():
        summaries = [entry["by class"][c] for entry in report["methods"].values()]
        cells = [f"{_figure(s, 'f_score', 'mean')} / {_figure(s, 'f_score', 'median')}" for s in summaries]
        lines += [f"| {c} ({count}) | " + " | ".join(cells) + " |"]
    notes = [f"- {method}: {entry['note']}" for method, entry in report["methods"].items() if "note" in entry]
    return "\n".join([*lines, "", *notes, ""])


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


def _pictured(items: Sequence[_Item], count: int) -> set[str]:
    """Names of at most `count` items, in turn from every class."""
    by_class: dict[str, list[_Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.view):
        by_class[item.category].append(item)
    ranked = sorted((rank, c, item.name) for c, members in by_class.items() for rank, item in enumerate(members))
    return {name for _, _, name in ranked[:count]}


def _sheet(
    items: Sequence[_Item], shown: set[str], stores: dict[str, _Store], judge: _Judge,
    completers: dict[str, tuple[str, Completer]],
) -> Picture:  # fmt: skip
    rows, captions = [], []
    for item in sorted((item for item in items if item.name in shown), key=lambda item: item.category):
        row: list[Picture] = []
        scores = []
        for method, (fingerprint, _) in completers.items():
            strip = _read_picture(judge.picture_path(item, method, fingerprint))
            size = strip.shape[0]
            parts = [strip[:, k * size : (k + 1) * size] for k in range(3)]
            row = [*(row[:-1] or parts[:1]), parts[1], parts[2]]
            scores.append(f"{stores[method].rows[item.name]['f_score']:.2f}")
        observed = f", input {stores['input'].rows[item.name]['f_score']:.2f}" if "input" in stores else ""
        rows.append(row)
        captions.append(f"{item.category}: {item.key.split('/')[-1]}   F {' / '.join(scores)}{observed}")
    return contact_sheet(rows, ["input", *completers, "truth"], captions, blocks=1 if len(rows) < 8 else 3)


def _read_picture(path: Path) -> Picture:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
