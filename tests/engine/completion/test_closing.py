"""Tears of a completed shape are closed, windows that somebody looked through are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.completion.closing import LATTICE, STEP, _betti, closing, simple, thinned
from engine.finish.topology import Topology, topology
from engine.geometry.clouds import PointCloud
from engine.geometry.meshes import Mesh
from engine.surfaces.marching import extract_sparse

Field = Callable[[Tensor], Tensor]


def box(size: tuple[float, float, float], at: tuple[float, float, float] = (0, 0, 0)) -> Field:
    def field(points: Tensor) -> Tensor:
        away = (points - torch.tensor(at)).abs() - torch.tensor(size)
        return away.clamp(min=0).norm(dim=1) + away.amax(1).clamp(max=0)

    return field


def without(solid: Field, hole: Field) -> Field:
    return lambda points: torch.maximum(solid(points), -hole(points))


def both(one: Field, other: Field) -> Field:
    return lambda points: torch.minimum(one(points), other(points))


def mesh_of(field: Field) -> Mesh:
    return extract_sparse(field, 128).mesh


def closed(field: Field, points: np.ndarray, viewpoint: np.ndarray | None) -> Topology:
    found = closing(mesh_of(field), field, PointCloud(points, viewpoint=viewpoint))
    return topology(mesh_of(lambda at: field(at) + found(at)))


PLATE = box((0.4, 0.02, 0.4))
SLIT = box((0.3, 1.0, 1.5 * STEP))
WINDOW = box((0.2, 1.0, 0.12))
EYE = np.array([0.1, -2.0, 0.2], np.float32)


def raster(field: Field, pixels: int = 160) -> np.ndarray:
    """(N, 3) what a depth camera at EYE sees of a field."""
    u, v = np.meshgrid(np.linspace(-0.32, 0.32, pixels), np.linspace(-0.32, 0.32, pixels))
    rays = np.stack([u.ravel(), np.ones(u.size), v.ravel()], 1)
    rays = torch.as_tensor(rays / np.linalg.norm(rays, axis=1, keepdims=True), dtype=torch.float32)
    at = torch.as_tensor(EYE).expand(len(rays), 3).clone()
    for _ in range(120):
        at += field(at).clamp(min=0)[:, None] * rays
    return at[field(at) < 1e-3].numpy()


def test_a_slit_that_nobody_looked_through_is_closed() -> None:
    torn = without(PLATE, SLIT)
    assert topology(mesh_of(torn)).handles == 1
    sound = closed(torn, raster(PLATE), EYE)  # the sensor saw a whole plate
    assert (sound.parts, sound.handles, sound.watertight) == (1, 0, True)
    # Where nobody knows what was looked through, only what is narrower than two cells.
    assert closed(torn, raster(PLATE), None).handles == 1
    assert closed(without(PLATE, box((0.3, 1.0, 0.8 * STEP))), raster(PLATE), None).handles == 0


@pytest.mark.parametrize("behind", [True, False])
def test_what_was_looked_through_stays_open(behind: bool) -> None:
    """behind: a wall was seen through the slit; else nothing was met there at all."""
    torn = without(PLATE, box((0.3, 1.0, 2.4 * STEP)))
    points = raster(both(torn, box((0.5, 0.01, 0.5), (0, 0.3, 0))) if behind else torn, 400)
    assert closed(torn, points, EYE).handles == 1


def test_a_window_is_none_of_its_business() -> None:
    assert closed(without(PLATE, WINDOW), raster(PLATE), EYE).handles == 1


def test_a_broken_leg_is_whole_again_and_a_loop_is_not_made() -> None:
    top, upper = box((0.4, 0.3, 0.02), (0, 0, 0.3)), box((0.02, 0.02, 0.14), (0.3, 0, 0.15))
    lower = box((0.02, 0.02, 0.15), (0.3, 0, -0.14 - 1.7 * STEP))
    leg = both(both(top, upper), lower)
    assert topology(mesh_of(leg)).parts == 2
    sound = closed(leg, np.zeros((0, 3), np.float32), None)
    assert (sound.parts, sound.handles) == (1, 0)
    # Another leg joined to the board already: a bridge from leg to leg would make a handle.
    beside = both(both(top, upper), box((0.02, 0.02, 0.14), (0.3 - 0.04 - 1.7 * STEP, 0, 0.15)))
    assert closed(beside, np.zeros((0, 3), np.float32), None).handles == 0


@pytest.mark.parametrize("looked_through", [False, True])
def test_parts_near_one_another_are_joined_unless_one_saw_between_them(looked_through: bool) -> None:
    gap = 7 * STEP
    seat, foot = box((0.3, 0.05, 0.05), (0, 0, 0.05 + 0.5 * gap)), box((0.05, 0.05, 0.2), (0, 0, -0.2 - 0.5 * gap))
    apart = both(seat, foot)
    assert topology(mesh_of(apart)).parts == 2
    # A board before the gap hides it; else the sensor sees the background between them.
    seen = raster(apart if looked_through else both(apart, box((0.3, 0.01, 0.1), (0, -0.4, 0))), 300)
    assert closed(apart, seen, EYE).parts == (2 if looked_through else 1)


def test_what_is_shut_in_is_filled() -> None:
    hollow = without(box((0.3, 0.3, 0.3)), box((0.2, 0.2, 0.2)))
    assert topology(mesh_of(hollow)).cavities == 1
    assert closed(hollow, np.zeros((0, 3), np.float32), None).cavities == 0


def test_a_sound_shape_stays_as_it_is() -> None:
    found = closing(mesh_of(PLATE), PLATE, PointCloud(raster(PLATE), viewpoint=EYE))
    assert found.lattice is None and (found.tunnels, found.pieces, found.hollows) == (0, 0, 0)


def test_thinning_keeps_the_topology_of_any_solid() -> None:
    rng = np.random.default_rng(0)
    for share in (0.3, 0.5, 0.7, 0.85):
        whole = rng.random((14, 14, 14)) < share
        kept = whole & (rng.random(whole.shape) < 0.4)
        rest = thinned(kept, whole & ~kept)
        assert _betti(kept | rest) == _betti(whole)
        assert rest.sum() < (whole & ~kept).sum()


def test_simple_nodes_can_go() -> None:
    rng = np.random.default_rng(1)
    around = rng.random((400, 26)) < rng.uniform(0.1, 0.9, (400, 1))
    can_go = simple((around * (1 << np.arange(26, dtype=np.uint32))).sum(1, dtype=np.uint32))
    assert 20 < can_go.sum() < 380
    for bits in around[can_go]:
        block = np.insert(bits, 13, True).reshape(3, 3, 3)
        less = block.copy()
        less[1, 1, 1] = False
        assert _betti(block) == _betti(less)


def test_the_lattice_has_the_tunnels_of_the_mesh() -> None:
    from engine.finish.lattice import filled_by

    torn = without(without(PLATE, SLIT), box((0.004, 1.0, 0.3), (0.1, 0, 0)))
    mesh = mesh_of(torn)
    assert _betti(filled_by(mesh, LATTICE))[1] == topology(mesh).handles
