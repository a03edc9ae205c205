"""Short edges collapsed: none is left, and the surface is the one that it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.finish.topology import topology
from engine.geometry.connected import is_watertight, vertex_components
from engine.geometry.meshes import Mesh, enclosed_volume, face_normals
from engine.geometry.metrics import distances_to_surface
from engine.surfaces.marching import Field, extract_sparse
from engine.surfaces.short_edges import without_short_edges
from tests.engine.finish.shapes import edge_lengths

CELL = 1.1 / 48
RADIUS = 17 * CELL
"""Of a ball that passes through lattice points, for 17^2 = 15^2 + 8^2, and has vertices close together there."""


def ball(radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Field:
    return lambda p: (p - torch.tensor(centre)).norm(dim=1) - radius


def euler(mesh: Mesh) -> int:
    edges = np.unique(np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    return len(np.unique(mesh.faces)) - len(edges) + len(mesh.faces)


def rim_edges(mesh: Mesh) -> int:
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    counts = np.unique(edges, axis=0, return_counts=True)[1]
    assert counts.max() == 2
    return int((counts == 1).sum())


def rows(vertices: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in vertices}


@pytest.mark.parametrize("share", [0.02, 0.05, 0.2, 0.4])
def test_no_short_edge_is_left_and_the_ball_stays_a_ball(share: float) -> None:
    mesh = extract_sparse(ball(RADIUS), 48, with_normals=True).mesh
    done = without_short_edges(mesh, share * CELL)
    assert edge_lengths(mesh).min() < 0.01 * CELL < share * CELL <= edge_lengths(done).min()
    assert is_watertight(done) and euler(done) == 2
    moved = rows(done.vertices) - rows(mesh.vertices)
    assert len(moved) <= (0.0 if share < 0.1 else 0.03) * len(done.vertices)
    before, after = (np.abs(np.linalg.norm(m.vertices, axis=1) - RADIUS).max() for m in (mesh, done))
    assert after < before + 0.1 * share * CELL
    outward = np.einsum("ij,ij->i", face_normals(done), done.vertices[done.faces].mean(1))
    assert outward.min() > 0.3 * RADIUS  # no face turned over, none far
    assert enclosed_volume(done) == pytest.approx(enclosed_volume(mesh), rel=0.01)
    assert distances_to_surface(done, mesh.vertices).max() < share * CELL


def test_what_belongs_to_a_vertex_stays_with_it() -> None:
    mesh = extract_sparse(ball(RADIUS), 48, with_normals=True).mesh
    mesh.colours = np.abs(mesh.vertices) * 2
    done = without_short_edges(mesh, 0.2 * CELL)
    assert done.normals is not None and done.colours is not None and len(done.vertices) < len(mesh.vertices)
    assert np.abs(done.colours - np.abs(done.vertices) * 2).max() < 2 * 0.2 * CELL
    radial = done.vertices / np.linalg.norm(done.vertices, axis=1, keepdims=True)
    assert np.einsum("ij,ij->i", done.normals, radial).min() > 0.999
    assert without_short_edges(done, 0.2 * CELL) is done


def test_flat_faces_on_the_lattice_stay_flat() -> None:
    """A box whose sides run along lattice planes: every vertex there is nearly a lattice point."""
    side = 16 * CELL
    box: Field = lambda p: p.abs().amax(dim=1) - side  # noqa: E731
    mesh = extract_sparse(box, 48).mesh
    done = without_short_edges(mesh, 0.05 * CELL)
    assert edge_lengths(done).min() >= 0.05 * CELL and is_watertight(done) and euler(done) == 2
    assert np.abs(np.abs(done.vertices).max(1) - side).max() < 2e-3 * CELL
    assert enclosed_volume(done) == pytest.approx(enclosed_volume(mesh), rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.35))
def test_any_solid_keeps_its_topology(seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    centres = 0.9 * torch.rand(9, 3, generator=generator) - 0.45
    radii = 0.02 + 0.15 * torch.rand(9, generator=generator)
    waves = 0.02 * torch.rand(3, generator=generator)

    def field(p: torch.Tensor) -> torch.Tensor:
        rough = (waves * torch.sin(70 * p)).sum(dim=1)  # thin wedges, pinched necks, crumbs
        return ((p[:, None] - centres).norm(dim=2) - radii).abs().amin(dim=1) - 0.01 + rough

    mesh = extract_sparse(field, 32, lipschitz=2.0).mesh
    done = without_short_edges(mesh, share * CELL)
    before, after = topology(mesh), topology(done)
    assert edge_lengths(done).min() >= 0.999 * share * CELL
    assert after.watertight and euler(done) == euler(mesh)
    assert after.handles == before.handles
    assert vertex_components(done).max() == vertex_components(mesh).max()
    assert distances_to_surface(done, mesh.vertices).max() < 2 * share * CELL


def test_a_neck_thinner_than_an_edge_stays() -> None:
    """Two cones tip to tip, joined by a triangle of a hundredth of what counts as short."""
    angle = np.arange(3) * 2 * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(3)], 1)
    vertices = np.concatenate([ring - [0, 0, 1], 1e-5 * ring, ring - [0, 0, -1]]).astype(np.float32)
    faces = [[0, 2, 1], [6, 7, 8]]
    for low, high in ((0, 3), (3, 6)):
        for k in range(3):
            after = (k + 1) % 3
            faces += [[low + k, low + after, high + after], [low + k, high + after, high + k]]
    mesh = Mesh(vertices, np.array(faces, np.int32))
    assert is_watertight(mesh) and enclosed_volume(mesh) > 0
    done = without_short_edges(mesh, 1e-3)
    assert is_watertight(done) and euler(done) == 2 and vertex_components(done).max() == 0
    assert edge_lengths(done).min() >= 1e-3
    assert distances_to_surface(done, vertices).max() < 2e-3


def test_an_open_sheet_keeps_its_rims() -> None:
    """A sheet with a hole, whose rims have short edges too."""
    rng = np.random.default_rng(0)
    n = 30
    grid = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1).reshape(-1, 2)
    places = grid + rng.uniform(-0.24, 0.24, grid.shape)
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    corner = corner[~((np.abs(grid[corner] - 14) <= 3).all(1))]
    faces = np.stack([np.c_[corner, corner + n, corner + n + 1], np.c_[corner, corner + n + 1, corner + 1]], 1)
    mesh = Mesh(np.c_[places, np.zeros(n * n)].astype(np.float32), faces.reshape(-1, 3).astype(np.int32))
    done = without_short_edges(mesh, 0.7)
    assert edge_lengths(mesh).min() < 0.6 and edge_lengths(done).min() >= 0.7
    assert euler(done) == euler(mesh) and 0 < rim_edges(done) <= rim_edges(mesh)
    assert (face_normals(done)[:, 2] > 0).all()


def test_a_crumb_smaller_than_an_edge_does_not_vanish() -> None:
    tetrahedron = 1e-4 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
    mesh = Mesh(tetrahedron, np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32))
    done = without_short_edges(mesh, 1e-2)
    assert is_watertight(done) and len(done.faces) == 4 and edge_lengths(done).min() >= 1e-2
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert without_short_edges(nothing, 1.0) is nothing
