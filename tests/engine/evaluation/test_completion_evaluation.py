"""The evaluation of completion on a library of boxes, where every figure is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import Cancelled, EngineError, InputError
from engine.evaluation.completers import product
from engine.evaluation.completion import run_completion_evaluation
from engine.evaluation.protocol import Answer, Protocol, is_solid, partial_scan
from engine.geometry.clouds import PointCloud
from engine.geometry.meshes import Mesh
from engine.geometry.signed_distance import SignedDistance
from engine.training.library import Library, load_library, write_library
from engine.training.shapes import Shape, canonicalise

pytest.importorskip("warp")
pytest.importorskip("igl")
trimesh = pytest.importorskip("trimesh")

SMALL: dict[str, Any] = {
    "points": 4000, "pixels": 60, "baselines": ("input", "input + mirror", "retrieval"), "soundness": False,
}  # fmt: skip


def box(*sides: float) -> Mesh:
    mesh = trimesh.creation.box(sides)
    return Mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32))


@pytest.fixture()
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setenv("SHAPEWRIGHT_CACHE", str(tmp_path / "cache"))
    shapes = [
        Shape("made", "table", "flat", "train", mesh=box(3, 2, 0.4)),
        Shape("made", "chair", "tall", "train", mesh=box(1, 1, 2)),
        Shape("made", "table", "held out", "validation", mesh=box(30, 21, 5)),
        Shape("made", "chair", "held out", "validation", mesh=box(1.1, 0.9, 2)),
        Shape("made", "mug_cup_glass", "a plate and more", "validation", mesh=box(4, 2, 1)),
    ]
    write_library(tmp_path / "library", shapes)
    return load_library(tmp_path / "library", splits_by_design=False)


def true_boxes(library: Library):
    """A completer that knows: answers with the canonical held-out shape whose surface the points lie on."""
    known = [canonicalise(library.mesh(i))[0] for i in library.indices(split="validation")]
    calls = []

    def complete(cloud: PointCloud) -> Mesh:
        assert cloud.normals is None and cloud.viewpoint is not None
        calls.append(cloud)
        half = [mesh.vertices.max(0) for mesh in known]
        off = [float(np.abs((np.abs(cloud.points) / h).max(1) - 1).mean()) for h in half]
        return known[int(np.argmin(off))]

    return complete, calls


def test_a_perfect_completer_gets_perfect_figures_and_baselines_lie_between(library: Library, tmp_path: Path) -> None:
    complete, calls = true_boxes(library)
    report = run_completion_evaluation(
        complete, library, name="perfect", out_dir=tmp_path / "out", views=2, **{**SMALL, "points": 30_000}
    )
    assert report["scans"] == 4 and report["shapes"] == 2 and report["classes"] == {"chair": 2, "table": 2}
    assert report["solid"] == 2 and len(calls) == 4
    figures = {method: entry["all"] for method, entry in report["methods"].items()}
    perfect, seen, mirrored = figures["perfect"], figures["input"], figures["input + mirror"]
    assert perfect["f_score"]["mean"] > 0.95
    assert perfect["iou"]["mean"] == 1.0
    assert perfect["normal_consistency"]["mean"] > 0.97
    assert perfect["chamfer_l1"]["mean"] < 0.02
    assert perfect["failed"] == 0
    assert 0.2 < seen["f_score"]["mean"] < perfect["f_score"]["mean"]
    assert seen["observed"]["mean"] == 0.0 and "iou" not in seen
    assert mirrored["completeness"]["mean"] <= seen["completeness"]["mean"]
    assert 0.3 < figures["retrieval"]["iou"]["mean"] < 1.0

    saved = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert saved == report
    table = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "perfect" in table and "| table (2) |" in table
    assert (tmp_path / "out" / "contact_sheet.png").stat().st_size > 2000


def test_stopped_runs_go_on_and_changed_settings_start_anew(library: Library, tmp_path: Path) -> None:
    complete, calls = true_boxes(library)
    out = tmp_path / "out"
    asked = iter([False, True])
    with pytest.raises(Cancelled):
        run_completion_evaluation(complete, library, out_dir=out, should_stop=lambda: next(asked), **SMALL)
    assert len(calls) == 1
    rows = next((out / "rows").glob("completion-*.jsonl"))
    rows.write_text(rows.read_text() + '{"item": "half a li')  # killed while writing
    first = run_completion_evaluation(complete, library, out_dir=out, **SMALL)
    assert len(calls) == 2
    again = run_completion_evaluation(complete, library, out_dir=out, **SMALL)
    assert len(calls) == 2 and again["methods"] == first["methods"]
    run_completion_evaluation(complete, library, out_dir=out, noise=0.005, **SMALL)
    assert len(calls) == 4
    run_completion_evaluation(complete, library, out_dir=out, fingerprint="other weights", **SMALL)
    assert len(calls) == 6


def test_free_pose_is_taken_back_before_judging(library: Library, tmp_path: Path) -> None:
    protocol = Protocol(pixels=60, pose="free")
    index = library.indices(split="validation", categories=["table"])[0]
    cloud, back = partial_scan(library, index, 0, protocol)
    straight, nothing = partial_scan(library, index, 0, Protocol(pixels=60))
    np.testing.assert_allclose(back.apply(cloud.points), straight.points, atol=2e-5)
    np.testing.assert_allclose(nothing.matrix(), np.eye(4))
    assert not 0.9 < back.scale < 1.1 or np.abs(cloud.points).max() > 0.6  # elsewhere, and of another size
    truth, _ = canonicalise(library.mesh(index))

    def complete(given: PointCloud) -> Mesh:
        np.testing.assert_array_equal(given.points, cloud.points)
        return Mesh(back.inverse().apply(truth.vertices), truth.faces)

    report = run_completion_evaluation(
        complete, library, out_dir=tmp_path, classes=["table"], pose="free", points=4000, pixels=60, baselines=()
    )
    assert report["methods"]["completion"]["all"]["iou"]["mean"] > 0.999


def test_several_answers_have_columns_of_their_own(library: Library, tmp_path: Path) -> None:
    complete, _ = true_boxes(library)
    figures = iter([{"tmd": 0.01, "uhd": 0.02, "answers": 3.0}, {"tmd": 0.03, "uhd": 0.04, "answers": 1.0}])
    report = run_completion_evaluation(
        lambda cloud: Answer(complete(cloud), next(figures)), library, name="several", out_dir=tmp_path, **SMALL
    )
    entry = report["methods"]["several"]["all"]
    assert entry["tmd"]["mean"] == pytest.approx(0.02) and entry["uhd"]["median"] == pytest.approx(0.03)
    assert entry["answers"] == {"mean": 2.0, "median": 2.0, "n": 2, "standard_error": 1.0}
    assert "tmd" not in report["methods"]["input"]["all"]
    header, _, *rows = (tmp_path / "report.md").read_text(encoding="utf-8").split("**All**")[1].strip().splitlines()[:6]
    at = [cell.strip() for cell in header.split("|")].index("total mutual difference x100")
    assert [row.split("|")[at].strip() for row in rows] == ["– / –"] * 3 + ["2.000 / 2.000"]
    run_completion_evaluation(complete, library, out_dir=tmp_path / "one", **SMALL)
    assert "mutual" not in (tmp_path / "one" / "report.md").read_text(encoding="utf-8")


def test_the_product_tells_how_its_answers_differ(small_prior_file: Path) -> None:
    mark, one = product(str(small_prior_file), "scale", 24, "cpu")
    other_mark, several = product(str(small_prior_file), "scale", 24, "cpu", hypotheses=2)
    assert mark != other_mark
    direction = np.random.default_rng(0).normal(size=(2000, 3))
    points = 0.4 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    cloud = PointCloud(points[points[:, 1] < 0].astype(np.float32), None, np.array([0.0, -2.0, 0.0], np.float32))
    alone, both = one(cloud), several(cloud)
    assert isinstance(alone, Answer) and isinstance(both, Answer)
    assert alone.figures == {} and set(both.figures) == {"tmd", "uhd", "answers"}
    assert both.figures["answers"] in (1.0, 2.0) and 0 < both.figures["uhd"] < 0.5
    assert (both.figures["tmd"] > 0) == (both.figures["answers"] > 1)


def test_failures_count_as_zero(library: Library, tmp_path: Path) -> None:
    answers = iter([EngineError("bad", "It failed.", "Because.", "Try again."), box(0, 0, 0)])

    def complete(cloud: PointCloud) -> Mesh:
        answer = next(answers)
        if isinstance(answer, EngineError):
            raise answer
        return answer

    report = run_completion_evaluation(complete, library, out_dir=tmp_path, **SMALL)
    figures = report["methods"]["completion"]["all"]
    assert figures["failed"] == 2 and figures["f_score"]["mean"] == 0.0 and "chamfer_l1" not in figures
    assert "(2 failed)" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_several_processes_agree_with_one(library: Library, tmp_path: Path) -> None:
    complete, _ = true_boxes(library)
    figures = []
    for workers in (1, 2):
        report = run_completion_evaluation(complete, library, out_dir=tmp_path / str(workers), workers=workers, **SMALL)
        for entry in report["methods"].values():
            for summary in (entry["all"], *entry["by class"].values()):
                summary.pop("seconds")
        figures.append(report["methods"])
    assert figures[0] == figures[1]


def test_scans_depend_on_seed_and_shape_only(library: Library) -> None:
    index = library.indices(split="validation")[0]
    clean, _ = partial_scan(library, index, 0, Protocol(pixels=40))
    noisy, _ = partial_scan(library, index, 0, Protocol(pixels=40, noise=0.01))
    np.testing.assert_array_equal(clean.viewpoint, noisy.viewpoint)
    assert len(clean.points) == len(noisy.points) and not np.array_equal(clean.points, noisy.points)
    other_view, _ = partial_scan(library, index, 1, Protocol(pixels=40))
    other_seed, _ = partial_scan(library, index, 0, Protocol(pixels=40, seed=1))
    for other in (other_view, other_seed):
        assert not np.array_equal(clean.viewpoint, other.viewpoint)


def test_solid_means_that_inside_is_certain() -> None:
    rng = np.random.default_rng(0)
    closed = box(1, 0.8, 0.6)
    open_box = Mesh(closed.vertices, closed.faces[2:])
    inside_out = Mesh(closed.vertices, closed.faces[:, ::-1].copy())
    assert is_solid(closed, SignedDistance(closed), rng)
    assert not is_solid(open_box, SignedDistance(open_box), rng)
    assert not is_solid(inside_out, SignedDistance(inside_out), rng)


def test_nothing_to_evaluate_is_said(library: Library, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run_completion_evaluation(None, library, out_dir=tmp_path, classes=["lamp"])
    assert caught.value.code == "nothing_to_evaluate"


def test_poisson_closes_a_seen_box(library: Library) -> None:
    pytest.importorskip("pymeshlab")
    from engine.evaluation.baselines import poisson

    index = library.indices(split="validation", categories=["chair"])[0]
    cloud, _ = partial_scan(library, index, 0, Protocol(pixels=100))
    answer = poisson(cloud)
    assert answer is not None and len(answer.faces) > 100
    from scipy.spatial import cKDTree

    assert np.median(cKDTree(answer.vertices).query(cloud.points)[0]) < 0.02


def test_a_complete_cloud_lies_all_over_the_outer_surface_and_nobody_knows_from_where(library: Library) -> None:
    index = next(i for i in library.indices(split="validation") if library.shapes[i].category == "chair")
    half = canonicalise(library.mesh(index))[0].vertices.max(0)
    clean, back = partial_scan(library, index, 0, Protocol(cloud=3000))
    assert clean.viewpoint is None and len(clean.points) == 3000 and np.array_equal(back.rotation, np.eye(3))
    sides = np.abs(clean.points) / half
    assert np.allclose(sides.max(1), 1, atol=1e-5)
    for axis in range(3):
        for sign in (-1, 1):
            assert (np.abs(clean.points[:, axis] - sign * half[axis]) < 1e-5).sum() > 100
    noisy, _ = partial_scan(library, index, 0, Protocol(cloud=3000, noise=0.005))
    assert float((noisy.points - clean.points).std()) == pytest.approx(0.005, rel=0.1)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_wrong_front_turns_what_the_completer_gets_and_the_answer_is_turned_back(
    library: Library, quarters: int
) -> None:
    index = library.indices(split="validation")[0]
    straight, _ = partial_scan(library, index, 0, Protocol(pixels=40))
    turned, back = partial_scan(library, index, 0, Protocol(pixels=40, front_off=quarters))
    assert straight.viewpoint is not None and turned.viewpoint is not None
    assert np.allclose(back.apply(turned.points), straight.points, atol=1e-5)
    turn = np.linalg.matrix_power(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]), quarters)
    assert np.allclose(turned.points, straight.points @ turn.T, atol=1e-5)
    assert np.allclose(turned.viewpoint, straight.viewpoint @ turn.T, atol=1e-5)


def test_what_is_invented_is_told_and_chosen_shapes_alone_are_judged(library: Library, tmp_path: Path) -> None:
    def with_a_limb(cloud: PointCloud) -> Mesh:
        """Half of the surface is the box's own, half lies a whole unit away from it."""
        solid = library.mesh(next(i for i, s in enumerate(library.shapes) if s.key == "made/table/held out"))
        mesh, _ = canonicalise(solid)
        count = len(mesh.vertices)
        away = mesh.vertices + np.float32([0, 0, 1])
        return Mesh(np.concatenate([mesh.vertices, away]), np.concatenate([mesh.faces, mesh.faces + count]))

    report = run_completion_evaluation(
        with_a_limb, library, out_dir=tmp_path, cloud=500, only=["made/table/held out", "made/chair/tall"],
        **{**SMALL, "points": 10_000},
    )  # fmt: skip
    assert report["scans"] == 1 and report["classes"] == {"table": 1} and report["protocol"]["cloud"] == 500
    figures = report["methods"]["completion"]["all"]
    assert figures["invented"]["mean"] == pytest.approx(0.5, abs=0.03)
    assert report["methods"]["input"]["all"]["invented"]["mean"] < 0.02  # the truth's points lie apart
    assert "complete clouds (500 points" in (tmp_path / "report.md").read_text(encoding="utf-8")
