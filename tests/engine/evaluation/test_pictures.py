"""Pictures of shapes: what must be where, not how pretty it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.evaluation.pictures import camera_for, contact_sheet, draw_cloud, draw_mesh, save_picture
from engine.geometry.meshes import Mesh

pytest.importorskip("warp")
trimesh = pytest.importorskip("trimesh")
pytest.importorskip("PIL")


def ball(centre: tuple[float, float, float], radius: float = 0.3) -> Mesh:
    mesh = trimesh.creation.icosphere(3, radius)
    return Mesh((mesh.vertices + np.array(centre)).astype(np.float32), mesh.faces.astype(np.int32))


def painted(picture: np.ndarray) -> np.ndarray:
    return (picture < 250).any(2)


def test_mesh_and_cloud_fall_on_the_same_pixels() -> None:
    mesh = ball((3.0, -2.0, 5.0))
    camera = camera_for(mesh.vertices, 20.0, 15.0, 100)
    dense = trimesh.Trimesh(mesh.vertices, mesh.faces).sample(30_000, seed=0).astype(np.float32)
    drawn, splatted = painted(draw_mesh(mesh, camera)), painted(draw_cloud(dense, camera))
    assert drawn.mean() > 0.4
    assert (drawn & splatted).sum() > 0.95 * (drawn | splatted).sum()
    assert not drawn[0, 0] and drawn[50, 50]


def test_up_is_up_and_right_is_right() -> None:
    frame = np.array([[-1, -1, -1], [1, 1, 1]], np.float32)
    camera = camera_for(frame, azimuth=-90.0, elevation=0.0, size=80)  # from the front, +x is to the right
    row, column = np.argwhere(painted(draw_mesh(ball((0.6, 0, 0.6)), camera))).mean(0)
    assert row < 35 and column > 45
    row, column = np.argwhere(painted(draw_cloud(ball((-0.6, 0, -0.6)).vertices, camera))).mean(0)
    assert row > 45 and column < 35


def test_the_nearer_point_hides_the_farther_one() -> None:
    rng = np.random.default_rng(0)
    sheet = np.stack([rng.uniform(-1, 1, 40_000), np.zeros(40_000), rng.uniform(-1, 1, 40_000)], 1).astype(np.float32)
    hidden = (sheet[:, [0, 2, 1]] * 0.3 + [0, 0.5, 0]).astype(np.float32)  # lies flat, so it is shaded otherwise
    camera = camera_for(sheet, azimuth=-90.0, elevation=10.0, size=60)
    alone = draw_cloud(sheet, camera).astype(int)
    for cloud in ([sheet, hidden], [hidden, sheet]):
        both = draw_cloud(np.concatenate(cloud), camera)
        assert np.abs(both - alone).max() <= 2
    assert painted(draw_cloud(hidden, camera)).sum() > 50


def test_shading_ignores_winding_and_ground_gets_a_shadow() -> None:
    mesh = ball((0, 0, 0.3))
    camera = camera_for(mesh.vertices, size=60)
    flipped = Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())
    difference = np.abs(draw_mesh(mesh, camera).astype(int) - draw_mesh(flipped, camera))
    assert difference.mean() < 1.0
    plain, grounded = draw_mesh(mesh, camera), draw_mesh(mesh, camera, ground=0.0)
    assert painted(grounded).sum() > painted(plain).sum()


def test_nothing_is_an_empty_page() -> None:
    camera = camera_for(ball((0, 0, 0)).vertices, size=40)
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert not painted(draw_mesh(nothing, camera, ground=0.0)).any()
    assert not painted(draw_cloud(np.zeros((0, 3), np.float32), camera)).any()


def test_sheet_is_saved_whole(tmp_path: Path) -> None:
    from PIL import Image

    picture = np.full((40, 40, 3), 7, np.uint8)
    sheet = contact_sheet([[picture, picture]] * 5, ["a", "b"], ["one"] * 5, blocks=2)
    save_picture(tmp_path / "a folder" / "sheet.png", sheet)
    with Image.open(tmp_path / "a folder" / "sheet.png") as image:
        again = np.asarray(image)
    np.testing.assert_array_equal(again, sheet)
    assert (again == 7).all(2).sum() == 10 * 40 * 40
