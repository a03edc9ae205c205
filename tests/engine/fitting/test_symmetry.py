"""Where the middle of a whole is, by the symmetry of the part that was seen."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from engine.fitting.symmetry import Centred, axis_of_revolution, centred_by_symmetry, mirror_plane
from engine.geometry.clouds import PointCloud
from engine.geometry.sampling import estimate_normals
from engine.geometry.transforms import Similarity

VIEWPOINT = np.array([0.7, -1.9, 0.9], np.float32)


def seen(mesh: trimesh.Trimesh, viewpoint: np.ndarray = VIEWPOINT, noise: float = 0.0) -> PointCloud:
    """What a depth camera there sees of the mesh, with estimated normals."""
    rng = np.random.default_rng(0)
    targets = rng.uniform(-0.6, 0.6, (30_000, 3))
    rays = targets - viewpoint
    hit, _, _ = mesh.ray.intersects_location(np.tile(viewpoint, (len(rays), 1)), rays, multiple_hits=False)
    points = (hit + noise * rng.normal(size=hit.shape)).astype(np.float32)[:4000]
    return PointCloud(points, estimate_normals(points, 16, viewpoint), viewpoint)


def vase(x: float, y: float) -> trimesh.Trimesh:
    profile = np.array([[0, -0.5], [0.2, -0.5], [0.25, -0.1], [0.12, 0.3], [0.16, 0.5], [0, 0.5]])
    mesh = trimesh.creation.revolve(profile, sections=64)
    mesh.apply_translation([x, y, 0])
    return mesh


def bench(x: float) -> trimesh.Trimesh:
    """A seat on two boards with a back: symmetric about the plane at x, nothing else."""
    parts = [
        trimesh.creation.box((0.9, 0.4, 0.06), trimesh.transformations.translation_matrix((x, 0, 0.0))),
        trimesh.creation.box((0.9, 0.06, 0.4), trimesh.transformations.translation_matrix((x, 0.2, 0.2))),
        trimesh.creation.box((0.06, 0.3, 0.4), trimesh.transformations.translation_matrix((x - 0.35, 0, -0.2))),
        trimesh.creation.box((0.06, 0.3, 0.4), trimesh.transformations.translation_matrix((x + 0.35, 0, -0.2))),
    ]
    return trimesh.util.concatenate(parts)


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_the_axis_of_what_was_turned_on_a_wheel(noise: float) -> None:
    cloud = seen(vase(0.08, -0.05), noise=noise)
    assert cloud.normals is not None
    axis = axis_of_revolution(cloud.points, cloud.normals, 0.02)
    assert axis is not None
    np.testing.assert_allclose(axis, [0.08, -0.05], atol=0.005)


def test_no_axis_where_there_is_none() -> None:
    cloud = seen(bench(0.0))
    assert cloud.normals is not None
    assert axis_of_revolution(cloud.points, cloud.normals, 0.02) is None
    wall = np.random.default_rng(0).uniform(-0.5, 0.5, (500, 3)) * [1, 0, 1]
    assert axis_of_revolution(wall, np.tile([0.0, -1.0, 0.0], (500, 1)), 0.02) is None


@pytest.mark.parametrize("x", [-0.035, 0.03])
def test_the_mirror_plane_of_a_bench(x: float) -> None:
    found, agreement = mirror_plane(seen(bench(x)))
    assert found is not None and abs(found - x) <= 0.01 and agreement > 0.5


def test_a_plane_that_is_right_stays_and_one_sided_things_too() -> None:
    assert mirror_plane(seen(bench(0.0)))[0] is None
    corner = trimesh.util.concatenate([
        trimesh.creation.box((0.9, 0.3, 0.9), trimesh.transformations.translation_matrix((0, 0.2, 0))),
        trimesh.creation.box((0.2, 0.5, 0.2), trimesh.transformations.translation_matrix((0.33, -0.2, 0.2))),
    ])  # fmt: skip
    found, _ = mirror_plane(seen(corner))
    assert found is None or abs(found) <= 0.01  # the wall's middle: nothing speaks for the knob's


def test_the_pose_is_moved_in_the_scene_and_only_where_something_speaks_for_it() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    to_scene = Similarity(3.0, turn, np.array([5.0, -2, 1]))
    cloud = seen(vase(0.06, 0.03))
    assert cloud.normals is not None and cloud.viewpoint is not None
    there = PointCloud(
        to_scene.apply(cloud.points), to_scene.apply_to_directions(cloud.normals),
        to_scene.apply(cloud.viewpoint[None])[0],
    )  # fmt: skip
    pose = centred_by_symmetry(there, to_scene)
    assert pose.by == "axis" and pose.agreement == 1.0
    wanted = to_scene.apply(np.array([[0.06, 0.03, 0.0]]))
    np.testing.assert_allclose(pose.to_scene.apply(np.zeros((1, 3))), wanted, atol=0.02)
    np.testing.assert_allclose(pose.to_scene.rotation, turn)
    assert centred_by_symmetry(PointCloud(there.points), to_scene) == Centred(to_scene)
