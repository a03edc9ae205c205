"""Rows on disk: a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..training.library import Library
from .protocol import VERSION, Item, Protocol, digest

log = logging.getLogger(__name__)


class Store:
    """Rows of one method under one protocol, a JSON object a line; a line cut short by a crash is dropped."""

    def __init__(self, out: Path, protocol: Protocol, method: str, fingerprint: str, library: Library) -> None:
        training = ""
        if method == "retrieval":  # the only baseline that depends on anything but the scan
            training = digest([shape.key for shape in library.shapes if shape.split == "train"])
        mark = digest(VERSION, asdict(protocol), method, fingerprint, training)
        safe = "".join(c if c.isalnum() else "-" for c in method)
        self.path = out / "rows" / f"{safe}-{mark}.jsonl"
        self.rows: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                    self.rows[row["item"]] = row
                except (ValueError, KeyError, TypeError):
                    log.warning("a damaged line in %s is dropped", self.path.name)

    def has(self, item: Item) -> bool:
        return item.name in self.rows

    def add(self, item: Item, row: dict[str, Any]) -> None:
        row = {"item": item.name, "class": item.category, **row}
        self.rows[item.name] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        broken = self.path.is_file() and self.path.stat().st_size > 0 and self.path.read_bytes()[-1:] != b"\n"
        with self.path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(("\n" if broken else "") + json.dumps(row) + "\n")


def add_verdicts(items: Sequence[Item], store: Store, meshes: Path) -> None:
    """What scripts/quads_verdict wrote into the folder of the meshes, as a column of their rows."""
    try:
        verdicts = json.loads((meshes / "quads.json").read_text(encoding="utf-8"))["meshes"]
    except (OSError, ValueError, KeyError):
        return
    for item in items:
        verdict = verdicts.get(f"{item.file_name}.ply")
        if verdict is not None and item.name in store.rows:
            store.rows[item.name]["quads"] = float(verdict["accepted"])
