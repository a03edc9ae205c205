"""Complete Shape on what scans are like: strays, floors, normals of any side, many points; class, noise and faces."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from engine.completion.confidence import most_confidence
from engine.completion.placing import align
from engine.errors import InputError
from engine.frames import up_rotation
from engine.geometry.connected import is_watertight
from engine.geometry.meshes import vertex_normals
from engine.jobs.base import JobArrays, JobCallbacks, JobResult
from engine.jobs.complete.report import left_out
from engine.jobs.complete.request import CompleteRequest
from engine.jobs.complete.scan import RAW_POINTS, WORKING_POINTS, scan_of
from engine.jobs.run import run_job
from engine.priors.file import load_prior, save_prior

AXES = np.array([0.4, 0.3, 0.35])
VIEWPOINT = (0.3, -1.6, 0.9)


@pytest.fixture
def request_(small_prior_file: Path) -> CompleteRequest:
    return CompleteRequest(prior=str(small_prior_file), resolution=32, viewpoint=VIEWPOINT, device="cpu", seed=3)


def scan(count: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3) points and outward unit normals of one view of an ellipsoid."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(4 * count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points, normals = direction * AXES, direction / AXES
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    seen = ((np.array(VIEWPOINT) - points) * normals).sum(1) > 0
    return points[seen][:count].astype(np.float32), normals[seen][:count].astype(np.float32)


def run(request: CompleteRequest, points: np.ndarray, normals: np.ndarray | None = None) -> JobResult:
    arrays = JobArrays(points.astype(np.float32), None if normals is None else normals.astype(np.float32))
    return run_job(request, arrays, JobCallbacks())


def prepared(request: CompleteRequest, points: np.ndarray, normals: np.ndarray | None = None) -> dict[str, object]:
    """What the job says of the input, without completing it."""
    found = scan_of(JobArrays(points, normals), request, np.random.default_rng(0))
    return found.about | {"used": len(found.cloud.points), "sigma": found.noise, "points": found.cloud.points}


def test_strays_are_left_out_and_change_little(request_: CompleteRequest) -> None:
    points, _ = scan()
    strays = np.random.default_rng(1).uniform(-0.8, 0.8, (300, 3))
    clean, dirty = run(request_, points), run(request_, np.concatenate([points, strays]))
    assert clean.report["evidence"]["strays"] <= 6
    assert 200 < dirty.report["evidence"]["strays"] <= 306
    assert dirty.report["alignment"]["scale"] == pytest.approx(clean.report["alignment"]["scale"], rel=0.25)
    kept = prepared(request_, np.concatenate([points, strays]).astype(np.float32))["points"]
    assert np.abs(np.asarray(kept)).max() < 0.75  # the strays that stay lie near the rest


def test_duplicates_are_counted_and_change_nothing(request_: CompleteRequest) -> None:
    points, _ = scan()
    once, often = prepared(request_, points), prepared(request_, np.tile(points, (5, 1)))
    assert once["duplicates"] == 0 and often["duplicates"] == 4 * len(points)
    assert np.array_equal(once["points"], often["points"]) and once["sigma"] == often["sigma"]


def test_what_was_left_out_is_told_in_sentences(request_: CompleteRequest) -> None:
    points, _ = scan()
    rng = np.random.default_rng(0)
    assert run(request_, points).report["notes"] == []
    floor = np.c_[rng.uniform(-1.2, 1.2, (3000, 2)), np.full(3000, -0.36)]
    strays = rng.uniform(-0.8, 0.8, (300, 3)) + np.array([0, 0, 0.9])
    report = run(request_, np.concatenate([points, points[:7], floor, strays])).report
    said = " ".join(report["notes"])
    evidence = report["evidence"]
    assert evidence["duplicates"] == 7 and "7 points lie where others do" in said
    assert f"{evidence['strays']:,} stray points" in said
    assert f"beyond and beside it: {evidence['ground']['points']:,} points" in said
    many = scan_of(JobArrays(np.repeat(points, 20, 0) + rng.normal(0, 1e-3, (20 * len(points), 3)).astype(np.float32)),
                   request_, rng)  # fmt: skip
    told = left_out(JobArrays(np.zeros((20 * len(points), 3), np.float32)), many)
    assert told[0].startswith(f"Of its {20 * len(points):,} points {WORKING_POINTS:,}")


@pytest.mark.parametrize("up", ["+z", "-y"])
def test_a_floor_is_left_out_reported_or_kept(request_: CompleteRequest, up: str) -> None:

    points, _ = scan()
    side = np.random.default_rng(0).uniform(-1.2, 1.2, (3000, 2))
    standing = np.concatenate([points, np.c_[side, np.full(3000, -0.36)]]) + np.array([5.0, -7.0, 11.0])
    turned = (standing @ up_rotation(up)).astype(np.float32)  # the inverse: z goes to `up`
    x, y, z = (float(v) for v in (np.array(VIEWPOINT) + np.array([5.0, -7.0, 11.0])) @ up_rotation(up))
    request_ = request_.but(up=up, viewpoint=(x, y, z))
    result = run(request_, turned)
    ground = result.report["evidence"]["ground"]
    assert ground["points"] == pytest.approx(3000, abs=60)
    assert ground["height"] == pytest.approx(11.0 - 0.36, abs=0.01)
    assert result.report["alignment"]["scale"] < 1.3
    kept = prepared(request_.but(ground="keep"), turned)
    assert kept["ground"] is None and kept["used"] > 4000


@pytest.mark.parametrize("told", [True, False])
def test_on_a_table_in_its_cameras_frame_the_object_stands_alone_and_upright(
    request_: CompleteRequest, told: bool
) -> None:
    """x right, y down, z forward: the up axis of the request says nothing, the table says it."""
    points, _ = scan()
    side = np.random.default_rng(0).uniform(-0.9, 0.9, (3000, 2))
    table = np.c_[side, np.full(3000, -0.36)]
    towards = table - VIEWPOINT  # what the object hides of the table the camera does not see
    along = np.linspace(0, 1, 60)[:, None, None]
    hidden = ((((VIEWPOINT + along * towards) / AXES) ** 2).sum(2) < 1).any(0)
    forward = -np.array(VIEWPOINT) / np.linalg.norm(VIEWPOINT)
    right = np.cross(forward, [0, 0, 1.0]) / np.linalg.norm(np.cross(forward, [0, 0, 1.0]))
    camera = np.stack([right, np.cross(forward, right), forward])
    seen = (np.concatenate([points, table[~hidden]]) - VIEWPOINT) @ camera.T
    request_ = request_.but(viewpoint=(0.0, 0.0, 0.0) if told else None)
    report = run(request_, seen).report
    ground = report["evidence"]["ground"]
    assert "taken as the floor" in ground["what"] and "camera" in ground["what"]
    assert np.dot(ground["normal"], camera[:, 2]) > 0.999
    assert ground["points"] == pytest.approx((~hidden).sum(), rel=0.03)
    assert report["evidence"]["viewpoint"] is True
    up = np.array(report["alignment"]["matrix"])[:3, 2]
    assert up @ camera[:, 2] / np.linalg.norm(up) > 0.999
    kept = prepared(request_.but(ground="keep"), seen.astype(np.float32))
    assert kept["ground"] is None and kept["used"] > 3000


def test_a_viewpoint_that_nobody_told_is_found_and_told(request_: CompleteRequest) -> None:
    depth_image = scanned_by_a_camera()
    asked = request_.but(viewpoint=None)
    report = run(asked, depth_image + 100.0).report  # wherever the scan lies
    found = report["evidence"]["viewpoint_found"]
    assert report["evidence"]["viewpoint"] is True and report["settings"]["viewpoint"] is None
    towards, true = np.array(found["at"]) - 100.0, np.array(VIEWPOINT)
    assert towards @ true / np.linalg.norm(towards) / np.linalg.norm(true) > 0.99 and found["confidence"] > 0.7
    assert report["evidence"]["normals"] == "estimated"
    unknown = run(asked.but(seen_from="unknown"), depth_image).report["evidence"]
    assert unknown["viewpoint"] is False and unknown["viewpoint_found"] is None and unknown["normals"] == "none"


def scanned_by_a_camera() -> np.ndarray:
    """(N, 3) the box of AXES as a raster from VIEWPOINT meets it."""
    low, high = -np.array(AXES), np.array(AXES)
    eye = np.array(VIEWPOINT)
    forward = -eye / np.linalg.norm(eye)
    right = np.cross(forward, [0, 0, 1.0]) / np.linalg.norm(np.cross(forward, [0, 0, 1.0]))
    up = np.cross(right, forward)
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, 120), np.linspace(-0.5, 0.5, 120))
    rays = forward + u.reshape(-1, 1) * right + v.reshape(-1, 1) * up
    with np.errstate(divide="ignore"):
        one, other = (low - eye) / rays, (high - eye) / rays
    enter, leave = np.minimum(one, other).max(1), np.maximum(one, other).min(1)
    return (eye + enter[:, None] * rays)[enter < leave]


def test_normals_of_any_side_are_used_for_what_they_are(request_: CompleteRequest) -> None:
    points, normals = scan()
    blind = request_.but(viewpoint=None, seen_from="unknown")
    signs = np.random.default_rng(0).choice([-1, 1], (len(points), 1))
    said = {
        name: run(blind, points, given).report["evidence"]["normals"]
        for name, given in {"out": normals, "in": -normals, "mixed": normals * signs, "none": None}.items()
    }
    assert said["out"] == "given" and said["in"] == "given, turned outward" and said["none"] == "none"
    assert "not used" in said["mixed"]
    assert run(request_, points).report["evidence"]["normals"] == "estimated"
    # Turned outward, normals that looked in give the very same shape.
    out, turned = run(blind, points, normals).meshes[0], run(blind, points, -normals).meshes[0]
    assert np.allclose(out.vertices, turned.vertices, atol=1e-5)


@pytest.mark.parametrize("viewpoint", [True, False])
def test_constant_normals_are_not_believed(request_: CompleteRequest, viewpoint: bool) -> None:
    points, _ = scan()
    request_ = request_ if viewpoint else request_.but(viewpoint=None)
    told = run(request_, points, np.tile(np.float32([0, 0, 1]), (len(points), 1)))
    assert "normals_not_believed" in [warning["code"] for warning in told.report["warnings"]]
    assert told.report["evidence"]["normals"] == ("estimated" if viewpoint else "not believed")
    without = run(request_, points)
    assert np.array_equal(told.meshes[0].vertices, without.meshes[0].vertices)


def test_noise_is_estimated_or_taken_as_told(request_: CompleteRequest) -> None:
    points, _ = scan()
    noisy = (points + 0.01 * np.random.default_rng(2).standard_normal(points.shape)).astype(np.float32)
    assert prepared(request_, noisy)["sigma"] == pytest.approx(0.01, rel=0.5)
    told = run(request_.but(noise=0.02), noisy).report
    assert told["noise"] == 0.02 and told["evidence"]["noise"] == "given"


def test_millions_of_points_are_thinned_before_anything_else(request_: CompleteRequest) -> None:
    points, _ = scan(100_000)
    many = np.tile(points, (8, 1)) + 1e-4 * np.random.default_rng(0).standard_normal((8 * len(points), 3))
    assert len(many) > RAW_POINTS
    about = prepared(request_, many.astype(np.float32))
    assert about["used"] == WORKING_POINTS
    assert np.ptp(about["points"], axis=0) == pytest.approx(np.ptp(points, axis=0), rel=0.02)


def test_a_class_is_checked_and_its_effect_told(request_: CompleteRequest, generative_prior_file: Path) -> None:
    points, _ = scan()
    assert run(request_, points).report["class"] == {"asked": "", "effect": "found automatically"}
    assert run(request_.but(class_name="box"), points).report["class"]["effect"].startswith("none")
    with pytest.raises(InputError) as caught:
        run(request_.but(class_name="elephant"), points)
    assert caught.value.code == "class_unknown" and "ball" in caught.value.why
    # Low plates or balls: with little seen, the choice decides about the rest.
    few = points[points[:, 2] > 0.28]
    asked = request_.but(prior=str(generative_prior_file), align="none")
    heights = {}
    for name in ("ball", "plate"):
        result = run(asked.but(class_name=name), few)
        assert result.report["class"]["effect"].startswith("what was not seen")
        heights[name] = float(np.ptp(result.meshes[0].vertices[:, 2]))
    assert heights["plate"] < heights["ball"]


def test_a_face_budget_is_kept_and_normals_are_the_fields(request_: CompleteRequest) -> None:
    points, _ = scan()
    result = run(request_.but(resolution=64, max_faces=800), points)
    mesh, row = result.meshes[0], result.report["hypotheses"][0]
    assert len(mesh.faces) == 800 == row["faces"]
    assert row["loose_edges"] == 0 and row["watertight"] is True and is_watertight(mesh)
    assert mesh.normals is not None and np.allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-3)
    assert np.median((vertex_normals(mesh) * mesh.normals).sum(1)) > 0.95


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_a_prior_that_does_not_know_the_thing_says_so(
    request_: CompleteRequest, tmp_path: Path, threshold: float
) -> None:
    prior = load_prior(request_.prior)
    calibration = {
        "means": [-4] * 6, "deviations": [1] * 6, "weights": [-1] * 6, "bias": 0, "threshold": threshold
    }  # fmt: skip
    path = tmp_path / "own.safetensors"
    card = {"name": "own", "version": "1", "classes": prior.classes, "confidence": calibration}
    save_prior(path, prior.field, card, prior.pose)
    report = run(request_.but(prior=str(path)), scan()[0]).report
    assert 0 <= report["confidence"]["value"] <= 1 and report["confidence"]["threshold"] == threshold
    assert [warning["code"] for warning in report["warnings"]] == (["prior_does_not_know"] if threshold > 1 else [])
    for warning in report["warnings"]:
        assert warning["what"] and "ball, box" in warning["why"] and "Fit Shape" in warning["remedy"]


def test_an_up_that_was_only_found_is_a_factor_of_the_confidence(
    request_: CompleteRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, _ = scan()
    sure = run(request_, points).report["confidence"]["value"]
    monkeypatch.setattr(
        "engine.jobs.complete.run.align", lambda *given: dataclasses.replace(align(*given), up_share=0.25)
    )
    assert run(request_, points).report["confidence"]["value"] == pytest.approx(0.25 * sure)


def test_the_fewer_points_the_less_confidence_and_few_are_told(request_: CompleteRequest) -> None:
    most = [most_confidence(n) for n in (50, 200, 500, 1000, 20_000)]
    assert most == sorted(most) and most[0] < 0.3 and most[-1] == 1
    points, _ = scan()
    values = {n: run(request_, points[:n]).report for n in (50, 1200)}
    assert values[50]["confidence"]["value"] <= most_confidence(50) < values[50]["confidence"]["threshold"]
    assert "few_points" in [warning["code"] for warning in values[50]["warnings"]]
    assert "few_points" not in [warning["code"] for warning in values[1200]["warnings"]]


def test_several_answers_are_measured(request_: CompleteRequest) -> None:
    report = run(request_.but(hypotheses=3), scan()[0]).report
    diversity = report["diversity"]
    assert (diversity["total_mutual_difference"] > 0) == (len(report["hypotheses"]) > 1)
    assert 0 < diversity["unidirectional_hausdorff"] < 0.3
    assert report["residual"]["relative"] == pytest.approx(
        report["residual"]["median"] / report["alignment"]["scale"], rel=1e-6
    )
    assert report["peak_memory"]["process"] > 1e7
