"""ShapeGF's own measures: auto-encoding beside an oracle, and generation, on held-out shapes.

After Cai 2020, section 5.2 and tables 1 and 2: clouds of 2,048 points, brought to zero mean and unit deviation (of all
coordinates together) as PointFlow does; CD = the sum of both mean squared nearest distances, x 10^4; EMD = the mean
distance under the best one-to-one matching, x 10^2. The oracle is a second sample of the truth.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import Cancelled, InputError
from ..geometry.clouds import FloatArray
from ..geometry.metrics import chamfer_l2
from ..gradient_fields.model import GradientField
from ..gradient_fields.sampling import densify, encode, new_code, observe, sample_points
from ..training.library import Library
from ..training.supervision import UNITS
from .generation import Maker, earth_movers_distance
from .pictures import COMPLETED, OBSERVED, camera_for, contact_sheet, draw_cloud, save_picture

DRAWN = 8
"""Shapes on the contact sheet."""


def generated_clouds(model: GradientField, name: str, latent: str, seed: int, points: int) -> tuple[str, Maker]:
    """(fingerprint, maker) for `run_generation_evaluation`: clouds as `shapewright gradient generate` makes them.

    latent: 'gan' or one of the prior's distributions.
    """

    def make(class_name: str, number: int) -> FloatArray:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + number + 7) % 2**63)
        features = model.decode(new_code(model, name, number, seed, class_name, latent))
        return np.asarray(sample_points(model, features, points, generator).cpu().numpy(), np.float32)

    weights = b"".join(v.half().cpu().numpy().tobytes() for v in model.score.state_dict().values())
    mark = [hashlib.sha256(weights).hexdigest(), model.prior.sha256, latent, seed, points]
    return hashlib.sha256(json.dumps(mark).encode()).hexdigest()[:16], make


def evaluate_gradient_field(
    model: GradientField,
    library: Library,
    supervision: Path,
    out: Path,
    *,
    classes: Sequence[str] | None = None,
    limit: int = 40,
    points: int = 2048,
    sparse: int = 128,
    seed: int = 0,
    on_progress: Callable[[str], None] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Report (also as report.json and report.md in `out`): CD and EMD of auto-encoding, of densifying from `sparse`
    points, and of the oracle, by class and in all. Held-out shapes of `classes` count (None: of those the field
    learnt). The first of them are drawn on sheet.png, above shapes of the GAN."""
    records = np.load(supervision, mmap_mode="r")
    if len(records) != len(library.shapes):
        raise InputError(
            "supervision_mismatch", "The prepared shapes do not fit the library.",
            f"{supervision.name} holds {len(records)} shapes, the library {len(library.shapes)}.",
            "Give the file that training prepared for this library.",
        )
    wanted = set(classes or model.card["classes"])
    held_out = [
        k for k, shape in enumerate(library.shapes)
        if shape.split == "validation" and shape.category in wanted and records[k]["done"] == 1
    ]
    order = np.random.default_rng(seed).permutation(len(held_out))[:limit]
    rows: list[dict[str, Any]] = []
    columns: list[list[FloatArray]] = []
    for number, place in enumerate(order):
        if should_stop():
            raise Cancelled
        k = held_out[place]
        surface = records[k]["surface"].astype(np.float32) / UNITS
        rng = np.random.default_rng([seed, k])
        pick = rng.permutation(len(surface))
        points = min(points, len(surface) // 3)
        truth, oracle, given = (surface[pick[i * points : (i + 1) * points]] for i in range(3))
        through = model.decode(encode(model, given, rng))
        kept = observe(model, given, np.random.default_rng([seed, k]))
        draws = [torch.Generator().manual_seed(seed + k) for _ in range(2)]
        answers = {
            "auto-encoding": sample_points(model, through, points, draws[0]).cpu().numpy(),
            "with the points' own detail": sample_points(model, kept, points, draws[1]).cpu().numpy(),
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
        if len(columns) < DRAWN:
            names = ("auto-encoding", f"from {sparse} points")
            columns.append([given[:sparse], answers[names[1]], answers[names[0]], truth])
        figures = ", ".join(f"{name} {row[name]['cd']:.0f} / {row[name]['emd']:.1f}" for name in answers)
        on_progress(f"{number + 1}/{len(order)} {row['shape']}: {figures}")
    if model.generator is not None:
        _, maker = generated_clouds(model, "", "gan", seed, points)
        for number, column in enumerate(columns):
            column.append(np.asarray(maker("", number), np.float32))
    captions = [f"{sparse} points given", f"{points} made of them", "through the code and back", "truth", "generated"]
    box = np.array([[x, y, z] for x in (-0.42, 0.42) for y in (-0.42, 0.42) for z in (-0.42, 0.42)], np.float32)
    camera = camera_for(box, size=200)
    pictures = [
        [draw_cloud(column[row], camera, OBSERVED if row in (0, 3) else COMPLETED) for column in columns]
        for row in range(len(columns[0]))
    ]
    save_picture(out / "sheet.png", contact_sheet(pictures, [""] * len(columns), captions[: len(pictures)]))
    kinds = [name for name in rows[0] if name not in ("shape", "class")]
    classes = sorted({row["class"] for row in rows})
    lines = ["| class | shapes | " + " | ".join(kinds) + " |", "|---|---|" + "---|" * len(kinds)]

    def cell(chosen: list[dict[str, Any]], kind: str) -> str:
        values: NDArray[Any] = np.array([[row[kind]["cd"], row[kind]["emd"]] for row in chosen])
        return f"{values[:, 0].mean():.1f} / {values[:, 1].mean():.2f}"

    for name in [*classes, "all"]:
        chosen = [row for row in rows if name in ("all", row["class"])]
        lines.append(f"| {name} | {len(chosen)} | " + " | ".join(cell(chosen, kind) for kind in kinds) + " |")
    report = {
        "points": points, "sparse": sparse, "seed": seed, "card": model.card, "shapes": rows,
        "table": "\n".join(lines),
    }
    (out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    (out / "report.md").write_text(
        f"CD x 10^4 / EMD x 10^2, {points} points, clouds of unit deviation.\n\n" + "\n".join(lines) + "\n",
        encoding="utf-8",
    )
    return report
