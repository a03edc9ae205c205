"""The benchmark scripts run to their end, on small priors, and what they write holds together."""

from __future__ import annotations

import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from engine.fields.families.deepsdf import DeepSDF
from engine.geometry.meshes import Mesh
from engine.priors.file import save_prior
from engine.training.library import write_library
from engine.training.shapes import Shape

pytest.importorskip("warp")
pytest.importorskip("matplotlib")
trimesh = pytest.importorskip("trimesh")

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


def script(name: str) -> ModuleType:
    loader = SourceFileLoader(name, str(SCRIPTS / name))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_completion_beside_the_reference(
    small_prior_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHAPEWRIGHT_CACHE", str(tmp_path / "cache"))
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    shape = Mesh(np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32))
    write_library(tmp_path / "library", [Shape("made", "chair", "ball", "validation", mesh=shape)])
    torch.manual_seed(0)
    network = DeepSDF(code=2, hidden=16, layers=4, dropout=0.0)
    save_prior(tmp_path / "deep.safetensors", network.eval(), {"name": "deep", "version": "1", "classes": ["chair"]})

    benchmark = script("benchmark_completion")
    monkeypatch.setattr(benchmark, "RESOLUTIONS", (16, 24))
    monkeypatch.setattr(benchmark, "STEPS", 3)
    monkeypatch.setattr(benchmark, "POINTS", 64)
    arguments = ["benchmark_completion", str(tmp_path / "library"), "--reference", str(tmp_path / "deep.safetensors")]
    arguments += ["--prior", str(small_prior_file), "--sources", "", "--limit", "1", "--points", "3000", "--noise", "0"]
    arguments += ["--pixels", "50", "--slice-steps", "1", "--slice-nodes", "500", "--reference-steps", "3"]
    arguments += ["--whole", "1", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", arguments)
    assert benchmark.main() == 0

    result = json.loads((tmp_path / "out" / "benchmark.json").read_text(encoding="utf-8"))
    groups = {group["device"]: group for group in result["summary"]}
    group = groups["cpu"]
    assert group["scans"] == 1 and {"cpu"} <= set(groups)
    assert group["ours"]["16"]["chamfer_l1"] < 0.1  # the small prior knows balls
    for resolution in ("16", "24"):
        mine, theirs = group["ours"][resolution], group["reference"][resolution]
        assert 0 < mine["first_preview"] <= mine["wall"]
        assert theirs["ratio"] == pytest.approx(theirs["wall"] / mine["wall"])
        assert theirs["evaluations"] == 3 * 64 + (int(resolution) + 1) ** 3
        assert theirs["wall"] > theirs["optimise"] > 0
        assert sum(mine["stages"].values()) <= mine["wall"]
    judged = list(groups.values())[-1]
    assert judged["reference_whole"]["scans"] == 1 and judged["reference_whole"]["ours"] is not None
    page = (tmp_path / "out" / "benchmark.md").read_text(encoding="utf-8")
    assert "reference, 3 steps x 64 points" in page and page in capsys.readouterr().out + "\n"
    assert (tmp_path / "out" / "benchmark.png").stat().st_size > 5000


def test_sliders(
    small_prior_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = script("benchmark_sliders")
    points = benchmark.chair(0.3, 0.5)
    assert np.ptp(points, axis=0).max() == pytest.approx(1.0, abs=0.01)
    assert np.abs(points.max(0) + points.min(0)).max() < 0.02
    monkeypatch.setattr(benchmark, "RESOLUTIONS", (16, 24))
    monkeypatch.setattr("sys.argv", ["benchmark_sliders", "--prior", str(small_prior_file), "--steps", "2", "--device",
                                     "cpu", "--out", str(tmp_path)])  # fmt: skip
    assert benchmark.main() == 0
    rows = json.loads((tmp_path / "sliders.json").read_text(encoding="utf-8"))["rows"]
    assert [row["resolution"] for row in rows] == [16, 24]
    for row in rows:
        assert row["faces"] > 0 and row["bytes"] > 0 and row["evaluations"] > 0
        parts = sum(row[stage] for stage in benchmark.STAGES)
        assert 0 < parts <= 2 * row["slowest"]
    assert "| 24^3 |" in capsys.readouterr().out
