"""What points tell of which way is up turns with them, and says of plain things what anybody sees."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from engine.geometry.standing import SIGNS, standing_signs, to_up

AXES = [np.eye(3)[2], -np.eye(3)[2], np.eye(3)[0]]


def table() -> np.ndarray:
    """A square top of side 1 on four legs of length 0.7."""
    rng = np.random.default_rng(0)
    top = np.c_[rng.uniform(-0.5, 0.5, (1500, 2)), np.full(1500, 0.7)]
    at = [(x, y) for x in (-0.45, 0.45) for y in (-0.45, 0.45)]
    legs = np.concatenate([np.c_[rng.normal(place, 0.01, (200, 2)), rng.uniform(0, 0.7, 200)] for place in at])
    return np.concatenate([top, legs]).astype(np.float32)


def test_a_table_stands_on_its_legs_and_better_on_its_top_and_lies_in_one_layer() -> None:
    standing, on_its_top, on_its_side = (dict(zip(SIGNS, row, strict=True)) for row in standing_signs(table(), AXES))
    assert standing["tipping"] > 0.8 and on_its_top["tipping"] > standing["tipping"]
    assert standing["layers"] == pytest.approx(on_its_top["layers"], abs=1e-9)
    assert standing["layers"] < on_its_side["layers"] - 0.5
    assert standing["feet"] < np.log(0.05) < np.log(0.5) < on_its_top["feet"]
    assert np.exp(standing["height"] - on_its_side["height"]) == pytest.approx(0.7, abs=0.03)


def test_what_leans_out_over_its_foot_falls() -> None:
    rng = np.random.default_rng(0)
    height = rng.uniform(0, 1, 2000)
    pole = np.c_[0.8 * height, np.zeros(2000), height] + rng.normal(0, 0.02, (2000, 3))
    assert standing_signs(pole, AXES)[0, 1] < -0.5
    assert standing_signs(np.c_[np.zeros((500, 2)), height[:500]], AXES)[0, 1] == -1.0, "a line has no foot"


def test_signs_turn_with_the_points_and_know_no_unit() -> None:
    points, turn = table(), Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix()
    moved = (7.0 * points @ turn.T + [100, -20, 3]).astype(np.float32)
    assert np.allclose(standing_signs(moved, [turn @ a for a in AXES]), standing_signs(points, AXES), atol=0.05)
    assert not standing_signs(np.zeros((50, 3), np.float32), AXES).any()


def test_directions_go_up_by_the_shortest_way() -> None:
    for direction in [*AXES, np.array([0.3, -0.5, 0.2])]:
        turn, unit = to_up(direction), direction / np.linalg.norm(direction)
        assert np.allclose(turn @ unit, [0, 0, 1]) and np.linalg.det(turn) == pytest.approx(1.0)
        angle = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
        assert angle == pytest.approx(np.degrees(np.arccos(np.clip(unit[2], -1, 1))), abs=1e-4)
