"""Solids on a lattice, and which tunnels two of them have in common."""

from __future__ import annotations

import numpy as np
import pytest

from engine.finish.lattice import Lattice, betti, euler, filled_by
from engine.finish.tunnels import shared, tunnels_of
from engine.geometry.meshes import Mesh
from tests.engine.finish.shapes import box, carved, joined, slatted_back, torus, turned_inside_out

LATTICE = Lattice(73, 0.015)


def filled(mesh: Mesh) -> np.ndarray:
    return filled_by(mesh, LATTICE)


def drilled(*radii: float) -> Mesh:
    """A block with round holes along z."""
    xs = np.linspace(-0.3, 0.3, len(radii))

    def inside(points: np.ndarray) -> np.ndarray:
        solid = (np.abs(points) < [0.48, 0.25, 0.15]).all(1)
        for x, radius in zip(xs, radii, strict=True):
            solid &= np.hypot(points[:, 0] - x, points[:, 1]) > radius
        return solid

    return carved(inside)


def frame(openings: int, *, broken: int | None = None, shut: int | None = None, moved: float = 0.0) -> np.ndarray:
    """A slatted back in the lattice, without a slat or with an opening that is filled."""
    mesh = slatted_back(openings)
    mesh = Mesh((mesh.vertices + np.array([moved, 0, 0])).astype(np.float32), mesh.faces)
    solid = filled(mesh)
    x, y, z = np.moveaxis(LATTICE.points(np.argwhere(np.ones(solid.shape, bool))), 1, 0)
    left = -0.35 + 0.14 * np.arange(openings)
    body = (np.abs(y - 0.005) < 0.03) & (np.abs(z) < 0.39)
    if broken is not None:
        solid &= ~(body & (x > left[broken] + 0.085) & (x < left[broken + 1] + 0.005)).reshape(solid.shape)
    if shut is not None:
        solid |= (body & (x > left[shut] - 0.02) & (x < left[shut] + 0.11)).reshape(solid.shape)
    return solid


def test_a_meshs_inside_is_what_its_shape_says() -> None:
    points = LATTICE.points(np.argwhere(np.ones((LATTICE.nodes,) * 3, bool)))
    for turn in (np.eye(3), np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]):
        turn = turn * np.sign(np.linalg.det(turn))
        body = box((-0.3, -0.2, -0.1), (0.3, 0.2, 0.1))
        turned = Mesh((body.vertices @ turn.T).astype(np.float32), body.faces)
        own = np.abs(points @ turn)
        clear = np.abs((own - [0.3, 0.2, 0.1]).max(1)) > 1e-3
        assert (filled(turned).ravel() == (own < [0.3, 0.2, 0.1]).all(1))[clear].all()


def test_a_hollow_is_empty_and_overlapping_boxes_are_full() -> None:
    body, core = box((-0.4, -0.4, -0.4), (0.4, 0.4, 0.4)), box((-0.2, -0.2, -0.2), (0.2, 0.2, 0.2))
    assert betti(filled(joined(body, turned_inside_out(core)))) == (1, 0, 1)
    assert betti(filled(joined(body, core))) == (1, 0, 0)


@pytest.mark.parametrize(
    ("mesh", "numbers"),
    [
        (box((-0.4, -0.4, -0.4), (0.4, 0.4, 0.4)), (1, 0, 0)),
        (torus(), (1, 1, 0)),
        (joined(torus((-0.25, 0, 0), 0.15, 0.05), torus((0.25, 0, 0), 0.15, 0.05)), (2, 2, 0)),
        (slatted_back(5), (1, 5, 0)),
        (drilled(0.05, 0.08, 0.12), (1, 3, 0)),
    ],
)
def test_betti_numbers(mesh: Mesh, numbers: tuple[int, int, int]) -> None:
    solid = filled(mesh)
    assert betti(solid) == numbers
    assert euler(solid) == numbers[0] - numbers[1] + numbers[2]


@pytest.mark.parametrize(("mesh", "count"), [(torus(), 1), (slatted_back(5), 5), (drilled(0.05, 0.08, 0.12), 3)])
def test_every_tunnel_is_found_where_it_is(mesh: Mesh, count: int) -> None:
    solid = filled(mesh)
    tunnels = tunnels_of(solid)
    assert sum(tunnel.handles for tunnel in tunnels) == count
    for tunnel in tunnels:
        assert not solid[tuple(tunnel.membrane.T)].any()
        assert not solid[tuple(tunnel.patch.T)].any()
    assert shared(tunnels, solid) == count


def test_a_tunnels_radius_is_that_of_the_hole() -> None:
    radii = [tunnel.radius * LATTICE.step for tunnel in tunnels_of(filled(drilled(0.05, 0.08, 0.12)))]
    assert radii == pytest.approx([0.05, 0.08, 0.12], abs=LATTICE.step)


def test_a_niche_and_a_gap_are_no_tunnels() -> None:
    def cup(points: np.ndarray) -> np.ndarray:
        r = np.hypot(points[:, 0], points[:, 1])
        return (r < 0.4) & (np.abs(points[:, 2]) < 0.4) & ~((r < 0.3) & (points[:, 2] > -0.3))

    def open_ring(points: np.ndarray) -> np.ndarray:
        r = np.hypot(points[:, 0], points[:, 1])
        cut = (points[:, 0] > 0) & (np.abs(points[:, 1]) < 0.06)
        return (np.abs(r - 0.35) < 0.06) & (np.abs(points[:, 2]) < 0.06) & ~cut

    assert tunnels_of(filled(carved(cup))) == []
    assert tunnels_of(filled(carved(open_ring))) == []


def test_shared_tunnels_are_those_in_the_same_places() -> None:
    truth = tunnels_of(frame(5))
    assert shared(truth, frame(5, moved=0.02)) == 5
    assert shared(truth, frame(5, shut=2)) == 4
    assert shared(truth, frame(5, broken=2)) == 4  # two openings became one
    assert shared(truth, filled(box((-0.4, -0.02, -0.5), (0.4, 0.03, 0.5)))) == 0
    assert shared(truth, filled(drilled(0.05, 0.08, 0.12))) == 0
    assert shared(truth, np.zeros_like(frame(5))) == 0


def test_tunnels_elsewhere_are_not_shared() -> None:
    """As many tunnels, in another place."""
    low, high = torus((0, 0, -0.4), 0.3, 0.08), torus((0, 0, 0.4), 0.3, 0.08)
    assert shared(tunnels_of(filled(low)), filled(high)) == 0
    assert shared(tunnels_of(filled(low)), filled(joined(low, high))) == 1
