"""The checks that every array passes before anything is computed from it."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from engine.errors import InputError
from engine.geometry.checks import check_cloud, check_mesh
from tests.engine.geometry.makers import ball, cloud


def code_of(call: object, *args: object, **kwargs: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)  # type: ignore[operator]
    assert caught.value.what and caught.value.why and caught.value.remedy
    return caught.value.code


def test_a_few_rows_that_are_not_numbers_are_dropped_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    given = cloud(100)
    assert given.normals is not None
    points = given.points.copy()
    points[7, 1] = np.nan
    normals = given.normals.copy() * 3.0
    normals[20] = 0.0
    with caplog.at_level(logging.WARNING):
        checked = check_cloud(points, normals, source="scan")
    keep = np.delete(np.arange(100), [7, 20])
    assert "1 of its 100 points are not numbers" in caplog.text
    assert "1 of its 100 points have no usable normal" in caplog.text
    assert np.array_equal(checked.points, given.points[keep])
    assert checked.normals is not None and np.allclose(checked.normals, given.normals[keep], atol=1e-6)


def test_useless_normals_are_left_out_aloud(caplog: pytest.LogCaptureFixture) -> None:
    given = cloud()
    with caplog.at_level(logging.WARNING):
        assert check_cloud(given.points, np.zeros((60, 3))).normals is None
        mesh = ball()
        assert check_mesh(mesh.vertices, mesh.faces, np.full_like(mesh.vertices, np.nan)).normals is None
    assert caplog.text.count("all are left out") == 2


def test_a_mesh_loses_the_faces_of_vertices_that_are_not_numbers(caplog: pytest.LogCaptureFixture) -> None:
    mesh = ball()
    vertices = mesh.vertices.copy()
    vertices[5] = np.nan
    with caplog.at_level(logging.WARNING):
        checked = check_mesh(vertices, mesh.faces, mesh.normals)
    lost = (mesh.faces == 5).any(axis=1)
    assert "1 of its vertices" in caplog.text and f"{lost.sum()} faces" in caplog.text
    assert np.array_equal(checked.vertices[checked.faces], mesh.vertices[mesh.faces[~lost]])
    assert checked.normals is not None and len(checked.normals) == len(checked.vertices) == len(vertices) - 1


def test_arrays_that_cannot_be_used() -> None:
    good = cloud()
    mesh = ball()
    nan = np.where(np.arange(60)[:, None] < 51, np.nan, good.points)
    line = np.linspace(0, 1, 50)[:, None] * [1.0, 2.0, 3.0]
    huge = good.points.copy()
    huge[3] = 1e30
    infinite = np.where(np.arange(60)[:, None] < 55, np.inf, good.points)
    cases = {
        "cloud_not_finite": (nan, None),
        "cloud_too_small": (good.points[:9], None),
        "cloud_degenerate": (np.ones((100, 3)), None),
        "coordinates_absurd": (huge, None),
        "coordinates_far": (good.points.astype(np.float64) + 1e6, None),
        "cloud_malformed": (good.points[:, :2], None),
    }
    for code, (points, normals) in cases.items():
        assert code_of(check_cloud, points, normals) == code
    assert code_of(check_cloud, line) == "cloud_degenerate"
    assert code_of(check_cloud, infinite) == "coordinates_absurd"
    assert code_of(check_cloud, good.points * 1e-12) == "coordinates_absurd"
    assert code_of(check_cloud, np.tile(good.points[:9], (50, 1))) == "cloud_too_small"
    assert code_of(check_cloud, np.zeros((0, 3))) == "cloud_too_small"
    assert code_of(check_cloud, np.broadcast_to(np.float32(0), (20_000_001, 3))) == "cloud_too_large"
    assert code_of(check_cloud, good.points, good.points[:5]) == "cloud_malformed"
    assert code_of(check_cloud, good.points.astype(str)) == "cloud_malformed"
    for viewpoint in ([1, 2], [1, 2, np.nan], [0, 0, 1e30], "here", [[1, 2, 3]]):
        assert code_of(check_cloud, good.points, None, viewpoint) == "viewpoint_invalid"
    for faces in (mesh.faces + 1, mesh.faces - 1, mesh.faces.astype(float), mesh.faces[:, :2]):
        assert code_of(check_mesh, mesh.vertices, faces) == "mesh_faces_invalid"
    assert code_of(check_mesh, mesh.vertices, np.zeros((5, 3), int)) in ("mesh_without_area", "cloud_degenerate")
    assert code_of(check_mesh, line, np.arange(48).reshape(-1, 3)) == "mesh_without_area"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_any_sensible_unit_passes(scale: float) -> None:
    mesh = ball()
    assert len(check_mesh(mesh.vertices * scale, mesh.faces).faces) == len(mesh.faces)
    assert len(check_cloud(cloud().points * scale).points) == 60
    seen = check_cloud(cloud().points, None, [0, 1, 2])
    assert len(seen.points) == 60 and seen.normals is None and seen.viewpoint is not None
    assert seen.viewpoint.dtype == np.float32


def test_points_on_a_plane_pass() -> None:
    """One view of a wall is planar, and no mistake."""
    rng = np.random.default_rng(0)
    wall = np.concatenate([rng.random((100, 2)), np.zeros((100, 1))], axis=1)
    assert len(check_cloud(wall).points) == 100


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_empty_pixels_of_a_depth_camera_are_dropped_and_counted(value: float) -> None:
    given = cloud(100)
    points = np.concatenate([given.points, np.full((150, 3), value, np.float32)])
    normals = np.concatenate([given.normals, np.full((150, 3), value, np.float32)])
    colours = np.random.default_rng(0).random((250, 3)).astype(np.float32)
    notes: list[str] = []
    checked = check_cloud(points, normals, colours=colours, notes=notes)
    assert np.array_equal(checked.points, given.points)
    assert checked.normals is not None and np.allclose(checked.normals, given.normals, atol=1e-6)
    assert checked.colours is not None and np.array_equal(checked.colours, colours[:100])
    assert len(notes) == 1 and "150 of its 250" in notes[0]
