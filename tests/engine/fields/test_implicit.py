"""Single-shape networks: what they start as, what they can say, and their derivatives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engine.fields.implicit import NETWORKS, Mlp, Siren, divergence, gradient
from engine.surface_fit.methods.sdf import sdf
from engine.surface_fit.recipe import Source
from engine.surface_fit.training import train

STARTS: dict[str, dict[str, Any]] = {
    "softplus": {"network": Mlp},
    "ReLU": {"network": Mlp, "beta": None},
    "without a skip": {"network": Mlp, "layers": 3},
    "sine": {"network": Siren, "initialisation": "digs"},
}


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("start", STARTS)
def test_geometric_initialisation_starts_as_a_sphere(start: str, dimension: int) -> None:
    arguments = dict(STARTS[start])
    make = arguments.pop("network")
    deviations = []
    for seed in range(4):
        torch.manual_seed(seed)
        network = make(dimension, radius=0.6, **arguments).requires_grad_(False)
        direction = F.normalize(torch.randn(1000, dimension), dim=1)
        for radius in (0.1, 0.3, 0.45, 0.6, 0.75, 1.0):
            value = network(radius * direction)
            assert float(value.mean()) == pytest.approx(radius - 0.6, abs=0.03 + 0.25 * max(0.0, 0.4 - radius))
            deviations.append(float(value.std()) / radius)
        assert bool((network(0.3 * direction) < 0).all())
        assert bool((network(1.1 * direction) > 0).all())
    assert np.mean(deviations) < 0.2


def test_plain_initialisations_are_no_spheres() -> None:
    torch.manual_seed(0)
    direction = F.normalize(torch.randn(1000, 3), dim=1)
    for network in (Mlp(3, initialisation="plain"), Siren(3)):
        with torch.no_grad():
            inside, outside = network(0.2 * direction), network(1.1 * direction)
        assert not (bool((inside < 0).all()) and bool((outside > 0).all()))


def test_siren_starts_with_values_spread_over_the_sine() -> None:
    """Sitzmann 2020, section 3.2: before every sine after the first the arguments are about N(0, 1)."""
    torch.manual_seed(0)
    network = Siren(3, hidden=256, layers=4).requires_grad_(False)
    h = 2 * torch.rand(2000, 3) - 1
    for k, layer in enumerate(network.hidden):
        argument = 30.0 * layer(h)
        if k:
            assert 0.7 < float((argument - 30.0 * layer.bias).std()) < 1.4  # type: ignore[operator]
        h = torch.sin(argument)
        assert 0.6 < float(h.std()) < 0.8


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("make", [lambda d: Mlp(d, 16, 4), lambda d: Siren(d, 16, 2, 3.0, "digs")])
def test_derivatives_are_those_of_central_differences(make: Any, dimension: int) -> None:
    torch.manual_seed(0)
    network = make(dimension).double().requires_grad_(False)
    points = torch.randn(20, dimension, dtype=torch.float64).mul(0.5).requires_grad_(True)
    first = gradient(network(points), points)
    second = divergence(first, points)
    step, slopes, bends = 1e-5, [], torch.zeros(20, dtype=torch.float64)
    for axis in range(dimension):
        move = step * F.one_hot(torch.tensor(axis), dimension).double()
        ahead, behind = points.detach() + move, points.detach() - move
        slopes.append((network(ahead) - network(behind)) / (2 * step))
        ahead, behind = ahead.requires_grad_(True), behind.requires_grad_(True)
        bends += (gradient(network(ahead), ahead) - gradient(network(behind), behind))[:, axis] / (2 * step)
    assert torch.allclose(first, torch.stack(slopes, 1), rtol=1e-5, atol=1e-7)
    assert torch.allclose(second, bends, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_arguments_rebuild_a_network(name: str) -> None:
    network = NETWORKS[name](2, hidden=12, layers=4, radius=0.7)
    again = NETWORKS[name](**network.arguments)
    again.load_state_dict(network.state_dict())
    points = torch.randn(10, 2)
    assert torch.equal(again(points), network(points))


def test_siren_fits_finer_detail_than_relu_at_equal_size() -> None:
    """A circle with forty waves, from its signed distance: the sine network follows them, the ReLU network does not."""
    waves, swing = 40, 0.03

    def curve(angle: np.ndarray) -> np.ndarray:
        radius = 0.7 + swing * np.cos(waves * angle)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)

    def signed(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angle = np.arctan2(points[:, 1], points[:, 0])
        slope = swing * waves * np.sin(waves * angle) / 0.7
        away = np.linalg.norm(points, axis=1) - 0.7 - swing * np.cos(waves * angle)
        return (away / np.sqrt(1 + slope**2)).astype(np.float32), np.zeros_like(points)

    source = Source(curve(np.linspace(0, 2 * np.pi, 2000, endpoint=False)), None, signed)
    errors = {}
    networks: dict[str, nn.Module] = {"sine": Siren(2, 48, 3), "ReLU": Mlp(2, 48, 3, beta=None)}
    sizes = {sum(p.numel() for p in network.parameters()) for network in networks.values()}
    assert len(sizes) == 1
    for name, network in networks.items():
        recipe = replace(sdf(), network=lambda d, network=network: network, batch=512)
        fitted, _ = train(source, recipe, iterations=250)
        with torch.no_grad():
            errors[name] = float(fitted(torch.from_numpy(source.points)).abs().mean())
    assert errors["sine"] < 0.5 * errors["ReLU"]
    assert errors["sine"] < 0.3 * swing
