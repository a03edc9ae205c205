"""The evidence grid and the interpolation that reads grids."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.fields.observations import evidence as ev
from engine.frames import BOUND

R = 16
CELL = 2 * BOUND / R
HALF = 11  # channels of points and emptiness; then the same mirrored, then 'viewpoint known', then coordinates
EMPTY = 10


def cloud(count: int = 200, seed: int = 0, batch: int = 1) -> Tensor:
    return torch.rand(batch, count, 3, generator=torch.Generator().manual_seed(seed)) - 0.5


def grid_of(points: Tensor, origin: tuple[float, float, float] | None = (0.3, -1.5, 0.8)) -> Tensor:
    ones = torch.ones(points.shape[:2])
    seen_from = torch.tensor(origin or (0.0, 0.0, 0.0)).expand_as(points)
    return ev.evidence_grid(points, ones, seen_from, ones if origin else 0 * ones, R)


def test_shape_and_coordinates() -> None:
    grid = grid_of(cloud(batch=3))
    assert grid.shape == (3, ev.CHANNELS, R, R, R) and grid.dtype == torch.float32
    centres = (torch.arange(R) + 0.5) / R * 2 - 1
    x, y, z = grid[0, -3:]
    assert torch.allclose(x[:, 3, 5], centres) and torch.allclose(y[2, :, 5], centres)
    assert torch.allclose(z[2, 3, :], centres)


def test_mirrored_channels_are_those_of_the_mirrored_cloud() -> None:
    points, mirror = cloud(), torch.tensor([-1.0, 1.0, 1.0])
    here = grid_of(points, (0.3, -1.5, 0.8))
    there = grid_of(points * mirror, (-0.3, -1.5, 0.8))
    assert torch.allclose(here[:, HALF : 2 * HALF], there[:, :HALF], atol=1e-5)
    assert torch.allclose(there[:, HALF : 2 * HALF], here[:, :HALF], atol=1e-5)
    assert not torch.allclose(here[:, :HALF], there[:, :HALF], atol=1e-2)


def test_points_mark_their_own_cells_with_their_place_in_it() -> None:
    corner = torch.tensor([3.0, 8.0, 12.0])
    inside = torch.tensor([0.75, 0.5, 0.25])
    point = (corner + inside) * CELL - BOUND
    grid = grid_of(point.expand(1, 5, 3), None)[0]
    here = grid[:, 3, 8, 12]
    assert float(here[0]) == pytest.approx(float(torch.tanh(torch.tensor(5 / 3))), abs=1e-5)
    assert torch.allclose(here[1:4], 2 * (inside - 0.5), atol=1e-4)
    assert here[4:10].abs().max() < 1e-4  # five points in one place have no spread
    marked = grid[0] > 0
    assert int(marked.sum()) == 1 and bool(marked[3, 8, 12])


def test_second_moments_are_the_covariance() -> None:
    low = (torch.tensor([5.0, 5.0, 5.0])) * CELL - BOUND
    offsets = cloud(400, seed=4)[0] + 0.5
    grid = grid_of((low + offsets * CELL)[None], None)[0]
    covariance = torch.cov(offsets.T, correction=0)
    xx, yy, zz, xy, xz, yz = grid[4:10, 5, 5, 5] / 6
    expected = torch.tensor([covariance[0, 0], covariance[1, 1], covariance[2, 2]])
    assert torch.allclose(torch.stack([xx, yy, zz]), expected, atol=1e-3)
    expected = torch.tensor([covariance[0, 1], covariance[0, 2], covariance[1, 2]])
    assert torch.allclose(torch.stack([xy, xz, yz]), expected, atol=1e-3)


def test_empty_space_lies_between_viewpoint_and_points_only() -> None:
    flat = cloud(400, seed=2)
    wall = torch.cat([flat[..., :1], torch.full_like(flat[..., :1], 0.1), flat[..., 2:]], -1)
    grid = grid_of(wall, (0.0, -1.6, 0.0))[0]
    empty = grid[EMPTY] > 0
    y = (torch.arange(R) + 0.5) * CELL - BOUND
    assert bool(empty[:, y < 0.1 - 1.5 * CELL].any())
    assert not bool(empty[:, y > 0.1].any())
    assert not bool((empty & (grid[0] > 0)).any())
    # and nowhere off the rays: a single ray marks a thin line
    one = grid_of(torch.tensor([[[0.0, 0.1, 0.0]]]), (0.0, -1.6, 0.0))[0]
    marked = torch.nonzero(one[EMPTY] > 0)
    assert len(marked) >= 5 and set(marked[:, 0].tolist()) == {R // 2} and set(marked[:, 2].tolist()) == {R // 2}


def test_without_a_viewpoint_nothing_is_known_to_be_empty() -> None:
    known, unknown = grid_of(cloud())[0], grid_of(cloud(), None)[0]
    assert float(unknown[EMPTY].abs().max()) == 0.0 and float(unknown[HALF + EMPTY].abs().max()) == 0.0
    assert float(unknown[2 * HALF].max()) == 0.0 and float(known[2 * HALF].min()) == 1.0
    assert torch.equal(known[:10], unknown[:10])


def test_padding_and_points_outside_change_nothing() -> None:
    points, origin = cloud(), torch.tensor([0.3, -1.5, 0.8])
    plain = grid_of(points)
    extra = torch.cat([cloud(50, seed=9), torch.full((1, 50, 3), 0.9)], 1)
    zeros = torch.zeros(1, 100)
    ones = torch.ones(1, 200)
    padded = torch.cat([points, extra], 1)
    weights = torch.cat([ones, zeros], 1)
    grid = ev.evidence_grid(padded, weights, origin.expand_as(padded), weights, R)
    assert torch.allclose(grid, plain, atol=1e-5)
    # Outside the box even a full weight counts for nothing.
    weights = torch.cat([ones, torch.zeros(1, 50), torch.ones(1, 50)], 1)
    grid = ev.evidence_grid(padded, weights, origin.expand_as(padded), weights, R)
    assert torch.allclose(grid, plain, atol=1e-5)


def test_a_batch_is_its_members() -> None:
    points = cloud(batch=2)
    both = grid_of(points)
    for k in range(2):
        assert torch.allclose(both[k : k + 1], grid_of(points[k : k + 1]), atol=1e-6)


def test_order_of_points_does_not_matter() -> None:
    points = cloud()
    shuffled = points[:, torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    assert torch.allclose(grid_of(points), grid_of(shuffled), atol=1e-4)


# -------------------------------------------------------------------------------------------------------- interpolation


def lattice(r: int, dtype: torch.dtype = torch.float64) -> Tensor:
    axis = ((torch.arange(r, dtype=dtype) + 0.5) / r * 2 - 1) * BOUND
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))


def test_interpolation_reproduces_trilinear_functions() -> None:
    xyz = lattice(R)
    x, y, z = xyz
    values = torch.stack([2 * x - y + 0.3 * z + 1, x * y * z, x * y - z])[None]
    inner = BOUND * (1 - 1 / R) * (2 * cloud(300, seed=5).double())  # between the outermost cell centres
    inner = inner.clamp(-BOUND * (1 - 1 / R), BOUND * (1 - 1 / R))
    px, py, pz = inner[0].T
    expected = torch.stack([2 * px - py + 0.3 * pz + 1, px * py * pz, px * py - pz], 1)
    assert torch.allclose(ev.interpolate(values, inner)[0], expected, atol=1e-10)


def test_interpolation_at_cell_centres_and_beyond_the_box() -> None:
    values = torch.randn(1, 4, R, R, R, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centres = lattice(R).permute(1, 2, 3, 0).reshape(1, -1, 3)
    out = ev.interpolate(values, centres)
    assert torch.allclose(out[0].T.reshape(4, R, R, R), values[0], atol=1e-9)
    beyond = torch.tensor([[[5.0, -5.0, 5.0]]], dtype=torch.float64)
    assert torch.allclose(ev.interpolate(values, beyond)[0, 0], values[0, :, -1, 0, -1])


def test_interpolation_keeps_batches_apart() -> None:
    values = torch.randn(3, 2, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    points = cloud(20, batch=3)
    both = ev.interpolate(values, points)
    for k in range(3):
        assert torch.equal(both[k : k + 1], ev.interpolate(values[k : k + 1], points[k : k + 1]))


def test_interpolation_has_first_and_second_derivatives() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(1, 2, 4, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    points = (torch.rand(1, 6, 3, generator=generator, dtype=torch.float64) * 0.7 - 0.35).requires_grad_(True)
    assert torch.autograd.gradcheck(ev.interpolate, (values, points))
    assert torch.autograd.gradgradcheck(ev.interpolate, (values, points))
