"""Train Prior as a job: meshes of a scene (or a folder) -> a shape library -> a prior in the user's folder.

Cancelled, its run stays among the user's priors ('runs'); the same request with `resume` goes on there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...device import describe_device, resolve_device
from ...errors import InputError
from ...extras import require_training
from ...geometry.meshes import Mesh
from ...jobs.base import JobArrays, JobCallbacks, JobResult, Preview, Progress
from ...priors.exchange import check_name
from ...priors.registry import SUFFIX, list_priors, read_card, sha256, user_folder
from ...training.library import load_library, write_library
from ...training.prior_training import parse_overrides, train_prior
from ...training.shapes import SCENE, Shape, split_by_hash
from ...training.train import TrainingProgress
from .request import TrainRequest

log = logging.getLogger(__name__)

STAGES = {
    "Preparing shapes": (0.02, 0.2),
    "Training": (0.2, 0.85),
    "Training the pose network": (0.85, 0.93),
    "Learning where the codes lie": (0.93, 1.0),
}
"""Of `train_prior`: (begin, end) of each within the job."""

VALIDATIONS = 5
"""Previews of a completed validation shape over a training, beside the learning curve's points."""

LEAST_SHAPES = 2


def run_train(request: TrainRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """Trains the prior request.name; answers without meshes. The contract is in engine.jobs.base.

    The library's shapes that are held out are completed a few times on the way: the first of them is the preview, in
    the canonical frame.  Raises InputError for a name that is taken, for a folder or meshes that are no library, and
    for settings that make no network; Cancelled after the run was saved.
    """
    began = time.monotonic()
    require_training()
    callbacks.on_progress(Progress("Reading the shapes", 0.01))
    name = check_name(request.name)
    overrides = parse_overrides([f"{key}={json.dumps(value)}" for key, value in request.settings.items()])
    device = resolve_device(request.device)
    runs = user_folder() / "runs"
    output = user_folder() / f"{name}{SUFFIX}"
    if not request.resume and any(info.name.casefold() == name.casefold() for info in list_priors()):
        raise InputError(
            "prior_exists",
            f"The prior '{name}' was not trained.",
            "Another prior of that name is there already.",
            "Choose another name, or remove that prior first.",
        )
    dataset = _library(request, arrays, runs)

    def on_preview(mesh: Mesh, resolution: int) -> None:
        callbacks.on_preview(Preview(mesh, resolution))

    preset = request.preset
    if preset == "auto":
        preset = "gpu" if device.type == "cuda" else "cpu"
    steps = overrides.get("steps")
    train_prior(
        dataset,
        name,
        preset=preset,
        output=output,
        runs=runs,
        resume=request.resume and (runs / name / "checkpoint.safetensors").exists(),
        overrides=overrides,
        pose_steps=request.pose_steps if request.pose_steps is not None else _pose_steps(steps, request.minutes),
        minutes=request.minutes if steps is None else None,
        start_from=request.start_from or None,
        workers=max((os.cpu_count() or 2) - 1, 1),  # one core stays for the person who waits
        device=device,
        on_progress=_told(callbacks, began),
        on_preview=on_preview,
        validations=VALIDATIONS,
        should_stop=callbacks.should_stop,
    )
    card = read_card(output)
    report = {
        "kind": "train",
        "prior": {"name": card["name"], "version": card["version"], "sha256": sha256(output)},
        "classes": card["class_counts"],
        "training": card["training"],
        "quality": card.get("quality"),
        "run": str(runs / name),
        "seconds": time.monotonic() - began,
        "device": describe_device(device),
        "warnings": _warnings(card["training"]["shapes"], card.get("quality")),
    }
    callbacks.on_progress(Progress("Done", 1.0, 0.0))
    return JobResult([], report)


def _told(
    callbacks: JobCallbacks, began: float
) -> Callable[[str, float, float | None, TrainingProgress | None], None]:
    """`train_prior`'s progress as the job's. began: time.monotonic() at the job's start."""
    since = {"": began}

    def on_progress(stage: str, within: float, left: float | None, state: TrainingProgress | None) -> None:
        begin, end = STAGES.get(stage, (0.0, 1.0))
        since.setdefault(stage, since[""])  # a stage tells of itself late: it began when the one before it ended
        since[""] = time.monotonic()
        if left is not None:  # of this stage; the later ones take their share of what this one takes
            left += (time.monotonic() - since[stage] + left) * (1.0 - end) / (end - begin)
        fraction = begin + (end - begin) * min(max(within, 0.0), 1.0)
        message = ""
        if state is not None:
            message = f"Step {state.step:,} of {state.steps:,}, loss {state.loss:.3g}"
        callbacks.on_progress(Progress(stage, min(fraction, 0.999), left, message))

    return on_progress


def _pose_steps(steps: int | None, minutes: float | None) -> int:
    """3,000 for a training of an hour and more, in proportion for a shorter one: it is the smaller network."""
    if steps is not None:
        return int(np.clip(steps // 3, 20, 3000))
    return int(np.clip(50 * minutes, 50, 3000)) if minutes is not None else 3000


def _warnings(shapes: int, quality: object) -> list[dict[str, str]]:
    if quality:
        return []
    return [
        {
            "code": "prior_not_measured",
            "what": "The new prior's quality was not measured.",
            "why": f"Of its {shapes} shapes none was held out to be completed.",
            "remedy": "Give at least three shapes of a class, and judge the prior by what it completes.",
        }
    ]


def _library(request: TrainRequest, arrays: JobArrays | None, runs: Path) -> Path:
    """The folder to learn from: the one named, or the library that the meshes sent make."""
    if request.folder:
        if arrays is not None:
            raise InputError(
                "shapes_twice",
                "The shapes to learn from are not clear.",
                "The request names a folder and brings meshes too.",
                "Send one of the two.",
            )
        folder = Path(request.folder).expanduser()
        load_library(folder, splits_by_design=False)  # refused before anything is made
        return folder
    if arrays is None or arrays.faces is None or not request.shapes:
        raise InputError(
            "shapes_missing",
            "There is nothing to learn from.",
            "The request brings no meshes and names no folder.",
            "Choose a collection with meshes, or a folder of mesh files.",
        )
    if len(request.shapes) < LEAST_SHAPES:
        raise InputError(
            "too_few_shapes",
            "There is too little to learn from.",
            f"A prior needs at least {LEAST_SHAPES} shapes, and dozens to be of use; {len(request.shapes)} came.",
            "Put more meshes into the collection.",
        )
    shapes = split_by_hash(_shapes(request, arrays))
    digest = hashlib.sha256(arrays.points.tobytes() + arrays.faces.tobytes())
    digest.update(json.dumps([[row.name, row.class_name, row.vertices] for row in request.shapes]).encode())
    # Named by its content: a run that is resumed with the same meshes finds their supervision again.
    folder = runs / "libraries" / digest.hexdigest()[:16]
    if not (folder / "index.tsv").is_file():
        write_library(folder, shapes)
        # Of shapes that are one design, none is trained on where one is held out. Nothing must be left to learn.
        if not any(shape.split == "train" for shape in load_library(folder).shapes):
            log.warning("All shapes are of the designs that were held out: none is held out now")
            write_library(folder, [replace(shape, split="train") for shape in shapes])
    return folder


def _shapes(request: TrainRequest, arrays: JobArrays) -> list[Shape]:
    """Each row of the request with its part of the arrays."""
    assert arrays.faces is not None
    starts = np.cumsum([0, *(row.vertices for row in request.shapes)])
    owner = np.searchsorted(starts, arrays.faces, side="right") - 1
    if starts[-1] != len(arrays.points) or (owner != owner[:, :1]).any():
        raise _mismatch(
            f"Their numbers of vertices add up to {starts[-1]} and {len(arrays.points)} came, or a face spans two.",
            "Send finite vertices only, the number of each mesh's vertices, and faces within one mesh.",
        )
    seen: set[tuple[str, str]] = set()
    found = []
    for k, row in enumerate(request.shapes):
        category = class_name(row.class_name)
        if (category, row.name) in seen:
            raise _mismatch(
                f"Two of the class '{category}' are called '{row.name}'.",
                "Give every mesh of a class a name of its own.",
            )
        seen.add((category, row.name))
        faces = arrays.faces[owner[:, 0] == k] - starts[k]
        if len(faces) == 0:
            log.warning("%s has no faces and is left out", row.name)
            continue
        mesh = Mesh(arrays.points[starts[k] : starts[k + 1]], faces.astype(np.int32))
        found.append(Shape(SCENE, category, row.name, mesh=mesh))
    return found


def _mismatch(why: str, remedy: str) -> InputError:
    return InputError("shapes_mismatch", "The meshes to learn from cannot be told apart.", why, remedy)


def class_name(text: str) -> str:
    """What a person calls a class (a collection's name) -> what a class of a library can be called."""
    return re.sub(r"[^\w.-]+", "_", text.strip()).strip("_.") or "shape"
