"""What a prior learns from: of every shape surface points, the views that see them, and signed distances.

One compact file a library: a NumPy structured array on disk, a record a shape, filled in parallel and resumable (a
record counts once its `done` flag is set). Coordinates are canonical (bounding box centred at 0, longest side 1).
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Cancelled, EngineError, InputError, JobFailed
from ..extras import require_training
from ..frames import BOUND
from ..geometry.meshes import Mesh
from ..geometry.signed_distance import SignedDistance
from .library import Library, load_library
from .shapes import canonicalise

log = logging.getLogger(__name__)

UNITS = 50_000.0
"""Stored integer per canonical unit: 0.02 thousandths of the size, reaching to 0.655."""

SURFACE, VIEWS, NEAR, MIDDLE, VOLUME = 6_000, 16, 6_144, 3_072, 3_072
QUERIES = NEAR + MIDDLE + VOLUME

RECORD = np.dtype(
    [
        ("done", np.uint8),  # 0 not yet, 1 good, 2 refused
        ("agreement", np.float32),  # of winding number and visibility near the surface: low means an ambiguous inside
        ("surface", np.int16, (SURFACE, 3)),
        ("normal", np.int8, (SURFACE, 3)),
        ("seen", np.uint16, SURFACE),  # bit k: seen from viewpoint k
        ("viewpoint", np.float32, (VIEWS, 3)),
        ("query", np.int16, (QUERIES, 3)),
        ("distance", np.int16, QUERIES),
        ("gradient", np.int8, (QUERIES, 3)),
    ]
)


def random_viewpoints(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(count, 3) places a person would scan from: all around but more from the front (-y), 5 to 50 degrees up."""
    azimuth = np.where(
        rng.random(count) < 0.6, rng.normal(-np.pi / 2, 0.8, count), rng.uniform(-np.pi, np.pi, count)
    )
    elevation = np.deg2rad(rng.uniform(5.0, 50.0, count))
    distance = rng.uniform(1.3, 2.6, count)
    direction = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], 1
    )
    return np.asarray(direction * distance[:, None], np.float32)


def supervise(mesh: Mesh, seed: int) -> NDArray[np.void]:
    """One RECORD for a canonical mesh. Raises InputError for a mesh that has no surface to see."""
    rng = np.random.default_rng(seed)
    field = SignedDistance(mesh)
    points, normals = field.outer_surface(SURFACE, rng)
    if len(points) < SURFACE // 20:
        raise InputError(
            "mesh_hides_itself",
            "The mesh was left out of training.",
            "Almost none of its surface can be seen from outside.",
            "Check that it is one object and not, for example, the inside of a room.",
        )
    again = rng.integers(0, len(points), SURFACE - len(points))
    points, normals = np.concatenate([points, points[again]]), np.concatenate([normals, normals[again]])

    viewpoints = random_viewpoints(VIEWS, rng)
    seen = np.zeros(SURFACE, np.uint16)
    for k, viewpoint in enumerate(viewpoints):
        towards = viewpoint - points
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        side = np.sign((towards * normals).sum(1))[:, None]
        hidden = field.occluded(points + 0.002 * side * normals + 0.002 * towards, towards)
        seen |= ((~hidden) & (side[:, 0] > 0)).astype(np.uint16) << np.uint16(k)

    def beside(count: int, sigma: float) -> NDArray[np.float32]:
        moved = points[rng.integers(0, SURFACE, count)] + rng.normal(0.0, sigma, (count, 3)).astype(np.float32)
        return np.asarray(moved, np.float32)

    queries = np.concatenate(
        [beside(NEAR, 0.012), beside(MIDDLE, 0.05), rng.uniform(-BOUND, BOUND, (VOLUME, 3)).astype(np.float32)]
    ).clip(-0.6, 0.6)
    distance, gradient = field(queries)

    record = np.zeros((), RECORD)
    record["agreement"] = field.winding_agreement(rng)
    record["surface"] = np.round(points * UNITS)
    record["normal"] = np.round(normals * 127)
    record["seen"] = seen
    record["viewpoint"] = viewpoints
    record["query"] = np.round(queries * UNITS)
    record["distance"] = np.round(distance.clip(-0.6, 0.6) * UNITS)
    record["gradient"] = np.round(gradient * 127)
    record["done"] = 1
    return record


def _open(cache: Path) -> np.memmap[Any, np.dtype[np.void]]:
    open_memmap: Any = np.lib.format.open_memmap
    records: np.memmap[Any, np.dtype[np.void]] = open_memmap(cache, mode="r+")
    return records


def _create(cache: Path, count: int) -> np.memmap[Any, np.dtype[np.void]]:
    open_memmap: Any = np.lib.format.open_memmap
    records: np.memmap[Any, np.dtype[np.void]] = open_memmap(cache, mode="w+", dtype=RECORD, shape=(count,))
    return records


_library: Library | None = None
_records: np.memmap[Any, np.dtype[np.void]] | None = None


def _start_worker(library_path: str, cache: str) -> None:
    global _library, _records
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked for the work
    _library = load_library(library_path)
    _records = _open(Path(cache))


def _supervise_one(index: int) -> tuple[int, str]:
    assert _library is not None and _records is not None
    try:
        mesh, _ = canonicalise(_library.mesh(index))
        name = _library.shapes[index].name
        record = supervise(mesh, seed=int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))
    except EngineError as error:
        _records[index]["done"] = 2
        return index, str(error)
    _records[index] = record
    return index, ""


def build_supervision(
    library_path: Path,
    cache: Path,
    workers: int = 2,
    on_progress: Callable[[int, int, float], None] = lambda done, total, eta: None,
    order_seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> NDArray[np.void]:
    """Fill (or go on filling) `cache` for every shape of the library; returns the memory-mapped records.

    on_progress(done, total, seconds left). Shapes are taken in a seeded random order within each source, rarest source
    first, so that an unfinished cache is useful already. Refused shapes are logged with the reason and marked.
    Raises InputError for a cache of something else, JobFailed where a worker process dies, Cancelled.
    """
    library = load_library(library_path)
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        fresh = _create(cache, len(library.shapes))
        fresh.flush()
        del fresh
    records = _open(cache)
    if records.dtype != RECORD or len(records) != len(library.shapes):
        raise InputError(
            "supervision_mismatch",
            f"The cached supervision {cache.name} does not fit the library.",
            "It was made by another version or for another set of shapes.",
            "Delete it; it will be made anew.",
        )
    todo = np.flatnonzero(records["done"] == 0)
    if len(todo):
        require_training()
    np.random.default_rng(order_seed).shuffle(todo)
    # Rarest sources first: an unfinished cache then holds all of the few real designs.
    rarity = Counter(shape.source for shape in library.shapes)
    # Within a thousand shapes class by class: a library unpacks a class at a time.
    rank = {int(k): place // 1000 for place, k in enumerate(todo)}
    shapes = library.shapes

    def turn(k: int) -> tuple[int, int, str, str]:
        return rarity[shapes[k].source], rank[k], shapes[k].source, shapes[k].class_name

    todo = np.array(sorted(todo.tolist(), key=turn), int)
    start, done = time.monotonic(), 0
    # Spawned, not forked: this process may have threads (torch), whose locks a fork would copy.
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(str(library_path), str(cache)),
    ) as pool:
        waiting: set[Future[tuple[int, str]]] = {pool.submit(_supervise_one, int(k)) for k in todo}
        while waiting:
            finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            for job in finished:
                try:
                    index, refusal = job.result()
                except BrokenProcessPool:
                    raise JobFailed(
                        "supervision_worker_died",
                        "Preparing the shapes has stopped.",
                        "A worker process died; as a rule, memory ran out on a very large mesh.",
                        "Start again to go on where it stopped, with fewer workers, or simplify the largest meshes.",
                    ) from None
                done += 1
                if refusal:
                    log.warning("%s: %s", library.shapes[index].name, refusal)
                left = (time.monotonic() - start) / done * (len(todo) - done)
                on_progress(len(library.shapes) - len(todo) + done, len(library.shapes), left)
            if waiting and should_stop():
                pool.shutdown(cancel_futures=True)
                raise Cancelled
    return records
