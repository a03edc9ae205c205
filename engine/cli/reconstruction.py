"""`shapewright evaluate reconstruction`: the fits beside their peers on scans of known solids."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable


def evaluate(options: argparse.Namespace, should_stop: Callable[[], bool]) -> None:
    """Runs the protocol with the options of `shapewright evaluate`; prints the report. Errors are raised."""
    from ..device import resolve_device
    from ..evaluation.reconstruction import CASES, PEERS, Protocol, run_reconstruction_evaluation
    from ..evaluation.solids import SOLIDS
    from ..training.library import load_library

    def names(text: str | None, default: tuple[str, ...]) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()] if text is not None else list(default)

    def show(done: int, total: int, what: str) -> None:
        print(f"{done}/{total} {what}", file=sys.stderr, flush=True)

    report = run_reconstruction_evaluation(
        methods=names(options.methods, ("auto", *PEERS)),
        cases=names(options.cases, tuple(CASES)),
        shapes=names(options.shapes, tuple(SOLIDS)),
        library=None if options.dataset is None else load_library(options.dataset),
        limit=options.limit or 6,
        protocol=Protocol(
            samples=options.points or 1_000_000,
            resolution=options.resolution or 256,
            seed=options.seed,
            iterations=options.iterations,
        ),
        out_dir=options.out,
        device=str(resolve_device(options.device)),
        on_progress=show,
        should_stop=should_stop,
    )
    if options.json:
        print(json.dumps(report))
    else:
        print((options.out / "report.md").read_text(encoding="utf-8"))
