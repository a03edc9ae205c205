"""What is seen of a surface reaches the result, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.finish.colours import Observed, observed, report
from engine.geometry.clouds import PointCloud
from engine.geometry.meshes import Material, Mesh, vertex_normals
from engine.geometry.sampling import sample_cloud
from tests.engine.finish.shapes import box, torus

RED, BLUE = np.float32([1, 0, 0]), np.float32([0, 0, 1])


def body() -> Mesh:
    """A ring about z, of some thousand vertices."""
    mesh = torus()
    mesh.normals = vertex_normals(mesh)
    return mesh


def two_coloured(mesh: Mesh, count: int = 20_000) -> PointCloud:
    """Points of its surface, red where x is above 0, else blue."""
    cloud = sample_cloud(mesh, count, np.random.default_rng(0))
    return replace(cloud, colours=np.where(cloud.points[:, :1] > 0, RED, BLUE))


def test_a_surface_seen_all_over_has_its_colours_back_and_has_not_moved() -> None:
    mesh = body()
    look = Observed(two_coloured(mesh)).look(mesh)
    dressed = look.on(mesh)
    assert dressed.vertices is mesh.vertices and dressed.faces is mesh.faces and dressed.normals is mesh.normals
    assert look.seen.all() and look.share == pytest.approx(1.0)
    clear = np.abs(mesh.vertices[:, 0]) > 0.03
    assert look.colours is not None
    assert np.abs(look.colours - np.where(mesh.vertices[:, :1] > 0, RED, BLUE))[clear].max() < 1e-5
    assert report(look) == {"colours": True, "materials": [], "seen": look.share}


def test_what_nobody_saw_is_marked_and_filled_from_the_nearest() -> None:
    mesh = body()
    cloud = two_coloured(mesh)
    look = Observed(cloud.at(cloud.points[:, 1] < 0)).look(mesh)
    far, near = mesh.vertices[:, 1] > 0.05, mesh.vertices[:, 1] < -0.01
    assert not look.seen[far].any() and look.seen[near].all()
    assert 0.45 < look.share < 0.6
    assert look.colours is not None and np.isin(look.colours[far].round(6), [0, 1]).all(), "of a point, no mixture"


@pytest.mark.parametrize("scale", [1e-3, 40.0])
def test_reach_goes_with_the_spacing_of_the_points(scale: float) -> None:
    mesh = body()
    cloud = two_coloured(mesh)
    half = cloud.at(cloud.points[:, 1] < 0)
    here = Observed(half).look(mesh)
    there = Observed(replace(half, points=half.points * np.float32(scale))).look(
        replace(mesh, vertices=mesh.vertices * np.float32(scale))
    )
    assert (here.seen == there.seen).mean() > 0.999
    sparse = Observed(half.at(np.arange(len(half.points)) % 50 == 0)).look(mesh)
    assert here.seen.mean() < sparse.seen.mean() < 0.75, "fewer points reach farther, and not everywhere"


def test_a_surface_that_looks_away_was_not_seen_through_a_thin_wall() -> None:
    sheet = box((-0.4, -0.005, -0.4), (0.4, 0.005, 0.4))
    mesh = replace(sheet, vertices=sheet.vertices)
    cloud = sample_cloud(mesh, 20_000, np.random.default_rng(1))
    assert cloud.normals is not None
    front = cloud.at(cloud.normals[:, 1] < -0.5)
    front.colours = np.tile(RED, (len(front.points), 1))
    fine = sample_cloud(mesh, 4000, np.random.default_rng(2))  # vertices all over: a mesh of single points
    assert fine.normals is not None
    speckled = Mesh(fine.points, np.arange(3999, dtype=np.int32).reshape(-1, 3), fine.normals)
    look = Observed(replace(front, viewpoint=np.float32([0, -3, 0]))).look(speckled)
    assert look.seen[fine.normals[:, 1] < -0.5].mean() > 0.99
    assert not look.seen[fine.normals[:, 1] > 0.5].any()
    blind = Observed(front).look(speckled)
    assert blind.seen[fine.normals[:, 1] > 0.5].mean() > 0.9, "nobody said from where"


def test_a_stray_point_colours_no_more_than_its_own_place() -> None:
    mesh = body()
    cloud = two_coloured(mesh)
    half = cloud.at(cloud.points[:, 1] < 0)
    stray = np.float32([[0, 0.38, 0]])
    more = PointCloud(np.concatenate([half.points, stray]), colours=np.concatenate([half.colours, [[0, 1, 0]]]))  # type: ignore[arg-type]
    look = Observed(more).look(mesh)
    assert 0 < look.seen[mesh.vertices[:, 1] > 0.1].sum() < 0.05 * len(mesh.vertices)


def test_faces_have_the_material_of_the_nearest_face() -> None:
    given = box((-0.4, -0.3, -0.2), (0.4, 0.3, 0.2))
    top = given.vertices[given.faces].mean(1)[:, 2] > 0.19
    given.materials = (Material("oak", (0.5, 0.3, 0.1)), Material("cloth"))
    given.face_materials = np.where(top, 1, 0).astype(np.int32)
    cloud = sample_cloud(given, 20_000, np.random.default_rng(0))
    assert cloud.materials is not None and cloud.colours is None
    fine = box((-0.4, -0.3, -0.2), (0.4, 0.3, 0.2), cells=6)
    look = Observed(cloud, given.materials).look(fine)
    assert look.materials == given.materials and look.colours is None
    assert np.array_equal(look.face_materials, np.where(fine.vertices[fine.faces].mean(1)[:, 2] > 0.19, 1, 0))
    assert report(look) == {"colours": False, "materials": ["oak", "cloth"], "seen": look.share}


def test_points_of_a_mesh_have_the_colours_between_those_of_its_corners() -> None:
    mesh = box((0, 0, 0), (1, 1, 1))
    mesh.colours = mesh.vertices.clip(0, 1)
    cloud = sample_cloud(mesh, 500, np.random.default_rng(0))
    assert cloud.colours is not None and np.allclose(cloud.colours, cloud.points, atol=1e-6)


def test_an_input_that_says_nothing_of_its_look_costs_nothing() -> None:
    cloud = PointCloud(body().vertices)
    assert observed(cloud) is None and report(None) is None
    few = PointCloud(cloud.points[:2], colours=np.zeros((2, 3), np.float32))
    found = observed(few)
    assert found is not None and found.look(body()).colours is not None
