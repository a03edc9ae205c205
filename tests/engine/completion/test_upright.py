"""A scan that lies is told, and stood up where that is clear; one that stands is never laid down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.completion.placing import align
from engine.completion.upright import doubt_up
from engine.frames import UP_AXES, axis_name, up_rotation
from engine.geometry.clouds import PointCloud
from engine.geometry.files.registry import read_shape
from engine.jobs.base import JobArrays
from engine.jobs.complete.request import CompleteRequest
from engine.jobs.complete.scan import scan_of
from engine.priors.file import load_prior

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_axes_are_named_as_requests_name_them() -> None:
    for axis in UP_AXES:
        assert axis_name(up_rotation(axis)[2]) == axis
    assert axis_name(np.array([0.2, -0.9, 0.3])) == "-y"


@pytest.mark.parametrize("name", ["chair", "table"])
@pytest.mark.parametrize("told", [False, True])
def test_the_examples_stand_and_lie_as_they_are_turned(name: str, told: bool) -> None:
    """told: where the sensor was; it looked down at them."""
    scan = read_shape(EXAMPLES / f"{name}_scan.ply")
    assert isinstance(scan, PointCloud)
    prior, rng = load_prior("household"), np.random.default_rng(0)
    points = scan.points[rng.permutation(len(scan.points))[:2500]]
    eye = np.array(json.loads((EXAMPLES / f"{name}_scan.json").read_text())["viewpoint"])

    def turned(axis: str) -> PointCloud:
        """z goes to `axis`."""
        turn = up_rotation(axis)
        seen_from = (eye @ turn).astype(np.float32) if told else None
        return PointCloud((points @ turn).astype(np.float32), None, seen_from)

    assert doubt_up(prior, turned("+z")) is None
    for axis in ("+y", "-y") if told else ("+y",):  # the customs of files
        doubt = doubt_up(prior, turned(axis))
        assert doubt is not None and doubt.axis == axis and doubt.clear and doubt.share < 0.3
    if told:  # two scanners side by side see what one of them sees
        twice = turned("+y")
        eyes, which = np.stack([twice.viewpoint] * 2), np.arange(2500, dtype=np.int32) % 2
        both = PointCloud(twice.points, viewpoint=eyes, scans=which)
        assert doubt_up(prior, both) == doubt_up(prior, twice)
    for axis in ("-z", "+x"):
        doubt = doubt_up(prior, turned(axis))
        assert doubt is None or not doubt.clear or doubt.axis == axis


def test_a_y_up_chair_is_stood_up_where_the_frame_may_be_doubted_and_named_where_not() -> None:
    prior, rng = load_prior("household"), np.random.default_rng(0)
    cloud = read_shape(EXAMPLES / "chair_scan.ply")
    assert isinstance(cloud, PointCloud)
    arrays = JobArrays((cloud.points @ up_rotation("+y")).astype(np.float32))
    for front, up in (("evident", "+y"), ("given", "+z")):
        request = CompleteRequest(front=front, device="cpu")
        scan = scan_of(arrays, request, rng)
        pose = align(prior, scan.cloud, "scale", request.up, front == "evident", None, scan.support)
        assert pose.up_doubt is not None and pose.up_doubt.clear and pose.up_doubt.axis == "+y"
        assert axis_name(pose.to_scene.rotation[:, 2]) == up
    told = CompleteRequest(up="+y", device="cpu")
    assert align(prior, scan_of(arrays, told, rng).cloud, up="+y").up_doubt is None


def test_in_its_cameras_frame_with_no_table_in_sight_a_chair_stands_all_the_same() -> None:
    cloud = read_shape(EXAMPLES / "chair_scan.ply")
    assert isinstance(cloud, PointCloud)
    eye = np.array(json.loads((EXAMPLES / "chair_scan.json").read_text())["viewpoint"])
    forward = cloud.points.mean(0) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0]) / np.linalg.norm(np.cross(forward, [0, 0, 1.0]))
    camera = np.stack([right, np.cross(forward, right), forward])  # x right, y down, z forward
    arrays = JobArrays(((cloud.points - eye) @ camera.T).astype(np.float32))
    scan = scan_of(arrays, CompleteRequest(device="cpu"), np.random.default_rng(0))
    assert scan.image_up is not None and scan.about["viewpoint"] is True
    pose = align(load_prior("household"), scan.cloud, support=scan.support, image_up=scan.image_up)
    assert pose.to_scene.rotation[:, 2] @ camera[:, 2] > np.cos(np.deg2rad(10))
    assert 0.5 < pose.up_share <= 1.0
    assert sum(pose.classes.values()) == pytest.approx(1.0) and max(pose.classes, key=pose.classes.get) == "chair"


def test_a_thing_that_lies_flat_is_not_stood_on_its_edge() -> None:
    """Nothing that the prior knows: a plate with two thick handles, in the frame of a camera above."""
    rng = np.random.default_rng(0)
    plate = np.c_[rng.uniform([-0.5, -0.3], [0.5, 0.3], (2500, 2)), 0.12 + rng.normal(0, 0.002, 2500)]
    handles = np.c_[rng.uniform([0.3, -0.8], [0.5, -0.3], (700, 2)), 0.10 + rng.normal(0, 0.004, 700)]
    handles[::2, 0] *= -1
    points = np.concatenate([plate, handles])
    down = np.deg2rad(75.0)
    forward, right = np.array([0.0, np.cos(down), -np.sin(down)]), np.array([1.0, 0, 0])
    camera = np.stack([right, np.cross(forward, right), forward])
    arrays = JobArrays(((points + 2.0 * forward) @ camera.T).astype(np.float32))
    scan = scan_of(arrays, CompleteRequest(ground="keep", device="cpu"), np.random.default_rng(0))
    assert scan.image_up is not None and scan.support is None
    pose = align(load_prior("household"), scan.cloud, support=scan.support, image_up=scan.image_up)
    assert pose.to_scene.rotation[:, 2] @ camera[:, 2] > np.cos(np.deg2rad(10))
