"""Signed distance against closed forms, and on meshes that have no honest inside."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from engine.errors import InputError
from engine.geometry.meshes import Mesh
from engine.geometry.signed_distance import SHEET_HALF_THICKNESS, SignedDistance, sphere_directions


def to_mesh(solid: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(solid.vertices, np.float32), np.asarray(solid.faces, np.int32))


def sphere(radius: float = 0.4, centre: tuple[float, float, float] = (0, 0, 0), subdivisions: int = 4) -> Mesh:
    solid = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    solid.apply_translation(centre)
    return to_mesh(solid)


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + np.int32(start) for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def queries(count: int = 1500) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.55, 0.55, (count, 3)).astype(np.float32)


def box_distance(points: np.ndarray, half: np.ndarray) -> np.ndarray:
    q = np.abs(points) - half
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)


def torus_distance(points: np.ndarray, ring: float, tube: float) -> np.ndarray:
    return np.hypot(np.hypot(points[:, 0], points[:, 1]) - ring, points[:, 2]) - tube


HALF = np.array([0.5, 0.3, 0.2])
SOLIDS = {
    "sphere": (sphere(), lambda p: np.linalg.norm(p, axis=1) - 0.4, 0.002),
    "box": (to_mesh(trimesh.creation.box(extents=2 * HALF)), lambda p: box_distance(p, HALF), 1e-5),
    "torus": (
        to_mesh(trimesh.creation.torus(0.35, 0.12, major_sections=96, minor_sections=48)),
        lambda p: torus_distance(p, 0.35, 0.12),
        0.001,
    ),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_closed_forms(name: str) -> None:
    mesh, truth, tolerance = SOLIDS[name]
    points = queries()
    value, gradient = SignedDistance(mesh)(points)
    assert np.abs(value - truth(points)).max() < tolerance
    assert np.allclose(np.linalg.norm(gradient, axis=1), 1, atol=1e-3)
    # Outward: a step along the gradient raises the distance by its length.
    inner = np.abs(value) < 0.1
    rise = truth(points[inner] + 0.01 * gradient[inner]) - truth(points[inner])
    assert np.median(rise) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("name", SOLIDS)
def test_winding_agrees_where_the_mesh_is_closed(name: str) -> None:
    assert SignedDistance(SOLIDS[name][0]).winding_agreement(np.random.default_rng(0)) > 0.97


def test_inside_out_is_the_same_shape() -> None:
    mesh = sphere()
    turned = Mesh(mesh.vertices, np.ascontiguousarray(mesh.faces[:, ::-1]))
    points = queries()
    value, gradient = SignedDistance(mesh)(points)
    other, other_gradient = SignedDistance(turned)(points)
    assert np.allclose(value, other, atol=1e-6)
    clear = np.abs(value) > 0.01
    assert np.isclose(gradient[clear], other_gradient[clear], atol=1e-3).all(1).mean() > 0.99  # but for ties
    # but the winding number is fooled, and the measure of ambiguity says so
    assert SignedDistance(turned).winding_agreement(np.random.default_rng(0)) < 0.7
    points, normals = SignedDistance(turned).outer_surface(500, np.random.default_rng(0))
    assert (np.einsum("ni,ni->n", points, normals) > 0).all()


def test_mixed_faces_are_the_same_shape() -> None:
    mesh = sphere()
    mixed = mesh.faces.copy()
    mixed[::2] = mixed[::2, ::-1]
    points = queries()
    value, _ = SignedDistance(Mesh(mesh.vertices, mixed))(points)
    assert np.allclose(value, SignedDistance(mesh)(points)[0], atol=1e-6)


def test_an_open_sheet_gets_a_thickness() -> None:
    sheet = to_mesh(trimesh.creation.box(extents=(1.0, 1.0, 1.0)))
    top = Mesh(sheet.vertices * np.float32([1, 1, 0]), sheet.faces[:2] * 0 + [[0, 2, 6], [0, 6, 4]])
    field = SignedDistance(top)
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.4, 0.4, (400, 3)).astype(np.float32)
    points[:, 2] = rng.uniform(-0.06, 0.06, 400)
    value, gradient = field(points)
    assert np.allclose(value, np.abs(points[:, 2]) - SHEET_HALF_THICKNESS, atol=1e-5)
    away = np.abs(points[:, 2]) > 1e-3
    assert np.allclose(gradient[away, 2], np.sign(points[away, 2]), atol=1e-3)
    surface, normals = field.outer_surface(1000, rng)
    assert np.allclose(np.abs(surface[:, 2]), SHEET_HALF_THICKNESS, atol=1e-5)
    assert np.allclose(surface[:, 2] / SHEET_HALF_THICKNESS, normals[:, 2], atol=1e-3)
    assert 0.3 < float((normals[:, 2] > 0).mean()) < 0.7


def test_what_is_open_underneath_is_still_filled() -> None:
    """Furniture is often modelled without the faces that stand on the floor."""
    box = trimesh.creation.box(extents=(0.5, 0.5, 1.0))
    faces = np.asarray(box.faces[box.face_normals[:, 2] > -0.5], np.int32)
    assert len(faces) == 10
    field = SignedDistance(Mesh(np.asarray(box.vertices, np.float32), faces))
    inside = np.random.default_rng(0).uniform([-0.24, -0.24, -0.35], [0.24, 0.24, 0.49], (500, 3)).astype(np.float32)
    assert not field.outside(inside).any()


def without_cap(degrees: float) -> Mesh:
    solid = trimesh.creation.icosphere(subdivisions=5, radius=0.4)
    cap = solid.triangles_center[:, 2] > 0.4 * np.cos(np.deg2rad(degrees))
    assert 0 < cap.sum() < len(cap)
    return Mesh(np.asarray(solid.vertices, np.float32), np.asarray(solid.faces[~cap], np.int32))


def test_small_holes_are_filled_and_openings_are_open() -> None:
    points = queries()
    deep = points[np.linalg.norm(points, axis=1) < 0.3]
    small, bowl = SignedDistance(without_cap(6)), SignedDistance(without_cap(80))
    assert (small(deep)[0] < 0).mean() > 0.99
    # What one can look into is a bowl: its inside is outside, and its wall has a thickness.
    assert (bowl(deep)[0] > 0).all()
    low = points[(np.linalg.norm(points, axis=1) < 0.39) & (points[:, 2] < -0.31)]
    truth = 0.4 - np.linalg.norm(low, axis=1) - SHEET_HALF_THICKNESS
    assert len(low) > 4 and np.abs(bowl(low)[0] - truth).max() < 0.002


def test_overlapping_parts_are_one_shape() -> None:
    both = joined(sphere(0.3, (-0.15, 0, 0)), sphere(0.3, (0.15, 0, 0)))
    points = queries()
    left, right = (np.linalg.norm(points - [x, 0, 0], axis=1) - 0.3 for x in (-0.15, 0.15))
    value, _ = SignedDistance(both)(points)
    union = np.minimum(left, right)
    clear = np.abs(union) > 0.003
    assert np.array_equal(value[clear] < 0, union[clear] < 0)
    outside = union > 0
    assert np.abs(value - union)[outside].max() < 0.003
    # Nobody sees the faces inside the other ball, so none of the samples lies there.
    surface, _ = SignedDistance(both).outer_surface(2000, np.random.default_rng(0))
    depth = np.minimum(*(np.linalg.norm(surface - [x, 0, 0], axis=1) - 0.3 for x in (-0.15, 0.15)))
    assert len(surface) > 1500 and depth.min() > -0.006


def soup(crack: float, turned: bool) -> Mesh:
    """A ball of separate triangles whose corners miss one another by about `crack`."""
    mesh = sphere(subdivisions=4)
    rng = np.random.default_rng(0)
    corners = mesh.vertices[mesh.faces] + rng.normal(0, crack, (len(mesh.faces), 3, 3))
    if turned:
        turn = rng.random(len(corners)) < 0.5
        corners[turn] = corners[turn][:, ::-1]
    return Mesh(corners.reshape(-1, 3).astype(np.float32), np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3))


def test_soup_with_its_triangles_turned_anyhow() -> None:
    points = queries()
    truth = np.linalg.norm(points, axis=1) - 0.4
    value, _ = SignedDistance(soup(1e-5, turned=True))(points)
    assert np.abs(value - truth).max() < 0.003


def test_wide_cracks_are_told_by_the_two_opinions() -> None:
    """One can look through them, so visibility errs; the winding number does not: the shape is ambiguous."""
    assert SignedDistance(soup(1e-5, turned=False)).winding_agreement(np.random.default_rng(0)) > 0.97
    assert SignedDistance(soup(2e-3, turned=False)).winding_agreement(np.random.default_rng(0)) < 0.9


def test_a_mesh_cracked_all_over_keeps_its_inside() -> None:
    """Rays slip out through the cracks in many directions, but the triangles still wind around the inside."""
    points = np.random.default_rng(1).uniform(-0.6, 0.6, (3000, 3)).astype(np.float32)
    clear = np.abs(np.linalg.norm(points, axis=1) - 0.4) > 0.02
    value, _ = SignedDistance(soup(2e-3, turned=False))(points)
    assert ((value < 0) == (np.linalg.norm(points, axis=1) < 0.4))[clear].mean() > 0.995


@pytest.mark.parametrize(
    "mesh",
    [
        Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)),
        Mesh(np.random.default_rng(0).random((9, 3)).astype(np.float32), np.zeros((0, 3), np.int32)),
        Mesh(np.eye(3, dtype=np.float32), np.array([[0, 0, 1], [2, 2, 2]], np.int32)),
        Mesh(np.full((3, 3), np.nan, np.float32), np.array([[0, 1, 2]], np.int32)),
    ],
    ids=["empty", "points only", "no area", "not a number"],
)
def test_no_surface_is_refused(mesh: Mesh) -> None:
    with pytest.raises(InputError) as caught:
        SignedDistance(mesh)
    assert caught.value.code == "mesh_without_area" and caught.value.remedy


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    SignedDistance(sphere(subdivisions=1))(queries(10))
    assert capfd.readouterr().out == ""


def test_directions_are_even() -> None:
    directions = sphere_directions(500)
    assert np.allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-5)
    assert np.abs(directions.mean(0)).max() < 0.01
    assert np.allclose(directions.T @ directions / 500, np.eye(3) / 3, atol=0.01)
    assert sphere_directions(64, -0.25)[:, 2].min() >= -0.25
