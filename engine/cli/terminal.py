"""What a command says to its terminal: exit status, progress, the interrupt, its answer."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..jobs.base import Progress

DONE, BAD_INPUT, FAILED, CANCELLED = 0, 2, 3, 130
"""Exit statuses. `main` gives all but DONE and a check's FAILED by what was raised."""


def answer(options: argparse.Namespace, report: dict[str, Any], lines: Iterable[str]) -> int:
    """Print the report as the one JSON object, or the lines for people; DONE."""
    if options.json:
        print(json.dumps(report))
    else:
        for line in lines:
            print(line)
    return DONE


def warnings_of(report: dict[str, Any]) -> list[str]:
    """A line for each of the report's warnings, its remedy in words of the command line."""
    return [
        f"Warning: {warning['what']} {warning['why']} {warning['remedy']}{_on_the_command_line(warning)}"
        for warning in report.get("warnings") or []
    ]


def _on_the_command_line(warning: dict[str, Any]) -> str:
    up = warning.get("up")
    if up is None:
        return ""
    if warning["code"] == "stood_up":
        return f" That is --front given; --up={up} has nothing guessed."
    return f" That is --up={up}; --front evident stands up by itself what clearly lies."


def notes_of(report: dict[str, Any]) -> list[str]:
    """A line for each of the report's notes: what was left out of the input."""
    return [f"Note: {note}" for note in report.get("notes") or []]


def show_count(done: int, total: int, what: str) -> None:
    """Progress of an evaluation, a line each."""
    print(f"{done}/{total} {what}", file=sys.stderr, flush=True)


class ProgressLine:
    """One line on standard error that changes in place on a terminal; one line a stage elsewhere."""

    def __init__(self) -> None:
        self.in_place = sys.stderr.isatty()
        self._stage = ""
        self._width = 0

    def __call__(self, progress: Progress) -> None:
        if self.in_place:
            left = f", {progress.eta_s:.0f} s left" if progress.eta_s is not None else ""
            text = f"{100 * progress.fraction:3.0f} %  {progress.stage}{left}"
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(text)
        elif progress.stage != self._stage:
            print(f"{progress.stage} ...", file=sys.stderr, flush=True)
        self._stage = progress.stage

    def end(self) -> None:
        if self.in_place and self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks the job to stop; a second one ends it where it stands. Yields `should_stop`."""
    asked = threading.Event()

    def on_interrupt(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
