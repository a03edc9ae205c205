"""Gradient fields: the score of a blurred cloud, points drawn to the surface, files, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine import cli
from engine.errors import Cancelled, InputError
from engine.evaluation.generation import earth_movers_distance
from engine.geometry.clouds import PointCloud
from engine.geometry.io import read_shape, write_cloud
from engine.geometry.metrics import chamfer_l2
from engine.gradient_fields.model import GradientField, load_gradient_field, noise_levels, save_gradient_field
from engine.gradient_fields.sampling import densify, encode, extract_surface, sample_points
from engine.gradient_fields.training import denoising_loss, train_generator, train_gradient_field
from engine.meshing import is_watertight
from engine.training.supervision import UNITS

CPU = torch.device("cpu")
SMALL = {"batch": 4, "width": 64, "blocks": 2, "code": 16, "gan_steps": 20, "device": CPU, "learning_rate": 2e-3}


def learn(records: np.ndarray, folder: Path, steps: int, **options: object) -> GradientField:
    indices = np.arange(len(records))
    names = [f"shape {k}" for k in indices]
    return train_gradient_field(
        records, indices, np.zeros(len(records), int), ["thing"], names, folder, steps=steps, **{**SMALL, **options}
    )


@pytest.fixture(scope="module")
def model(records: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> GradientField:
    """Of balls, stretched and squeezed: few enough kinds for a minute's learning."""
    return learn(records[:1], tmp_path_factory.mktemp("gradient"), 500)


def surface_of(records: np.ndarray, k: int) -> np.ndarray:
    return records[k]["surface"].astype(np.float32) / UNITS


def test_the_loss_is_least_for_the_true_score() -> None:
    """A cloud that is one point: the score of its blur is known, -(x - p) / sigma^2."""
    clean, sigma = torch.zeros(2, 50, 3), torch.tensor([0.3, 0.01])
    noise = torch.randn(2, 50, 3)

    def exact(x: torch.Tensor, level: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return -x / level[:, None, None]

    def doubled(x: torch.Tensor, level: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return 2 * exact(x, level, code)

    code = torch.zeros(2, 4)
    assert float(denoising_loss(exact, clean, code, sigma, noise)) < 1e-10  # type: ignore[arg-type]
    assert float(denoising_loss(doubled, clean, code, sigma, noise)) > 0.5  # type: ignore[arg-type]


def test_noise_levels_fall_geometrically() -> None:
    levels = noise_levels()
    assert len(levels) == 10 and torch.allclose(levels[1:] / levels[:-1], levels[1] / levels[0])
    assert levels[0] > levels[-1] > 0


def test_points_from_noise_come_to_the_shape(model: GradientField, records: np.ndarray) -> None:
    truth = surface_of(records, 0)
    code = encode(model, truth, np.random.default_rng(0))
    drawn = sample_points(model, code, 1000, torch.Generator().manual_seed(0)).numpy()
    start = np.random.default_rng(0).normal(0, float(model.levels[0]), (1000, 3)).astype(np.float32)
    assert chamfer_l2(drawn, truth) < 0.35 * chamfer_l2(start, truth)
    again = sample_points(model, code, 1000, torch.Generator().manual_seed(0)).numpy()
    assert np.array_equal(drawn, again)


def test_densifying_covers_the_surface_better_than_the_points_given(model: GradientField, records: np.ndarray) -> None:
    truth = surface_of(records, 0)
    sparse = truth[np.random.default_rng(1).choice(len(truth), 100, replace=False)]
    dense = densify(model, sparse, 3000, 0)
    assert dense.shape == (3000, 3)

    def covered(cloud: np.ndarray) -> float:
        from scipy.spatial import cKDTree

        return float(cKDTree(cloud).query(truth)[0].mean())

    assert covered(dense) < 0.6 * covered(sparse)


def test_the_shell_is_closed_and_lies_about_the_surface(model: GradientField, records: np.ndarray) -> None:
    truth = surface_of(records, 0)
    mesh = extract_surface(model, encode(model, truth, np.random.default_rng(0)), 48, offset=0.06)
    assert is_watertight(mesh)
    assert chamfer_l2(mesh.vertices, truth) < 2 * 0.12**2


def test_killed_it_goes_on_and_ends_the_same(records: np.ndarray, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = learn(records, tmp_path / "whole", 12)
    calls = iter(range(100))
    with pytest.raises(Cancelled):
        learn(records, tmp_path / "cut", 12, should_stop=lambda: next(calls) > 8)
    resumed = learn(records, tmp_path / "cut", 12)
    for a, b in zip(whole.score.state_dict().values(), resumed.score.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_generator_learns_where_codes_lie() -> None:
    normal = torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
    codes = normal * torch.tensor([0.1, 1.0]) + torch.tensor([3.0, -2.0])
    generator = train_generator(codes, steps=400)
    drawn = generator(torch.randn(500, generator.noise, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(drawn.mean(0), codes.mean(0), atol=1.0)
    assert float(drawn[:, 1].std()) > 2 * float(drawn[:, 0].std())


def test_distances_between_clouds() -> None:
    a = np.random.default_rng(0).random((60, 3)).astype(np.float32)
    assert chamfer_l2(a, a) == 0 and earth_movers_distance(a, a[::-1]) == pytest.approx(0, abs=1e-7)
    moved = a + np.float32([0, 0, 5])
    assert earth_movers_distance(a, moved) == pytest.approx(5, rel=0.01)


def test_through_a_file_and_what_is_refused(model: GradientField, tmp_path: Path) -> None:
    path = tmp_path / "things ž.gradient.safetensors"
    save_gradient_field(path, model)
    again = load_gradient_field(path, CPU)
    x, code = torch.rand(1, 5, 3), torch.zeros(1, 16)
    assert torch.allclose(
        again.step_to_surface(x, 0.1, code), model.step_to_surface(x, 0.1, code), atol=5e-3
    )
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"can be used"):
        load_gradient_field(path, CPU)
    path.write_bytes(b"no field at all")
    with pytest.raises(InputError):
        load_gradient_field(path, CPU)


def test_the_commands(
    model: GradientField, records: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(tmp_path))
    save_gradient_field(tmp_path / "gradient_fields" / "things.gradient.safetensors", model)
    truth = surface_of(records, 0)
    write_cloud(tmp_path / "sparse.ply", PointCloud(3 * truth[::60] + np.float32([10, 0, 0])))
    dense = tmp_path / "dense.ply"
    command = ["gradient", "densify", str(tmp_path / "sparse.ply"), "-o", str(dense), "--field", "things"]
    assert cli.main([*command, "--points", "500", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == [str(dense)]
    cloud = read_shape(dense)
    assert len(cloud.points) == 500  # type: ignore[union-attr]
    assert abs(float(cloud.points[:, 0].mean()) - 10) < 1  # type: ignore[union-attr]  # in the input's place

    assert cli.main([
        "gradient", "generate", "-o", str(tmp_path / "new"), "-n", "2", "--field", "things", "--points", "100", "--json"
    ]) == 0
    assert len(json.loads(capsys.readouterr().out)["outputs"]) == 2
    assert cli.main([*command, "--field", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
