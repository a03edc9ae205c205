"""The distribution of codes: what is drawn from it, how likely things are under it, and its way through a file."""

import math

import pytest
import torch

from engine.errors import InputError
from engine.priors.latent import LatentModel, latent_from
from engine.training.latent import fit_latent, held_out_likelihood

SHAPE = (2, 3, 3, 3)


@pytest.fixture(scope="module")
def codes() -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes on two lines in a space of 54 numbers, far apart, with a little noise all around."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(54, 3, generator=generator))[0].T
    labels = torch.arange(400) % 2
    along = torch.randn(400, generator=generator)
    flat = torch.where(labels[:, None] == 0, 4.0, -4.0) * directions[0]
    flat = flat + along[:, None] * directions[1 + labels] + 0.05 * torch.randn(400, 54, generator=generator)
    return flat, labels


@pytest.fixture(scope="module")
def model(codes: tuple[torch.Tensor, torch.Tensor]) -> LatentModel:
    flat, labels = codes
    names = [f"shape {k}" for k in range(300)]
    return fit_latent(flat[None, :300], labels[:300], names, ["cup", "chair"], SHAPE, size=3, diffusion_steps=600)


def test_the_basis_is_orthonormal_and_projecting_undoes_expanding(model: LatentModel) -> None:
    assert torch.allclose(model.basis @ model.basis.T, torch.eye(3), atol=1e-4)
    coefficients = torch.randn(5, 3)
    assert torch.allclose(model.project(model.expand(coefficients)), coefficients, atol=1e-3)
    assert model.expand(coefficients).shape == (5, *SHAPE)
    assert float(model.explained[-1]) > 0.98


def test_training_coefficients_are_white(model: LatentModel) -> None:
    assert model.training.mean(0).abs().max() < 1e-3
    assert torch.allclose(model.training.T @ model.training / len(model.training), torch.eye(3), atol=0.02)


@pytest.mark.parametrize("distribution", ["mixture", "diffusion"])
def test_samples_of_a_class_lie_where_its_shapes_lie(
    model: LatentModel, codes: tuple[torch.Tensor, torch.Tensor], distribution: str
) -> None:
    flat, labels = codes
    for label, name in enumerate(model.classes):
        drawn = model.sample(256, name, generator=torch.Generator().manual_seed(1), distribution=distribution)
        real = model.project(flat[labels == label].view(-1, *SHAPE))
        assert torch.allclose(drawn.mean(0), real.mean(0), atol=0.25)
        assert torch.allclose(drawn.std(0), real.std(0), atol=0.25)


def test_one_gaussian_for_all_fills_the_gap_between_classes_and_the_mixture_does_not(model: LatentModel) -> None:
    def between(distribution: str) -> float:
        drawn = model.sample(500, generator=torch.Generator().manual_seed(2), distribution=distribution)
        cups, chairs = model.class_mean("cup"), model.class_mean("chair")
        place = (drawn - cups) @ (chairs - cups) / (chairs - cups).square().sum()
        return float(((place > 0.25) & (place < 0.75)).float().mean())

    assert between("gaussian") > 0.2
    assert between("mixture") < 0.02 and between("diffusion") < 0.1


def test_temperature_and_seed(model: LatentModel) -> None:
    def draw(temperature: float, seed: int, distribution: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return model.sample(64, "cup", temperature, generator, distribution)

    for distribution in ("gaussian", "mixture", "diffusion"):
        assert torch.equal(draw(1.0, 3, distribution), draw(1.0, 3, distribution))
        assert not torch.equal(draw(1.0, 3, distribution), draw(1.0, 4, distribution))
        assert draw(0.0, 3, distribution).std(0).max() < 1e-4  # the one typical shape
        assert draw(0.5, 3, distribution).std(0).sum() < draw(1.0, 3, distribution).std(0).sum()


def test_densities_are_those_of_the_normal_distributions(model: LatentModel) -> None:
    points = model.sample(50, distribution="gaussian", generator=torch.Generator().manual_seed(0))
    every = torch.distributions.MultivariateNormal(torch.zeros(3), torch.eye(3))
    assert torch.allclose(model.log_density(points, None, "gaussian"), every.log_prob(points), atol=1e-3)
    classes = torch.distributions.MultivariateNormal(model.centres, scale_tril=model.factors)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(model.shares), classes)
    near = model.sample(50, distribution="mixture", generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.log_density(near, None, "mixture"), mixture.log_prob(near), atol=1e-2)
    assert model.class_posterior(model.class_mean("cup")[None])[0].tolist() == pytest.approx([1, 0], abs=1e-3)


def test_held_out_codes_are_likelier_under_the_distributions_that_know_classes(
    model: LatentModel, codes: tuple[torch.Tensor, torch.Tensor]
) -> None:
    flat, labels = codes
    table = held_out_likelihood(model, flat[300:], labels[300:])
    assert table["mixture"]["own class"] > table["gaussian"]["any class"]
    assert table["diffusion"]["own class"] > table["gaussian"]["any class"] - 0.1
    assert all(math.isfinite(v) for row in table.values() for v in row.values())


def test_the_diffusions_density_is_that_of_a_gaussian_where_the_data_are_one() -> None:
    data = torch.randn(1, 2000, 4, generator=torch.Generator().manual_seed(5))
    model = fit_latent(data, torch.zeros(2000, dtype=torch.long), [""] * 2000, ["all"], (4,), diffusion_steps=400)
    some = torch.randn(64, 4, generator=torch.Generator().manual_seed(6))
    gaussian = model.log_density(some, None, "gaussian")
    diffusion = model.log_density(some, None, "diffusion")
    assert float((diffusion - gaussian).abs().mean()) < 0.35


def test_nearest_training_shape_and_its_name(model: LatentModel) -> None:
    distance, names = model.nearest_training(model.training[[7, 100]] + 0.001)
    assert names == ["shape 7", "shape 100"] and float(distance.max()) < 0.002


def test_through_a_file_and_back(model: LatentModel) -> None:
    again = latent_from(model.about(), model.tensors())
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    assert torch.equal(model.sample(3, "cup", 1.0, generators[0]), again.sample(3, "cup", 1.0, generators[1]))
    assert again.names == model.names and again.classes == model.classes


def test_what_does_not_fit_together_is_refused(model: LatentModel) -> None:
    tensors = model.tensors()
    tensors["basis"] = tensors["basis"][:1]
    with pytest.raises(ValueError, match="basis"):
        latent_from(model.about(), tensors)
    with pytest.raises(InputError, match="class called"):
        model.sample(1, "elephant")
    with pytest.raises(InputError, match="distribution"):
        model.sample(1, distribution="flow")
