"""Several scans in one input: each point was seen from its own scan's place."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.cli import entry as cli
from engine.completion.evidence import gather
from engine.completion.symmetry import LookedThrough
from engine.errors import InputError
from engine.geometry.clouds import PointCloud
from engine.geometry.files import write_cloud
from engine.geometry.meshes import enclosed_volume
from engine.geometry.metrics import distances_to_surface
from engine.geometry.transforms import Similarity, moved_cloud
from engine.jobs.base import JobArrays, JobCallbacks
from engine.jobs.complete.request import CompleteRequest
from engine.jobs.complete.run import read
from engine.jobs.fit.request import FitRequest
from engine.jobs.kinds import find
from engine.jobs.run import run_job
from engine.wire.arrays import checked_arrays, pack_arrays, unpack_arrays

PLACES = np.float32([[0.2, -2.0, 0.3], [0.1, 2.2, 0.8]])
AXES = np.float32([0.45, 0.2, 0.35])


@pytest.fixture(autouse=True)
def fields_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPEWRIGHT_DATA_DIR", str(tmp_path / "data"))


def two_scans(count: int = 3000) -> tuple[JobArrays, np.ndarray]:
    """An ellipsoid from the front and from the back, the points in any order, and its outward normals."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points = (direction * AXES).astype(np.float32)
    normals = direction / AXES
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    towards = PLACES[:, None] - points
    sees = np.einsum("snk,nk->sn", towards, normals) > 0
    scans = np.where(sees[0], 0, 1).astype(np.int32)
    seen = sees.any(0)
    return JobArrays(points[seen], viewpoints=PLACES, scans=scans[seen]), normals[seen]


def test_normals_look_to_the_scanner_of_their_scan() -> None:
    arrays, normals = two_scans()
    scan, to_input = read(arrays, CompleteRequest(), np.random.default_rng(0))
    assert scan.about["viewpoint"] and scan.about["scans"] == 2 and scan.about["normals"] == "estimated"
    assert scan.cloud.normals is not None and scan.cloud.seen_from is not None
    assert (np.einsum("ij,ij->i", scan.cloud.normals, normals) > 0.7).mean() > 0.97
    there = moved_cloud(scan.cloud, to_input)
    assert there.seen_from is not None and np.allclose(there.seen_from, PLACES[arrays.scans], atol=1e-5)  # type: ignore[index]


def test_a_viewpoint_that_is_told_goes_before() -> None:
    arrays, _ = two_scans()
    scan, _ = read(arrays, CompleteRequest(viewpoint=(0.0, -3.0, 0.0)), np.random.default_rng(0))
    assert scan.cloud.scans is None and scan.about["scans"] == 1


def test_what_either_scan_looked_through_is_empty_and_no_more() -> None:
    arrays, _ = two_scans()
    looked = LookedThrough(arrays.points, PLACES, arrays.scans)
    before, behind, inside = np.array([[0, -1.0, 0.15]]), np.array([[0, 1.0, 0.3]]), np.array([[0.0, 0, 0]])
    assert looked(before).all() and looked(behind).all() and not looked(inside).any()
    one = arrays.scans == 0
    assert not LookedThrough(arrays.points[one], PLACES[0])(behind).any(), "only the other one saw that"


def test_seen_empty_space_runs_from_each_point_to_its_own_scanner() -> None:
    arrays, _ = two_scans()
    cloud = arrays.cloud(None)
    given = gather(cloud, False, np.random.default_rng(0), torch.device("cpu"))
    depth = np.linalg.norm(given.rays.numpy() / AXES, axis=1)
    assert len(given.rays) > 1000 and (depth > 0.99).all(), "no ray runs through the shape"
    wrong = gather(PointCloud(cloud.points, None, PLACES[0]), False, np.random.default_rng(0), torch.device("cpu"))
    assert (np.linalg.norm(wrong.rays.numpy() / AXES, axis=1) < 0.9).mean() > 0.1, "of one viewpoint many would"
    assert given.clouds is not None
    towards = given.clouds.origins[0].numpy()
    assert {tuple(row) for row in towards.round(4).tolist()} == {tuple(row) for row in PLACES.round(4).tolist()}


def test_one_scan_is_as_one_viewpoint() -> None:
    arrays, _ = two_scans()
    points = arrays.points[arrays.scans == 0]
    results = []
    for cloud in (
        PointCloud(points, None, PLACES[0]),
        PointCloud(points, None, PLACES[:1], scans=np.zeros(len(points), np.int32)),
    ):
        given = gather(cloud, True, np.random.default_rng(0), torch.device("cpu"))
        results.append((given.rays, given.clouds.points, given.clouds.origins, given.clouds.rays))  # type: ignore[union-attr]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_completion_uses_both_and_moves_with_its_input(small_prior_file: Path) -> None:
    arrays, _ = two_scans()
    request = CompleteRequest(prior=str(small_prior_file), resolution=32, device="cpu")
    here = run_job(request, arrays, JobCallbacks())
    assert here.report["evidence"]["scans"] == 2 and here.report["evidence"]["viewpoint"]
    away = Similarity(30.0, np.eye(3), np.array([500.0, -40, 7]))
    there = run_job(
        request,
        JobArrays(away.apply(arrays.points), viewpoints=away.apply(PLACES), scans=arrays.scans),
        JobCallbacks(),
    )
    sizes = [abs(enclosed_volume(result.meshes[0])) for result in (here, there)]
    assert sizes[1] / 30**3 == pytest.approx(sizes[0], rel=0.03)
    for side in (0, 1):  # the surface goes through what either saw
        off = distances_to_surface(here.meshes[0], arrays.points[arrays.scans == side])
        assert np.median(off) < 0.01


def test_a_fit_turns_its_normals_by_them(one_thread: None) -> None:
    arrays, _ = two_scans()
    result = run_job(FitRequest(resolution=48, device="cpu"), arrays, JobCallbacks())
    assert result.report["orientation"]["found_by"] == "viewpoint"
    assert enclosed_volume(result.meshes[0]) == pytest.approx(4 / 3 * np.pi * AXES.prod(), rel=0.03)


def test_colours_of_both_sides_are_seen() -> None:
    """All but a rim that both only graze."""
    arrays, _ = two_scans()
    arrays.colours = np.where(arrays.scans[:, None] == 0, [[1, 0, 0]], [[0, 0, 1]]).astype(np.float32)  # type: ignore[index]
    result = run_job(FitRequest(resolution=48, device="cpu"), arrays, JobCallbacks())
    mesh = result.meshes[0]
    assert mesh.seen is not None and mesh.seen.mean() > 0.94 and mesh.colours is not None
    assert mesh.colours[mesh.vertices[:, 1] < -0.1, 0].min() > 0.9
    assert mesh.colours[mesh.vertices[:, 1] > 0.1, 2].min() > 0.9
    again = run_job(FitRequest(resolution=32, device="cpu", reuse=result.report["field_id"]), None, JobCallbacks())
    assert again.meshes[0].seen is not None and again.meshes[0].seen.mean() > 0.94


# ----------------------------------------------------------------------------------------------- wire and command line


def test_they_travel() -> None:
    arrays, _ = two_scans()
    back = checked_arrays(find("complete"), unpack_arrays(pack_arrays(arrays)))
    assert np.array_equal(back.viewpoints, PLACES) and np.array_equal(back.scans, arrays.scans)  # type: ignore[arg-type]
    arrays.points[5] = np.nan
    back = checked_arrays(find("fit"), unpack_arrays(pack_arrays(arrays)))
    assert np.array_equal(back.scans, np.delete(arrays.scans, 5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "members",
    [
        {"scans": np.zeros(50, np.int32)}, {"viewpoints": PLACES}, {"viewpoints": PLACES, "scans": np.full(50, 2)},
        {"viewpoints": PLACES, "scans": np.full(50, -1)}, {"viewpoints": PLACES, "scans": np.zeros(49, np.int32)},
        {"viewpoints": np.full((2, 3), np.nan), "scans": np.ones(50, np.int32)},
    ],
)  # fmt: skip
def test_scans_without_places_are_refused(members: dict[str, np.ndarray]) -> None:
    out = io.BytesIO()
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    with pytest.raises(InputError) as caught:
        np.savez(out, points=points, **members)
        checked_arrays(find("fit"), unpack_arrays(out.getvalue()))
    assert caught.value.code in ("arrays_invalid", "viewpoint_invalid")


def test_a_file_of_several_scans_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays, _ = two_scans()
    write_cloud(tmp_path / "scans.ply", arrays.cloud(None))
    command = ["fit", str(tmp_path / "scans.ply"), "-o", str(tmp_path / "out.ply"), "--resolution", "32", "--json"]
    assert cli.main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["orientation"]["found_by"] == "viewpoint" and report["input_file"]["viewpoints"] == 2
