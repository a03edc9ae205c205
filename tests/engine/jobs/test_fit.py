"""Fit Shape as a job and a command: previews, progress, cancelling, kept fields, refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from engine.cli import entry as cli
from engine.errors import Cancelled, InputError
from engine.geometry.clouds import PointCloud
from engine.geometry.connected import is_watertight
from engine.geometry.files import read_shape, write_cloud
from engine.geometry.meshes import Mesh, enclosed_volume
from engine.jobs.base import JobArrays, JobCallbacks, Preview, Progress
from engine.jobs.fit.request import FIT_METHODS, KIND, FitRequest
from engine.jobs.kinds import parse_request
from engine.jobs.run import run_job
from engine.surface_fit import store as field_store
from engine.surface_fit.auto import BlockField
from engine.surface_fit.base import find_method


def ball(count: int = 1500, seed: int = 0) -> NDArray[np.float32]:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(autouse=True)
def fields_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAPEWRIGHT_DATA_DIR", str(tmp_path / "dätä"))
    return tmp_path / "dätä" / "fields"


def request(**settings: Any) -> FitRequest:
    return FitRequest(**({"resolution": 32, "device": "cpu"} | settings))


def test_progress_previews_and_report() -> None:
    steps: list[Progress] = []
    previews: list[Preview] = []
    callbacks = JobCallbacks(steps.append, previews.append)
    result = run_job(request(resolution=64), JobArrays(ball() * 3 + 7), callbacks)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0 and len({step.stage for step in steps}) >= 4
    assert previews and all(abs(preview.mesh.vertices.mean() - 7) < 0.3 for preview in previews)  # in the scene's frame
    report = json.loads(json.dumps(result.report))
    assert {"kind", "method", "field_id", "seed", "noise", "residual", "watertight", "soundness", "components",
            "warnings", "timings", "input_points", "orientation", "device", "versions",
            "settings"} <= set(report)  # fmt: skip
    assert report["residual"]["p95"] < 0.1 and report["faces"] == len(result.meshes[0].faces)
    normals = result.meshes[0].normals
    assert normals is not None
    outwards = (normals * (result.meshes[0].vertices - 7)).sum(1)
    assert outwards.min() > 0


def test_the_same_seed_gives_the_same_mesh(one_thread: None) -> None:
    first, again = (run_job(request(seed=3), JobArrays(ball()), JobCallbacks()).meshes[0] for _ in range(2))
    assert np.array_equal(first.vertices, again.vertices) and np.array_equal(first.faces, again.faces)


def test_a_kept_field_is_extracted_without_fitting(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    points = ball() * 2 - 5
    half = points[points[:, 2] < -5 + 0.5]
    fine = run_job(request(resolution=64), JobArrays(half), JobCallbacks())
    first = run_job(request(), JobArrays(half), JobCallbacks())
    monkeypatch.setattr("engine.jobs.fit.run.find_method", lambda name: pytest.fail("it was fitted again"))
    number = first.report["field_id"]
    same = run_job(request(reuse=number), None, JobCallbacks())
    assert np.array_equal(same.meshes[0].vertices, first.meshes[0].vertices)
    assert same.report["field_id"] == number and same.report["reused"]
    finer = run_job(request(reuse=number, resolution=64), None, JobCallbacks()).meshes[0]
    assert len(finer.faces) > 3 * len(first.meshes[0].faces) and is_watertight(finer)
    distance = np.abs(np.linalg.norm(finer.vertices + 5, axis=1) - 2)[finer.vertices[:, 2] < -5]
    assert distance.mean() < 0.02
    opened = run_job(request(reuse=number, open_boundaries=True), None, JobCallbacks())
    assert not opened.report["watertight"] and opened.report["settings"]["resolution"] == 32
    assert len(fine.meshes[0].faces) > len(first.meshes[0].faces)


def test_a_missing_or_damaged_field_is_told_of(fields_folder: Path) -> None:
    with pytest.raises(InputError) as missing:
        run_job(request(reuse="0" * 32), None, JobCallbacks())
    assert missing.value.code == "field_missing"
    number = run_job(request(), JobArrays(ball()), JobCallbacks()).report["field_id"]
    path = fields_folder / f"{number}.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError) as damaged:
        run_job(request(reuse=number), None, JobCallbacks())
    assert damaged.value.code == "field_damaged"


def test_kept_fields_are_bounded(fields_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_store, "KEPT_FIELDS", 3)
    points, reach = np.zeros((4, 3), np.float32), np.zeros(4, np.float32)
    numbers = [field_store.keep_field(BlockField(torch.zeros(5, 5, 5)), points, reach, {}) for _ in range(5)]
    left = {path.stem for path in fields_folder.glob("*.safetensors")}
    assert len(left) == 3 and numbers[-1] in left
    monkeypatch.setattr(field_store, "KEPT_BYTES", 1)
    newest = field_store.keep_field(BlockField(torch.zeros(5, 5, 5)), points, reach, {})
    assert {path.stem for path in fields_folder.glob("*.safetensors")} == {newest}


def test_making_room_for_a_field_leaves_what_is_not_a_kept_field(
    fields_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(field_store, "KEPT_FIELDS", 1)
    fields_folder.mkdir(parents=True, exist_ok=True)
    mine = {f"{name}.{suffix}" for name in ("cups", "a" * 31, "A" * 32) for suffix in ("safetensors", "part", "1.part")}
    left_over = fields_folder / f"{'a' * 32}.12.part"
    for name in (*mine, left_over.name):
        (fields_folder / name).write_bytes(b"mine")
        os.utime(fields_folder / name, (1e9, 1e9))
    points, reach = np.zeros((4, 3), np.float32), np.zeros(4, np.float32)
    newest = [field_store.keep_field(BlockField(torch.zeros(5, 5, 5)), points, reach, {}) for _ in range(2)][-1]
    assert {path.name for path in fields_folder.iterdir()} == {*mine, f"{newest}.safetensors"}


def test_cancelling_stops_wherever_it_is() -> None:
    asked = 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    run_job(request(), JobArrays(ball(800)), JobCallbacks(should_stop=count))
    assert asked > 20
    for share in (0.1, 0.4, 0.7, 0.95):
        left = int(share * asked)

        def stop() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        with pytest.raises(Cancelled):
            run_job(request(), JobArrays(ball(800)), JobCallbacks(should_stop=stop))


@pytest.mark.parametrize("normals", ["auto", "given"])
def test_constant_normals_are_not_believed_unless_the_user_says_so(normals: str) -> None:
    points = ball(3000)
    flat = np.tile(np.float32([0, 0, 1]), (len(points), 1))
    result = run_job(request(normals=normals), JobArrays(points, flat), JobCallbacks())
    codes = [warning["code"] for warning in result.report["warnings"]]
    if normals == "auto":
        assert enclosed_volume(result.meshes[0]) == pytest.approx(4 / 3 * np.pi, rel=0.05)
    assert ("normals_not_believed" in codes) == (normals == "auto")


def test_more_points_than_are_fitted_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.surface_fit.prepare.MOST_POINTS", 2000)
    points = ball(6000)
    points[:6] = points[6:12]
    result = run_job(request(), JobArrays(points), JobCallbacks())
    assert enclosed_volume(result.meshes[0]) == pytest.approx(4 / 3 * np.pi, rel=0.05)
    used = result.report["input_points"]["used"] + result.report["input_points"]["stray"]
    assert result.report["notes"][0].startswith(f"Of its 6,000 points {used:,} are used")
    assert run_job(request(), JobArrays(ball(1000)), JobCallbacks()).report["notes"] == []


def test_refusals() -> None:
    for arrays, settings, code in (
        (None, {}, "input_missing"),
        (JobArrays(np.zeros((0, 3), np.float32)), {}, "no_points"),
        (JobArrays(ball(100)), {"normals": "given"}, "normals_missing"),
    ):
        with pytest.raises(InputError) as refused:
            run_job(request(**settings), arrays, JobCallbacks())
        assert refused.value.code == code
    with pytest.raises(ValidationError, match="method"):
        request(method="nonsense")
    with pytest.raises(InputError) as refused:
        find_method("nonsense")
    assert refused.value.code == "method_unknown"


def test_few_points_are_fitted_with_a_word_about_how_little_they_say() -> None:
    rng = np.random.default_rng(0)
    turn, about = rng.uniform(0, 2 * np.pi, (2, 400))
    ring = 0.35 + 0.13 * np.cos(about)
    torus = np.c_[ring * np.cos(turn), ring * np.sin(turn), 0.13 * np.sin(about)].astype(np.float32)
    told = {}
    for count in (50, 400):
        report = run_job(FitRequest(resolution=32, device="cpu"), JobArrays(torus[:count]), JobCallbacks()).report
        told[count] = {warning["code"]: warning for warning in report["warnings"]}
    assert "few_points" not in told[400]
    few = told[50]["few_points"]
    assert few["what"].startswith("50 points") and "% of the size apart" in few["why"]


def test_the_wire_knows_the_request() -> None:
    full = FitRequest(
        method="siren", resolution=256, smoothness=0.25, normals="none", viewpoint=(1.0, 2.0, 3.0), noise=0.5,
        open_boundaries=True, iterations=7, reuse="a" * 32, seed=4, device="cpu", name="x",
    )  # fmt: skip
    assert parse_request(full.model_dump(mode="json")) == full
    assert parse_request({"kind": "fit"}) == FitRequest()
    assert KIND.needs_arrays(FitRequest()) and not KIND.needs_arrays(full)
    for bad in ({"method": "magic"}, {"smoothness": 1.5}, {"reuse": "../../etc"}, {"open_boundaries": 1},
                {"resolution": 8}, {"noise": -1}, {"noise": float("nan")}, {"iterations": 0}):  # fmt: skip
        with pytest.raises(InputError):
            parse_request({"kind": "fit", **bad})
    assert set(FIT_METHODS) >= {"auto"}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, out, again = tmp_path / "my scän.ply", tmp_path / "out.ply", tmp_path / "again.obj"
    write_cloud(scan, PointCloud(ball()))
    assert cli.main(["fit", str(scan), "-o", str(out), "--resolution", "32", "--json", "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    mesh = read_shape(out)
    assert isinstance(mesh, Mesh) and len(mesh.faces) == report["faces"] and report["watertight"]
    assert cli.main(["fit", "--reuse", report["field_id"], "-o", str(again), "--resolution", "48"]) == 0
    assert "closed" in capsys.readouterr().out and again.exists()
    for arguments in (
        ["fit", "-o", str(out)],
        ["fit", str(scan), "--reuse", "0" * 32, "-o", str(out)],
        ["fit", "--reuse", "0" * 32, "-o", str(out)],
        ["fit", str(scan), "-o", str(tmp_path / "x.txt")],
        ["fit", str(scan), "-o", str(scan)],
        ["fit", str(scan), "-o", str(out), "--smoothness", "2"],
    ):
        assert cli.main(arguments) == 2
        sentences = capsys.readouterr().err.strip().splitlines()[-3:]
        assert len(sentences) == 3 and all(sentence.endswith(".") for sentence in sentences)
