"""What the measures of soundness look like: a table, and answers from close, front and back, beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...geometry.files import read_shape
from ...geometry.meshes import Mesh
from ...training.library import Library
from ...training.shapes import canonicalise
from ..pictures import CLAY, COMPLETED, Picture, camera_for, contact_sheet, draw_mesh
from . import COLUMNS

FRONT, BACK = (-62.0, 20.0), (118.0, 14.0)
"""Azimuth and elevation of the cameras, degrees."""


def soundness_table(report: dict[str, Any]) -> list[str]:
    """Lines of Markdown: of completers whose answers were measured as assets, a line a measure (mean / median)."""
    told = {m: e["all"] for m, e in report["methods"].items() if any(c in e["all"] for c in COLUMNS)}
    if not told:
        return []
    lines = ["**Soundness**", "", "| measure | " + " | ".join(told) + " |", "|---" * (len(told) + 1) + "|"]
    for column, (label, factor) in COLUMNS.items():
        if any(column in s for s in told.values()):
            lines += [f"| {label} | " + " | ".join(figures(s, column, factor) for s in told.values()) + " |"]
    return [*lines, ""]


def figures(summary: dict[str, Any], column: str, factor: float) -> str:
    """Mean / median of a column of a summary; of shares of yes and no the mean alone."""
    if column not in summary:
        return "–"
    mean = f"{summary[column]['mean'] * factor:.3g}"
    return mean if column in ("whole", "watertight", "quads") else f"{mean} / {summary[column]['median'] * factor:.3g}"


Told = tuple[dict[str, Any], Path, int]


def close_sheet(name: str, told: Sequence[Told], library: Library, most: int = 16) -> Picture:
    """Half of it the shapes whose truth has most handles (slatted backs, racks), the others in turn by class.

    told: of every answer its row, the file of its mesh (canonical; there is none where it failed), and its shape's
    index in the library.
    """
    ranked = sorted(told, key=lambda entry: -entry[0].get("true_handles", 0))
    chosen, rest = ranked[: most // 2], sorted(ranked[most // 2 :], key=lambda entry: str(entry[0]["item"]))
    for rank in range(len(rest)):  # the first of every class, then the second
        by_class: dict[str, list[Told]] = {}
        for entry in rest:
            by_class.setdefault(entry[0]["class"], []).append(entry)
        chosen += [members[rank] for members in by_class.values() if len(members) > rank]
        if len(chosen) >= most:
            break
    strips, captions = [], []
    for row, file, index in sorted(chosen[:most], key=lambda entry: (entry[0]["class"], entry[0]["item"])):
        truth, _ = canonicalise(library.mesh(index))
        answer = read_shape(file) if file.is_file() else None
        strips.append(draw_close(answer if isinstance(answer, Mesh) else None, truth))
        captions.append(
            f"{row['class']}: {row['item'].split('/')[-1]}   F {row['f_score']:.2f}   parts {row['parts']} of "
            f"{row['true_parts']}   handles {row['handles']}: {row['handles_surplus']} needless, "
            f"{row['handles_missing']:g} of {row['true_handles']} missing"
        )
    headers = [f"{what}, {side}" for what in (name, "truth") for side in ("front", "back")]
    return contact_sheet(strips, headers, captions, blocks=1 if len(strips) < 4 else 2)


def draw_close(answer: Mesh | None, truth: Mesh, size: int = 360) -> list[Picture]:
    """Answer and truth (both canonical) close up: the answer from its front and from its back, the truth likewise."""
    ground = float(truth.vertices[:, 2].min())
    cameras = [camera_for(truth.vertices, azimuth, elevation, size) for azimuth, elevation in (FRONT, BACK)]
    nothing = Mesh(truth.vertices[:0], truth.faces[:0])
    return [
        draw_mesh(mesh, camera, colour, ground=ground)
        for mesh, colour in ((answer or nothing, COMPLETED), (truth, CLAY))
        for camera in cameras
    ]
