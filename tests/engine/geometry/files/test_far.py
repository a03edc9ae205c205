"""Coordinates far from the origin, as surveys have them: centred before they lose digits, back where they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.cli import main
from engine.geometry.clouds import PointCloud
from engine.geometry.files import load, write_cloud, write_mesh
from engine.geometry.meshes import Mesh

FAR = np.array([512430.25, 5405590.5, 350.125])
EXAMPLES = Path(__file__).resolve().parents[4] / "examples"


def cloud() -> PointCloud:
    directions = np.random.default_rng(0).normal(size=(500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return PointCloud((directions * 0.4).astype(np.float32), directions.astype(np.float32), np.float32([1, -2, 0.5]))


@pytest.mark.parametrize("suffix", ["ply", "xyz", "obj", "npy", "npz", "pcd"])
def test_a_survey_keeps_its_digits(tmp_path: Path, suffix: str) -> None:
    given = cloud()
    write_cloud(tmp_path / f"a.{suffix}", given, FAR)
    loaded = load(tmp_path / f"a.{suffix}")
    assert np.abs(loaded.points + loaded.offset - (given.points + FAR)).max() < 1e-6
    assert np.abs(loaded.points).max() < 2 and "far from the origin" in " ".join(loaded.notes)
    if suffix in ("ply", "npz", "pcd"):
        assert np.allclose(loaded.viewpoint + loaded.offset, given.viewpoint + FAR)


@pytest.mark.parametrize("suffix", ["ply", "obj", "off", "glb"])
def test_a_result_goes_back_to_where_the_input_was(tmp_path: Path, suffix: str) -> None:
    vertices = cloud().points
    faces = np.arange(498, dtype=np.int32).reshape(-1, 3)
    write_mesh(tmp_path / f"a.{suffix}", Mesh(vertices, faces), FAR)
    loaded = load(tmp_path / f"a.{suffix}")
    assert np.abs(loaded.points + loaded.offset - (vertices + FAR)).max() < 1e-6


@pytest.mark.parametrize("far", [False, True])
def test_what_is_near_the_origin_or_has_lost_its_digits_is_not_moved(tmp_path: Path, far: bool) -> None:
    given = cloud()
    points = given.points + (np.float32([100, 0, 0]) if far else 0)  # 125 times its size away
    write_cloud(tmp_path / "a.npy", PointCloud(points.astype(np.float32)))
    loaded = load(tmp_path / "a.npy")
    assert not loaded.moved and not loaded.notes and np.array_equal(loaded.points, points)


def test_the_command_line_answers_in_the_surveys_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example far away: the same result there, the report in the file's coordinates, and the viewpoint too."""
    scan = load(EXAMPLES / "chair_scan.ply").shape
    assert isinstance(scan, PointCloud)
    shift = np.array([512000.0, 5405000.0, 300.0])
    write_cloud(tmp_path / "near.npz", scan)
    write_cloud(tmp_path / "far.npz", scan, shift)
    reports = []
    for name, viewpoint in (("near", "2,-2,1"), ("far", "512002,5404998,301")):
        arguments = ["complete", tmp_path / f"{name}.npz", "-o", tmp_path / f"{name}.ply", "--resolution", "32",
                     "--device", "cpu", "--viewpoint", viewpoint, "--json"]  # fmt: skip
        assert main([str(argument) for argument in arguments]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    near, far = load(tmp_path / "near.ply"), load(tmp_path / "far.ply")
    assert far.moved and not near.moved
    middle = far.points + far.offset - shift
    assert np.abs(middle.mean(0) - near.points.mean(0)).max() < 0.02 and len(middle) > 500
    matrices = [np.array(report["alignment"]["matrix"]).reshape(4, 4) for report in reports]
    assert np.allclose(matrices[1][:3, 3] - shift, matrices[0][:3, 3], atol=0.02)
    assert reports[1]["settings"]["viewpoint"] == pytest.approx([512002, 5404998, 301])
    told = reports[1]["input_file"]
    assert np.array_equal(told["offset"], load(tmp_path / "far.npz").offset) and "far from" in " ".join(told["notes"])
