"""The report of an evaluation: figures, Markdown, contact sheet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..training.library import Library
from .baselines import FOOTNOTES
from .judging import Judge
from .pictures import Picture, contact_sheet
from .protocol import METRICS, SEVERAL, Completer, Item, Protocol
from .rows import Store
from .soundness import COLUMNS
from .soundness.sheet import soundness_table

LABELS = {
    "f_score": "F-score at 1 %",
    "chamfer_l1": "Chamfer-L1 x10",
    "iou": "IoU (solid shapes)",
    "normal_consistency": "normal consistency",
    "observed": "observed points to answer x1000",
    "accuracy": "accuracy x10",
    "completeness": "completeness x10",
    "invented": "surface farther than 2 % from the truth, %",
    "tmd": "total mutual difference x100",
    "uhd": "unidirectional Hausdorff x100",
    "answers": "answers that differ",
    "seconds": "seconds",
}


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{metric: {mean, median, standard_error (of the mean), n}} over the rows where it applies, and how many failed."""
    summary: dict[str, Any] = {"scans": len(rows), "failed": sum(bool(row["failed"]) for row in rows)}
    for metric in (*METRICS, *COLUMNS):
        values = [row[metric] for row in rows if row.get(metric) is not None]
        if values:
            error = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None
            summary[metric] = {"mean": float(np.mean(values)), "median": float(np.median(values)), "n": len(values)}
            summary[metric]["standard_error"] = error
    return summary


def report_of(
    protocol: Protocol, library: Library, items: Sequence[Item], stores: dict[str, Store], split: str,
    baselines: Sequence[str], completers: Sequence[str], fingerprint: str,
) -> dict[str, Any]:  # fmt: skip
    classes = sorted({item.category for item in items})
    methods: dict[str, Any] = {}
    for method, store in stores.items():
        rows = [store.rows[item.name] for item in items if item.name in store.rows]
        entry: dict[str, Any] = {"all": summarise(rows)}
        entry["by class"] = {c: summarise([row for row in rows if row["class"] == c]) for c in classes}
        if method in completers and protocol.soundness:
            entry["rows"] = rows
        if method in FOOTNOTES:
            entry["note"] = FOOTNOTES[method]
        methods[method] = entry
    return {
        "protocol": {**asdict(protocol), "split": split, "views": 1 + max(item.view for item in items)},
        "shapes": len({item.index for item in items}),
        "scans": len(items),
        "classes": {c: sum(item.category == c for item in items) for c in classes},
        "sources": sorted({library.shapes[item.index].source for item in items}),
        "solid": len({item.index for item in items for s in stores.values() if s.rows[item.name]["solid"]}),
        "fingerprint": fingerprint,
        "baselines": list(baselines),
        "completers": list(completers),
        "methods": methods,
    }


_SCALES = {
    "chamfer_l1": 10.0, "accuracy": 10.0, "completeness": 10.0, "invented": 100.0, "observed": 1000.0, "tmd": 100.0,
    "uhd": 100.0,
}  # fmt: skip


def _figure(summary: dict[str, Any], metric: str, kind: str) -> str:
    if metric not in summary:
        return "–"
    return f"{summary[metric][kind] * _SCALES.get(metric, 1.0):.3f}"


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown: a table of all measures, one of F-scores by class."""
    protocol = report["protocol"]
    what = f"single-view scans ({protocol['pixels']} pixels, noise {protocol['noise']:g}, outliers "
    what += f"{protocol['outliers']:g}"
    if protocol["cloud"]:
        what = f"complete clouds ({protocol['cloud']:,} points, noise {protocol['noise']:g}"
    front = f", front off by {protocol['front_off']} quarter turns" if protocol["front_off"] else ""
    lines = [
        f"Split `{protocol['split']}` of {', '.join(report['sources'])}: {report['shapes']} shapes, {report['scans']} "
        f"{what}, pose {protocol['pose']}{front}, seed {protocol['seed']}), {protocol['points']:,} "
        f"evaluation points, longest side 1, {report['solid']} solid shapes. Mean / median.",
        "",
    ]
    every = {method: entry["all"] for method, entry in report["methods"].items()}
    columns = [c for c in METRICS if c not in SEVERAL or any(c in summary for summary in every.values())]
    lines += ["**All**", "", "| method | " + " | ".join(LABELS[c] for c in columns) + " |"]
    lines += ["|---" * (len(columns) + 1) + "|"]
    for method, summary in every.items():
        cells = [f"{_figure(summary, c, 'mean')} / {_figure(summary, c, 'median')}" for c in columns]
        failed = f" ({summary['failed']} failed)" if summary["failed"] else ""
        lines += [f"| {method}{failed} | " + " | ".join(cells) + " |"]
    lines += ["", *soundness_table(report)]
    lines += ["**F-score at 1 % by class (mean / median)**", ""]
    lines += ["| class (scans) | " + " | ".join(report["methods"]) + " |", "|---" * (len(report["methods"]) + 1) + "|"]
    for c, count in report["classes"].items():
        summaries = [entry["by class"][c] for entry in report["methods"].values()]
        cells = [f"{_figure(s, 'f_score', 'mean')} / {_figure(s, 'f_score', 'median')}" for s in summaries]
        lines += [f"| {c} ({count}) | " + " | ".join(cells) + " |"]
    notes = [f"- {method}: {entry['note']}" for method, entry in report["methods"].items() if "note" in entry]
    return "\n".join([*lines, "", *notes, ""])


def pictured(items: Sequence[Item], count: int) -> set[str]:
    """Names of at most `count` items, in turn from every class."""
    by_class: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.view):
        by_class[item.category].append(item)
    ranked = sorted((rank, c, item.name) for c, members in by_class.items() for rank, item in enumerate(members))
    return {name for _, _, name in ranked[:count]}


def sheet_of(
    items: Sequence[Item], shown: set[str], stores: dict[str, Store], judge: Judge,
    completers: dict[str, tuple[str, Completer]],
) -> Picture:  # fmt: skip
    rows, captions = [], []
    for item in sorted((item for item in items if item.name in shown), key=lambda item: item.category):
        row: list[Picture] = []
        scores = []
        for method, (fingerprint, _) in completers.items():
            strip = _read_picture(judge.picture_path(item, method, fingerprint))
            size = strip.shape[0]
            parts = [strip[:, k * size : (k + 1) * size] for k in range(3)]
            row = [*(row[:-1] or parts[:1]), parts[1], parts[2]]
            scores.append(f"{stores[method].rows[item.name]['f_score']:.2f}")
        observed = f", input {stores['input'].rows[item.name]['f_score']:.2f}" if "input" in stores else ""
        rows.append(row)
        captions.append(f"{item.category}: {item.key.split('/')[-1]}   F {' / '.join(scores)}{observed}")
    return contact_sheet(rows, ["input", *completers, "truth"], captions, blocks=1 if len(rows) < 8 else 3)


def _read_picture(path: Path) -> Picture:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
