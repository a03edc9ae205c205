"""Learning a family's weights. A run that is killed at any moment resumes and ends in the same place.

A run is a folder: `settings.json`, `checkpoint.safetensors` (weights, moving average, optimiser, step; replaced
atomically), `curves.csv`, `curves.png`. More processes (torchrun) train data-parallel: every process draws batches of
its own, gradients are averaged, and the first process alone writes.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import Cancelled
from ..fields.base import Family
from .batches import Batch, make_batch
from .curves import Curves, write_text
from .run import Run, diverged, run_exists, wait_for_all
from .settings import TrainingSettings

# What is being written into a run's folder, and the pose network's training beside it.
_LEFT_OVER = re.compile(r"(checkpoint\.safetensors|pose\.safetensors|settings\.json|curves\.csv)\.[0-9]+\.part")


@dataclass
class TrainingProgress:
    """step of steps; loss and validation are the latest; seconds_left None while unknown."""

    step: int
    steps: int
    loss: float
    seconds_left: float | None
    validation: dict[str, float] | None = None


def train(
    records: NDArray[np.void],
    indices: NDArray[Any],
    weights: NDArray[Any],
    folder: Path,
    settings: TrainingSettings,
    *,
    device: torch.device,
    resume: bool = False,
    start: Family | None = None,
    validate: Callable[[Family, int], dict[str, float]] | None = None,
    validate_every: int = 1000,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    report_every: int = 50,
) -> Run:
    """Train (or go on training) the run in `folder` on records[indices], drawn with the given weights.

    start: a trained member of the same family, whose weights a new run begins with (instead of random ones).
    Raises Cancelled when should_stop() says so, after saving; InputError where the folder holds another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, settings, device, len(indices))
    if run.checkpoint.exists():
        if not resume:
            raise run_exists(folder.name)
        run.load()
    elif start is not None:
        run.begin_with(start)
    curves = Curves(folder / "curves.csv", run.module.parts)
    if run.rank == 0:
        for left_over in folder.glob("*.part"):  # of a process that was killed while writing
            if _LEFT_OVER.fullmatch(left_over.name) and left_over.is_file():
                left_over.unlink(missing_ok=True)
        write_text(folder / "settings.json", json.dumps(asdict(settings), indent=1))
        curves.forget_after(run.step)
    lock = threading.Lock()

    def prepare(step: int) -> Batch:
        with lock:  # one batch ahead, not one core more
            return make_batch(
                records, indices, weights, settings.batch, settings.queries, [settings.seed, step, run.rank],
                augment=run.module.augments,
            )

    began, spent = time.monotonic(), run.seconds
    saved = began
    first_step = run.step
    recent: list[NDArray[np.float64]] = []
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(prepare, run.step)
        while run.step < settings.steps:
            batch = upcoming.result()
            upcoming = pool.submit(prepare, run.step + 1)
            recent.append(run.one_step(batch))
            now = time.monotonic()
            run.seconds = spent + now - began
            if run.rank == 0 and (run.step % report_every == 0 or run.step == settings.steps):
                mean = np.mean(recent, 0)
                recent.clear()
                if not np.isfinite(mean[0]):
                    raise diverged(f"Before step {run.step} the loss stopped being a number.")
                left = (now - began) / (run.step - first_step) * (settings.steps - run.step)
                measured = None
                if validate is not None and (run.step % validate_every == 0 or run.step == settings.steps):
                    measured = validate(run.averaged_field(), run.step)
                curves.add(run.step, run.seconds, mean, measured)
                on_progress(TrainingProgress(run.step, settings.steps, float(mean[0]), left, measured))
            stop = run.any_says(should_stop())
            if run.rank == 0 and (stop or now - saved > settings.checkpoint_seconds or run.step == settings.steps):
                run.save()
                saved = time.monotonic()
            if stop:
                raise Cancelled
    wait_for_all()  # the last checkpoint is there for every process
    return run
