"""The `grid` architecture: shapes, independence of the batch, and what it must be differentiable in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.fields.base import Clouds
from engine.fields.families.grid import GridField
from engine.fields.observations import evidence as ev
from engine.fields.pose import YAW_BINS, PoseNet, pose_grid, pose_loss, yaw_bin


def small_field(resolution: int = 16) -> GridField:
    torch.manual_seed(0)
    field = GridField(code_channels=4, width=4, hidden=8, resolution=resolution).eval()
    with torch.no_grad():  # residual blocks start as the identity: make them do something
        for parameter in field.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return field


def evidence(batch: int, resolution: int, seed: int = 0) -> Tensor:
    points = torch.rand(batch, 300, 3, generator=torch.Generator().manual_seed(seed)) - 0.5
    ones = torch.ones(batch, 300)
    return ev.evidence_grid(points, ones, torch.tensor([0.0, -1.5, 0.5]).expand_as(points), ones, resolution)


@pytest.mark.parametrize("resolution", [16, 32])
def test_shapes(resolution: int) -> None:
    field = small_field(resolution)
    encoded = field.encode(evidence(2, resolution))
    assert encoded.mean.shape == encoded.log_variance.shape == (2, *field.code_shape)
    assert field.code_shape == (4, resolution // 4, resolution // 4, resolution // 4)
    shape = field.decode(encoded.mean, encoded.evidence)
    assert shape.features.shape == (2, 4, resolution, resolution, resolution)
    assert shape.values(torch.zeros(2, 7, 3)).shape == (2, 7)


def test_a_batch_of_two_is_two_of_one() -> None:
    field, grid = small_field(), evidence(2, 16)
    points = torch.rand(2, 50, 3) - 0.5

    def whole(part: slice) -> Tensor:
        encoded = field.encode(grid[part])
        return field.decode(encoded.mean, encoded.evidence).values(points[part])

    both = whole(slice(0, 2))
    assert torch.allclose(both[:1], whole(slice(0, 1)), atol=1e-5)
    assert torch.allclose(both[1:], whole(slice(1, 2)), atol=1e-5)
    assert not torch.allclose(both[0], both[1], atol=1e-5)


def test_decodes_a_code_alone() -> None:
    field = small_field()
    codes = torch.randn(2, *field.code_shape, generator=torch.Generator().manual_seed(3))
    value = field.decode(codes).values(torch.rand(2, 30, 3) - 0.5)
    assert bool(torch.isfinite(value).all()) and not torch.allclose(value[0], value[1])


def test_evidence_reaches_the_field_past_the_code() -> None:
    field = small_field()
    code = torch.zeros(1, *field.code_shape)
    first, second = (field.encode(evidence(1, 16, seed)) for seed in (0, 1))
    a, b = (field.decode(code, said.evidence).features for said in (first, second))
    assert not torch.allclose(a, b, atol=1e-6)


def test_gradients_reach_code_points_and_every_weight() -> None:
    field, grid = small_field(), evidence(1, 16)
    encoded = field.encode(grid)
    code = encoded.mean + (0.5 * encoded.log_variance).exp()
    points = (torch.rand(1, 40, 3) - 0.5).requires_grad_(True)
    value = field.decode(code, encoded.evidence).values(points)
    (slope,) = torch.autograd.grad(value.sum(), points, create_graph=True)
    (value.square().sum() + slope.square().sum()).backward()
    for name, parameter in field.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name


def test_the_gradient_in_space_is_that_of_central_differences() -> None:
    field = small_field().double()
    shape = field.decode(torch.randn(1, *field.code_shape, dtype=torch.float64))
    points = 0.8 * (torch.rand(1, 20, 3, dtype=torch.float64) - 0.5)
    points.requires_grad_(True)
    (gradient,) = torch.autograd.grad(shape.values(points).sum(), points)
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-7
        with torch.no_grad():
            slope = (shape.values(points + step) - shape.values(points - step)) / 2e-7
        assert torch.allclose(gradient[..., axis], slope, atol=1e-5)


def test_layout_and_arguments_do_not_change_the_answer() -> None:
    field, grid = small_field(), evidence(1, 16)
    before = field.encode(grid).mean
    again = GridField(**field.arguments).eval()
    again.load_state_dict(field.state_dict())
    assert torch.allclose(again.laid_out().encode(grid).mean, before, atol=1e-5)


def test_pose_network_shapes_and_loss() -> None:
    torch.manual_seed(0)
    network = PoseNet(classes=3, width=2)
    points = torch.rand(2, 300, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    ones = torch.ones(2, 300)
    grid = pose_grid(points, ones, torch.tensor([0.0, -1.5, 0.5]).expand_as(points), ones)
    turned, upright = torch.tensor([0.0, 1.0]), torch.ones(2)
    guess = network(grid, turned)
    assert guess.centre.shape == (2, 3) and guess.log_scale.shape == (2,)
    assert guess.yaw.shape == guess.offset.shape == (2, network.bins) and guess.classes.shape == (2, 3)
    best = guess.yaw.argmax(1)
    width = 2 * torch.pi / network.bins
    yaw = (best * width + guess.offset.gather(1, best[:, None])[:, 0]).detach()
    label = guess.classes.argmax(1)
    at, size = guess.centre.detach(), guess.log_scale.detach()
    right = pose_loss(guess, turned, upright, at, size, yaw, label)
    worst = guess.yaw.argmin(1) * width  # the turn the network believes in least
    for centre, scale, turn in ((0.1, 0.0, yaw), (0.0, 0.1, yaw), (0.0, 0.0, worst)):
        wrong = pose_loss(guess, turned, upright, at + centre, size + scale, turn, label)
        assert wrong.item() > right.item()


def test_yaw_bins_and_what_is_left_give_the_yaw_again() -> None:
    yaw = torch.linspace(-3.1, 3.1, 50)
    index, rest = yaw_bin(yaw)
    width = 2 * torch.pi / YAW_BINS
    assert bool((rest.abs() <= width / 2 + 1e-5).all())
    again = index * width + rest
    assert torch.allclose(torch.cos(again), torch.cos(yaw), atol=1e-5)
    assert torch.allclose(torch.sin(again), torch.sin(yaw), atol=1e-5)


def test_no_evidence_is_evidence_of_zeros() -> None:
    """A code decodes alone to what it decodes to in training, where the evidence's features are dropped."""
    field = GridField(code_channels=4, width=4, hidden=16, resolution=8)
    with torch.no_grad():
        for parameter in field.parameters():  # biases too, which a fresh network has at 0
            parameter.normal_(0, 0.2)
    encoded = field.encode(field.observe(Clouds.of_wholes(torch.rand(2, 100, 3) - 0.5)))
    assert encoded.evidence is not None
    alone = field.decode(encoded.mean).features
    dropped = field.decode(encoded.mean, encoded.evidence.masked(torch.zeros(2))).features
    assert torch.allclose(alone, dropped, atol=1e-5)
    assert not torch.allclose(alone, field.decode(encoded.mean, encoded.evidence).features, atol=1e-3)


def test_a_whole_surface_is_told_from_a_scan_from_nowhere() -> None:
    points = torch.rand(1, 200, 3) - 0.5
    whole = ev.grid_of(Clouds.of_wholes(points), 8)
    scan = ev.grid_of(Clouds.seen(points[0], None), 8)
    known = 2 * 11
    assert bool((whole[:, known] == -1).all()) and bool((scan[:, known] == 0).all())
    others = [k for k in range(ev.CHANNELS) if k != known]
    assert torch.equal(whole[:, others], scan[:, others])
