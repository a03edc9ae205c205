"""How well surfaces are fitted to scans of solid shapes: protocol, peers, report.

After the Surface Reconstruction Benchmark (Berger et al. 2013): known solids are scanned, each answer is compared with
the solid itself by two-sided distances (samples of either surface, one million by default, to the other surface) and by
the angle between their normals. The benchmark measures from samples to samples; to the triangles themselves there is no
floor of half a sample's spacing, so fewer samples tell as much. Distances with the longest side of the solid 1.

A scan is what depth cameras at several places see (engine.training.scans), merged: uneven density, and nothing where no
camera looked. `CASES` says how each degrades it. Peers answer the same scans in the same run, so that times can be
compared (seconds of the processor; of the clock where the engine runs on another device): screened Poisson (Kazhdan and
Hoppe 2013) with the scan's normals and with normals estimated from the points alone, and ball pivoting (Bernardini et
al. 1999), all by pymeshlab. Rows are kept on disk as they come: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import Cancelled, EngineError, InputError
from ..geometry.clouds import FloatArray, PointCloud
from ..geometry.connected import is_watertight
from ..geometry.meshes import Mesh, surface_area
from ..geometry.metrics import normal_consistency
from ..geometry.sampling import estimate_normals, sample_surface
from ..geometry.signed_distance import SignedDistance, sphere_directions
from ..training.library import Library
from ..training.scans import scan
from ..training.shapes import canonicalise
from .pictures import CLAY, COMPLETED, Picture, camera_for, contact_sheet, draw_cloud, draw_mesh, save_picture
from .protocol import is_solid
from .solids import SOLIDS, solid

log = logging.getLogger(__name__)

_VERSION = 1
"""Part of the key of stored rows: raise it when the same settings would give other numbers."""


@dataclass(frozen=True)
class Case:
    """views: cameras 2 sizes away, six of them along the axes (they look into bores), the others evenly around.
    half: only those that see one side of it.
    points: kept at random of all that were seen.  noise: of the measured distance, fraction of the size.
    outliers: share of stray points, anywhere in a box a fifth larger than the shape.
    normals: 'true' = of the surface that was hit; 'scanner' = estimated from the points and turned to the camera, as
    scanning software does; 'none'."""

    views: int = 32
    half: bool = False
    points: int = 25_000
    noise: float = 0.0
    outliers: float = 0.0
    normals: str = "true"


CASES: dict[str, Case] = {
    "clean": Case(),
    "noisy": Case(noise=0.005, normals="scanner"),
    "sparse": Case(points=1_500, normals="scanner"),
    "missing": Case(half=True),
    "unoriented": Case(noise=0.001, normals="none"),
    "outliers": Case(outliers=0.03, normals="scanner"),
}

POISSON, POISSON_ESTIMATED, BALL_PIVOTING = "poisson", "poisson (estimated)", "ball pivoting"
PEERS = (POISSON, POISSON_ESTIMATED, BALL_PIVOTING)

NOTES = {
    POISSON: "screened Poisson with the scan's own normals (Kazhdan and Hoppe 2013); none where the scan has none",
    POISSON_ESTIMATED: "screened Poisson with normals estimated and oriented by pymeshlab, whatever the scan has",
    BALL_PIVOTING: "ball pivoting (Bernardini et al. 1999), radius guessed by pymeshlab; not a closed surface",
}

NORMAL_SAMPLES = 200_000
"""Of the samples, so many are paired for the normals."""

MEASURES = {
    "chamfer": ("Chamfer x1000", 1000.0),
    "hausdorff": ("Hausdorff x100", 100.0),
    "normals": ("normal consistency", 1.0),
    "time_ratio": ("time / Poisson", 1.0),
}
"""chamfer: (accuracy + completeness) / 2, unsquared.  hausdorff: the largest distance either way."""


@dataclass(frozen=True)
class Protocol:
    samples: int = 1_000_000
    resolution: int = 256
    seed: int = 0
    iterations: int | None = None


def make_scan(mesh: Mesh, case: Case, rng: np.random.Generator) -> PointCloud:
    """The merged scan of a canonical mesh, shuffled, in its frame; without a viewpoint, as from several cameras."""
    axes = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)
    directions = np.concatenate([axes, sphere_directions(case.views - 6)])
    if case.half:
        side = np.array([0.5, -0.8, 0.35])
        directions = directions[directions @ side > 0.6 * np.linalg.norm(side)]
    pixels = int(np.clip(2.2 * np.sqrt(3.0 * case.points / len(directions)), 64, 480))
    points, normals = [], []
    for direction in directions:
        view = scan(mesh, (2.0 * direction).astype(np.float32), rng, pixels=pixels, noise=case.noise)
        assert view.normals is not None
        points.append(view.points)
        normals.append(view.normals)
    cloud, true = np.concatenate(points), np.concatenate(normals)
    chosen = rng.permutation(len(cloud))[: case.points]
    cloud, true = cloud[chosen], true[chosen]
    stray = int(case.outliers * len(cloud))
    if stray:
        low, high = mesh.vertices.min(0), mesh.vertices.max(0)
        margin = 0.1 * float((high - low).max())
        cloud[:stray] = rng.uniform(low - margin, high + margin, (stray, 3)).astype(np.float32)
        true[:stray] = sphere_directions(stray)
        order = rng.permutation(len(cloud))
        cloud, true = cloud[order], true[order]
    if case.normals == "none":
        return PointCloud(cloud)
    if case.normals == "true":
        return PointCloud(cloud, true)
    estimated = estimate_normals(cloud, 16)
    # The camera's side is that of the surface it hit.
    flip = (estimated * true).sum(1, keepdims=True) < 0
    return PointCloud(cloud, np.where(flip, -estimated, estimated).astype(np.float32))


def peer(name: str, cloud: PointCloud, resolution: int) -> Mesh | None:
    """One of PEERS by pymeshlab, or None where it does not apply or finds nothing."""
    import pymeshlab  # type: ignore[import-untyped, unused-ignore]

    if name == POISSON and cloud.normals is None:
        return None
    arrays: dict[str, Any] = {}
    if cloud.normals is not None and name != POISSON_ESTIMATED:
        arrays["v_normals_matrix"] = cloud.normals.astype(np.float64)
    work = pymeshlab.MeshSet()
    work.add_mesh(pymeshlab.Mesh(cloud.points.astype(np.float64), **arrays))
    if not arrays:
        work.compute_normal_for_point_clouds(k=16)
    if name == BALL_PIVOTING:
        work.generate_surface_reconstruction_ball_pivoting()
    else:
        work.generate_surface_reconstruction_screened_poisson(depth=_depth(resolution), preclean=True, threads=1)
    result = work.current_mesh()
    if result.face_number() == 0:
        return None
    return Mesh(result.vertex_matrix().astype(np.float32), result.face_matrix().astype(np.int32))


def _depth(resolution: int) -> int:
    return max(4, round(math.log2(resolution)))


def ours(method: str, cloud: PointCloud, protocol: Protocol, device: str) -> Mesh:
    """A method of the engine, by the same job that Blender and `shapewright fit` run."""
    from ..jobs.base import JobArrays, JobCallbacks
    from ..jobs.fit.request import FitRequest
    from ..jobs.run import run_job

    request = FitRequest(
        method=method,
        resolution=protocol.resolution,
        normals="none" if cloud.normals is None else "given",
        iterations=None if method == "auto" else protocol.iterations,
        seed=protocol.seed,
        device=device,
    )
    return run_job(request, JobArrays(cloud.points, cloud.normals), JobCallbacks()).meshes[0]


def measure(
    answer: Mesh | None, truth: SignedDistance, protocol: Protocol, true_samples: tuple[FloatArray, FloatArray]
) -> dict[str, Any]:
    """A row's measures; failed where there is no surface. truth: of the solid, asked only for nearest points."""
    if answer is None or len(answer.faces) == 0 or not surface_area(answer) > 0:
        return {"failed": True}
    points, normals = sample_surface(answer, protocol.samples, np.random.default_rng([protocol.seed, 2]))
    to_truth = np.linalg.norm(points - truth.closest(points), axis=1)
    to_answer = np.linalg.norm(true_samples[0] - SignedDistance(answer).closest(true_samples[0]), axis=1)
    few = min(len(points), NORMAL_SAMPLES)
    return {
        "failed": False,
        "chamfer": 0.5 * float(to_truth.mean() + to_answer.mean()),
        "hausdorff": float(max(to_truth.max(), to_answer.max())),
        "normals": normal_consistency(points[:few], normals[:few], true_samples[0][:few], true_samples[1][:few]),
        "accuracy": float(to_truth.mean()),
        "completeness": float(to_answer.mean()),
        "closed": is_watertight(answer),
        "faces": len(answer.faces),
    }


def run_reconstruction_evaluation(
    *,
    methods: Sequence[str] = ("auto", *PEERS),
    cases: Sequence[str] = tuple(CASES),
    shapes: Sequence[str] = tuple(SOLIDS),
    library: Library | None = None,
    limit: int = 6,
    protocol: Protocol | None = None,
    out_dir: str | Path = "reconstruction",
    device: str = "cpu",
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Run the protocol and write rows.jsonl, report.json, report.md and contact_sheet.png into `out_dir`; return the
    report.

    methods: of the engine (engine.surface_fit.base) and PEERS.  shapes: of SOLIDS.  library: up to `limit` of its
    solid validation shapes besides.  device: of the engine's methods.
    A method that raises EngineError or finds no surface has failed there: counted in the report, left out of the means.
    Times are of one run: to measure again, give another folder.
    Raises InputError for names that are not known; Cancelled.
    """
    protocol = protocol or Protocol()
    _check(methods, cases, shapes)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    solids: list[tuple[str, Callable[[], Mesh]]] = [(name, lambda name=name: solid(name)) for name in shapes]  # type: ignore[misc]
    solids += _of_library(library, limit)
    rows = _Rows(out / "rows.jsonl")
    done, total = 0, len(solids) * len(cases) * len(methods)
    for method in methods:
        if method not in PEERS:
            _warm_up(method, protocol, device)
    sheet: list[list[Picture]] = []
    captions: list[str] = []
    for number, (shape, make) in enumerate(solids):
        mesh = make()
        truth, surface = sample_surface(mesh, protocol.samples, np.random.default_rng([protocol.seed, 1])), None
        for place, case in enumerate(cases):
            rng = np.random.default_rng([protocol.seed, zlib.crc32(shape.encode()), zlib.crc32(case.encode())])
            cloud = make_scan(mesh, CASES[case], rng)
            camera = camera_for(mesh.vertices, -55.0, 26.0, 150)
            strip = [draw_cloud(cloud.points, camera)]
            for method in methods:
                if should_stop():
                    raise Cancelled
                key = _digest(_VERSION, __version__, asdict(protocol), asdict(CASES[case]), shape, case, method)
                picture = out / "pictures" / f"{key}.png"
                if key not in rows.found or not picture.is_file():
                    answer, seconds, why = _answer(method, cloud, protocol, device)
                    surface = surface or SignedDistance(mesh)
                    row = measure(answer, surface, protocol, truth)
                    applies = not (method == POISSON and cloud.normals is None)
                    row |= {"shape": shape, "case": case, "method": method, "seconds": seconds, "why": why}
                    rows.add(key, row | {"applies": applies, "points": len(cloud.points)})
                    empty = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
                    save_picture(picture, draw_mesh(answer or empty, camera, COMPLETED, oversampling=1))
                rows.used.append(key)
                strip.append(_read_picture(picture))
                done += 1
                on_progress(done, total, f"{shape}, {case}: {method}")
            if (number + place) % max(1, len(cases) // 3) == 0 or len(solids) == 1:  # every shape, every case
                sheet.append([*strip, draw_mesh(mesh, camera, CLAY)])
                captions.append(f"{shape}, {case}")
    report = summarise(rows.of_this_run(), protocol, methods, cases, [name for name, _ in solids])
    if sheet:
        headers = ["scan", *methods, "truth"]
        save_picture(out / "contact_sheet.png", contact_sheet(sheet, headers, captions, blocks=2))
        report["contact_sheet"] = "contact_sheet.png"
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (out / "report.md").write_text(markdown(report), encoding="utf-8")
    return report


def summarise(
    rows: Sequence[dict[str, Any]], protocol: Protocol, methods: Sequence[str], cases: Sequence[str],
    shapes: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Mean and median of every measure by case and method. time_ratio: each row's seconds to those of Poisson on the
    same scan (of Poisson with estimated normals where the scan has none); see `_answer` for the clock."""
    by_scan: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_scan.setdefault((row["shape"], row["case"]), {})[row["method"]] = row
    table: dict[str, dict[str, Any]] = {}
    for case in cases:
        table[case] = {}
        for method in methods:
            found = [entry[method] for (_, c), entry in by_scan.items() if c == case and method in entry]
            found = [row for row in found if row["applies"]]
            if not found:
                continue
            good = [row for row in found if not row["failed"]]
            entry: dict[str, Any] = {
                "scans": len(found), "failed": len(found) - len(good), "closed": sum(row["closed"] for row in good),
            }  # fmt: skip
            ratios = []
            for row in found:
                others = by_scan[row["shape"], row["case"]]
                base = [others[name] for name in (POISSON, POISSON_ESTIMATED) if name in others]
                base = [peer_row for peer_row in base if peer_row["applies"]]
                if base:
                    ratios.append(row["seconds"] / max(base[0]["seconds"], 1e-9))
            values = {name: [row[name] for row in good] for name in ("chamfer", "hausdorff", "normals")}
            values |= {"time_ratio": ratios, "seconds": [row["seconds"] for row in found]}
            for name, numbers in values.items():
                if numbers:
                    entry[name] = {"mean": float(np.mean(numbers)), "median": float(np.median(numbers))}
            table[case][method] = entry
    return {
        "protocol": asdict(protocol) | {"cases": {case: asdict(CASES[case]) for case in cases}},
        "version": __version__,
        "shapes": list(shapes),
        "methods": list(methods),
        "cases": table,
        "rows": list(rows),
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown: a table a case, mean / median, and what failed."""
    protocol = report["protocol"]
    lines = [
        f"{len(report['shapes'])} solids ({', '.join(report['shapes'])}), longest side 1; {protocol['samples']:,} "
        f"samples on answer and truth; resolution {protocol['resolution']} (Poisson: depth "
        f"{_depth(protocol['resolution'])}), seed {protocol['seed']}. Mean / median; times are ratios to Poisson on "
        "the same scan in the same run.",
        "",
    ]
    for case, methods in report["cases"].items():
        lines += [f"**{case}**: {describe(CASES[case])}", ""]
        lines += ["| method | " + " | ".join(label for label, _ in MEASURES.values()) + " | closed |"]
        lines += ["|---" * (len(MEASURES) + 2) + "|"]
        for method, entry in methods.items():
            cells = []
            for name, (_, scale) in MEASURES.items():
                digits = {"normals": 4, "time_ratio": 1}.get(name, 2)
                cells.append(
                    " / ".join(f"{entry[name][kind] * scale:.{digits}f}" for kind in ("mean", "median"))
                    if name in entry
                    else "–"
                )
            failed = f" ({entry['failed']} of {entry['scans']} failed)" if entry["failed"] else ""
            good = entry["scans"] - entry["failed"]
            lines += [f"| {method}{failed} | " + " | ".join(cells) + f" | {entry['closed']} of {good} |"]
        lines += [""]
    lines += [f"- {name}: {note}" for name, note in NOTES.items() if name in report["methods"]]
    reasons = sorted({f"{row['method']}: {row['why']}" for row in report["rows"] if row.get("why")})
    if reasons:
        lines += ["", "Failures, in the methods' own words:", "", *(f"- {reason}" for reason in reasons)]
    return "\n".join([*lines, ""])


def describe(case: Case) -> str:
    parts = [f"{case.points:,} points", "cameras on one side only" if case.half else f"{case.views} cameras around"]
    if case.noise:
        parts.append(f"noise {100 * case.noise:g} % of the size")
    if case.outliers:
        parts.append(f"{100 * case.outliers:g} % stray points")
    normals = {"true": "true normals", "scanner": "normals estimated and turned to the camera", "none": "no normals"}
    return ", ".join([*parts, normals[case.normals]])


def _answer(method: str, cloud: PointCloud, protocol: Protocol, device: str) -> tuple[Mesh | None, float, str]:
    given = PointCloud(cloud.points.copy(), None if cloud.normals is None else cloud.normals.copy())
    clock = time.process_time if device == "cpu" else time.perf_counter
    started, why, answer = clock(), "", None
    try:
        if method in PEERS:
            answer = peer(method, given, protocol.resolution)
        else:
            answer = ours(method, given, protocol, device)
    except EngineError as error:
        log.warning("%s failed: %s", method, error)
        why = f"{error.what} {error.why}"
    return answer, clock() - started, why


def _warm_up(method: str, protocol: Protocol, device: str) -> None:
    """What a first call alone costs (imports, compilation) is no part of the times."""
    ball = sphere_directions(600)
    with contextlib.suppress(EngineError):
        ours(method, PointCloud(0.5 * ball, ball), replace(protocol, resolution=16, iterations=1), device)


def _of_library(library: Library | None, limit: int) -> list[tuple[str, Callable[[], Mesh]]]:
    if library is None:
        return []
    chosen: list[tuple[str, Callable[[], Mesh]]] = []
    for index in library.indices(split="validation"):
        if len(chosen) == limit:
            break
        mesh, _ = canonicalise(library.mesh(index))
        if is_watertight(mesh) and is_solid(mesh, SignedDistance(mesh), np.random.default_rng(0)):
            chosen.append((library.shapes[index].key, lambda mesh=mesh: mesh))  # type: ignore[misc]
    if not chosen:
        raise InputError(
            "no_solid_shapes",
            "The library cannot be used here.",
            "None of its validation shapes is a closed solid.",
            "Leave --dataset out: the built-in solids need none.",
        )
    return chosen


def _check(methods: Sequence[str], cases: Sequence[str], shapes: Sequence[str]) -> None:
    from ..surface_fit.methods import names

    for what, given, known in (
        ("method", methods, (*names(), *PEERS)),
        ("case", cases, tuple(CASES)),
        ("shape", shapes, tuple(SOLIDS)),
    ):
        strange = [name for name in given if name not in known]
        if strange or not given:
            raise InputError(
                f"{what}_unknown",
                "The evaluation cannot start.",
                f"{', '.join(strange)} is not a {what} it knows." if strange else f"No {what} is given.",
                f"Choose of {', '.join(known)}.",
            )
    if any(method in PEERS for method in methods) and importlib.util.find_spec("pymeshlab") is None:
        raise EngineError(
            "pymeshlab_unavailable",
            "The peers cannot run.",
            "The package pymeshlab is not installed for this Python.",
            "Install the training extras (pip install 'shapewright[train]'), or name only the engine's --methods.",
        )


class _Rows:
    """Rows by key in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {}
        self.used: list[str] = []
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    stored = json.loads(line)
                    self.found[stored["key"]] = stored["row"]
                except (ValueError, KeyError):
                    continue  # a line that a stop cut short: that row is measured again

    def add(self, key: str, row: dict[str, Any]) -> None:
        self.found[key] = row
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"key": key, "row": row}) + "\n")

    def of_this_run(self) -> list[dict[str, Any]]:
        return [self.found[key] for key in self.used]


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _read_picture(path: Path) -> Picture:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
