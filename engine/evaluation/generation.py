"""How like real shapes generated ones are, as sets: MMD, COV and 1-NNA under Chamfer and Earth Mover's distance.

After Achlioptas et al. (ICML 2018, section 4: MMD, COV) and Yang et al. (PointFlow, ICCV 2019, section 4.1: 1-NNA):
as many shapes are generated as the reference split has, class by class, both are sampled to clouds, and all pairs are
compared. Clouds are in the canonical frame (longest side 1).

MMD: mean over the reference of the distance to the nearest generated shape. COV: share of the reference that is
nearest to some generated shape. 1-NNA: share of both sets together whose nearest fellow is of their own set; 50 % is
best, 100 % means that the sets are told apart at once. A random set of training shapes is judged beside, as what is
within reach.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from ..errors import Cancelled, EngineError, InputError
from ..generation import sampling
from ..generation.codes import CRUMBS, decode, largest_piece, latent_of
from ..geometry.clouds import FloatArray
from ..geometry.meshes import Mesh
from ..geometry.sampling import sample_surface
from ..priors.file import Prior
from ..surfaces.cleanup import clean_mesh
from ..surfaces.of import of
from ..training.categories import OTHER
from ..training.library import Library
from ..training.scans import true_surface
from ..training.shapes import canonicalise
from .pictures import COMPLETED, Picture, camera_for, contact_sheet, draw_cloud, draw_mesh, save_picture

log = logging.getLogger(__name__)

Distances = NDArray[np.float64]

Maker = Callable[[str, int], Mesh | FloatArray]
"""(class, number) -> a generated shape in the canonical frame: a surface, or points (N, 3) of one. The same number is
the same shape. May raise EngineError where none comes out."""

YARDSTICK = "training shapes"
MOST_PICTURES = 36
_PICTURE = 150
_VERSION = 1


# ------------------------------------------------------------------------------------------------------------ distances


def earth_movers_distance(a: FloatArray, b: FloatArray) -> float:
    """Mean distance of the best one-to-one matching of two clouds (N, 3) of equal size: exact (Jonker-Volgenant)."""
    if a.shape != b.shape:
        raise ValueError(f"expected two clouds of one size, got {a.shape} and {b.shape}")
    cost = cdist(a, b)
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())


def chamfer_matrix(
    first: Sequence[FloatArray], second: Sequence[FloatArray], device: torch.device | str = "cpu"
) -> Distances:
    """(len(first), len(second)) of mean squared nearest distances there plus back (PointFlow's CD)."""
    device = torch.device(device)
    if device.type == "cpu":
        trees = [[cKDTree(cloud) for cloud in clouds] for clouds in (first, second)]
        found = np.zeros((len(first), len(second)))
        for i, (cloud, tree) in enumerate(zip(first, trees[0], strict=True)):
            for j, (other, other_tree) in enumerate(zip(second, trees[1], strict=True)):
                found[i, j] = np.square(other_tree.query(cloud)[0]).mean() + np.square(tree.query(other)[0]).mean()
        return found
    there = torch.as_tensor(np.stack(second), device=device)
    rows = []
    for cloud in first:
        square = torch.cdist(torch.as_tensor(cloud, device=device)[None], there).square()
        rows.append((square.min(2).values.mean(1) + square.min(1).values.mean(1)).double().cpu().numpy())
    return np.stack(rows)


def emd_matrix(
    first: Sequence[FloatArray], second: Sequence[FloatArray], points: int, tick: Callable[[], None] = lambda: None
) -> Distances:
    """(len(first), len(second)) exact Earth Mover's distances between the first `points` points of the clouds."""
    found = np.zeros((len(first), len(second)))
    for i, cloud in enumerate(first):
        tick()
        for j, other in enumerate(second):
            if second is first and j <= i:  # a matching is as far back as there
                found[i, j] = found[j, i]
            else:
                found[i, j] = earth_movers_distance(cloud[:points], other[:points])
    return found


def set_measures(generated: Distances, across: Distances, reference: Distances) -> dict[str, float]:
    """MMD, COV and 1-NNA from distances within the generated set (G, G), from it to the reference (G, R), and within
    the reference (R, R). COV and 1-NNA are shares, 0..1."""
    g, r = across.shape
    if g == 0 or r == 0 or generated.shape != (g, g) or reference.shape != (r, r):
        raise ValueError(f"expected (G, G), (G, R), (R, R), got {generated.shape}, {across.shape}, {reference.shape}")
    every = np.block([[generated, across], [across.T, reference]])
    np.fill_diagonal(every, np.inf)
    nearest = every.argmin(1)
    own = (nearest < g) == (np.arange(g + r) < g)
    return {
        "mmd": float(across.min(0).mean()),
        "cov": len(np.unique(across.argmin(1))) / r,
        "1-nna": float(own.mean()),
    }


# ------------------------------------------------------------------------------------------------------------- makers


def latent_maker(
    prior: Prior, distribution: str, temperature: float, seed: int, resolution: int, *, selected: bool = True
) -> tuple[str, Maker]:
    """(fingerprint, maker): shapes as `shapewright generate` makes them; selected: without duplicates and pieces."""
    latent = latent_of(prior)
    drawn: dict[str, list[sampling.Drawn]] = {}

    def holds(coefficients: torch.Tensor) -> float:
        return largest_piece(decode(prior, latent.expand(coefficients[None])[0]))

    def make(class_name: str, number: int) -> Mesh:
        known = drawn.setdefault(class_name, [])
        if number >= len(known):
            known += sampling.draw(
                latent, number + 1 - len(known), first=len(known), seed=seed, class_name=class_name,
                temperature=temperature, distribution=distribution, avoid_duplicates=selected,
                largest_piece=holds if selected else None, earlier=known,
            ).shapes  # fmt: skip
        shape = decode(prior, latent.expand(drawn[class_name][number].coefficients[None])[0])
        mesh = of(shape.whole, resolution, device=prior.device).mesh
        return clean_mesh(mesh, CRUMBS)

    marks = [prior.sha256, distribution, temperature, seed, resolution, selected]
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()[:16], make


def _training_maker(library: Library, seed: int) -> Maker:
    """Random training shapes of the class."""
    members: dict[str, list[int]] = {}
    for index in library.indices(split="train"):
        members.setdefault(library.shapes[index].category, []).append(index)

    def make(class_name: str, number: int) -> Mesh:
        chosen = np.random.default_rng([seed, 3]).permutation(members[class_name])
        return canonicalise(library.mesh(int(chosen[number % len(chosen)])))[0]

    return make


# ----------------------------------------------------------------------------------------------------------- evaluation


@dataclass
class _Set:
    """Clouds (N, 3) by class in the order of the reference, and pictures of some."""

    clouds: list[FloatArray] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0


def run_generation_evaluation(
    makers: Sequence[tuple[str, str, Maker]],
    library: Library,
    *,
    classes: Sequence[str] | None = None,
    split: str = "validation",
    out_dir: str | Path = "evaluation",
    points: int = 2048,
    emd_points: int = 512,
    limit: int | None = None,
    repeats: int = 1,
    seed: int = 0,
    device: torch.device | str = "cpu",
    yardstick: bool = True,
    on_progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Judge each maker (name, fingerprint, callable) against the split; write report.json, report.md and a contact
    sheet a maker into `out_dir`; return the report.

    classes: None = all of the library's but 'other'.  points: of a cloud for Chamfer, `emd_points` of them for the
    Earth Mover's distance.  limit: at most so many reference shapes a class.  repeats: so many sets of each maker are
    judged, each with further numbers of it, and what is reported is their mean (and their spread).  A maker's clouds
    are kept in `out_dir` under its fingerprint, so that a run that was stopped goes on where it was.
    Raises InputError where the split has no shape of the classes; Cancelled.
    """
    out = Path(out_dir)
    (out / "clouds").mkdir(parents=True, exist_ok=True)
    chosen = [k for k in library.indices(split=split) if library.shapes[k].category != OTHER]
    if classes is not None:
        chosen = [k for k in chosen if library.shapes[k].category in classes]
    counts: Counter[str] = Counter()
    kept = []
    for k in chosen:
        category = library.shapes[k].category
        if limit is None or counts[category] < limit:
            kept.append(k)
            counts[category] += 1
    if not kept:
        raise InputError(
            "no_shapes",
            "There is nothing to compare with.",
            f"The library's split '{split}' has no shape of the classes asked for.",
            "Choose other classes or another split.",
        )
    wanted = [(name, number) for name in sorted(counts) for number in range(counts[name])]
    sets = [("reference", _digest("reference", seed), _reference(library, kept))]
    if yardstick:
        sets.append((YARDSTICK, _digest(YARDSTICK, seed), _training_maker(library, seed)))
    sets += list(makers)
    total, done = len(sets), 0

    def progress(what: str) -> None:
        if should_stop():
            raise Cancelled
        on_progress(done, total, what)

    def clouds(name: str, mark: str, maker: Maker, part: int) -> _Set:
        numbers = [(c, number + part * counts[c]) for c, number in wanted]
        stem = _digest(mark, numbers, points, seed)
        title = name if part == 0 else f"{name} {part + 1}"
        return _clouds(maker, title, numbers, points, seed, out, stem, progress)

    progress("reference: shapes")
    real = clouds(*sets[0], 0)
    within = {
        "cd": chamfer_matrix(real.clouds, real.clouds, device),
        "emd": emd_matrix(real.clouds, real.clouds, emd_points, lambda: progress("reference: distances")),
    }
    theirs = {name: np.array([c == name for c in real.classes]) for name in counts}

    def judged(name: str, ours: _Set) -> dict[str, dict[str, Any]]:
        """Measures of the whole set ('') and of every class with eight reference shapes or more."""

        def tick() -> None:
            progress(f"{name}: distances")

        distances = {
            "cd": (
                chamfer_matrix(ours.clouds, ours.clouds, device), chamfer_matrix(ours.clouds, real.clouds, device)
            ),
            "emd": (
                emd_matrix(ours.clouds, ours.clouds, emd_points, tick),
                emd_matrix(ours.clouds, real.clouds, emd_points, tick),
            ),
        }  # fmt: skip
        found = {"": {kind: set_measures(own, across, within[kind]) for kind, (own, across) in distances.items()}}
        for class_name in sorted(counts):
            mine, other = np.array([c == class_name for c in ours.classes]), theirs[class_name]
            if other.sum() < 8 or not mine.any():
                continue
            found[class_name] = {
                kind: set_measures(
                    own[np.ix_(mine, mine)], across[np.ix_(mine, other)], within[kind][np.ix_(other, other)]
                )
                for kind, (own, across) in distances.items()
            }
        return found

    rows: dict[str, Any] = {}
    for name, mark, maker in sets[1:]:
        done += 1
        parts: list[dict[str, dict[str, Any]]] = []
        row: dict[str, Any] = {"shapes": 0, "failed": 0, "seconds": 0.0}
        for part in range(repeats):
            progress(f"{name}: shapes")
            ours = clouds(name, mark, maker, part)
            parts.append(judged(name, ours))
            row["shapes"] += len(ours.clouds)
            row["failed"] += ours.failed
            row["seconds"] += ours.seconds
        means = {
            key: {
                kind: _mean_measures([part[key][kind] for part in parts if key in part])
                for kind in ("cd", "emd")
            }
            for key in parts[0]
        }  # fmt: skip
        rows[name] = means.pop("") | row | {"classes": means}
    report = {
        "what": "generation", "split": split, "library": str(library.folder.name), "shapes": dict(counts),
        "points": points, "emd_points": emd_points, "seed": seed, "repeats": repeats, "families": rows,
        "fingerprints": {name: mark for name, mark, _ in makers},
        "sheets": [_sheet_name(name) for name, _, _ in sets if (out / _sheet_name(name)).is_file()],
    }  # fmt: skip
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (out / "report.md").write_text(markdown(report), encoding="utf-8")
    return report


def _mean_measures(parts: list[dict[str, float]]) -> dict[str, float]:
    """Mean of every measure; of several sets also the standard deviation of 1-NNA, as '1-nna spread'."""
    found = {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
    if len(parts) > 1:
        found["1-nna spread"] = float(np.std([part["1-nna"] for part in parts], ddof=1))
    return found


def _reference(library: Library, indices: list[int]) -> Maker:
    by_class: dict[str, list[int]] = {}
    for k in indices:
        by_class.setdefault(library.shapes[k].category, []).append(k)

    def make(class_name: str, number: int) -> Mesh:
        return canonicalise(library.mesh(by_class[class_name][number]))[0]

    return make


def _clouds(
    maker: Maker, name: str, wanted: list[tuple[str, int]], points: int, seed: int, out: Path, stem: str,
    progress: Callable[[str], None],
) -> _Set:  # fmt: skip
    """The maker's shapes as clouds, from the file of an earlier run where there is one; draws its contact sheet."""
    path = out / "clouds" / f"{stem}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            kept = _Set(list(file["clouds"]), [str(c) for c in file["classes"]], int(file["failed"]))
            kept.seconds = float(file["seconds"])
            return kept
    found = _Set()
    drawings: list[Picture] = []
    every = max(1, len(wanted) // MOST_PICTURES)
    box = np.array([[x, y, z] for x in (-0.42, 0.42) for y in (-0.42, 0.42) for z in (-0.42, 0.42)], np.float32)
    camera = camera_for(box, size=_PICTURE)
    for place, (class_name, number) in enumerate(wanted):
        progress(f"{name}: {class_name} {number}")
        rng = np.random.default_rng([seed, place, 5])
        began = time.perf_counter()
        try:
            shape = maker(class_name, number)
        except EngineError as error:
            log.info("%s made no %s number %d: %s", name, class_name, number, error)
            found.failed += 1
            continue
        found.seconds += time.perf_counter() - began
        if isinstance(shape, Mesh):
            raw = name.startswith(("reference", YARDSTICK))  # designs have insides, which nobody sees
            cloud = true_surface(shape, points, rng)[0] if raw else sample_surface(shape, points, rng)[0]
            picture = draw_mesh(shape, camera, COMPLETED, oversampling=1) if place % every == 0 else None
        else:
            replace = len(shape) < points
            cloud = shape[rng.choice(len(shape), points, replace=replace)]
            picture = draw_cloud(shape, camera, COMPLETED) if place % every == 0 else None
        found.clouds.append(cloud.astype(np.float32))
        found.classes.append(class_name)
        if picture is not None:
            drawings.append(picture)
    if not found.clouds:
        raise InputError(
            "nothing_generated", f"'{name}' cannot be judged.", "It made no shape at all.", "Try another temperature."
        )
    with path.with_suffix(".part").open("wb") as stream:
        np.savez(
            stream, clouds=np.stack(found.clouds), classes=np.array(found.classes), failed=found.failed,
            seconds=found.seconds,
        )  # fmt: skip
    path.with_suffix(".part").replace(path)
    columns = 9
    drawings += [np.full_like(drawings[0], 255)] * (-len(drawings) % columns)
    lines = [drawings[k : k + columns] for k in range(0, len(drawings), columns)]
    save_picture(out / _sheet_name(name), contact_sheet(lines, [""] * columns, [""] * len(lines)))
    return found


def _sheet_name(name: str) -> str:
    return "sheet_" + "".join(c if c.isalnum() else "_" for c in name) + ".png"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps([_VERSION, *parts]).encode()).hexdigest()[:16]


_COLUMNS = "| | MMD CD x10^3 | MMD EMD x10^2 | COV CD % | COV EMD % | 1-NNA CD % | 1-NNA EMD % |"


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    total = sum(report["shapes"].values())
    lines = [
        f"{total} shapes of the split '{report['split']}' against as many of each kind, the same number of each class; "
        f"{report['points']} points a cloud ({report['emd_points']} for EMD, exact), longest side 1."
        + (f" Means of {report['repeats']} such sets." if report["repeats"] > 1 else ""),
        "",
        f"{_COLUMNS} no surface | s a shape |",
        "|---|---|---|---|---|---|---|---|---|",
    ]

    def cells(row: dict[str, Any]) -> str:
        cd, emd = row["cd"], row["emd"]
        return (
            f"{1e3 * cd['mmd']:.2f} | {1e2 * emd['mmd']:.2f} | {100 * cd['cov']:.0f} | {100 * emd['cov']:.0f} | "
            f"{nna(cd)} | {nna(emd)}"
        )

    def nna(row: dict[str, Any]) -> str:
        spread = row.get("1-nna spread")
        return f"{100 * row['1-nna']:.0f}" + ("" if spread is None else f" ± {100 * spread:.0f}")

    for name, row in report["families"].items():
        lines.append(f"| {name} | {cells(row)} | {row['failed']} | {row['seconds'] / max(1, row['shapes']):.2f} |")
    for class_name in sorted({c for row in report["families"].values() for c in row["classes"]}):
        lines += ["", f"{class_name} ({report['shapes'][class_name]})", "", _COLUMNS, "|---|---|---|---|---|---|---|"]
        for name, row in report["families"].items():
            if class_name in row["classes"]:
                lines.append(f"| {name} | {cells(row['classes'][class_name])} |")
    return "\n".join(lines) + "\n"
