"""What an object stands on is found in any direction and left out; what only looks like it is kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from engine.geometry.support import find_support, seen_from
from tests.engine.geometry.makers import box_surface, table

Array = np.ndarray
CAMERA = np.zeros(3)


def floor(side: float, spacing: float, seed: int = 1, z: float = 0.0) -> Array:
    rng = np.random.default_rng(seed)
    count = int((2 * side / spacing) ** 2)
    points = np.c_[rng.uniform(-side, side, (count, 2)), np.full(count, z)]
    return np.asarray(points, np.float32)


def frame(
    tilt: float, *, what: str = "box", noise: float = 0.0, turn: float = 30.0, clutter: bool = False, side: float = 0.6
) -> tuple[Array, Array, Array]:
    """A depth image of a thing 0.2 m high on a square table, in the camera's frame (x right, y down, z forward).

    tilt: degrees that the camera looks down, from 1 m away.  what: 'box' or 'mug'.  noise: standard deviation of the
    depth at 1 m, growing with its square.  side: half the table's.  Returns (N, 3) points, (N,) of what each is (0
    table, 1 thing, 2 clutter, 3 the floor 0.7 m below), and (3,) up.
    """
    rng = np.random.default_rng(0)
    down = np.deg2rad(tilt)
    right, forward = np.array([1.0, 0, 0]), np.array([0, np.cos(down), -np.sin(down)])
    to_world = np.stack([right, np.cross(forward, right), forward], axis=1)
    eye = np.array([0.0, 0.0, 0.08]) - forward
    u, v = np.meshgrid(np.linspace(-0.45, 0.45, 160), np.linspace(-0.4, 0.4, 140))
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ to_world.T  # depth along z is the parameter
    depth, kind = np.full(len(rays), np.inf), np.zeros(len(rays), int)

    def hit(t: Array, good: Array, number: int) -> None:
        nearer = good & (t > 0.05) & (t < depth)
        depth[nearer], kind[nearer] = t[nearer], number

    def solid(centre: Array, half: Array, yaw: float, number: int) -> None:
        c, s = np.cos(yaw), np.sin(yaw)
        turned = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])
        at, along = turned @ (eye - centre), rays @ turned.T
        with np.errstate(divide="ignore"):
            first, second = (-half - at) / along, (half - at) / along
        near, far = np.minimum(first, second).max(1), np.maximum(first, second).min(1)
        hit(near, near < far, number)

    with np.errstate(divide="ignore", invalid="ignore"):
        for height, number in ((0.0, 0), (-0.7, 3)):
            t = (height - eye[2]) / rays[:, 2]
            at = eye + t[:, None] * rays
            hit(t, np.abs(at[:, :2]).max(1) < (side if number == 0 else 9.0), number)
    if what == "box":
        solid(np.array([0, 0, 0.1]), np.array([0.12, 0.08, 0.1]), np.deg2rad(turn), 1)
    else:  # a solid of revolution, by stacked discs
        for z in np.linspace(0.004, 0.2, 50):
            t = (z - eye[2]) / rays[:, 2]
            at = (eye + t[:, None] * rays)[:, :2]
            hit(t, np.linalg.norm(at, axis=1) < 0.05 + 0.015 * np.cos(20 * z), 1)
    if clutter:
        solid(np.array([0.33, 0.1, 0.03]), np.array([0.04, 0.06, 0.03]), 0.7, 2)
        solid(np.array([-0.3, -0.12, 0.02]), np.array([0.05, 0.03, 0.02]), 0.2, 2)
    seen = np.isfinite(depth)
    z = depth[seen] + noise * depth[seen] ** 2 * rng.standard_normal(int(seen.sum()))
    camera = rays @ to_world
    return (camera[seen] * z[:, None]).astype(np.float32), kind[seen], to_world.T @ np.array([0, 0, 1.0])


@pytest.mark.parametrize("viewpoint", [None, CAMERA])
@pytest.mark.parametrize(("tilt", "noise"), [(20.0, 0.0), (35.0, 0.002), (50.0, 0.001), (65.0, 0.002)])
@pytest.mark.parametrize("what", ["box", "mug"])
def test_a_table_seen_by_a_tilted_camera_is_found_and_left_out(
    what: str, tilt: float, noise: float, viewpoint: Array | None
) -> None:
    points, kind, up = frame(tilt, what=what, noise=noise)
    support = find_support(points, viewpoint=viewpoint, origin=CAMERA)
    assert support is not None and support.frame == "sensor" and not support.level
    assert support.normal @ up > np.cos(np.deg2rad(2))
    assert support.kept[kind == 0].mean() < 0.01 and support.kept[kind == 3].sum() == 0
    assert support.kept[kind == 1].mean() > 0.88  # but what is within the table's own thickness


def test_other_things_on_the_table_are_left_out_and_told() -> None:
    points, kind, _ = frame(45.0, clutter=True, noise=0.001)
    support = find_support(points, origin=CAMERA)
    assert support is not None
    assert support.kept[kind == 2].sum() == 0 and support.kept[kind == 1].mean() > 0.9
    assert support.beside[kind == 2].mean() > 0.6


@pytest.mark.parametrize("what", ["box", "mug"])
def test_scraps_of_a_table_about_the_object_are_enough_in_a_cameras_frame(what: str) -> None:
    """A mask that is a pixel or two too large: what is cut out holds a rim of the table behind the object."""
    points, kind, up = frame(45.0, what=what, noise=0.001)
    image = points[:, :2] / points[:, 2:]
    rim = (kind == 0) & (cKDTree(image[kind == 1]).query(image)[0] < 0.012)
    rim &= points[:, 2] > np.median(points[kind == 1][:, 2])  # the front is cut off with the shadow
    some, of = points[(kind == 1) | rim], kind[(kind == 1) | rim]
    assert rim.sum() < 0.25 * len(some)
    support = find_support(some, origin=CAMERA)
    assert support is not None and support.normal @ up > np.cos(np.deg2rad(4))
    assert support.kept[of == 0].mean() < 0.1 and support.kept[of == 1].mean() > 0.88


def test_what_is_level_on_the_object_levels_a_table_known_by_scraps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few points of table all on two sides, one of them a cloth that bulges: a plane through them leans."""
    points, kind, up = frame(50.0, noise=0.001)
    right, rng = points[:, 0] > 0, np.random.default_rng(0)
    near = (kind == 0) & (np.linalg.norm(points - points[kind == 1].mean(0), axis=1) < 0.3)
    scraps = points[near] + 0.012 * up * right[near, None]
    scraps = scraps[rng.permutation(len(scraps))[:70]].astype(np.float32)
    seen = np.concatenate([points[kind == 1], scraps])
    levelled = find_support(seen, origin=CAMERA)
    monkeypatch.setattr("engine.geometry.support.SCRAPS", 0.0)
    as_fitted = find_support(seen, origin=CAMERA)
    assert levelled is not None and as_fitted is not None
    assert as_fitted.normal @ up < np.cos(np.deg2rad(1.0)), "or the test says nothing"
    assert levelled.normal @ up > np.cos(np.deg2rad(0.5))
    assert np.array_equal(levelled.kept, as_fitted.kept) and levelled.tilt != as_fitted.tilt


def test_a_mug_on_a_well_seen_table_is_not_levelled_by_its_rims(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _, _ = frame(45.0, what="mug", noise=0.001)
    whole = find_support(points, origin=CAMERA)
    monkeypatch.setattr("engine.geometry.support.SCRAPS", 0.0)
    again = find_support(points, origin=CAMERA)
    assert whole is not None and again is not None and np.array_equal(whole.normal, again.normal)


@pytest.mark.parametrize("what", ["box", "mug"])
def test_an_object_alone_keeps_its_own_planes(what: str) -> None:
    for tilt in (20.0, 40.0, 60.0):
        points, kind, _ = frame(tilt, what=what, noise=0.001)
        assert find_support(points[kind == 1], origin=CAMERA) is None


def test_a_table_scanned_whole_keeps_its_top_in_any_frame() -> None:
    points, _ = table()
    for axes in (np.eye(3), np.eye(3)[[0, 2, 1]], np.eye(3)[[2, 0, 1]]):
        assert find_support(points @ axes.astype(np.float32), origin=np.zeros(3)) is None


def test_a_floor_in_a_frame_whose_up_axis_is_another_is_found_where_it_is_clear() -> None:
    """As a phone writes it, y up: the whole table stands on a floor that reaches out on all sides."""
    points, _ = table()
    cloud = np.concatenate([points, floor(1.6, 0.025)])
    lying = cloud[:, [0, 2, 1]] * np.float32([1, 1, -1])  # z -> y
    support = find_support(lying, origin=np.full(3, 7.0))
    assert support is not None and support.tilt == pytest.approx(90, abs=1) and support.frame == "given"
    assert support.normal[1] > 0.999
    assert support.kept[len(points) :].mean() < 0.02 and support.kept[: len(points)].mean() > 0.97
    assert find_support(lying) is None  # where the frame is a statement, it is believed


def test_one_image_hides_nothing_from_its_own_sensor_only() -> None:
    points, _, _ = frame(40.0, noise=0.001)
    assert seen_from(points, CAMERA)
    assert not seen_from(points, np.array([1.5, 0.0, 0.5]))
    assert not seen_from(points, np.array([0.0, 0.0, 300.0]))
    whole, _ = table()
    assert not seen_from(whole, np.array([0.0, -2.0, 1.0]))


@pytest.mark.parametrize("side", [0.9, 2.5])
@pytest.mark.parametrize("tilt", [0.0, 3.0])
@pytest.mark.parametrize("noise", [0.0, 0.004])
def test_a_floor_is_found_and_nothing_of_the_table_with_it(side: float, tilt: float, noise: float) -> None:
    points, is_leg = table()
    cloud = np.concatenate([points, floor(side, 0.02)]).astype(np.float64)
    cloud += noise * np.random.default_rng(4).standard_normal(cloud.shape)
    a = np.deg2rad(tilt)
    turned = cloud @ np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]).T + 5.0
    support = find_support(turned.astype(np.float32), noise=noise)
    assert support is not None and support.level
    gone = ~support.kept
    assert gone[len(points) :].mean() > 0.97
    assert gone[: len(points)][~is_leg].sum() == 0
    assert gone[: len(points)][is_leg].mean() < 0.12  # but the soles
    assert np.full(3, 5.0) @ support.normal == pytest.approx(support.offset, abs=0.02)
    assert support.tilt == pytest.approx(tilt, abs=0.5)


@pytest.mark.parametrize("origin", [None, np.zeros(3)])
def test_table_tops_seats_feet_and_bare_tables_are_no_floor(origin: Array | None) -> None:
    points, is_leg = table()
    rng = np.random.default_rng(0)
    assert find_support(points, origin=origin) is None  # the top has legs under it
    assert find_support(points[~is_leg], origin=origin) is None  # nothing stands on it
    vase = box_surface(np.array([-0.05, -0.05, 0.5]), np.array([0.05, 0.05, 0.8]), 0.01, rng).astype(np.float32)
    assert find_support(np.concatenate([points, vase]), origin=origin) is None
    foot = box_surface(np.array([-0.15, -0.15, 0.0]), np.array([0.15, 0.15, 0.02]), 0.01, rng)
    pole = box_surface(np.array([-0.01, -0.01, 0.02]), np.array([0.01, 0.01, 1.5]), 0.01, rng)
    assert find_support(np.concatenate([foot, pole]).astype(np.float32), origin=origin) is None
    chest = box_surface(np.array([-0.4, -0.2, 0.0]), np.array([0.4, 0.2, 0.5]), 0.02, rng)
    assert find_support(chest.astype(np.float32), origin=origin) is None  # its bottom reaches no farther than itself


def test_no_floor_in_nothing_noise_or_a_bare_plane() -> None:
    rng = np.random.default_rng(0)
    assert find_support(np.zeros((0, 3), np.float32)) is None
    assert find_support(np.ones((200, 3), np.float32)) is None
    assert find_support(rng.random((3000, 3)).astype(np.float32)) is None
    assert find_support(floor(1.0, 0.02)) is None
