"""The method `auto`: what comes out of points of known surfaces, whatever is wrong with the points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.errors import InputError
from engine.geometry.connected import is_watertight
from engine.geometry.meshes import Mesh, enclosed_volume
from engine.geometry.sampling import sample_surface
from engine.jobs.base import JobArrays, JobCallbacks
from engine.jobs.fit.request import FitRequest
from engine.jobs.fit.run import run_fit
from engine.surface_fit.orientation import cloud_statistics, normal_lines, orient, refined_normals

Points = NDArray[np.float32]
CPU = torch.device("cpu")


def sphere(count: int, seed: int = 0, radius: float = 0.5) -> tuple[Points, Points]:
    normals = np.random.default_rng(seed).normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return (radius * normals).astype(np.float32), normals.astype(np.float32)


def torus(count: int, seed: int = 0, large: float = 0.35, small: float = 0.15) -> tuple[Points, Points]:
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(0, 2 * np.pi, (2, 4 * count))
    kept = rng.random(4 * count) < (large + small * np.cos(v)) / (large + small)  # even by area
    u, v = u[kept][:count], v[kept][:count]
    normals = np.stack([np.cos(u) * np.cos(v), np.sin(u) * np.cos(v), np.sin(v)], 1)
    centre = np.stack([large * np.cos(u), large * np.sin(u), np.zeros_like(u)], 1)
    return (centre + small * normals).astype(np.float32), normals.astype(np.float32)


def off_sphere(vertices: Points, radius: float = 0.5) -> NDArray[np.float64]:
    return np.abs(np.linalg.norm(vertices.astype(np.float64), axis=1) - radius)


def off_torus(vertices: Points, large: float = 0.35, small: float = 0.15) -> NDArray[np.float64]:
    x, y, z = vertices.astype(np.float64).T
    return np.abs(np.hypot(np.hypot(x, y) - large, z) - small)


def fit(
    points: Points, normals: Points | None = None, faces: Any = None, **settings: Any
) -> tuple[Mesh, dict[str, Any]]:
    settings = {"resolution": 48, "device": "cpu"} | settings
    result = run_fit(FitRequest(**settings), JobArrays(points, normals, faces), JobCallbacks())
    return result.meshes[0], result.report


def covered(mesh: Mesh, points: Points) -> float:
    """The largest distance from a point to the mesh's nearest vertex."""
    from scipy.spatial import cKDTree

    return float(cKDTree(mesh.vertices).query(points)[0].max())


@pytest.fixture(autouse=True)
def fields_elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPEWRIGHT_DATA_DIR", str(tmp_path))


@pytest.mark.parametrize("oriented", [True, False], ids=["normals", "points"])
@pytest.mark.parametrize(("shape", "off"), [(sphere, off_sphere), (torus, off_torus)])
def test_smooth_shapes_come_out_closed_and_true(
    shape: Callable[..., Any], off: Callable[..., Any], oriented: bool
) -> None:
    points, normals = shape(4000)
    mesh, report = fit(points, normals if oriented else None)
    assert is_watertight(mesh) and report["watertight"] and report["components"] == 1
    assert enclosed_volume(mesh) > 0  # faces look outwards
    assert off(mesh.vertices).mean() < 0.001 and np.quantile(off(mesh.vertices), 0.99) < 0.006
    assert covered(mesh, points) < 0.025  # nothing is missing: cells are 0.025
    assert report["orientation"]["found_by"] == ("given" if oriented else "winding number")
    assert not report["warnings"]


def test_noise_is_averaged_out() -> None:
    points, _ = sphere(4000)
    noisy = points + np.random.default_rng(1).normal(0, 0.01, points.shape).astype(np.float32)
    mesh, report = fit(noisy)
    assert is_watertight(mesh)
    assert 0.006 < report["noise"] < 0.014
    # By area: vertices lie where cells cut the surface, closer together here than there.
    smooth = off_sphere(sample_surface(mesh, 20_000, np.random.default_rng(2))[0]).mean()
    assert smooth < 0.004  # of points 0.008
    rough, _ = fit(noisy, smoothness=0.0)
    assert off_sphere(sample_surface(rough, 20_000, np.random.default_rng(2))[0]).mean() > 1.3 * smooth


def test_outliers_are_left_out() -> None:
    rng = np.random.default_rng(2)
    points, _ = torus(4000)
    strays = rng.uniform(-0.6, 0.6, (1000, 3)).astype(np.float32)
    mesh, report = fit(rng.permutation(np.concatenate([points, strays])))
    assert is_watertight(mesh) and report["input_points"]["stray"] > 600
    assert off_torus(mesh.vertices).mean() < 0.004
    assert covered(mesh, points) < 0.04


def test_several_components() -> None:
    places = np.float32([[0, 0, 0], [0.6, 0, 0], [0, 0.7, 0]])
    balls = [sphere(1500, seed, 0.2)[0] + place for seed, place in enumerate(places)]
    mesh, report = fit(np.concatenate(balls), resolution=64)
    assert report["components"] == 3 and is_watertight(mesh)
    assert enclosed_volume(mesh) == pytest.approx(3 * 4 / 3 * np.pi * 0.008, rel=0.05)


def test_uneven_density() -> None:
    points, _ = sphere(20_000)
    share = np.where(points[:, 2] > 0, 1.0, 0.04)  # one side has a 25th
    points = points[np.random.default_rng(3).random(len(points)) < share]
    mesh, _ = fit(points)
    assert is_watertight(mesh) and off_sphere(mesh.vertices).mean() < 0.004


def test_holes_are_closed_or_left_open() -> None:
    points, normals = sphere(6000)
    half = points[:, 2] < 0.2
    closed, report = fit(points[half], normals[half])
    assert is_watertight(closed) and report["watertight"]
    low = closed.vertices[:, 2] < 0.15
    assert off_sphere(closed.vertices[low]).mean() < 0.002
    opened, report = fit(points[half], normals[half], open_boundaries=True)
    assert not report["watertight"] and report["open_boundaries"] and report["components"] == 1
    assert opened.vertices[:, 2].max() < 0.32  # a cap of 0.5 would close it
    assert off_sphere(opened.vertices).max() < 0.06
    assert covered(opened, points[half]) < 0.04


def test_a_scan_from_one_side_is_told_to_be_mostly_guessed() -> None:
    points, normals = sphere(6000)
    bowl = points[:, 2] < -0.15

    def told(**options: Any) -> list[str]:
        return [warning["code"] for warning in fit(points[bowl], normals[bowl], **options)[1]["warnings"]]

    assert "mostly_guessed" in told()
    assert "mostly_guessed" not in told(open_boundaries=True)


def test_soup_and_normals_that_lie() -> None:
    points, normals = torus(3000)
    wrong = normals * np.where(np.random.default_rng(4).random(len(points)) < 0.3, -1, 1)[:, None].astype(np.float32)
    mesh, report = fit(points, wrong)
    assert off_torus(mesh.vertices).mean() < 0.002 and enclosed_volume(mesh) > 0
    assert [warning["code"] for warning in report["warnings"]] == ["normals_contradict"]
    mesh, report = fit(points, -normals)
    assert enclosed_volume(mesh) > 0 and report["orientation"]["found_by"] == "given, turned over"

    surface, _ = fit(points, normals, resolution=32)
    rng = np.random.default_rng(5)
    corners = surface.vertices[surface.faces[rng.random(len(surface.faces)) < 0.9]]  # a tenth is missing
    turned = rng.random(len(corners)) < 0.5
    corners[turned] = corners[turned][:, ::-1]
    soup = np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3)
    mesh, report = fit(corners.reshape(-1, 3), faces=soup)
    assert is_watertight(mesh) and enclosed_volume(mesh) > 0
    assert off_torus(mesh.vertices).mean() < 0.004
    assert report["orientation"]["found_by"] == "winding number"


def test_flat_collinear_and_few() -> None:
    rng = np.random.default_rng(6)
    flat = np.zeros((900, 3), np.float32)
    flat[:, :2] = rng.uniform(-1, 1, (900, 2))
    mesh, report = fit(flat)
    assert [warning["code"] for warning in report["warnings"]] == ["flat_input"]
    assert np.abs(mesh.vertices[:, 2]).max() < 0.02 and not report["watertight"]
    assert np.ptp(mesh.vertices[:, :2], axis=0).min() > 1.8
    line = np.linspace(0, 1, 300)[:, None] * np.float32([1, 2, 3])
    with pytest.raises(InputError, match="line"):
        fit(line.astype(np.float32))
    with pytest.raises(InputError, match="5 different points"):
        fit(sphere(5)[0])
    mesh, _ = fit(sphere(100)[0], resolution=32)
    assert is_watertight(mesh) and off_sphere(mesh.vertices).mean() < 0.02


@pytest.mark.parametrize(("scale", "place"), [(1e-3, 0.0), (1e3, 0.0), (1.0, 1e4)])
def test_scale_and_place_do_not_matter(scale: float, place: float) -> None:
    points, _ = torus(2000)
    there = (points.astype(np.float64) * scale + place).astype(np.float32)
    mesh, report = fit(there, resolution=32)
    back = ((mesh.vertices.astype(np.float64) - place) / scale).astype(np.float32)
    assert off_torus(back).mean() < 0.003
    assert report["residual"]["median"] < 0.003 * scale
    assert report["components"] == 1 and report["watertight"]


def test_orientation_of_thin_walls_and_hollows() -> None:
    """A cup: walls of a few spacings, and a hollow that is deeper than wide."""
    import trimesh

    outer, inner = (trimesh.creation.cylinder(radius, 0.7, sections=48) for radius in (0.3, 0.22))
    inner.apply_translation((0, 0, 0.08))
    cup = trimesh.boolean.difference([outer, inner], engine="manifold")
    mesh = Mesh(np.asarray(cup.vertices, np.float32) * 0.9, np.asarray(cup.faces, np.int32))
    rng = np.random.default_rng(7)
    points, normals = sample_surface(mesh, 5000, rng)
    statistics = cloud_statistics(points, rng)
    found = orient(points, normal_lines(points, statistics), statistics, CPU, rng)
    assert ((found.normals * normals).sum(1) > 0).mean() > 0.97


def test_edges_have_no_long_fins() -> None:
    rng = np.random.default_rng(11)
    points = rng.uniform(-0.4, 0.4, (12_000, 3)).astype(np.float32)
    side, face = rng.choice([-1.0, 1.0], len(points)), rng.integers(0, 3, len(points))
    rows = np.arange(len(points))
    points[rows, face] = 0.4 * side
    normals = np.zeros_like(points)
    normals[rows, face] = side
    mesh, _ = fit(points, normals, resolution=64)
    beyond = np.abs(mesh.vertices).max(1) - 0.4
    assert beyond.max() < 0.02  # a cell is 0.0153
    assert (beyond > 0.008).mean() < 0.03


def test_normals_askew_in_a_thin_wall_are_straightened_and_exact_ones_kept() -> None:
    rng = np.random.default_rng(12)
    points = rng.uniform(-0.4, 0.4, (4000, 3)).astype(np.float32)
    side = rng.choice([-1.0, 1.0], len(points)).astype(np.float32)
    points[:, 2] = 0.01 * side  # as thick as the points are apart
    exact = np.zeros_like(points)
    exact[:, 2] = side
    askew = exact + rng.normal(0, 0.4, exact.shape).astype(np.float32)
    askew /= np.linalg.norm(askew, axis=1, keepdims=True)
    found, area = refined_normals(points, askew, 0.0126, 0.0)
    assert ((found * exact).sum(1) > 0.99).mean() > 0.95 > ((askew * exact).sum(1) > 0.99).mean()
    assert area.sum() == pytest.approx(2 * 0.64, rel=0.15)
    assert np.array_equal(refined_normals(points, exact, 0.0126, 0.0)[0], exact)


def test_a_million_points() -> None:
    points, _ = sphere(1_000_000)
    noisy = points + np.random.default_rng(8).normal(0, 0.002, points.shape).astype(np.float32)
    mesh, report = fit(noisy)
    assert report["input_points"]["used"] <= 400_000 and is_watertight(mesh)
    assert off_sphere(mesh.vertices).mean() < 0.001


def test_a_wall_that_the_cells_cannot_hold_is_told_of() -> None:
    rng = np.random.default_rng(9)
    ball, out = sphere(4000)
    plate = rng.uniform(-0.4, 0.4, (6000, 3)).astype(np.float32)
    side = np.where(rng.random(6000) < 0.5, 1, -1).astype(np.float32)
    plate[:, 0], plate[:, 2] = plate[:, 0] + 1.0, 0.005 * side
    normals = np.zeros_like(plate)
    normals[:, 2] = side
    points, directions = np.concatenate([ball, plate]), np.concatenate([out, normals])
    request = FitRequest(resolution=32, normals="given", device="cpu")
    report = run_fit(request, JobArrays(points, directions), JobCallbacks()).report
    assert "thin_sheet" in [warning["code"] for warning in report["warnings"]]
