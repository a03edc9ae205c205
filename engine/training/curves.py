"""The curves of a run: curves.csv, a row now and then, and its picture."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


class Curves:
    """The table at `path`: step, seconds, loss, the objective's `parts`, and what validation measured (JSON)."""

    def __init__(self, path: Path, parts: Sequence[str]) -> None:
        self.path = path
        self.columns = ["step", "seconds", "loss", *parts, "validation"]

    def add(self, step: int, seconds: float, values: NDArray[Any], measured: dict[str, float] | None) -> None:
        """values: loss and parts."""
        fresh = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(self.columns)
            row = [step, f"{seconds:.1f}", *(f"{v:.5f}" for v in values)]
            writer.writerow([*row, json.dumps(measured) if measured else ""])

    def forget_after(self, step: int) -> None:
        """After a kill the table may be ahead of the checkpoint, and its last row cut short."""
        if not self.path.exists():
            return
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        if step == 0 or not rows:
            self.path.unlink()
            return
        kept = [row for k, row in enumerate(rows) if k == 0 or (len(row) == len(self.columns) and int(row[0]) <= step)]
        table = io.StringIO()
        csv.writer(table).writerows(kept)
        write_text(self.path, table.getvalue())


def write_text(path: Path, text: str) -> None:
    """Atomically, with the text's own line ends."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8", newline="")
    os.replace(temporary, path)


def last_validation(folder: Path) -> dict[str, float]:
    """What held-out shapes said when they were last completed; empty where none was."""
    with (folder / "curves.csv").open(newline="", encoding="utf-8") as file:
        rows = [row["validation"] for row in csv.DictReader(file) if row["validation"]]
    measured: dict[str, float] = json.loads(rows[-1]) if rows else {}
    return measured


def plot_curves(folder: Path) -> None:
    """curves.csv -> curves.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with (folder / "curves.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    beside = ("step", "seconds", "validation")
    drawn = [name for name in (rows[0] if rows else ()) if name not in beside and not name.endswith("_x1000")]
    for column in drawn:
        left.plot(steps, [float(row[column]) for row in rows], label=column)
    left.set(xlabel="step", yscale="log", title="training")
    left.legend()
    measured = [(int(row["step"]), json.loads(row["validation"])) for row in rows if row["validation"]]
    for key in measured[0][1] if measured else ():
        right.plot([step for step, _ in measured], [values[key] for _, values in measured], "o-", label=key)
    right.set(xlabel="step", title="held-out shapes, one view")
    if measured:
        right.legend()
    figure.tight_layout()
    figure.savefig(folder / "curves.png", dpi=110)
    plt.close(figure)
