"""The jobs that make new shapes, run as the command line and the server run them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.cli import main
from engine.errors import Cancelled, InputError, JobFailed
from engine.generation.following import check
from engine.geometry.connected import is_watertight
from engine.geometry.files import load
from engine.geometry.meshes import Mesh
from engine.geometry.metrics import distances_to_surface
from engine.jobs.arithmetic.request import ArithmeticRequest
from engine.jobs.base import FinishedMesh, JobArrays, JobCallbacks, JobResult, ShapeCode
from engine.jobs.blend.request import BlendRequest
from engine.jobs.directions.request import DirectionsRequest
from engine.jobs.generate.request import GenerateRequest
from engine.jobs.run import run_job
from engine.jobs.slide.request import SlideRequest
from engine.jobs.vary.request import VaryRequest
from engine.surfaces.marching import extract_sparse

NO_POINTS = np.zeros((0, 3), np.float32)
POSE = np.array([[0.0, -2.0, 0.0, 5.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def made(generative_prior_file: Path) -> JobResult:
    request = GenerateRequest(prior=str(generative_prior_file), count=3, resolution=24, seed=5)
    return run_job(request, None, JobCallbacks())


def as_input(code: ShapeCode | None, pose: Any = POSE) -> JobArrays:
    assert code is not None
    return JobArrays(NO_POINTS, code=ShapeCode(code.code, np.asarray(pose)))


def test_shapes_come_one_by_one_and_any_of_them_alone(generative_prior_file: Path, made: JobResult) -> None:
    seen: list[FinishedMesh] = []
    request = GenerateRequest(prior=str(generative_prior_file), count=1, first=2, resolution=24, seed=5)
    alone = run_job(request, None, JobCallbacks(on_mesh=seen.append))
    assert [one.index for one in seen] == [0] and seen[0].mesh is alone.meshes[0]
    assert seen[0].about == alone.report["shapes"][0] and seen[0].about["number"] == 2
    assert np.array_equal(alone.meshes[0].vertices, made.meshes[2].vertices)
    assert alone.codes[0] is not None and made.codes[2] is not None
    assert np.array_equal(alone.codes[0].code, made.codes[2].code)
    assert all(is_watertight(mesh) for mesh in made.meshes)
    assert {row["class_name"] for row in made.report["shapes"]} <= {"ball", "plate"}
    assert all(row["nearest"]["name"].startswith("ellipsoid") for row in made.report["shapes"])
    json.dumps(made.report)


def test_a_code_comes_back_as_the_same_shape_in_its_place(generative_prior_file: Path, made: JobResult) -> None:
    digest = made.report["prior"]["sha256"]
    again = run_job(
        VaryRequest(prior=str(generative_prior_file), prior_sha256=digest, count=1, strength=0.0, resolution=24),
        as_input(made.codes[0]), JobCallbacks(),
    )  # fmt: skip
    there = made.meshes[0].vertices @ POSE[:3, :3].T + POSE[:3, 3]
    assert np.allclose(again.meshes[0].vertices, there, atol=1e-4)
    assert again.codes[0] is not None and np.allclose(again.codes[0].pose, POSE)
    slid = run_job(
        SlideRequest(prior=str(generative_prior_file), resolution=24), as_input(made.codes[0]), JobCallbacks()
    )
    assert np.allclose(slid.meshes[0].vertices, there, atol=1e-4)


def test_variants_differ_and_keep_what_is_to_be_kept(generative_prior_file: Path, made: JobResult) -> None:
    arrays = as_input(made.codes[0])
    there = made.meshes[0].vertices @ POSE[:3, :3].T + POSE[:3, 3]
    kept = there[there[:, 2] > np.quantile(there[:, 2], 0.7)].astype(np.float32)
    request = VaryRequest(prior=str(generative_prior_file), count=2, strength=1.5, resolution=48)
    free = run_job(request, arrays, JobCallbacks())
    arrays.kept = kept
    bound = run_job(request, arrays, JobCallbacks())
    size = 2.0  # of the canonical unit in this place
    for loose, tied, row in zip(free.meshes, bound.meshes, bound.report["shapes"], strict=True):
        assert distances_to_surface(tied, kept).mean() < 0.002 * size
        assert row["kept"]["mean"] == pytest.approx(distances_to_surface(tied, kept).mean(), rel=0.1)
        assert distances_to_surface(loose, kept).mean() > 0.005 * size
        low = there[there[:, 2] < np.quantile(there[:, 2], 0.2)]
        assert distances_to_surface(tied, low).mean() > 0.005 * size
        assert is_watertight(tied)


def test_blends_lead_from_shape_to_shape(generative_prior_file: Path, made: JobResult) -> None:
    arrays = as_input(made.codes[0], np.eye(4))
    arrays.others = [as_input(made.codes[1])]
    result = run_job(BlendRequest(prior=str(generative_prior_file), steps=2, resolution=24), arrays, JobCallbacks())
    rows = result.report["shapes"]
    assert [(row["from"], row["to"], round(row["t"], 3)) for row in rows] == [
        (0, 1, 0.0), (0, 1, 0.333), (0, 1, 0.667), (0, 1, 1.0),
    ]  # fmt: skip
    assert np.allclose(result.meshes[0].vertices, made.meshes[0].vertices, atol=1e-4)
    sizes = [np.ptp(mesh.vertices, axis=0).max() for mesh in result.meshes]
    assert sizes == sorted(sizes)  # the second shape stands twice as large
    with pytest.raises(InputError, match="at least 2"):
        run_job(BlendRequest(prior=str(generative_prior_file)), as_input(made.codes[0]), JobCallbacks())


def test_a_blend_of_one_mesh_follows_the_surface_of_every_step(generative_prior_file: Path, made: JobResult) -> None:
    results = []
    for one_mesh in (True, False):
        arrays = as_input(made.codes[0], np.eye(4))
        arrays.others = [as_input(made.codes[1], np.eye(4))]
        request = BlendRequest(prior=str(generative_prior_file), steps=2, resolution=40, one_mesh=one_mesh)
        results.append(run_job(request, arrays, JobCallbacks()))
    together, apart = results
    assert len(together.meshes) == 4 and len({len(mesh.faces) for mesh in apart.meshes}) > 1
    for mesh, own in zip(together.meshes, apart.meshes, strict=True):
        assert np.array_equal(mesh.faces, together.meshes[0].faces) and is_watertight(mesh)
        assert np.percentile(distances_to_surface(own, mesh.vertices), 95) < 0.004
        assert np.percentile(distances_to_surface(mesh, own.vertices), 95) < 0.01
    moved = np.abs(together.meshes[-1].vertices - together.meshes[0].vertices).max()
    assert moved > 0.02, "the shapes differ"
    assert all(row["off"] < 0.01 for row in together.report["shapes"])


def test_one_mesh_is_refused_where_parts_come_or_go() -> None:
    def balls(*places: float) -> Mesh:
        centres = torch.tensor([[x, 0.0, 0.0] for x in places])
        return extract_sparse(lambda x: torch.cdist(x, centres).min(1).values - 0.1, 32).mesh

    one, moved, two = balls(0.2), balls(0.21), balls(-0.2, 0.2)
    assert check(one, moved, 0, 3) == pytest.approx(0.01, abs=0.003)
    for given in ((one, two), (two, one)):
        with pytest.raises(JobFailed, match="timeline") as caught:
            check(*given, 1, 3)
        assert caught.value.code == "blend_topology" and "step 2 of 3" in caught.value.why.lower()


def test_a_mesh_is_encoded_in_its_own_place(generative_prior_file: Path, made: JobResult) -> None:
    mesh = made.meshes[0]
    arrays = JobArrays((mesh.vertices * 3 + [100.0, 0.0, 7.0]).astype(np.float32), None, mesh.faces)
    request = VaryRequest(prior=str(generative_prior_file), count=1, strength=0.0, resolution=24)
    result = run_job(request, arrays, JobCallbacks())
    assert result.report["inputs"][0]["code"] == "encoded"
    assert result.codes[0] is not None
    box = np.ptp(mesh.vertices, axis=0).max() * 3
    assert result.codes[0].pose[0, 0] == pytest.approx(box, rel=1e-3)
    assert np.allclose(result.codes[0].pose[:3, 3], (arrays.points.max(0) + arrays.points.min(0)) / 2, atol=1e-3)


def test_arithmetic_and_directions(generative_prior_file: Path, made: JobResult) -> None:
    arrays = as_input(made.codes[0])
    arrays.others = [as_input(made.codes[1]), as_input(made.codes[1], np.eye(4))]
    result = run_job(ArithmeticRequest(prior=str(generative_prior_file), resolution=24), arrays, JobCallbacks())
    assert result.codes[0] is not None and made.codes[0] is not None
    assert np.allclose(result.codes[0].code, made.codes[0].code, atol=1e-4)
    assert np.allclose(result.codes[0].pose, np.eye(4))


def test_what_does_not_fit_is_refused(
    generative_prior_file: Path, small_prior_file: Path, made: JobResult, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as none:
        run_job(GenerateRequest(prior=str(small_prior_file)), None, JobCallbacks())
    assert none.value.code == "prior_cannot_generate"
    arrays = JobArrays(NO_POINTS, code=ShapeCode(np.zeros((4, 4, 4, 4), np.float32), np.eye(4)))
    with pytest.raises(InputError) as foreign:
        run_job(SlideRequest(prior=str(generative_prior_file)), arrays, JobCallbacks())
    assert foreign.value.code == "code_mismatch"
    with pytest.raises(InputError) as unknown:
        run_job(DirectionsRequest(prior=str(generative_prior_file), class_name="vase"), None, JobCallbacks())
    assert unknown.value.code == "class_unknown"
    away = as_input(made.codes[0])
    away.kept = np.full((5, 3), 50.0, np.float32)
    with pytest.raises(InputError) as outside:
        run_job(VaryRequest(prior=str(generative_prior_file)), away, JobCallbacks())
    assert outside.value.code == "kept_outside"
    with pytest.raises(Cancelled):
        run_job(GenerateRequest(prior=str(generative_prior_file)), None, JobCallbacks(should_stop=lambda: True))


def test_the_command_line_gives_the_jobs_shapes_and_takes_their_codes(
    generative_prior_file: Path, made: JobResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: Any) -> tuple[int, dict[str, Any]]:
        status = main([*map(str, arguments), "--json", "--resolution", "24"])
        return status, json.loads(capsys.readouterr().out)

    out = tmp_path / "neue Formen"
    prior = ("--prior", generative_prior_file)
    status, report = run("generate", "-o", out, "-n", 3, "--seed", 5, *prior)
    assert status == 0 and len(report["outputs"]) == 3
    points = load(out / "shape_001.ply").points
    assert np.allclose(points, made.meshes[1].vertices, atol=1e-6)
    status, refused = run("generate", "-o", out, "--seed", 5, *prior)
    assert status == 2 and refused["error"]["code"] == "output_exists"
    status, report = run("vary", out / "shape_001.npz", "-n", 1, "--strength", 0, "-o", tmp_path / "v", *prior)
    assert status == 0 and report["inputs"][0]["code"] == "given"
    points = load(tmp_path / "v" / "shape_001_variant_000.ply").points
    assert np.allclose(points, made.meshes[1].vertices, atol=1e-5)
    status, report = run(
        "blend", out / "shape_000.npz", out / "shape_002.ply", "--steps", 1, "--no-ends", "-o", tmp_path / "b", *prior
    )
    assert status == 0 and [row["code"] for row in report["inputs"]] == ["given", "encoded"]
    assert len(report["outputs"]) == 1
    a, b = out / "shape_000.npz", out / "shape_001.npz"
    status, report = run("arithmetic", a, b, b, "-o", tmp_path / "sum.ply", *prior)
    assert status == 0 and Path(report["outputs"][0]) == tmp_path / "sum.ply"
