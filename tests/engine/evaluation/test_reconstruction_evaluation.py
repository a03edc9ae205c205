"""The reconstruction protocol: its solids, its scans, its peers, its report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.cli import main
from engine.errors import Cancelled, InputError
from engine.evaluation import reconstruction as rec
from engine.evaluation.solids import SOLIDS, solid
from engine.geometry.clouds import PointCloud
from engine.geometry.connected import is_watertight
from engine.geometry.meshes import Mesh, enclosed_volume
from engine.geometry.metrics import distances_to_surface
from engine.geometry.sampling import sample_surface
from engine.geometry.signed_distance import SignedDistance


@pytest.fixture(scope="module")
def bracket() -> Mesh:
    return solid("bracket")


@pytest.mark.parametrize("name", SOLIDS)
def test_solids_are_solid(name: str) -> None:
    mesh = solid(name)
    assert is_watertight(mesh)
    assert enclosed_volume(mesh) > 0.005
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    assert float((high - low).max()) == pytest.approx(1.0, abs=1e-5)
    assert np.allclose(low + high, 0, atol=1e-5)


def test_scans_are_what_their_cases_say(bracket: Mesh) -> None:
    def scan(name: str) -> tuple[PointCloud, np.ndarray]:
        cloud = rec.make_scan(bracket, rec.CASES[name], np.random.default_rng(0))
        return cloud, distances_to_surface(bracket, cloud.points[:2000])

    clean, off = scan("clean")
    assert len(clean.points) == 25_000 and off.max() < 1e-4
    assert clean.normals is not None
    nearest = sample_surface(bracket, 60_000, np.random.default_rng(1))
    from scipy.spatial import cKDTree

    index = cKDTree(nearest[0]).query(clean.points[:2000])[1]
    assert ((clean.normals[:2000] * nearest[1][index]).sum(1) > 0.5).mean() > 0.97  # outwards
    covered = cKDTree(clean.points).query(nearest[0][:2000])[0]
    assert (covered < 0.03).mean() > 0.97

    noisy, off = scan("noisy")
    assert 0.001 < np.median(off) < 0.006 and noisy.normals is not None
    assert len(scan("sparse")[0].points) == 1_500
    missing, off = scan("missing")
    assert off.max() < 1e-4
    gone = cKDTree(missing.points).query(nearest[0][:2000])[0]
    assert (gone > 0.05).mean() > 0.12
    unoriented, _ = scan("unoriented")
    assert unoriented.normals is None
    stray, off = scan("outliers")
    assert 0.015 < (off > 0.01).mean() < 0.04 and len(stray.points) == 25_000


def test_scans_are_reproducible(bracket: Mesh) -> None:
    case = rec.Case(points=500, views=6, noise=0.01, outliers=0.1)
    first, second, other = (rec.make_scan(bracket, case, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.points, second.points)
    assert not np.array_equal(first.points, other.points)


def test_measures_of_the_truth_itself_and_of_nothing(bracket: Mesh) -> None:
    protocol, surface = rec.Protocol(samples=20_000), SignedDistance(bracket)
    truth = sample_surface(bracket, 20_000, np.random.default_rng(5))
    row = rec.measure(bracket, surface, protocol, truth)
    assert row["chamfer"] < 1e-4 and row["hausdorff"] < 1e-3 and row["normals"] > 0.95 and row["closed"]
    moved = Mesh(bracket.vertices + np.float32([0.1, 0, 0]), bracket.faces)
    assert rec.measure(moved, surface, protocol, truth)["hausdorff"] == pytest.approx(0.1, abs=0.005)
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert rec.measure(nothing, surface, protocol, truth) == {"failed": True}
    assert rec.measure(None, surface, protocol, truth) == {"failed": True}


def test_a_run_with_a_peer_writes_its_report_and_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("pymeshlab")
    arguments = [
        "evaluate", "reconstruction", "--methods", "poisson,poisson (estimated)", "--cases", "sparse,unoriented",
        "--shapes", "knot", "--points", "4000", "--resolution", "32", "--out", str(tmp_path), "--json",
    ]  # fmt: skip
    assert main(arguments) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    sparse, unoriented = report["cases"]["sparse"], report["cases"]["unoriented"]
    assert sparse["poisson"]["time_ratio"]["mean"] == 1.0
    assert sparse["poisson"]["chamfer"]["mean"] < 0.03
    assert "poisson" not in unoriented  # it needs normals
    assert unoriented["poisson (estimated)"]["time_ratio"]["mean"] == 1.0
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "**sparse**: 1,500 points" in text and "| poisson (estimated)" in text
    assert (tmp_path / "contact_sheet.png").stat().st_size > 1000

    rows = (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(rows + '{"key": "cut sh', encoding="utf-8")
    (tmp_path / "report.json").unlink()
    assert main(arguments) == 0
    again = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert again["rows"] == report["rows"]  # the times too: nothing was measured again


def test_failures_are_counted_and_left_out() -> None:
    good = {"failed": False, "chamfer": 0.01, "hausdorff": 0.1, "normals": 0.9, "closed": True, "applies": True}
    rows = [
        {**good, "shape": "a", "case": "clean", "method": "auto", "seconds": 3.0},
        {**good, "shape": "a", "case": "clean", "method": "poisson", "seconds": 1.0},
        {
            "failed": True,
            "applies": True,
            "shape": "b",
            "case": "clean",
            "method": "auto",
            "seconds": 4.0,
            "why": "So.",
        },
        {**good, "shape": "b", "case": "clean", "method": "poisson", "seconds": 2.0},
    ]
    report = rec.summarise(rows, rec.Protocol(), ["auto", "poisson"], ["clean"], ["a", "b"])
    entry = report["cases"]["clean"]["auto"]
    assert entry["failed"] == 1 and entry["scans"] == 2 and entry["closed"] == 1
    assert entry["chamfer"]["mean"] == 0.01
    assert entry["time_ratio"]["mean"] == pytest.approx(2.5)
    text = rec.markdown(report)
    assert "auto (1 of 2 failed)" in text and "auto: So." in text and "10.00 / 10.00" in text


def test_unknown_names_are_said(tmp_path: Path) -> None:
    for name, code in (("methods", "method_unknown"), ("cases", "case_unknown"), ("shapes", "shape_unknown")):
        with pytest.raises(InputError) as caught:
            rec.run_reconstruction_evaluation(**{name: ["what"]}, out_dir=tmp_path)  # type: ignore[arg-type]
        assert caught.value.code == code and caught.value.remedy
    with pytest.raises(InputError):
        rec.run_reconstruction_evaluation(methods=[], out_dir=tmp_path)


def test_a_run_can_be_cancelled(tmp_path: Path) -> None:
    pytest.importorskip("pymeshlab")
    with pytest.raises(Cancelled):
        rec.run_reconstruction_evaluation(
            methods=["poisson"],
            cases=["sparse"],
            shapes=["knot"],
            protocol=rec.Protocol(samples=500, resolution=16),
            out_dir=tmp_path,
            should_stop=lambda: True,
        )
