"""Where a scan was taken from, told by its points alone."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from engine.completion.viewpoint import seen_from
from engine.geometry.meshes import Mesh
from engine.training.scans import scan, true_surface


@pytest.fixture(scope="module")
def chair() -> Mesh:
    boxes = [((0.5, 0.5, 0.06), (0, 0, 0)), ((0.5, 0.06, 0.5), (0, 0.22, 0.25))]
    boxes += [((0.05, 0.05, 0.45), (x, y, -0.25)) for x in (-0.2, 0.2) for y in (-0.2, 0.2)]
    parts = [trimesh.creation.box(extents, trimesh.transformations.translation_matrix(at)) for extents, at in boxes]
    whole = trimesh.util.concatenate(parts)
    return Mesh(np.asarray(whole.vertices, np.float32), np.asarray(whole.faces, np.int32))


def angle(found: np.ndarray, true: np.ndarray, points: np.ndarray) -> float:
    centre = 0.5 * (points.min(0) + points.max(0))
    a, b = found - centre, true - centre
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


VIEWS = [(0.9, -1.5, 0.8), (-1.2, -1.2, 0.5), (1.4, 1.0, 1.2)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("turn", [False, True])
def test_one_view_gives_its_sensor_away_in_any_frame(chair: Mesh, view: tuple[float, ...], turn: bool) -> None:
    viewpoint = np.array(view)
    points = scan(chair, viewpoint, np.random.default_rng(1), noise=0.001).points
    if turn:  # lying, in millimetres, far away
        matrix = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], float)
        points, viewpoint = (1000 * points @ matrix.T + 500).astype(np.float32), 1000 * matrix @ viewpoint + 500
    found = seen_from(points, np.random.default_rng(0))
    assert found is not None and found.by == "its raster" and found.confidence > 0.7
    assert angle(found.viewpoint, viewpoint, points) < 8


def test_a_third_of_its_points_still_tell(chair: Mesh) -> None:
    points = scan(chair, np.array(VIEWS[0]), np.random.default_rng(1)).points
    some = points[np.random.default_rng(2).permutation(len(points))[: len(points) // 3]]
    found = seen_from(some, np.random.default_rng(0))
    assert found is not None and found.by == "its even image"
    assert angle(found.viewpoint, np.array(VIEWS[0]), some) < 20


def test_what_nobody_saw_from_one_place_has_no_viewpoint(chair: Mesh) -> None:
    rng = np.random.default_rng(3)
    whole, _ = true_surface(chair, 6000, rng)
    several = np.concatenate([scan(chair, np.array(view), rng).points for view in (*VIEWS, (0.2, 1.9, 0.6))])
    for points in (whole, several, chair.vertices, np.zeros((500, 3), np.float32), whole[:50]):
        assert seen_from(points, np.random.default_rng(0)) is None


def test_the_same_points_give_the_same_place(chair: Mesh) -> None:
    points = scan(chair, np.array(VIEWS[1]), np.random.default_rng(1)).points
    first, again = (seen_from(points, np.random.default_rng(0)) for _ in range(2))
    assert first is not None and again is not None and (first.viewpoint == again.viewpoint).all()
