"""Where the middle of a whole is, by the symmetry of the part that was seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from engine.completion.alignment import PoseEstimate, find_pose
from engine.completion.complete import complete_canonical
from engine.completion.settings import CompletionSettings
from engine.completion.symmetry import (
    Centred,
    Distance,
    LookedThrough,
    axis_of_revolution,
    centred_by_symmetry,
    mirror_plane,
    revolution_direction,
    revolved,
    symmetries,
)
from engine.geometry.clouds import PointCloud
from engine.geometry.meshes import Mesh
from engine.geometry.sampling import estimate_normals
from engine.geometry.signed_distance import SignedDistance
from engine.geometry.transforms import Similarity
from engine.priors.file import load_prior

VIEWPOINT = np.array([0.7, -1.9, 0.9], np.float32)


def seen(mesh: trimesh.Trimesh, viewpoint: np.ndarray = VIEWPOINT, noise: float = 0.0) -> PointCloud:
    """What a depth camera there sees of the mesh, with estimated normals."""
    rng = np.random.default_rng(0)
    targets = rng.uniform(-0.6, 0.6, (30_000, 3))
    rays = targets - viewpoint
    hit, _, _ = mesh.ray.intersects_location(np.tile(viewpoint, (len(rays), 1)), rays, multiple_hits=False)
    points = (hit + noise * rng.normal(size=hit.shape)).astype(np.float32)[:4000]
    return PointCloud(points, estimate_normals(points, 16, viewpoint), viewpoint)


def distance_to(mesh: trimesh.Trimesh) -> Distance:
    field = SignedDistance(Mesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32), None))
    return lambda points: field(points.astype(np.float32))[0]


def vase(x: float, y: float, sections: int = 64) -> trimesh.Trimesh:
    profile = np.array([[0, -0.5], [0.2, -0.5], [0.25, -0.1], [0.12, 0.3], [0.16, 0.5], [0, 0.5]])
    mesh = trimesh.creation.revolve(profile, sections=sections)
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


@pytest.mark.parametrize("degrees", [-4.0, 0.8])
def test_a_yaw_that_is_a_little_off_is_corrected_by_the_mirror_plane(degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    guess, cloud = Similarity(rotation=turn, translation=np.array([0.01, 0, 0])), seen(bench(0.0))
    found = centred_by_symmetry(cloud, guess, turn=True)
    left = np.degrees(np.arctan2(found.to_scene.rotation[1, 0], found.to_scene.rotation[0, 0]))
    assert abs(left) < 0.25 and found.by == "mirror plane"
    assert abs(found.to_scene.translation[0]) < 0.01
    np.testing.assert_allclose(centred_by_symmetry(cloud, guess).to_scene.rotation, turn)


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
    bare = centred_by_symmetry(PointCloud(there.points), to_scene)
    assert bare.by == "axis" and np.allclose(bare.to_scene.translation, pose.to_scene.translation, atol=0.03)
    assert centred_by_symmetry(PointCloud(seen(bench(0.03)).points), to_scene) == Centred(to_scene)


def test_what_was_seen_of_a_vase_tells_its_back_and_a_handle_stays_one() -> None:
    whole = vase(0.05, 0.02)
    handle = trimesh.creation.box((0.14, 0.03, 0.1), trimesh.transformations.translation_matrix((0.33, 0.02, -0.2)))
    cloud = seen(trimesh.util.concatenate([whole, handle]))
    images = revolved(cloud, 20_000)
    assert images is not None and images.normals is not None and 5_000 < len(images.points) <= 21_000
    off = np.abs(distance_to(whole)(images.points))
    assert np.quantile(off, 0.95) < 0.01
    behind = ((images.points - [0.05, 0.02, 0]) @ VIEWPOINT) < -0.02
    assert behind.mean() > 0.3
    outward = images.points[:, :2] - [0.05, 0.02]
    assert ((images.normals[:, :2] * outward).sum(1) > -0.01).mean() > 0.95
    assert cloud.viewpoint is not None
    assert not LookedThrough(cloud.points, cloud.viewpoint)(images.points).any()

    bare = revolved(PointCloud(cloud.points), 20_000)  # what was empty is not known then; the axis still is
    assert bare is not None and bare.normals is None
    assert np.quantile(np.abs(distance_to(whole)(bare.points)), 0.95) < 0.01
    assert revolved(seen(bench(0.0)), 20_000) is None


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_axis_of_what_lies_anyhow(seed: int) -> None:
    turn = Rotation.random(random_state=seed).as_matrix()
    cloud = seen(vase(0.08, -0.05), noise=0.001)
    assert cloud.normals is not None
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (len(cloud.normals), 1))
    axis = revolution_direction(5 * cloud.points @ turn.T + 7, signs * cloud.normals @ turn.T)
    assert axis is not None and abs(axis @ turn[:, 2]) > np.cos(np.radians(0.7))


@pytest.mark.parametrize(
    "mesh",
    [
        bench(0.0),
        trimesh.creation.box((0.6, 0.6, 0.9)),
        trimesh.creation.icosphere(4, 0.4),
        trimesh.creation.box((1, 1, 0.01)),
    ],
    ids=["bench", "column", "ball", "board"],
)
def test_what_has_no_axis_or_many_gets_none(mesh: trimesh.Trimesh) -> None:
    cloud = seen(mesh)
    assert cloud.normals is not None and revolution_direction(cloud.points, cloud.normals) is None


def test_a_mug_has_an_axis_in_spite_of_its_handle_and_a_column_with_corners_has_none() -> None:
    cup = trimesh.creation.cylinder(0.3, 0.8, sections=64)
    handle = trimesh.creation.box((0.2, 0.16, 0.5), trimesh.transformations.translation_matrix((0.38, -0.05, 0)))
    cloud = seen(trimesh.util.concatenate([cup, handle]))
    assert cloud.normals is not None and axis_of_revolution(cloud.points, cloud.normals, 0.02) is None
    images = revolved(cloud, 20_000)
    assert images is not None and np.quantile(np.abs(distance_to(cup)(images.points)), 0.9) < 0.015
    assert revolved(PointCloud(cloud.points, cloud.normals), 20_000) is None  # nothing says that none contradicts
    for sides in (4, 6, 8):
        assert revolved(seen(trimesh.creation.cylinder(0.3, 0.8, sections=sides)), 20_000) is None


def test_space_before_what_was_seen_was_looked_through() -> None:
    wall = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, 3)) * [1, 0, 1]
    looked = LookedThrough(wall, np.array([0.0, -2, 0]))
    assert looked(np.array([[0.1, -0.5, 0.1], [0, -0.05, 0]])).all()
    assert not looked(np.array([[0.1, 0.5, 0.1], [0, -0.01, 0], [3.0, -0.5, 0], [0, -2, 0]])).any()


def table(depth: float, back: bool = False) -> trimesh.Trimesh:
    parts = [trimesh.creation.box((0.9, depth, 0.05), trimesh.transformations.translation_matrix((0, 0, 0.3)))]
    for x in (-0.4, 0.4):
        for y in (-0.5, 0.5):
            leg = (x, y * (depth - 0.1), 0.0)
            parts.append(trimesh.creation.box((0.05, 0.05, 0.6), trimesh.transformations.translation_matrix(leg)))
    if back:
        where = trimesh.transformations.translation_matrix((0, depth / 2 - 0.02, 0.1))
        parts.append(trimesh.creation.box((0.9, 0.03, 0.4), where))
    return trimesh.util.concatenate(parts)


@pytest.mark.parametrize(
    ("mesh", "count"), [(table(0.9), 7), (table(0.5), 3), (table(0.5, back=True), 1)], ids=["square", "oblong", "desk"]
)
def test_a_shape_is_mapped_to_itself_by_its_symmetries_and_by_no_others(mesh: trimesh.Trimesh, count: int) -> None:
    cloud = seen(mesh)
    assert cloud.viewpoint is not None
    distance = distance_to(mesh)
    found = symmetries(cloud.points, distance, LookedThrough(cloud.points, cloud.viewpoint))
    assert len(found) == count
    points = np.asarray(trimesh.sample.sample_surface(mesh, 2000, seed=0)[0])
    for to_itself in found:
        assert np.quantile(np.abs(distance(to_itself.apply(points))), 0.95) < 0.01
    names = {tuple(np.rint(to_itself.rotation).astype(int).ravel()) for to_itself in found}
    assert len(names) == count and tuple(np.eye(3, dtype=int).ravel()) not in names
    # Without a viewpoint nothing contradicts: only the plane that all have is left.
    assert len(symmetries(cloud.points, distance, None)) == 1


@pytest.mark.parametrize(
    ("mesh", "name"), [(vase(0, 0), "axis"), (table(0.5), "two mirror planes")], ids=["vase", "table"]
)
def test_a_completion_uses_the_symmetry_it_finds_and_says_so(mesh: trimesh.Trimesh, name: str) -> None:
    prior, cloud = load_prior("household"), seen(mesh)
    points = np.asarray(trimesh.sample.sample_surface(mesh, 4000, seed=0)[0], np.float32)
    unseen = torch.from_numpy(points[cKDTree(cloud.points).query(points)[0] > 0.08])
    off = {}
    for symmetry in (True, False):
        whole = complete_canonical(prior, cloud, CompletionSettings(symmetry=symmetry))
        assert whole.symmetry == (name if symmetry else "")
        off[symmetry] = float(whole.signed_distance(unseen).abs().mean())
    assert off[True] < 0.8 * off[False]


@pytest.mark.parametrize(("doubt", "right"), [(1.5, True), (6.0, False)])
def test_the_mirror_plane_judges_between_yaws_that_are_about_as_likely(
    doubt: float, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network's favourite is a quarter turn off: the plane outvotes it, but not a belief beyond doubt."""
    turned = Similarity(rotation=np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))
    poses = [PoseEstimate(turned, {}, "yaw search", 0.0), PoseEstimate(Similarity(), {}, "yaw search", -doubt)]
    monkeypatch.setattr("engine.completion.alignment.rotation_search", lambda prior, cloud, camera=False: poses)
    found = find_pose(load_prior("household"), seen(bench(0.0)), "similarity")
    assert np.allclose(found.to_scene.rotation, np.eye(3)) == right


def test_a_vase_that_lies_is_stood_on_its_foot_or_head() -> None:
    turn = Rotation.from_euler("xz", [75, 20], degrees=True).as_matrix()
    cloud = seen(vase(0.0, 0.0))
    assert cloud.normals is not None and cloud.viewpoint is not None
    lying = PointCloud(
        (cloud.points @ turn.T).astype(np.float32), (cloud.normals @ turn.T).astype(np.float32),
        (cloud.viewpoint @ turn.T).astype(np.float32),
    )  # fmt: skip
    found = find_pose(load_prior("household"), lying, "similarity")
    assert found.found_by == "rotation search" and found.symmetry == "axis"
    assert abs(found.to_scene.rotation[:, 2] @ turn[:, 2]) > np.cos(np.radians(1))
