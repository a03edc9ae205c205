"""`train`: learn a prior from a folder of meshes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import Cancelled, InputError
from .. import options as shared
from ..inputs import count, positive
from ..terminal import DONE, ProgressLine, answer, stop_on_interrupt


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "train",
        parents=[common],
        help="learn a prior from a folder of meshes",
        description="Learn a prior from a shape library: a folder of meshes (a subfolder a class), or one with an "
        "index.tsv. Killed at any moment it goes on with --resume. More processes or machines: torchrun.",
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="the folder of meshes")
    parser.add_argument("--name", required=True, help="what the prior and its run are called")
    parser.add_argument("--preset", choices=("cpu", "gpu"), default="cpu", help="default: cpu")
    parser.add_argument("--minutes", type=positive, metavar="M", help="as many steps as fit, instead of the preset's")
    parser.add_argument("--from", dest="start_from", metavar="NAME|PATH", help="begin with the weights of this prior")
    parser.add_argument("--resume", action="store_true", help="go on with the run of this name, if there is one")
    shared.add_device(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: NAME.safetensors among the user's priors")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="for checkpoints (default: runs/ among the priors)")
    parser.add_argument("--workers", type=count, metavar="N", help="processes that prepare shapes (default: cores)")
    parser.add_argument("--pose-steps", type=count, default=2000, metavar="N", help="of the pose network (2000)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="a setting of the training"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ...device import resolve_device
    from ...priors.registry import read_card, sha256, user_folder
    from ...training.prior_training import parse_overrides, train_prior

    began = time.perf_counter()
    overrides = parse_overrides(options.overrides)
    runs = options.runs or user_folder() / "runs"
    output = _output(options)
    first = int(os.environ.get("RANK", 0)) == 0  # of the processes that torchrun started
    show = _TrainingLine()
    try:
        with stop_on_interrupt() as should_stop:
            train_prior(
                options.dataset,
                options.name,
                preset=options.preset,
                output=output,
                runs=runs,
                resume=options.resume,
                overrides=overrides,
                pose_steps=options.pose_steps,
                minutes=options.minutes,
                start_from=options.start_from,
                workers=options.workers or os.cpu_count() or 1,
                device=resolve_device(options.device),
                on_progress=show if first else lambda *state: None,
                should_stop=should_stop,
            )
    except Cancelled:
        show.end()
        raise Cancelled(f"What was done is kept in {runs}; the same command with --resume goes on there.") from None
    show.end()
    if not first:
        return DONE
    card = read_card(str(output))
    report = {
        "prior": {"name": card["name"], "version": card["version"], "sha256": sha256(output)},
        "output": str(output.absolute()),
        "run": str((runs / options.name).absolute()),
        "classes": card["class_counts"],
        "training": card["training"],
        "validation": show.validation,
        "seconds": time.perf_counter() - began,
    }
    return answer(options, report, _summary(report))


def _output(options: argparse.Namespace) -> Path:
    from ...priors.registry import SUFFIX, user_folder

    output: Path = options.output or user_folder() / f"{options.name}{SUFFIX}"
    if output.suffix != SUFFIX:
        raise InputError(
            "output_format",
            f"The output '{output.name}' cannot be written.",
            f"Its suffix is {output.suffix!r}; a prior is a {SUFFIX} file.",
            f"Name it NAME{SUFFIX}.",
        )
    if output.exists() and not options.resume:
        raise InputError(
            "output_exists",
            f"The prior '{output.name}' is there already.",
            f"{output} would be overwritten.",
            "Choose another name or --output, go on with its run (--resume), or remove the file.",
        )
    return output


def _summary(report: dict[str, Any]) -> Iterator[str]:
    yield f"Wrote {report['output']}"
    yield f"Learnt from {report['training']['shapes']} shapes in {report['training']['steps']} steps"
    if report["validation"]:
        yield "Held-out shapes: " + ", ".join(f"{key} {value:.3f}" for key, value in report["validation"].items())


class _TrainingLine:
    """Training's progress on standard error: in place on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._line = ProgressLine()
        self._stage, self._next = "", 0.0
        self.validation: dict[str, float] | None = None

    def __call__(self, stage: str, fraction: float, left: float | None, state: Any) -> None:
        from ...jobs.base import Progress

        text = stage
        if state is not None:
            text += f", step {state.step} of {state.steps}, loss {state.loss:.4g}"
            self.validation = state.validation or self.validation
            if self.validation:
                text += "".join(f", {key} {value:.3f}" for key, value in self.validation.items())
        if self._line.in_place:
            self._line(Progress(text, fraction, left))
            return
        measured = state is not None and state.validation is not None
        if stage != self._stage or measured or time.monotonic() >= self._next or fraction >= 1:
            duration = "" if left is None else f", {left:.0f} s left"
            print(f"{100 * fraction:3.0f} %  {text}{duration}", file=sys.stderr, flush=True)
            self._stage, self._next = stage, time.monotonic() + 10

    def end(self) -> None:
        self._line.end()
