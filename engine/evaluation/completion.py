"""How well shapes are completed from one view, or from a complete and noisy cloud: protocol, baselines, report.

The measures follow Convolutional Occupancy Networks (Peng et al., ECCV 2020) and, for the F-score, Tatarchenko et al.
(CVPR 2019): 100,000 points on the answer and on the truth, distances with the longest side of the true shape 1.

For every shape of a split and every view: a partial scan by ray casting (engine.training.scans), the completion, and
the measures against the outer surface of the shape. The same scans are answered by baselines: the input itself, the
input and its mirror image, the nearest training shape, and screened Poisson reconstruction. Rows are kept on disk as
they come: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import Cancelled, EngineError
from ..geometry.clouds import PointCloud
from ..geometry.meshes import Mesh
from ..geometry.transforms import Similarity
from ..training.library import Library
from .baselines import BASELINES, available
from .completion_report import markdown, pictured, report_of, sheet_of
from .judging import Judge, Judgement, start_worker, work
from .pictures import save_picture
from .protocol import Answer, Completer, Pose, Protocol, partial_scan, select
from .rows import Store, add_verdicts
from .soundness.sheet import close_sheet

log = logging.getLogger(__name__)


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
    items = select(library, split, classes, sources, views, limit, only)
    completers: dict[str, tuple[str, Completer]] = {} if complete is None else {name: (fingerprint, complete)}
    completers.update({other: (mark, function) for other, mark, function in others})
    wanted = available(baselines)
    if clash := set(completers) & set(BASELINES):
        raise ValueError(f"completers cannot be called {sorted(clash)}")
    stores = {method: Store(out, protocol, method, completers.get(method, ("", None))[0], library) for method in
              [*wanted, *completers]}  # fmt: skip
    shown = pictured(items, pictures) if completers else set()

    done, total = 0, len(items)
    pool: Executor | None = None
    pending: dict[Future[Judgement], None] = {}
    judge = Judge(library, protocol, out)

    def finish(judgement: Judgement) -> None:
        nonlocal done
        for method, row in judgement.rows.items():
            stores[method].add(judgement.item, row)
        done += 1
        on_progress(done, total, judgement.item.name)

    try:
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers, context, initializer=start_worker, initargs=(judge,))
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
            todo = Judgement(item, answers, [method for method in wanted if not stores[method].has(item)], draw)
            if not answers and not todo.baselines:
                finish(todo)
            elif pool is None:
                finish(judge(todo))
            else:
                pending[pool.submit(work, todo)] = None
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
        add_verdicts(items, stores[method], judge.meshes(method, completers[method][0]))
    report = report_of(protocol, library, items, stores, split, wanted, list(completers), fingerprint)
    out.mkdir(parents=True, exist_ok=True)
    if shown:
        sheet = sheet_of(items, shown, stores, judge, completers)
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
