"""Refinement: through what was seen, untouched elsewhere, and not through noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.completion.refinement import fit_residual
from engine.frames import BOUND

RADIUS = 0.3


def on_sphere(count: int, half: bool = False, seed: int = 0, radius: float = RADIUS) -> Tensor:
    direction = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    if half:
        direction[:, 2] = direction[:, 2].abs()
    return radius * torch.nn.functional.normalize(direction, dim=1)


def ball(points: Tensor, radius: float = RADIUS) -> Tensor:
    return points.norm(dim=1) - radius


def corrected(points: Tensor, field_radius: float, where: Tensor) -> Tensor:
    """A ball of the wrong radius, corrected at points, asked at `where`."""
    residual = fit_residual(points, -ball(points, field_radius), torch.ones(len(points)))
    return ball(where, field_radius) + residual(where)


def test_observed_points_come_to_lie_on_the_surface() -> None:
    points = on_sphere(8000)
    before = ball(points, 0.28).abs()
    after = corrected(points, 0.28, points).abs()
    assert float(before.mean()) > 0.019
    assert float(after.mean()) < 0.001 and float(after.max()) < 0.004
    # and so does the surface between them
    between = corrected(points, 0.28, on_sphere(4000, seed=9)).abs()
    assert float(between.mean()) < 0.0015


def test_far_from_the_points_nothing_changes() -> None:
    points = on_sphere(6000, half=True)
    residual = fit_residual(points, -ball(points, 0.28), torch.ones(len(points)))
    grid = (torch.rand(8000, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1) * BOUND
    far = torch.cdist(grid, points).amin(1) > 0.15
    assert int(far.sum()) > 1000
    assert float(residual(grid[far]).abs().max()) < 1e-6
    # The unseen half of the surface keeps its place.
    below = on_sphere(2000, seed=3)
    below = below[below[:, 2] < -0.15]
    assert float(residual(below).abs().max()) < 1e-6


def test_the_correction_fades_away_from_the_points() -> None:
    points = on_sphere(8000)
    residual = fit_residual(points, -ball(points, 0.28), torch.ones(len(points)))
    direction = on_sphere(500, seed=5) / RADIUS
    sizes = [float(residual(direction * (RADIUS + gap)).abs().mean()) for gap in (0.0, 0.03, 0.06, 0.12)]
    assert sizes[0] > 0.018 and sizes[1] < sizes[0] and sizes[2] < sizes[1] and sizes[3] < 1e-4


def test_a_field_that_is_right_is_left_alone() -> None:
    points = on_sphere(3000)
    residual = fit_residual(points, -ball(points), torch.ones(len(points)))
    assert float(residual(points).abs().max()) < 1e-6


def test_detail_appears_with_the_fine_lattices() -> None:
    """A ripple of 0.08 wavelength is seen through the finest lattices only."""
    points = on_sphere(30_000)
    ripple = 0.006 * torch.sin(points[:, 2] * (2 * np.pi / 0.08))
    fine = fit_residual(points, ripple, torch.ones(len(points)), (32, 64, 128))
    coarse = fit_residual(points, ripple, torch.ones(len(points)), (16,))
    assert float((fine(points) - ripple).abs().mean()) < 0.1 * float(ripple.abs().mean())
    assert float((coarse(points) - ripple).abs().mean()) > 0.7 * float(ripple.abs().mean())


def test_noise_is_not_chased() -> None:
    """Errors that contradict one another within a cell average out; the surface stays smooth."""
    points = on_sphere(20_000)
    noise = 0.01 * torch.randn(len(points), generator=torch.Generator().manual_seed(2))
    residual = fit_residual(points, noise, torch.ones(len(points)), (32, 64))
    rough = float(residual(on_sphere(4000, seed=8)).std())
    assert rough < 0.35 * 0.01
    finest = fit_residual(points, noise, torch.ones(len(points)), (32, 64, 128))
    assert rough < float(finest(on_sphere(4000, seed=8)).std())


def test_weights_decide_between_points() -> None:
    points = on_sphere(4000).repeat(2, 1)
    errors = torch.cat([torch.full((4000,), 0.02), torch.full((4000,), -0.02)])
    trusted = torch.cat([torch.ones(4000), torch.full((4000,), 1e-3)])
    residual = fit_residual(points, errors, trusted)
    assert float(residual(points[:4000]).mean()) > 0.018
    nobody = fit_residual(points, errors, torch.zeros(8000))
    assert float(nobody(points).abs().max()) == 0.0


def test_no_points_make_no_correction() -> None:
    residual = fit_residual(torch.zeros(0, 3), torch.zeros(0), torch.zeros(0))
    assert float(residual(on_sphere(50)).abs().max()) == 0.0
