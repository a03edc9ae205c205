"""From a shape library to a prior file: supervision, the field, the pose network, the card."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import __version__
from ..completion.complete import complete_canonical
from ..completion.settings import CompletionSettings
from ..errors import Cancelled, EngineError, InputError
from ..fields.base import Clouds, Family, create
from ..fields.loading import shells
from ..fields.registry import family
from ..geometry.clouds import PointCloud
from ..geometry.meshes import Mesh
from ..geometry.metrics import f_score
from ..geometry.sampling import sample_surface
from ..priors.file import Prior, load_prior, save_prior
from ..priors.latent import LatentModel
from ..surfaces.of import of
from .batches import FULL, make_batch, make_example
from .categories import BESIDE, OTHER, words_of
from .curves import last_validation, plot_curves
from .latent import VARIANTS, encode_shapes, fit_latent, held_out_likelihood
from .library import Library, load_library
from .pose import train_pose
from .run import Run, diverged, join_processes, run_exists, wait_for_all
from .settings import PRESETS, TrainingSettings
from .supervision import QUERIES, UNITS, VIEWS, build_supervision
from .train import TrainingProgress, train

log = logging.getLogger(__name__)

REAL_SHARE = 0.4
"""Share of the training draws given to sources that hold less than a fifth of the shapes: variety beats number."""

BESIDE_SHARE = 0.15
"""Share of the draws given to the categories of `BESIDE`, where there are others."""


@dataclass
class Selection:
    """indices: training records.  weights: how often each is drawn.  labels: class of every record of the library.
    validation: held-out records, in a fixed order."""

    indices: NDArray[np.int64]
    weights: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: list[str]
    validation: NDArray[np.int64]


def select(library: Library, usable: NDArray[np.bool_]) -> Selection:
    """Which records to learn from and how often: classes evened out by the square root of their size, rare sources up,
    and what a household prior knows beside (`BESIDE`) in a share of its own.

    usable: (records,) bool. Shapes of split 'validation' or 'excluded' and of category 'other' are never drawn.
    """
    shapes = library.shapes
    training = [
        k for k, s in enumerate(shapes) if usable[k] and s.split == "train" and s.category != OTHER
    ]
    if not training:
        raise InputError(
            "no_training_shapes",
            "There is nothing to train on.",
            "No shape of the library is usable, in the training split and of a class that priors learn.",
            "Add meshes, or check the library's index and the refusals in the log.",
        )
    sources = Counter(shapes[k].source for k in training)
    rare = {source for source, count in sources.items() if count < len(training) / 5}
    groups = Counter((shapes[k].source in rare, shapes[k].category) for k in training)
    weights = np.array([groups[shapes[k].source in rare, shapes[k].category] ** -0.5 for k in training])
    is_rare = np.array([shapes[k].source in rare for k in training])
    if is_rare.any() and not is_rare.all():
        weights[is_rare] *= REAL_SHARE / weights[is_rare].sum()
        weights[~is_rare] *= (1 - REAL_SHARE) / weights[~is_rare].sum()
    beside = np.array([shapes[k].category in BESIDE for k in training])
    if beside.any() and not beside.all():
        weights[beside] *= BESIDE_SHARE / weights[beside].sum()
        weights[~beside] *= (1 - BESIDE_SHARE) / weights[~beside].sum()
    classes = sorted({shapes[k].category for k in training})
    labels = np.array([classes.index(s.category) if s.category in classes else 0 for s in shapes], np.int64)
    held_out = [
        k for k, s in enumerate(shapes) if usable[k] and s.split == "validation" and s.category in classes
    ]
    order = np.random.default_rng(0).permutation(len(held_out))
    return Selection(
        np.array(training, np.int64), weights / weights.sum(), labels, classes, np.array(held_out, np.int64)[order]
    )


def validation_completion(
    records: NDArray[np.void],
    validation: NDArray[np.int64],
    count: int = 12,
    resolution: int = 64,
    steps: int = 0,
    on_preview: Callable[[Mesh, int], None] = lambda mesh, resolution: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Callable[[Family, int], dict[str, float]]:
    """A quick look at what training is for: mean F-score at 2 % of completing held-out shapes from one clean view.

    At 2 %, not 1 %: the 6,000 surface points of a record lie about 1.5 % apart, so a perfect answer would fail at 1 %.
    Also of the codes alone ("code_f_score"). The figures that count are those of `shapewright evaluate completion`.
    on_preview: given the first completion of each look, canonical, and its resolution.  A look is cut short once
    should_stop().
    """

    def measure(field: Family, step: int) -> dict[str, float]:
        prior = Prior(field, {"name": "validation", "classes": []})
        scores, inputs, alone = [], [], []
        for place, k in enumerate(validation[:count]):
            if place and should_stop():
                break
            record = records[k]
            rng = np.random.default_rng(int(k))
            points, weights, origins, *_ = make_example(record, rng, 1, view=int(k) % VIEWS, augment=False)
            seen = points[weights > 0]
            truth = record["surface"].astype(np.float32) / UNITS
            inputs.append(f_score(seen, truth, 0.02))
            if "encode" in field.can:
                alone.append(_code_alone(field, truth, resolution, rng))
            cloud = PointCloud(seen, None, origins[0])
            try:
                whole = complete_canonical(prior, cloud, CompletionSettings(steps=steps, refine=False))
                mesh = of(whole.whole, resolution, device=prior.device).mesh
            except EngineError:
                scores.append(0.0)
                continue
            if place == 0:
                on_preview(mesh, resolution)
            scores.append(f_score(sample_surface(mesh, 12_000, rng)[0], truth, 0.02))
        measured = {"f_score": float(np.mean(scores)), "input_f_score": float(np.mean(inputs))}
        return measured | ({"code_f_score": float(np.mean(alone))} if alone else {})

    return measure


def _code_alone(field: Family, truth: NDArray[np.float32], resolution: int, rng: np.random.Generator) -> float:
    """F-score at 2 % of a shape that was encoded whole and decoded from the code alone: how well codes hold shapes."""
    points = torch.as_tensor(truth[:FULL], device=next(field.parameters()).device)
    with torch.no_grad():
        shape = field.decode(field.encode(field.observe(Clouds.of_wholes(points[None]))).mean)
        try:
            mesh = of(shape, resolution, device=points.device).mesh
        except EngineError:
            return 0.0
    return f_score(sample_surface(mesh, 12_000, rng)[0], truth, 0.02)


LICENCE = "Weights: GPL-3.0-or-later. Trained on shapes under the licences listed; creators are credited."


def data_credits(library: Library, indices: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """Sources of the shapes learnt from, each with its number of shapes, their licences and creators."""
    data: dict[str, dict[str, Any]] = {}
    for k in indices:
        shape = library.shapes[k]
        entry = data.setdefault(shape.source, {"shapes": 0, "licences": Counter(), "creators": set()})
        entry["shapes"] += 1
        entry["licences"][shape.licence] += 1
        if shape.creator:
            entry["creators"].add(f"{shape.creator} ({shape.licence})")
    for entry in data.values():
        entry["licences"], entry["creators"] = dict(entry["licences"]), sorted(entry["creators"])
    return data


def card(library: Library, selection: Selection, run: Run, name: str, pose_steps: int) -> dict[str, Any]:
    """What the prior's file says of itself: data with licences and credits, training, classes."""
    counts = Counter(library.shapes[k].category for k in selection.indices)
    return {
        "name": name,
        "version": __version__,
        "classes": selection.classes,
        "class_counts": dict(sorted(counts.items())),
        "words": words_of(selection.classes),
        "frame": "z up, front -y, bounding box centred at 0, longest side 1; field on [-0.55, 0.55]^3",
        "code": run.field.code_about,
        "data": data_credits(library, selection.indices),
        "licence": LICENCE,
        "training": {
            "date": date.today().isoformat(), "steps": run.step, "seconds": round(run.seconds),
            "device": run.device.type,
            "shapes": len(selection.indices), "settings": json.loads(json.dumps(vars(run.settings))),
            "pose_steps": pose_steps,
        },
    }


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """'key=value' of the command line -> values for `TrainingSettings`, checked. Values are JSON or plain words.

    Raises InputError for a key there is not, and for a value of another kind or out of its range.
    """
    known = {field.name: field.default for field in fields(TrainingSettings)}
    least = {"steps": 1, "batch": 1, "queries": 1, "learning_rate": 1e-12, "seed": 0}
    most = {"queries": QUERIES, "skip_drop": 1, "average": 1}
    result: dict[str, Any] = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        default = known.get(key)
        if key == "arguments":
            good = isinstance(value, dict)
        elif isinstance(default, bool) or isinstance(value, bool):
            good = isinstance(default, bool) and isinstance(value, bool)
        elif isinstance(default, float):
            good = isinstance(value, int | float) and math.isfinite(value)
            value = float(value) if good else value
        else:
            good = key in known and isinstance(value, type(default))
        if good and not isinstance(value, str | dict):
            good = least.get(key, 0) <= value <= most.get(key, math.inf)
        if key == "precision":
            good = value in ("float32", "bfloat16")
        if not good:
            raise InputError(
                "setting_unknown" if key not in known else "setting_wrong",
                f"The setting {pair!r} cannot be used.",
                f"The settings and their defaults are: {', '.join(f'{k}={v}' for k, v in known.items())}.",
                "Write it as key=value, with a value of the same kind and in range.",
            )
        result[key] = value
    return result


def _check(name: str, settings: TrainingSettings) -> None:
    """Refuse before an hour of work, not after it."""
    if not re.fullmatch(r"\w[\w .-]*", name) or name.endswith((" ", ".")):
        raise InputError(
            "prior_name",
            f"A prior cannot be called {name!r}.",
            "It becomes a file name: letters, digits, spaces, '_', '-' and '.', a letter or digit first.",
            "Choose another name.",
        )
    try:
        with shells():
            create(family(settings.architecture), settings.arguments)
    except InputError as unknown:
        why = unknown.why
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        why = f"{' '.join(str(error).split())[:300]}."
    else:
        return
    raise InputError(
        "network_impossible",
        f"The network asked for, {settings.architecture} with {settings.arguments or {}}, cannot be made.",
        why,
        "Leave the arguments out, or see what the architecture takes in engine/fields/families.",
    )


def train_prior(
    dataset: Path,
    name: str,
    *,
    preset: str = "cpu",
    output: Path,
    runs: Path,
    resume: bool = False,
    overrides: dict[str, Any] | None = None,
    pose_steps: int = 2000,
    minutes: float | None = None,
    start_from: str | None = None,
    supervision: Path | None = None,
    workers: int = 2,
    device: torch.device,
    on_progress: Callable[[str, float, float | None, TrainingProgress | None], None] = lambda stage, f, eta, p: None,
    on_preview: Callable[[Mesh, int], None] = lambda mesh, resolution: None,
    validations: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Everything from a folder of meshes to `output` (a prior file). Resumable at every stage; returns the file.

    minutes: instead of the preset's number of steps, as many as fit (measured on the first twenty, then fixed, so that
    the learning rate's schedule ends with the training).  start_from: name or path of a prior whose weights the
    training begins with, so that few meshes go a long way; its architecture is taken too, and the card names it.
    on_progress(stage, fraction, seconds left, training progress).  validations: about so many completions of held-out
    shapes on the way, None = one every 1,000 steps; on_preview is given one of each (canonical) and its resolution.
    Raises InputError for a library without usable shapes, Cancelled (after saving) when should_stop() says so.
    """
    if preset not in PRESETS:
        raise InputError(
            "unknown_preset",
            f"There is no preset called {preset}.",
            f"Presets are: {', '.join(PRESETS)}.",
            "Choose one.",
        )
    folder = runs / name
    settings = replace(PRESETS[preset], **(overrides or {}))
    start = load_prior(start_from, str(device)) if start_from else None
    if start is not None:
        settings = replace(settings, architecture=start.field.name, arguments=dict(start.field.arguments))
    _check(name, settings)
    if not resume and (folder / "checkpoint.safetensors").exists():
        raise run_exists(name)
    runs.mkdir(parents=True, exist_ok=True)
    rank, _, device = join_processes(device)
    library = load_library(dataset)
    cache = supervision or runs / f"supervision-{fingerprint(library)}.npy"
    if rank > 0:  # the first process prepares the shapes, the others find them prepared
        wait_for_all()
    records = build_supervision(
        dataset,
        cache,
        workers,
        lambda done, total, left: on_progress("Preparing shapes", done / total, left, None),
        should_stop=should_stop,
    )
    if rank == 0:
        wait_for_all()
    selection = select(library, records["done"] == 1)
    if (folder / "settings.json").exists() and resume:
        # Its own settings; others asked for are refused by `train` where they would make it another run.
        saved = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        settings = replace(TrainingSettings(**saved), **(overrides or {}))
    elif minutes is not None:
        settings = replace(settings, steps=_steps_in(minutes, records, selection, settings, device, should_stop))
    wait_for_all()  # nobody writes the settings while another still looks for them
    run = train(
        records, selection.indices, selection.weights, folder, settings, device=device, resume=resume,
        start=start.field if start else None,
        validate=validation_completion(
            records, selection.validation, on_preview=on_preview, should_stop=should_stop
        ) if len(selection.validation) else None,
        validate_every=1000 if validations is None else max(50, round(settings.steps / validations / 50) * 50),
        on_progress=lambda p: on_progress("Training", p.step / p.steps, p.seconds_left, p),
        should_stop=should_stop,
    )
    if run.rank > 0:  # the pose network is small: the first process trains it alone
        return output
    plot_curves(folder)
    pose = train_pose(
        records, selection.indices, selection.weights, selection.labels, len(selection.classes), steps=pose_steps,
        device=device, should_stop=should_stop, seed=settings.seed, checkpoint=folder / "pose.safetensors",
        on_progress=lambda step, steps, loss, left: on_progress("Training the pose network", step / steps, left, None),
    )
    field = run.averaged_field()
    about = card(library, selection, run, name, pose_steps)
    if start is not None:
        about["training"]["started_from"] = {"prior": start.name, "sha256": start.sha256}
    measured = last_validation(folder)
    if measured:
        about["quality"] = {
            "protocol": "held-out shapes of the library from one clean view, quick completion; mean F-score at 2 %",
            "held_out": {"shapes": min(len(selection.validation), 12), **measured},
        }
    latent = None
    if "encode" in field.can:
        latent, about["latent_likelihood"] = learn_latent(
            library, records, selection, field, seed=settings.seed, should_stop=should_stop,
            on_progress=lambda done: on_progress("Learning where the codes lie", done, None, None),
        )
    save_prior(output, field, about, pose, latent)
    return output


def learn_latent(
    library: Library,
    records: NDArray[np.void],
    selection: Selection,
    field: Family,
    *,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda fraction: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[LatentModel, dict[str, dict[str, float]]]:
    """The distribution of the training shapes' codes, and how likely it holds held-out ones (nats a coefficient)."""
    codes = encode_shapes(
        field, records, selection.indices, variants=VARIANTS, seed=seed, should_stop=should_stop,
        on_progress=lambda done: on_progress(0.5 * done),
    )
    if not bool(codes.isfinite().all()):
        raise diverged("The network's codes are no numbers: its last steps went astray after the loss was looked at.")
    labels = torch.as_tensor(selection.labels[selection.indices])
    model = fit_latent(
        codes, labels, [library.shapes[k].name for k in selection.indices], selection.classes, field.code_shape,
        weights=torch.as_tensor(selection.weights), seed=seed, should_stop=should_stop,
        on_progress=lambda done: on_progress(0.5 + 0.45 * done),
    )
    if not len(selection.validation):
        return model, {}
    held_out = encode_shapes(field, records, selection.validation, should_stop=should_stop)[0]
    return model, held_out_likelihood(model, held_out, torch.as_tensor(selection.labels[selection.validation]))


def fingerprint(library: Library) -> str:
    """Names the supervision of a library: another one for other shapes, another order or files changed since."""
    digest = hashlib.sha256("\n".join(shape.key for shape in library.shapes).encode())
    for path in sorted({place.path for place in library.places}):
        state = path.stat()
        digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]


def _steps_in(
    minutes: float,
    records: NDArray[np.void],
    selection: Selection,
    settings: TrainingSettings,
    device: torch.device,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    trial = Run(Path("unused"), settings, device, len(selection.indices))
    began, warm = time.monotonic(), 5
    for step in range(20):
        if trial.any_says(should_stop()):
            raise Cancelled
        if step == warm:
            began = time.monotonic()
        trial.one_step(
            make_batch(records, selection.indices, selection.weights, settings.batch, settings.queries, [0, step, 0])
        )
    # On an accelerator steps are queued: one_step has waited for its loss, so the clock is right.
    steps = max(50, math.floor(minutes * 60 / ((time.monotonic() - began) / (20 - warm))))
    return trial.agreed(steps)
