"""The page of budgets says what was measured and whether it holds."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "benchmark_budgets"


@pytest.fixture(scope="module")
def budgets() -> ModuleType:
    loader = SourceFileLoader("benchmark_budgets", str(SCRIPT))
    spec = spec_from_loader("benchmark_budgets", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def row(resolution: int, seconds: float, cold: bool = False) -> dict[str, Any]:
    return {
        "scan": "chair_scan", "resolution": resolution, "cold": cold, "seconds": seconds, "first_preview": 0.5,
        "processor": 2.0, "evaluations": 169_746, "peak_memory": 800 << 20, "stages": {"load": 0.1, "optimise": 0.7},
    }  # fmt: skip


@pytest.mark.parametrize(("seconds", "held"), [(5.0, "yes"), (7.0, "no")])
def test_a_budget_is_held_or_not(budgets: ModuleType, seconds: float, held: str) -> None:
    rows = [row(128, 9.0, cold=True), row(128, seconds), row(128, seconds + 0.5), row(128, seconds - 0.5)]
    text = budgets.page({
        "prior": "household", "device": "cpu", "cores": 2, "version": "1", "runs": 3, "load": [0.4, 1.2], "ready": 1.5,
        "rows": [*rows, row(256, 11.0)],
    })  # fmt: skip
    cells = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]] for line in text.splitlines()
             if line.startswith("| ")}  # fmt: skip
    assert cells["complete, 128^3, one hypothesis, warm"] == ["6 s", f"{seconds:.2f} s", held, "2.00"]
    assert cells["engine memory, peak of the worker"] == ["1536 MB", "800 MB", "yes", ""]
    share = next(cells[what] for what in cells if what.startswith("field queries"))
    assert share[:3] == ["–", "1.00 %", ""]
    assert cells["warm, 256^3"] == ["0.100", "0.700"] and "load of the machine 0.4" in text
