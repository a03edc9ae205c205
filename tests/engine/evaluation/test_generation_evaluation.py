"""MMD, COV and 1-NNA on sets whose answers are known, and the protocol on a small library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError, JobFailed
from engine.evaluation.generation import (
    chamfer_matrix,
    earth_movers_distance,
    emd_matrix,
    latent_maker,
    run_generation_evaluation,
    set_measures,
)
from engine.geometry.meshes import Mesh
from engine.geometry.metrics import chamfer_l2
from engine.priors.file import load_prior
from engine.training.library import load_library


def measures(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Of sets of numbers, |x - y| apart."""
    def away(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.abs(a[:, None] - b[None])

    return set_measures(away(first, first), away(first, second), away(second, second))


def test_sets_far_apart_are_told_apart_and_cover_nothing() -> None:
    found = measures(np.linspace(0, 1, 20), np.linspace(50, 51, 10))
    assert found["1-nna"] == 1.0
    assert found["cov"] == 1 / 10
    assert found["mmd"] == pytest.approx(np.mean(np.linspace(50, 51, 10) - 1))


def test_the_same_distribution_is_hard_to_tell_apart() -> None:
    rng = np.random.default_rng(0)
    found = [measures(rng.random(100), rng.random(100)) for _ in range(5)]
    assert np.mean([one["1-nna"] for one in found]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([one["cov"] for one in found]) > 0.5


def test_a_copy_of_the_reference_covers_it_and_every_nearest_is_the_twin() -> None:
    numbers = np.random.default_rng(0).random(30)
    found = measures(numbers, numbers)
    assert found == {"mmd": 0.0, "cov": 1.0, "1-nna": 0.0}


def test_one_shape_again_and_again_covers_one() -> None:
    found = measures(np.full(20, 0.5), np.linspace(0, 1, 21))
    assert found["cov"] == pytest.approx(1 / 21) and found["1-nna"] > 0.9


def test_earth_movers_distance_of_known_clouds() -> None:
    rng = np.random.default_rng(0)
    cloud = rng.random((64, 3)).astype(np.float32)
    assert earth_movers_distance(cloud, cloud[rng.permutation(64)]) == pytest.approx(0, abs=1e-9)
    assert earth_movers_distance(cloud, cloud + np.array([0.3, 0, 0.4], np.float32)) == pytest.approx(0.5, abs=1e-6)
    # Chamfer does not see that all of one cloud's points lie on one point of the other; this does.
    line = np.zeros((4, 3))
    line[:, 0] = np.arange(4)
    ends = line[[0, 0, 3, 3]]
    assert earth_movers_distance(line, ends) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="one size"):
        earth_movers_distance(cloud, cloud[:10])


def test_matrices_hold_the_distances_of_the_pairs() -> None:
    rng = np.random.default_rng(0)
    a, b = [rng.random((40, 3)).astype(np.float32) for _ in range(2)], [rng.random((40, 3)) for _ in range(3)]
    chamfer, emd = chamfer_matrix(a, b), emd_matrix(a, b, 16)
    for i in range(2):
        for j in range(3):
            assert chamfer[i, j] == pytest.approx(chamfer_l2(a[i], b[j]))
            assert emd[i, j] == pytest.approx(earth_movers_distance(a[i][:16], b[j][:16]))


def test_the_protocol_judges_makers_and_goes_on_where_it_was(
    generative_prior_file: Path, library_folder: Path, tmp_path: Path
) -> None:
    library = load_library(library_folder, splits_by_design=False)
    names = {"round": "ball", "square": "plate"}
    mark, ellipsoids = latent_maker(load_prior(str(generative_prior_file)), "mixture", 1.0, 0, 16)
    made: list[tuple[str, int]] = []

    def maker(class_name: str, number: int) -> Mesh:
        made.append((class_name, number))
        if class_name == "square" and number == 0:
            raise JobFailed("empty_surface", "No.", "No.", "No.")
        return ellipsoids(names[class_name], number)

    def points(class_name: str, number: int) -> np.ndarray:
        return np.random.default_rng(number).uniform(-0.5, 0.5, (100, 3)).astype(np.float32)

    def run() -> dict:
        return run_generation_evaluation(
            [("ellipsoids", mark, maker), ("noise", "1", points)], library, split="train", limit=3, points=128,
            emd_points=32, out_dir=tmp_path,
        )  # fmt: skip

    report = run()
    assert len(made) == 6 and report["shapes"] == {"round": 3, "square": 3}
    assert report["families"]["ellipsoids"]["failed"] == 1
    assert report["families"]["noise"]["emd"]["mmd"] > report["families"]["training shapes"]["emd"]["mmd"]
    again = run()
    assert len(made) == 6 and again == report
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == report
    assert "| noise |" in (tmp_path / "report.md").read_text("utf-8")
    assert (tmp_path / "sheet_ellipsoids.png").stat().st_size > 1000
    twice = run_generation_evaluation(
        [("noise", "1", points)], library, split="train", limit=3, repeats=2, points=128, emd_points=32,
        out_dir=tmp_path, yardstick=False,
    )["families"]["noise"]  # fmt: skip
    assert twice["shapes"] == 12 and 0 <= twice["cd"]["1-nna spread"] <= 1
    with pytest.raises(InputError, match="no shape of the classes"):
        run_generation_evaluation([], library, classes=["boat"], out_dir=tmp_path)
