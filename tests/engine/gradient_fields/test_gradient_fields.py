"""Gradient fields: the score of a blurred cloud, points drawn to the surface, files, and the commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from engine.cli import entry as cli
from engine.errors import Cancelled, InputError
from engine.evaluation.generation import earth_movers_distance
from engine.fields.families.deepsdf import DeepSDF
from engine.fields.observations.evidence import interpolate
from engine.geometry.clouds import PointCloud
from engine.geometry.connected import is_watertight
from engine.geometry.files import read_shape, write_cloud
from engine.geometry.metrics import chamfer_l2
from engine.gradient_fields.model import (
    GradientField,
    _interpolate,
    decode_codes,
    load_gradient_field,
    noise_levels,
    save_gradient_field,
)
from engine.gradient_fields.registry import find_gradient_field
from engine.gradient_fields.sampling import densify, encode, extract_surface, observe, sample_points
from engine.gradient_fields.training import denoising_loss, train_generator, train_gradient_field
from engine.jobs.base import JobArrays
from engine.jobs.gradient.request import GradientRequest
from engine.jobs.gradient.run import given_points
from engine.priors.file import Prior, load_prior
from engine.training.supervision import UNITS

CPU = torch.device("cpu")
SMALL = {"batch": 4, "hidden": 48, "blocks": 2, "gan_steps": 20, "device": CPU, "precision": "float32"}


@pytest.fixture(scope="module")
def prior(generative_prior_file: Path) -> Prior:
    """Of ellipsoids; whatever is shown to its encoder it takes for a ball."""
    return load_prior(str(generative_prior_file), "cpu")


def learn(prior: Prior, records: np.ndarray, folder: Path, steps: int, **options: object) -> GradientField:
    settings: dict[str, Any] = {**SMALL, **options}
    return train_gradient_field(prior, records, np.arange(len(records)), ["ball"], folder, steps=steps, **settings)


@pytest.fixture(scope="module")
def model(prior: Prior, records: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> GradientField:
    """Of a ball, stretched and squeezed."""
    return learn(prior, records[:1], tmp_path_factory.mktemp("gradient"), 400)


def surface_of(records: np.ndarray, k: int) -> np.ndarray:
    return records[k]["surface"].astype(np.float32) / UNITS


def test_the_loss_is_least_for_the_true_score() -> None:
    """A cloud that is one point: the score of its blur is known, -(x - p) / sigma^2."""
    clean, sigma = torch.zeros(2, 2, 50, 3), torch.tensor([[0.3, 0.01], [0.1, 0.02]])
    noise = torch.randn(clean.shape)

    def exact(features: Any, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return -x / level[..., None, None]

    def doubled(features: Any, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return 2 * exact(features, x, level)

    assert float(denoising_loss(exact, None, clean, sigma, noise).max()) < 1e-10  # type: ignore[arg-type]
    assert float(denoising_loss(doubled, None, clean, sigma, noise).min()) > 0.5  # type: ignore[arg-type]


def test_features_between_cells_are_those_of_the_prior(prior: Prior) -> None:
    code = torch.randn(1, *prior.field.code_shape, generator=torch.Generator().manual_seed(0))
    points = torch.rand(1, 200, 3) * 1.2 - 0.6  # some outside of the box
    features = decode_codes(prior, code)
    distance, slope = features.near(points)[1:]
    assert torch.allclose(distance, prior.field.decode(code).values(points), atol=1e-5)
    aside = distance - features.near(points - torch.tensor([1e-3, 0.0, 0.0]))[1]
    assert float((aside / 1e-3 - slope[..., 0]).abs().median()) < 0.02
    theirs = interpolate(prior.field.decode(code).features, points)
    assert torch.allclose(_interpolate(features.fine, points), theirs, atol=1e-5)


def test_noise_levels_fall_geometrically() -> None:
    levels = noise_levels()
    assert len(levels) == 10 and torch.allclose(levels[1:] / levels[:-1], levels[1] / levels[0])
    assert levels[0] > levels[-1] > 0


def test_points_from_noise_come_to_the_shape(model: GradientField, records: np.ndarray) -> None:
    truth = surface_of(records, 0)
    features = model.decode(encode(model, truth, np.random.default_rng(0)))
    drawn = sample_points(model, features, 1000, torch.Generator().manual_seed(0)).numpy()
    start = np.random.default_rng(0).normal(0, float(model.levels[0]), (1000, 3)).astype(np.float32)
    assert chamfer_l2(drawn, truth) < 0.35 * chamfer_l2(start, truth)
    again = sample_points(model, features, 1000, torch.Generator().manual_seed(0)).numpy()
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
    mesh = extract_surface(model, observe(model, truth, np.random.default_rng(0)), 48, offset=0.06)
    assert is_watertight(mesh)
    assert chamfer_l2(mesh.vertices, truth) < 2 * 0.12**2


def test_killed_it_goes_on_and_ends_the_same(
    prior: Prior, records: np.ndarray, tmp_path: Path, one_thread: None
) -> None:
    whole = learn(prior, records, tmp_path / "whole", 12)
    calls = iter(range(100))
    with pytest.raises(Cancelled):
        learn(prior, records, tmp_path / "cut", 12, should_stop=lambda: next(calls) > 8)
    resumed = learn(prior, records, tmp_path / "cut", 12)
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


@pytest.fixture
def installed(
    model: GradientField, generative_prior_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The field `things` and its prior, as a user has them. Returns their folder."""
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(tmp_path))
    shutil.copy(generative_prior_file, tmp_path / "called otherwise.safetensors")
    save_gradient_field(tmp_path / "gradient_fields" / "things.gradient.safetensors", model)
    return tmp_path


def test_through_a_file_and_what_is_refused(model: GradientField, installed: Path) -> None:
    path = installed / "gradient_fields" / "things.gradient.safetensors"
    again = load_gradient_field(path, CPU)
    assert again.generator is not None and again.prior.name == model.prior.name
    x, code = torch.rand(1, 5, 3), torch.zeros(1, *model.prior.field.code_shape)
    assert torch.allclose(
        again.step_to_surface(x, 0.1, again.decode(code)), model.step_to_surface(x, 0.1, model.decode(code)), atol=5e-3
    )
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"can be used"):
        load_gradient_field(path, CPU)
    path.write_bytes(b"no field at all")
    with pytest.raises(InputError):
        load_gradient_field(path, CPU)
    path.write_bytes(whole)
    (installed / "called otherwise.safetensors").unlink()
    with pytest.raises(InputError, match="generative"):
        load_gradient_field(path, CPU)


def test_a_prior_whose_codes_have_no_place_is_refused(records: np.ndarray, tmp_path: Path) -> None:
    other = Prior(DeepSDF(code=4, hidden=16, layers=2), {"name": "flat", "classes": ["ball"]})
    with pytest.raises(InputError, match="flat"):
        learn(other, records[:1], tmp_path, 2)


def test_the_commands(
    installed: Path, records: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = surface_of(records, 0)
    inwards = -truth / np.linalg.norm(truth, axis=1, keepdims=True)
    write_cloud(tmp_path / "sparse.ply", PointCloud(3 * truth[::60] + np.float32([10, 0, 0]), inwards[::60]))
    dense = tmp_path / "dense.ply"
    command = ["gradient", "densify", str(tmp_path / "sparse.ply"), "-o", str(dense), "--field", "things"]
    assert cli.main([*command, "--points", "500", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == [str(dense)]
    cloud = read_shape(dense)
    assert len(cloud.points) == 500  # type: ignore[union-attr]
    assert abs(float(cloud.points[:, 0].mean()) - 10) < 1  # type: ignore[union-attr]  # in the input's place
    assert cloud.normals is not None
    outwards = np.einsum("ij,ij->i", cloud.normals, cloud.points - cloud.points.mean(0))  # type: ignore[union-attr]
    assert (outwards < 0).mean() > 0.95, "as the normals that were given"

    assert cli.main([
        "gradient", "generate", "-o", str(tmp_path / "new"), "-n", "2", "--field", "things", "--points", "100", "--json"
    ]) == 0
    assert len(json.loads(capsys.readouterr().out)["outputs"]) == 2
    both = [
        ["gradient", "generate", "-o", str(tmp_path / kind), "--field", "things", "--points", "50", "--latent", kind]
        for kind in ("gan", "mixture")
    ]
    assert [cli.main([*one, "--class", name]) for one, name in zip(both, ("ball", "plate"), strict=True)] == [0, 0]
    assert cli.main([*both[0], "--class", "cupboard"]) == 2
    capsys.readouterr()
    assert cli.main([*command, "--field", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_the_field_that_comes_along_densifies_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing trained and nothing chosen. Its file names its data and their licences."""
    board = trimesh.creation.box((1.0, 0.6, 0.04), trimesh.transformations.translation_matrix((0, 0, 0.7)))
    legs = [
        trimesh.creation.box((0.05, 0.05, 0.68), trimesh.transformations.translation_matrix((x, y, 0.34)))
        for x in (-0.45, 0.45) for y in (-0.25, 0.25)
    ]
    table = trimesh.util.concatenate([board, *legs])
    truth = np.asarray(trimesh.sample.sample_surface(table, 8000, seed=0)[0], np.float32)
    colours = np.where(truth[:, 2:] > 0.67, [[1, 0, 0]], [[0, 0, 1]]).astype(np.float32)
    sparse = truth[:150]
    write_cloud(tmp_path / "sparse.ply", PointCloud(sparse, colours=colours[:150]))
    command = ["gradient", "densify", str(tmp_path / "sparse.ply"), "-o", str(tmp_path / "dense.ply"), "--json"]
    assert cli.main([*command, "--points", "3000", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["field"] == GradientRequest().field
    made = read_shape(tmp_path / "dense.ply")
    assert isinstance(made, PointCloud) and made.colours is not None
    dense = made.points
    top, leg = dense[:, 2] > 0.69, dense[:, 2] < 0.55
    assert made.colours[top, 0].mean() > 0.9 and made.colours[leg, 2].mean() > 0.9, "as the points that were given"
    assert chamfer_l2(dense, truth) < 0.35 * chamfer_l2(sparse, truth)
    card = find_gradient_field(GradientRequest().field, CPU).card
    assert "GPL-3.0-or-later" in card["licence"] and all(entry["licences"] for entry in card["data"].values())


def test_a_mesh_is_its_surface_and_not_its_corners() -> None:
    box = trimesh.creation.box((1.0, 0.5, 0.25))
    arrays = JobArrays(np.asarray(box.vertices, np.float32), faces=np.asarray(box.faces, np.int32))
    points = given_points(GradientRequest(), arrays)
    assert len(points) > 4000
    off = np.abs(np.abs(points) - [0.5, 0.25, 0.125]).min(1)
    assert off.max() < 1e-5 and np.abs(points.mean(0)).max() < 0.02
    cloud = np.random.default_rng(0).random((40, 3)).astype(np.float32)
    assert given_points(GradientRequest(), JobArrays(cloud)) is cloud
