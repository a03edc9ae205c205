"""ShapeGF's own measures: auto-encoding beside an oracle, and generation, on held-out shapes.

After Cai 2020, section 5.2 and tables 1 and 2: clouds of 2,048 points, brought to zero mean and unit deviation (of all
coordinates together) as PointFlow does; CD = the sum of both mean squared nearest distances, x 10^4; EMD = the mean
distance under the best one-to-one matching, x 10^2. The oracle is a second sample of the truth.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import Cancelled, InputError
from ..evaluation.generation import earth_movers_distance
from ..geometry.metrics import chamfer_l2
from ..training.library import Library
from ..training.supervision import UNITS
from .model import GradientField
from .sampling import densify, encode, sample_points


def evaluate_gradient_field(
    model: GradientField,
    library: Library,
    supervision: Path,
    out: Path,
    *,
    limit: int = 40,
    points: int = 2048,
    sparse: int = 128,
    seed: int = 0,
    on_progress: Callable[[str], None] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Report (also as report.json and report.md in `out`): CD and EMD of auto-encoding, of densifying from `sparse`
    points, and of the oracle, by class and in all. Held-out shapes of the model's classes count."""
    records = np.load(supervision, mmap_mode="r")
    if len(records) != len(library.shapes):
        raise InputError(
            "supervision_mismatch", "The prepared shapes do not fit the library.",
            f"{supervision.name} holds {len(records)} shapes, the library {len(library.shapes)}.",
            "Give the file that training prepared for this library.",
        )
    held_out = [
        k for k, shape in enumerate(library.shapes)
        if shape.split == "validation" and shape.category in model.card["classes"] and records[k]["done"] == 1
    ]
    order = np.random.default_rng(seed).permutation(len(held_out))[:limit]
    rows = []
    for number, place in enumerate(order):
        if should_stop():
            raise Cancelled
        k = held_out[place]
        surface = records[k]["surface"].astype(np.float32) / UNITS
        rng = np.random.default_rng([seed, k])
        pick = rng.permutation(len(surface))
        points = min(points, len(surface) // 3)
        truth, oracle, given = (surface[pick[i * points : (i + 1) * points]] for i in range(3))
        generator = torch.Generator().manual_seed(seed + k)
        code = encode(model, given, rng)
        answers = {
            "auto-encoding": sample_points(model, code, points, generator).cpu().numpy(),
            f"from {sparse} points": densify(model, given[:sparse], points, seed),
            f"the {sparse} points, repeated": given[rng.integers(0, sparse, points)],
            "oracle": oracle,
        }
        centre, unit = truth.mean(0), float((truth - truth.mean(0)).std())
        row: dict[str, Any] = {"shape": library.shapes[k].name, "class": library.shapes[k].category}
        for name, answer in answers.items():
            a, b = (answer - centre) / unit, (truth - centre) / unit
            row[name] = {"cd": 1e4 * chamfer_l2(a, b), "emd": 1e2 * earth_movers_distance(a, b)}
        rows.append(row)
        on_progress(f"{number + 1}/{len(order)} {row['shape']}")
    out.mkdir(parents=True, exist_ok=True)
    kinds = [name for name in rows[0] if name not in ("shape", "class")]
    classes = sorted({row["class"] for row in rows})
    lines = ["| class | shapes | " + " | ".join(kinds) + " |", "|---|---|" + "---|" * len(kinds)]

    def cell(chosen: list[dict[str, Any]], kind: str) -> str:
        values: NDArray[Any] = np.array([[row[kind]["cd"], row[kind]["emd"]] for row in chosen])
        return f"{values[:, 0].mean():.1f} / {values[:, 1].mean():.2f}"

    for name in [*classes, "all"]:
        chosen = [row for row in rows if name in ("all", row["class"])]
        lines.append(f"| {name} | {len(chosen)} | " + " | ".join(cell(chosen, kind) for kind in kinds) + " |")
    report = {"points": points, "sparse": sparse, "seed": seed, "card": {
        k: v for k, v in model.card.items() if k != "latent"}, "shapes": rows, "table": "\n".join(lines)}
    (out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    (out / "report.md").write_text(
        f"CD x 10^4 / EMD x 10^2, {points} points, clouds of unit deviation.\n\n" + "\n".join(lines) + "\n",
        encoding="utf-8",
    )
    return report
