"""Dense volumes by scikit-image: right in place, side and size; and the oracle of our own marching cubes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import trimesh

from engine.errors import JobFailed
from engine.frames import BOUND
from engine.geometry.connected import is_watertight
from engine.geometry.meshes import Mesh, enclosed_volume, surface_area
from engine.geometry.metrics import distances_to_surface
from engine.surfaces.marching import extract_dense, extract_sparse
from engine.surfaces.volume import mesh_of_volume

Distance = Callable[[torch.Tensor], torch.Tensor]


def ball(p: torch.Tensor) -> torch.Tensor:
    return p.norm(dim=-1) - 0.4


def ring(p: torch.Tensor) -> torch.Tensor:
    return torch.stack([p[..., :2].norm(dim=-1) - 0.3, p[..., 2]], -1).norm(dim=-1) - 0.1


def two_boxes(p: torch.Tensor) -> torch.Tensor:
    """A box on its corner, and another that touches nothing."""

    def box(q: torch.Tensor, half: list[float]) -> torch.Tensor:
        d = q.abs() - torch.tensor(half)
        return d.clamp(min=0).norm(dim=-1) + d.max(dim=-1).values.clamp(max=0)

    turn = torch.tensor(trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])[:3, :3], dtype=torch.float32)
    first = box((p - torch.tensor([-0.2, 0.0, 0.0])) @ turn, [0.15, 0.2, 0.1])
    second = box(p - torch.tensor([0.3, 0.1, 0.2]), [0.1, 0.12, 0.08])
    return torch.minimum(first, second)


def sampled(distance: Distance, cells: int) -> np.ndarray:
    axis = torch.linspace(-BOUND, BOUND, cells + 1)
    return distance(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)).numpy()


def oracle(distance: Distance, cells: int) -> Mesh:
    return mesh_of_volume(sampled(distance, cells), 0.0, inside="below", spacing=2 * BOUND / cells, origin=-BOUND)


@pytest.mark.parametrize("inside", ["below", "above"])
def test_a_volume_is_placed_and_looks_outwards(inside: str) -> None:
    """An ellipsoid in an uneven volume: steps and origin of three axes, from either side of the level."""
    steps, origin = np.array([0.02, 0.03, 0.01]), np.array([5.0, -7.0, 100.0])
    half = np.array([0.4, 0.5, 0.3])
    counts = np.ceil(2.4 * half / steps).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(counts, steps, strict=True)), indexing="ij"), -1)
    values = np.linalg.norm((grid - 1.2 * half) / half, axis=-1)
    values, level = (values, 1.0) if inside == "below" else (3.0 - values, 2.0)
    mesh = mesh_of_volume(values, level, inside=inside, spacing=steps, origin=origin)
    assert is_watertight(mesh)
    assert enclosed_volume(mesh) == pytest.approx(4 / 3 * np.pi * half.prod(), rel=0.01)
    assert np.allclose(mesh.vertices.max(0), origin + 2.2 * half, atol=0.01)
    assert np.allclose(mesh.vertices.min(0), origin + 0.2 * half, atol=0.01)
    middle = origin + 1.2 * half
    assert mesh.normals is not None and (((mesh.vertices - middle) * mesh.normals).sum(1) > 0).all()


def test_what_reaches_the_border_is_closed_there() -> None:
    values = np.ones((6, 7, 8), np.float32)
    mesh = mesh_of_volume(values, 0.5, inside="above", spacing=0.1)
    assert is_watertight(mesh)
    # From half a step before the first sample to half a step behind the last, corners cut.
    assert enclosed_volume(mesh) == pytest.approx(0.6 * 0.7 * 0.8, rel=0.06)
    # Open, only the sheet between the slabs.
    values[3:] = 0
    sheet = mesh_of_volume(values, 0.5, inside="above", spacing=0.1, closed=False)
    assert surface_area(sheet) == pytest.approx(0.6 * 0.7, rel=1e-4)
    assert np.allclose(sheet.vertices[:, 0], 0.25)


def test_volumes_without_a_surface() -> None:
    with pytest.raises(JobFailed) as caught:
        mesh_of_volume(np.zeros((4, 4, 4)), 0.5, inside="above")
    assert caught.value.code == "empty_surface"
    for wrong in (np.zeros((4, 4)), np.full((4, 4, 4), np.nan)):
        with pytest.raises(ValueError):
            mesh_of_volume(wrong, 0.5, inside="above")


@pytest.mark.parametrize("distance", [ball, ring, two_boxes])
@pytest.mark.parametrize("cells", [32, 48])
def test_our_marching_cubes_agrees_with_scikit_image(distance: Distance, cells: int) -> None:
    """Same samples: the same vertices on the lattice's edges; only the triangles between them may differ."""
    theirs = oracle(distance, cells)
    ours = extract_dense(distance, cells).mesh
    cell = 2 * BOUND / cells
    there = np.unique(np.round(theirs.vertices / (1e-3 * cell)).astype(np.int64), axis=0)
    here = np.unique(np.round(ours.vertices / (1e-3 * cell)).astype(np.int64), axis=0)
    assert distances_to_surface(theirs, ours.vertices).max() < 0.01 * cell
    assert abs(len(here) - len(there)) <= 0.01 * len(there)
    assert enclosed_volume(ours) == pytest.approx(enclosed_volume(theirs), rel=2e-3)
    assert surface_area(ours) == pytest.approx(surface_area(theirs), rel=2e-3)
    bodies = [trimesh.Trimesh(mesh.vertices, mesh.faces).body_count for mesh in (ours, theirs)]
    assert bodies[0] == bodies[1] == (2 if distance is two_boxes else 1)


@pytest.mark.parametrize("distance", [ball, ring, two_boxes])
def test_coarse_to_fine_agrees_with_scikit_image(distance: Distance) -> None:
    theirs, ours = oracle(distance, 64), extract_sparse(distance, 64).mesh
    assert enclosed_volume(ours) == pytest.approx(enclosed_volume(theirs), rel=1e-3)
    assert surface_area(ours) == pytest.approx(surface_area(theirs), rel=1e-3)
