"""What training shows of a shape: each property against the record, or against geometry that is known exactly."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from engine.fields.observations.evidence import evidence_grid
from engine.training import coverage
from engine.training.batches import FULL, POINTS, Batch, make_batch
from engine.training.coverage import (
    FEWEST,
    HIDES,
    MOST_NOISE,
    MOST_VIEWS,
    Seen,
    all_round,
    draw_count,
    draw_quarters,
    draw_views,
    measured,
    quarter_turns,
    scan_record,
    seen_from,
    support_patch,
    with_flying_pixels,
    without_holes,
)
from engine.training.supervision import UNITS, VIEWS


def wall_and_pillar(rng: np.random.Generator) -> Seen:
    """From 2 in front: a pillar at y = -0.2 before a wall at y = 0.4, each pixel in the middle of its square."""
    u, v = np.meshgrid(np.linspace(-0.2, 0.2, 40), np.linspace(-0.2, 0.2, 40))
    y = np.where(np.abs(u) < 0.05, -0.2, 0.4)
    origin = np.array([0.0, -2.0, 0.0])
    points = origin + np.stack([u, np.ones_like(u), v], -1) * (y + 2.0)[..., None]
    points = points.reshape(-1, 3).astype(np.float32)
    return Seen(points, np.tile(origin.astype(np.float32), (len(points), 1)), np.ones(len(points), np.float32))


@pytest.fixture(scope="module")
def many(records: np.ndarray) -> Batch:
    return make_batch(records, np.arange(len(records)), np.ones(len(records)), 400, 40, [3, 0, 0])


# -------------------------------------------------------------------------------------------------------------- views


def test_one_to_eight_views_and_mostly_one() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_views(rng) for _ in range(800)]
    counts = Counter(len(views) for views in drawn)
    assert set(counts) == set(range(1, MOST_VIEWS + 1)) and 0.5 < counts[1] / 800 < 0.7
    assert all(len(set(views.tolist())) == len(views) for views in drawn)
    assert {int(v) for views in drawn for v in views} == set(range(VIEWS))


def test_points_of_several_views_are_those_that_each_view_sees(records: np.ndarray) -> None:
    views = np.array([5, 0, 11])
    for record in records:
        seen = seen_from(record, views)
        surface = record["surface"].astype(np.float32) / UNITS
        bits = [(record["seen"] >> v) & 1 == 1 for v in views]
        assert len(seen) == int((bits[0] | bits[1] | bits[2]).sum())
        sees = {
            tuple(record["viewpoint"][v]): {tuple(p) for p in surface[b]} for v, b in zip(views, bits, strict=True)
        }
        for point, origin in zip(seen.points, seen.origins, strict=True):
            assert tuple(point) in sees[tuple(origin)]
        assert (seen.known == 1).all()
        assert len(np.unique(seen.origins, axis=0)) > 1  # more than the first view gives something


def test_all_round_is_all_of_the_surface_and_rays_only_from_views_that_see_it(records: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for record in records:
        seen = all_round(record, rng)
        assert (seen.points == record["surface"].astype(np.float32) / UNITS).all()
        assert ((seen.known == 1) == (record["seen"] != 0)).all()
        place = {tuple(v): k for k, v in enumerate(record["viewpoint"])}
        which = np.array([place[tuple(o)] for o in seen.origins])
        assert (((record["seen"] >> which.astype(np.uint16)) & 1)[seen.known == 1] == 1).all()
        assert len(set(which[seen.known == 1].tolist())) > VIEWS // 2


def test_complete_clouds_come_with_their_evidence_and_whole_shapes_without(many: Batch) -> None:
    assert 0.12 < float(many.whole.float().mean()) < 0.3
    assert bool((many.weights[many.whole].sum(1) == FULL).all()) and bool((many.ray_weights[many.whole] == 0).all())
    # Of shapes that are not said to be whole some are seen from all sides: points both in front, behind and below.
    others = torch.nonzero(~many.whole)[:, 0]
    below = sum(bool((many.points[k][many.weights[k] > 0][:, 2] < -0.25).sum() > 300) for k in others.tolist())
    assert below > 20


def test_viewpoints_are_unknown_in_four_partial_scans_of_ten(records: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    told = [scan_record(records[2], rng, "views").known.max() for _ in range(400)]
    assert 0.53 < np.mean(told) < 0.67
    told = [scan_record(records[2], rng, "all round").known.max() for _ in range(300)]
    assert 0.1 < np.mean(told) < 0.3


def test_clouds_of_100_points_to_as_many_as_completion_looks_at(records: np.ndarray, many: Batch) -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([draw_count(rng, POINTS) for _ in range(2000)])
    assert drawn.min() < 1.1 * FEWEST and drawn.max() == POINTS and drawn.min() >= FEWEST
    assert 0.4 < (drawn == POINTS).mean() < 0.6 and (drawn < 600).mean() > 0.15
    counts = (many.weights > 0).sum(1)
    assert int(counts.min()) < 200 and int(counts.max()) == POINTS
    # However dense, a cloud counts for at most FULL points, as at inference.
    assert float(many.weights.sum(1).max()) == pytest.approx(FULL, rel=1e-5)
    dense = counts > FULL
    assert bool((many.weights.sum(1)[~dense] == counts[~dense]).all()) and int(dense.sum()) > 20


# -------------------------------------------------------------------------------------------------------------- front


def test_quarter_turns_are_exact_and_four_of_them_are_none() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert np.array_equal(quarter_turns(points, 0), points)
    once = quarter_turns(points, 1)
    assert np.array_equal(once, points @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float32))
    for quarters in range(1, 5):
        assert np.array_equal(once, quarter_turns(points, quarters))
        once = quarter_turns(once, 1)


def test_a_quarter_of_the_fronts_is_wrong_by_each_turn_alike() -> None:
    rng = np.random.default_rng(0)
    counts = Counter(draw_quarters(rng) for _ in range(2000))
    assert set(counts) == {0, 1, 2, 3} and 0.7 < counts[0] / 2000 < 0.8
    assert max(counts[1], counts[2], counts[3]) < 1.4 * min(counts[1], counts[2], counts[3])


def test_evidence_and_target_are_turned_together(records: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def batch(quarters: int) -> Batch:
        monkeypatch.setattr("engine.training.batches.draw_quarters", lambda rng: quarters)
        return make_batch(records, np.arange(6), np.ones(6), 12, 200, [7, 0, 0])

    straight, turned = batch(0), batch(1)
    partial = ~straight.whole
    assert bool(partial.any()) and torch.equal(straight.distances, turned.distances)
    for name in ("points", "queries", "gradients"):
        before, after = getattr(straight, name), getattr(turned, name)
        assert np.array_equal(quarter_turns(before[partial].numpy(), 1), after[partial].numpy()), name
    # What is to be encoded whole keeps its true front: its codes are generated from.
    assert torch.equal(straight.points[~partial], turned.points[~partial])


def test_the_mirrored_evidence_contradicts_the_points_where_the_front_is_wrong() -> None:
    """An L of two walls, symmetric in x as it stands and not when turned: its image lies in space that was looked
    through, and says so in the evidence itself."""
    rng = np.random.default_rng(0)
    back = np.column_stack([rng.uniform(-0.5, 0.5, 1500), np.full(1500, 0.3), rng.uniform(-0.5, 0.5, 1500)])
    points = torch.as_tensor(back, dtype=torch.float32)[None]
    origin = torch.tensor([0.0, -2.0, 0.2]).expand_as(points)

    def contradiction(quarters: int) -> float:
        given = torch.as_tensor(quarter_turns(points.numpy(), quarters))
        seen_from = torch.as_tensor(quarter_turns(origin.numpy(), quarters))
        weights = torch.ones(given.shape[:2])
        grid = evidence_grid(given, weights, seen_from, weights, 16)[0]
        empty, mirrored = grid[10] > 0.5, grid[11] > 0.5  # looked through; points, in the mirror
        return float((empty & mirrored).sum() / mirrored.sum())

    assert contradiction(0) < 0.1 < 0.5 < contradiction(1)


# -------------------------------------------------------------------------------------------- errors of measurement


def test_noise_in_any_direction_or_along_the_ray_up_to_one_per_cent(records: np.ndarray) -> None:
    seen = seen_from(records[1], np.array([0]))
    ray = seen.points - seen.origins
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    across = []
    for seed in range(30):
        moved = measured(seen, np.random.default_rng(seed), MOST_NOISE) - seen.points
        along = (moved * ray).sum(1)
        across.append(float(np.linalg.norm(moved - along[:, None] * ray, axis=1).mean()))
        assert float(along.std()) == pytest.approx(MOST_NOISE, rel=0.1)
    assert 5 < sum(a < 1e-5 for a in across) < 25
    assert MOST_NOISE == 0.01


def test_flying_pixels_lie_between_the_surfaces_on_their_own_rays() -> None:
    seen = wall_and_pillar(np.random.default_rng(0))
    moved = with_flying_pixels(seen, np.random.default_rng(1), 1.0)
    changed = np.linalg.norm(moved - seen.points, axis=1) > 1e-4
    assert 40 < changed.sum() < 400  # along two edges of the pillar, nowhere else
    direction = seen.points / 1.0 - seen.origins
    edge = np.abs(np.abs(direction[:, 0] / direction[:, 1]) - 0.05)
    assert edge[changed].max() < 0.035
    assert ((moved[changed, 1] > -0.2) & (moved[changed, 1] < 0.4)).all()
    ray = moved[changed] - seen.origins[changed]
    sights = (ray[:, [0, 2]] / ray[:, 1:2], direction[changed][:, [0, 2]] / direction[changed][:, 1:2])
    assert np.allclose(*sights, atol=1e-4)
    few = with_flying_pixels(seen, np.random.default_rng(1), 0.1)
    assert 0 < (np.linalg.norm(few - seen.points, axis=1) > 1e-4).sum() < 0.2 * changed.sum()


def test_a_smooth_surface_has_no_flying_pixels(records: np.ndarray) -> None:
    seen = wall_and_pillar(np.random.default_rng(0))
    flat = seen.at(seen.points[:, 1] > 0.3)
    flat = flat.at(flat.points[:, 0] > 0)
    assert np.abs(with_flying_pixels(flat, np.random.default_rng(0), 1.0) - flat.points).max() < 1e-5


def test_holes_are_balls_without_points_and_never_take_all(records: np.ndarray) -> None:
    points = records[0]["surface"].astype(np.float32) / UNITS
    for seed in range(20):
        kept = without_holes(points, np.random.default_rng(seed))
        gone = np.setdiff1d(np.arange(len(points)), kept)
        assert 0 < len(gone) < len(points) - 63 and len(np.unique(kept)) == len(kept)
    # One hole: what is gone lies closer to its centre than anything that is left.
    assert len(without_holes(points[:70], np.random.default_rng(0), least=70)) == 70


# -------------------------------------------------------------------------------------------------------------- floor


def test_the_floor_lies_under_the_shape_and_not_in_its_shadow(records: np.ndarray) -> None:
    """A ball: the floor point straight behind it, as seen from the viewpoint, is hidden; beside it all is seen."""
    surface = records[0]["surface"].astype(np.float32) / UNITS
    view = np.array([[0.0, -1.6, 0.4]], np.float32)
    shadowed = lit = 0
    for seed in range(12):
        floor = support_patch(surface, view, np.random.default_rng(seed))
        assert np.allclose(floor.points[:, 2], surface[:, 2].min(), atol=1e-6)
        assert (floor.origins == view).all() and (floor.known == 1).all()
        assert np.abs(floor.points[:, :2]).max() <= 0.5 + 0.3 + 1e-5
        ray = floor.points - view
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        towards = -view[0] / np.linalg.norm(view)
        miss = np.linalg.norm(view[0]) * np.sqrt(1 - (ray @ towards) ** 2)  # of the ray from the ball's centre
        beyond = (floor.points - view) @ towards > np.linalg.norm(view)
        shadowed += int((beyond & (miss < 0.45)).sum())  # one may slip through where the record's points lie apart
        lit += int((miss > 0.5 + 2 * HIDES).sum())
    assert shadowed < 0.002 * lit and lit > 500


def test_several_views_see_more_of_the_floor_each_point_once(records: np.ndarray) -> None:
    surface = records[0]["surface"].astype(np.float32) / UNITS
    views = np.array([[0.0, -1.6, 0.4], [0.0, 1.6, 0.4]], np.float32)
    one = support_patch(surface, views[:1], np.random.default_rng(2))
    both = support_patch(surface, views, np.random.default_rng(2))
    assert len(both) > len(one) and len(np.unique(both.points, axis=0)) == len(both)


def test_some_scans_keep_the_floor(records: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    record = records[0]  # a ball: its lowest point is alone
    lowest = record["surface"][:, 2].min() / UNITS
    for share, wanted in ((1.0, True), (0.0, False)):
        monkeypatch.setattr(coverage, "FLOOR_SHARE", share)
        scans = [scan_record(record, np.random.default_rng(seed), "views").points for seed in range(10)]
        assert (np.median([(np.abs(points[:, 2] - lowest) < 1e-4).sum() for points in scans]) > 30) == wanted


def test_a_whole_shape_is_shown_without_error(many: Batch) -> None:
    """No point of it is nearer to a query than the distance that is to be learnt there says."""
    for k in torch.nonzero(many.whole)[:20, 0].tolist():
        cloud = many.points[k][many.weights[k] > 0]
        near = many.distances[k].abs() < 0.03  # farther away, a deformed shape's distances are not exact
        nearest = torch.cdist(many.queries[k][near], cloud).amin(1)
        assert bool((nearest > many.distances[k][near].abs() - 0.008).all())
