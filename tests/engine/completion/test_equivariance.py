"""Moved, turned and scaled inputs give the same result moved, turned and scaled: with the prior that is shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from engine.completion.alignment import find_pose, rotation_search, up_directions, yaw_frame
from engine.errors import InputError
from engine.geometry.clouds import PointCloud
from engine.geometry.files import load
from engine.geometry.transforms import Similarity, yaw_rotation
from engine.jobs.base import JobArrays, JobCallbacks, JobResult
from engine.jobs.complete.request import CompleteRequest
from engine.jobs.kinds import parse_request
from engine.jobs.run import run_job
from engine.priors.file import Prior, load_prior

CHAIR = Path(__file__).parents[3] / "examples" / "chair_scan.ply"


@pytest.fixture(scope="module")
def chair() -> PointCloud:
    loaded = load(CHAIR)
    points, viewpoint = loaded.points, loaded.viewpoint
    middle = points.mean(0)
    return PointCloud(points - middle, None, None if viewpoint is None else (viewpoint - middle).astype(np.float32))


@pytest.fixture(scope="module")
def prior() -> Prior:
    return load_prior("household")


def moved(cloud: PointCloud, transform: Similarity) -> PointCloud:
    viewpoint = None if cloud.viewpoint is None else transform.apply(cloud.viewpoint[None])[0]
    return PointCloud(transform.apply(cloud.points), None, viewpoint)


def apart(a: Similarity, b: Similarity) -> float:
    """How far two poses carry the canonical box's corners apart, in units of the whole's size."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    return float(np.linalg.norm(a.apply(corners) - b.apply(corners), axis=1).max()) / a.scale


@pytest.mark.parametrize("seed", range(6))
def test_the_yaw_frame_turns_with_the_points(chair: PointCloud, seed: int) -> None:
    rng = np.random.default_rng(seed)
    yaw, size = rng.uniform(-np.pi, np.pi), 10 ** rng.uniform(-2, 2)
    there = yaw_frame(size * chair.points @ yaw_rotation(yaw).T + size * rng.uniform(-5, 5, 3))
    off = (there - yaw_frame(chair.points) - yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
    assert abs(off) < np.deg2rad(0.5)


def test_one_of_the_directions_is_up_however_it_lies(chair: PointCloud) -> None:
    from scipy.spatial.transform import Rotation

    for seed in range(3):
        turn = Rotation.random(random_state=seed).as_matrix()
        directions = np.stack(up_directions(chair.points @ turn.T))
        assert len(directions) <= 40 and np.allclose(np.linalg.norm(directions, axis=1), 1)
        assert (directions @ turn[:, 2]).max() > np.cos(np.deg2rad(5))


@pytest.mark.parametrize("seed", range(3))
def test_scale_and_place_of_the_pose_follow_the_input(prior: Prior, chair: PointCloud, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 10 ** rng.uniform(-2, 2)
    shift = Similarity(size, np.eye(3), size * rng.uniform(-3, 3, 3))
    here = find_pose(prior, chair, "scale").to_scene
    assert apart(shift.after(here), find_pose(prior, moved(chair, shift), "scale").to_scene) < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_the_pose_turns_with_the_input(prior: Prior, chair: PointCloud, seed: int) -> None:
    rng = np.random.default_rng(10 + seed)
    size = 10 ** rng.uniform(-2, 2)
    change = Similarity(size, yaw_rotation(rng.uniform(-np.pi, np.pi)), size * rng.uniform(-3, 3, 3))
    here = find_pose(prior, chair, "similarity")
    there = find_pose(prior, moved(chair, change), "similarity")
    assert here.found_by == there.found_by == "yaw search"
    assert here.symmetry == there.symmetry
    # Half a degree of yaw is 0.6 % of the size at the corners of the box.
    assert apart(change.after(here.to_scene), there.to_scene) < 0.01


@pytest.mark.parametrize("degrees", [90.0, 180.0, -65.0])
def test_a_front_that_is_evident_is_found_and_one_that_is_right_stays(
    prior: Prior, chair: PointCloud, degrees: float
) -> None:
    straight = find_pose(prior, chair, "scale", doubt_front=True)
    assert straight.found_by == "pose network"
    assert apart(straight.to_scene, find_pose(prior, chair, "scale").to_scene) < 0.03
    change = Similarity(2.0, yaw_rotation(np.radians(degrees)), np.array([3.0, -1.0, 0.5]))
    turned = find_pose(prior, moved(chair, change), "scale", doubt_front=True)
    assert turned.found_by == "yaw search"
    assert apart(change.after(find_pose(prior, chair, "similarity").to_scene), turned.to_scene) < 0.02


def test_a_chair_that_fell_over_is_found_standing(prior: Prior, chair: PointCloud) -> None:
    fallen = Similarity(2.0, np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))
    best = rotation_search(prior, moved(chair, fallen))[0]
    assert best.found_by == "rotation search"
    upright = find_pose(prior, chair, "similarity").to_scene
    assert apart(fallen.after(upright), best.to_scene) < 0.05


def complete(cloud: PointCloud, request: CompleteRequest) -> JobResult:
    viewpoint = None
    if cloud.viewpoint is not None:
        x, y, z = (float(v) for v in cloud.viewpoint)
        viewpoint = (x, y, z)
    return run_job(request.but(viewpoint=viewpoint), JobArrays(cloud.points), JobCallbacks())


def test_the_result_is_moved_turned_and_scaled_with_the_input(chair: PointCloud, one_thread: None) -> None:
    request = CompleteRequest(align="similarity", resolution=32, device="cpu", seed=1)
    few = PointCloud(chair.points[::2], None, chair.viewpoint)
    change = Similarity(0.03, yaw_rotation(2.0), np.array([0.4, -0.1, 0.2]))
    here, there = complete(few, request), complete(moved(few, change), request)
    expected = change.apply(here.meshes[0].vertices)
    gaps = [cKDTree(expected).query(there.meshes[0].vertices)[0], cKDTree(there.meshes[0].vertices).query(expected)[0]]
    size = there.report["alignment"]["scale"]
    # Vertices of the two lie on lattices of cells of 3.4 % of the size, turned a little against each other.
    assert max(np.median(gap) for gap in gaps) < 0.012 * size
    assert max(np.percentile(gap, 99) for gap in gaps) < 0.06 * size
    assert size == pytest.approx(0.03 * here.report["alignment"]["scale"], rel=0.01)


def test_a_pose_given_by_the_caller_is_used_as_it_is(small_prior_file: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(600, 3))
    points *= np.array([0.4, 0.3, 0.35]) / np.linalg.norm(points, axis=1, keepdims=True)
    pose = Similarity(3.0, yaw_rotation(0.7), np.array([5.0, -2.0, 1.0]))
    request = CompleteRequest(prior=str(small_prior_file), resolution=16, device="cpu", align="none",
                              pose=tuple(pose.matrix().ravel().tolist()))  # fmt: skip
    assert parse_request(request.model_dump(mode="json")) == request
    report = run_job(request, JobArrays(pose.apply(points)), JobCallbacks()).report
    assert report["alignment"]["found_by"] == "caller"
    assert np.allclose(report["alignment"]["matrix"], pose.matrix(), atol=1e-6)


@pytest.mark.parametrize(
    "pose", [[1.0] * 16, list(range(16)), np.diag([1.0, 1.0, -1.0, 1.0]).ravel().tolist(), [0.0] * 15, "no"]
)
def test_what_is_no_pose_is_refused(pose: object) -> None:
    with pytest.raises(InputError) as caught:
        parse_request({"kind": "complete", "pose": pose})
    assert "pose" in caught.value.what and "16 numbers" in caught.value.why
