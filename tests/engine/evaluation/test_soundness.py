"""Answers as assets: every measure says what is known of the shape, and gets worse over rubble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.evaluation.soundness import COLUMNS, TrueAsset, surfaces
from engine.geometry.meshes import Mesh
from engine.geometry.sampling import sample_surface
from engine.surfaces.marching import extract_sparse
from tests.engine.finish.shapes import blocks, box, carved, joined, rubble, slatted_back, table, torus

pytest.importorskip("warp")
pytest.importorskip("igl")
pytest.importorskip("warp")

from engine.training.scans import true_surface

BETTER_HIGH = ("whole", "part_recall", "flat_covered", "creases", "watertight")
WORSE_HIGH = (
    "parts", "parts_surplus", "crumbs", "handles_missing", "thickness_error", "thin_missing", "empty_filled",
    "flatness", "unlikeness", "asymmetry", "floor",
)  # fmt: skip


def chair() -> Mesh:
    """Of loose parts that overlap, as designs are: seat, four legs, a back of two posts and three rails."""
    parts = [box((-0.25, -0.25, -0.05), (0.25, 0.25, 0.0), 12)]
    for x in (-0.24, 0.19):
        parts += [box((x, y, -0.5), (x + 0.05, y + 0.05, -0.02), 8) for y in (-0.24, 0.19)]
        parts.append(box((x, 0.19, -0.02), (x + 0.05, 0.24, 0.5), 8))
    parts += [box((-0.22, 0.2, z), (0.22, 0.23, z + 0.06), 8) for z in (0.1, 0.25, 0.4)]
    return joined(*parts)


def asset_of(mesh: Mesh) -> TrueAsset:
    return TrueAsset(mesh, *true_surface(mesh, 40_000, np.random.default_rng(0)))


def measured(
    asset: TrueAsset, answer: Mesh, viewpoint: tuple[float, float, float] = (0.9, -1.6, 0.6)
) -> dict[str, Any]:
    return asset.measure(answer, *sample_surface(answer, 40_000, np.random.default_rng(1)), np.array(viewpoint))


def solid_chair(**changes: float) -> Mesh:
    """The same chair in one piece: as an answer would be. lower: of one leg; rail: of the back left out."""
    leg_end = {(-0.24, -0.24): -0.5 + changes.get("shorter", 0.0)}
    boxes = [((-0.25, -0.25, -0.05), (0.25, 0.25, 0.0))]
    for x in (-0.24, 0.19):
        boxes += [((x, y, leg_end.get((x, y), -0.5)), (x + 0.05, y + 0.05, 0.0)) for y in (-0.24, 0.19)]
        boxes.append(((x, 0.19, 0.0), (x + 0.05, 0.24, 0.5)))
    wide = changes.get("thicker", 0.0)
    for z in (0.1, 0.25, 0.4)[: 3 - int(changes.get("rails_missing", 0))]:
        boxes.append(((-0.22, 0.2, z), (0.22, 0.23 + wide, z + 0.06)))
    if changes.get("panel"):
        boxes.append(((-0.22, 0.2, 0.0), (0.22, 0.23, 0.46)))
    return blocks(*boxes)


@pytest.fixture(scope="module")
def asset() -> TrueAsset:
    return asset_of(chair())


def test_the_truth_knows_itself(asset: TrueAsset) -> None:
    assert asset.solid.parts == 1
    assert asset.handles == 3
    assert len(asset.pairs) >= 5  # legs, posts, rails
    assert asset.symmetric
    assert len(asset.feet) == 4


def test_a_perfect_answer_is_perfect(asset: TrueAsset) -> None:
    row = measured(asset, solid_chair())
    assert set(COLUMNS) <= set(row)
    for key in ("whole", "parts", "watertight"):
        assert row[key] == 1, key
    for key in ("parts_surplus", "crumbs", "cavities", "handles_surplus", "handles_missing"):
        assert row[key] == 0, key
    assert row["handles"] == 3
    assert row["thickness_error"] < 0.003 and row["thin_missing"] < 0.03
    assert row["part_recall"] > 0.97 and row["empty_filled"] < 0.001
    assert row["flatness"] < 2e-4 and row["flat_covered"] > 0.98
    assert row["creases"] > 0.85
    assert row["unlikeness"] < 1e-3 and row["asymmetry"] < 1e-3 and row["floor"] < 1e-3


def test_nothing_gets_better_over_rubble(asset: TrueAsset) -> None:
    good = measured(asset, solid_chair())
    strewn = rubble(solid_chair(), np.random.default_rng(3))
    for answer in (strewn, joined(solid_chair(), strewn)):
        bad = measured(asset, answer)
        for key in BETTER_HIGH:
            assert bad[key] is not None and bad[key] <= good[key] + 0.01, key
        for key in WORSE_HIGH:
            assert bad[key] is not None and bad[key] >= good[key] - 1e-4, key
    alone = measured(asset, strewn)
    for key in BETTER_HIGH[:-1]:
        assert alone[key] < 0.5 * good[key], key
    for key in WORSE_HIGH:
        if key not in ("empty_filled",):
            assert alone[key] > 2 * good[key], key


def test_nothing_at_all_is_the_worst(asset: TrueAsset) -> None:
    nowhere = np.zeros((0, 3), np.float32)
    row = asset.measure(None, nowhere, nowhere, None)
    assert (row["whole"], row["part_recall"], row["creases"], row["thin_missing"]) == (0, 0, 0, 1)
    assert row["handles_missing"] == 3


def test_a_missing_rail_a_filled_back_and_a_needless_ring(asset: TrueAsset) -> None:
    gone, panel = measured(asset, solid_chair(rails_missing=1)), measured(asset, solid_chair(panel=1))
    assert (gone["handles_missing"], gone["handles_surplus"]) == (1, 0)
    assert gone["part_recall"] < 0.3 and gone["thin_missing"] > 0.05
    assert gone["unlikeness"] > 1e-3
    assert (panel["handles_missing"], panel["handles_surplus"]) == (3, 0)
    assert panel["empty_filled"] > 0.05 and panel["part_recall"] > 0.8
    ring = torus((0.0, -0.25, -0.3), 0.12, 0.02)
    spurious = measured(asset, joined(solid_chair(), ring))
    assert (spurious["handles_surplus"], spurious["handles_missing"]) == (1, 0)
    assert (spurious["whole"], spurious["parts_surplus"]) == (0, 1)


def test_a_surplus_tunnel_does_not_pay_for_a_missing_one(asset: TrueAsset) -> None:
    both = measured(asset, joined(solid_chair(panel=1), torus((0.0, -0.25, -0.3), 0.12, 0.02)))
    assert (both["handles_surplus"], both["handles_missing"]) == (1, 3)


def test_thickness_legs_and_floor(asset: TrueAsset) -> None:
    good, fat = measured(asset, solid_chair()), measured(asset, solid_chair(thicker=0.02))
    assert fat["thickness_error"] > good["thickness_error"] + 0.001
    short = measured(asset, solid_chair(shorter=0.03))
    assert short["floor"] == pytest.approx(0.03, abs=0.002)
    assert short["unlikeness"] > good["unlikeness"] and short["asymmetry"] > good["asymmetry"]


def test_waves_are_not_flat_and_round_edges_keep_no_crease() -> None:
    body = box((-0.5, -0.3, -0.2), (0.5, 0.3, 0.2), cells=60)
    asset = asset_of(body)
    assert asset.pairs == []
    amplitude = 0.004
    wavy = body.vertices.copy()
    top = wavy[:, 2] > 0.199
    wavy[top, 2] += amplitude * np.sin(wavy[top, 0] * 40)
    waves = measured(asset, Mesh(wavy, body.faces))
    # Of two like sides of 38 % of the surface in all, one is off by the amplitude over the root of two.
    share = 0.6 / (2 * (0.6 + 0.4 + 0.24))
    assert waves["flatness"] == pytest.approx(share * amplitude / 2**0.5, rel=0.25)
    assert measured(asset, body)["flatness"] < 1e-5
    moved = measured(asset, Mesh((body.vertices + np.array([0, 0, 0.006])).astype(np.float32), body.faces))
    assert moved["flatness"] < 1e-4  # it is in the wrong place, but flat

    def field(points: Any) -> Any:
        away = points.abs() - points.new_tensor([0.45, 0.25, 0.15])
        return away.clamp(min=0).norm(dim=1) + away.amax(1).clamp(max=0) - 0.05

    soft = measured(asset, extract_sparse(field, 96).mesh)
    assert soft["creases"] < 0.6 < measured(asset, body)["creases"]


def test_creases_are_where_faces_meet_at_an_angle() -> None:
    body = box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5), cells=8)
    points, normals = sample_surface(body, 20_000, np.random.default_rng(0))
    creases = surfaces.creases_of(surfaces.truth_of(body), surfaces.Skin.of(points, normals), np.random.default_rng(0))
    assert creases.angle == pytest.approx(np.full(len(creases.angle), np.pi / 2))
    assert (np.sort(np.abs(creases.beside), axis=2)[:, :, 1:] > 0.48).all()


def test_a_torn_sheet_has_handles_and_a_thin_wall_its_thickness() -> None:
    board = box((-0.5, -0.01, -0.4), (0.5, 0.02, 0.4), cells=20)
    asset = asset_of(board)
    assert asset.thick == pytest.approx(np.full(len(asset.thick), 0.03), abs=0.002)

    def torn(points: np.ndarray) -> np.ndarray:
        solid = (points[:, 1] > -0.01) & (points[:, 1] < 0.02) & (np.abs(points[:, 2]) < 0.4)
        for x in (-0.2, 0.1, 0.3):
            solid &= np.hypot(points[:, 0] - x, points[:, 2]) > 0.03
        return solid

    row = measured(asset, carved(torn))
    assert (row["handles_surplus"], row["handles_missing"]) == (3, 0)
    assert row["thin_missing"] > 0.005


def test_a_truth_of_two_parts_and_one_of_a_closed_gap() -> None:
    def two(gap: float) -> Mesh:
        return joined(box((-0.5, -0.2, -0.2), (0.0, 0.2, 0.2), 10), box((gap, -0.2, -0.2), (0.5, 0.2, 0.2), 10))

    wide, narrow = asset_of(two(0.06)), asset_of(two(0.006))
    assert (wide.solid.parts, narrow.solid.parts) == (2, 1)
    assert measured(wide, two(0.06))["whole"] is None
    assert measured(wide, two(0.06))["parts_surplus"] == 0


def test_the_solid_is_remembered(tmp_path: Path) -> None:
    mesh = slatted_back(3)
    surface = true_surface(mesh, 5000, np.random.default_rng(0))
    first = TrueAsset(mesh, *surface, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    again = TrueAsset(mesh, *surface, tmp_path)
    assert (again.solid.filled == first.solid.filled).all()
    assert again.handles == first.handles == 3
    TrueAsset(table(), *true_surface(table(), 5000, np.random.default_rng(0)), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
