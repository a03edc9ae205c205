"""Train Prior as a job: what it makes of the meshes that came, what it tells on the way, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import Cancelled, InputError
from engine.geometry.meshes import Mesh
from engine.jobs.base import JobArrays, JobCallbacks, Preview, Progress
from engine.jobs.kinds import find, parse_request
from engine.jobs.run import run_job
from engine.jobs.train.request import TrainRequest
from engine.jobs.train.run import _library, class_name
from engine.priors.file import load_prior
from engine.priors.registry import list_priors
from engine.training.library import load_library
from engine.wire.arrays import checked_arrays, pack_arrays, unpack_arrays

TINY: dict[str, Any] = {
    "steps": 6, "batch": 2, "queries": 64, "precision": "float32",
    "arguments": {"code_channels": 4, "width": 4, "hidden": 16, "resolution": 8},
}  # fmt: skip


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of priors, with blanks and letters of elsewhere in its name."""
    folder = tmp_path / "priors ščž 形"
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(folder))
    monkeypatch.setattr("os.cpu_count", lambda: 2)  # one process that prepares shapes
    return folder


def packed(meshes: list[tuple[str, str, Mesh]]) -> tuple[list[dict[str, Any]], JobArrays]:
    """(class, name, mesh) -> what a client sends: rows and one pair of arrays."""
    rows, points, faces, start = [], [], [], 0
    for category, name, mesh in meshes:
        rows.append({"name": name, "class_name": category, "vertices": len(mesh.vertices)})
        points.append(mesh.vertices)
        faces.append(mesh.faces + start)
        start += len(mesh.vertices)
    return rows, JobArrays(np.concatenate(points), None, np.concatenate(faces).astype(np.int32))


@pytest.fixture
def sent(primitives: dict[str, Mesh]) -> tuple[list[dict[str, Any]], JobArrays]:
    """Three shapes in each of two classes; the name of one class cannot be a file's name."""
    sides = np.random.default_rng(0).uniform(0.6, 1.0, (3, 3)).astype(np.float32)
    shapes = [
        (category, f"{category} {k}", Mesh(primitives[name].vertices * side * 7 + 20, primitives[name].faces))
        for category, name in (("balls", "ball"), ("big / boxes", "box"))
        for k, side in enumerate(sides)
    ]
    return packed(shapes)


def ask(name: str, sent: tuple[list[dict[str, Any]], JobArrays] | None, callbacks: JobCallbacks | None = None,
        **fields: Any) -> Any:  # fmt: skip
    """Over the wire's own code, as a client's request comes."""
    rows, arrays = sent if sent is not None else ([], None)
    data = {"kind": "train", "name": name, "shapes": rows, "pose_steps": 2, "device": "cpu", "settings": TINY, **fields}
    request = parse_request(parse_request(data).model_dump(mode="json"))
    if arrays is not None:
        arrays = checked_arrays(find("train"), unpack_arrays(pack_arrays(arrays)))
    return run_job(request, arrays, callbacks or JobCallbacks())


@pytest.mark.slow
def test_cancelled_resumed_and_listed(mine: Path, sent: tuple[list[dict[str, Any]], JobArrays]) -> None:
    """The whole life of a training: cancelled in its middle, resumed, listed with its card, its name taken."""
    told: list[Progress] = []
    previews: list[Preview] = []

    def until(stage: str) -> JobCallbacks:
        return JobCallbacks(told.append, previews.append, lambda: bool(told) and told[-1].stage == stage)

    with pytest.raises(Cancelled):
        ask("tiny shapes", sent, until("Preparing shapes"))
    with pytest.raises(Cancelled):
        ask("tiny shapes", sent, until("Training"), resume=True)
    assert not list(mine.glob("*.safetensors")), "no prior before the end"
    assert "loss" in told[-1].message and "of 6" in told[-1].message
    first = len(told)
    result = ask("tiny shapes", sent, JobCallbacks(told.append, previews.append), resume=True)
    assert "Preparing shapes" not in {progress.stage for progress in told[first:]}, "that is not done twice"
    fractions = [progress.fraction for progress in told[first:]]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert not result.meshes and result.report["prior"]["name"] == "tiny shapes" and not result.report["warnings"]
    assert result.report["classes"] == {"balls": 2, "big_boxes": 2} and result.report["training"]["steps"] == 6
    assert previews and all(np.abs(preview.mesh.vertices).max() <= 0.56 for preview in previews)

    info = next(info for info in list_priors() if info.name == "tiny shapes")
    assert info.about["class_counts"] == {"balls": 2, "big_boxes": 2} and not info.shipped
    assert info.about["quality"]["held_out"]["shapes"] == 2
    assert 0 <= info.about["quality"]["held_out"]["f_score"] <= 1
    assert load_prior("tiny shapes").pose is not None
    libraries = list((mine / "runs" / "libraries").iterdir())
    assert len(libraries) == 1 and len(load_library(libraries[0])) == 6
    with pytest.raises(InputError) as caught:
        ask("Tiny Shapes", sent)
    assert caught.value.code == "prior_exists"


def test_copies_of_one_design_are_learnt_though_none_is_held_out(primitives: dict[str, Mesh], tmp_path: Path) -> None:
    ring = primitives["ring"]
    rows, arrays = packed([("rings", f"ring {k}", Mesh(ring.vertices * (1 + k), ring.faces)) for k in range(4)])
    request = parse_request({"kind": "train", "name": "x", "shapes": rows})
    assert isinstance(request, TrainRequest)
    library = load_library(_library(request, arrays, tmp_path))
    assert [shape.split for shape in library.shapes] == ["train"] * 4


def test_what_cannot_be_learnt_from_is_refused_before_anything_is_made(
    mine: Path, sent: tuple[list[dict[str, Any]], JobArrays], tmp_path: Path
) -> None:
    rows, arrays = sent
    other = [rows[0], {**rows[1], "name": rows[0]["name"]}, *rows[2:]]
    moved = [{**rows[0], "vertices": rows[0]["vertices"] - 1}, {**rows[1], "vertices": rows[1]["vertices"] + 1}]
    short = [{**rows[0], "vertices": 1}, *rows[1:]]
    (tmp_path / "empty").mkdir()
    cases: list[tuple[str, str, Any, dict[str, Any]]] = [
        ("prior_name", "../x", sent, {}),
        ("prior_exists", "household", sent, {}),
        ("shapes_missing", "x", None, {}),
        ("shapes_missing", "x", ([], arrays), {}),
        ("too_few_shapes", "x", (rows[:1], arrays), {}),
        ("shapes_mismatch", "x", (other, arrays), {}),
        ("shapes_mismatch", "x", ([*moved, *rows[2:]], arrays), {}),
        ("shapes_mismatch", "x", (short, arrays), {}),
        ("shapes_twice", "x", sent, {"folder": str(tmp_path)}),
        ("library_not_found", "x", None, {"folder": str(tmp_path / "nowhere")}),
        ("library_empty", "x", None, {"folder": str(tmp_path / "empty")}),
        ("setting_unknown", "x", sent, {"settings": {"speed": 3}}),
        ("setting_wrong", "x", sent, {"settings": {"steps": "many"}}),
        ("prior_not_found", "x", sent, {"start_from": "unheard-of"}),
    ]
    for code, name, input_, fields in cases:
        with pytest.raises(InputError) as caught:
            ask(name, input_, **fields)
        assert caught.value.code == code, (code, caught.value)
        assert caught.value.why and caught.value.remedy
    assert not list(mine.rglob("*.npy"))


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""}, {"shapes": [{"name": "x"}]}, {"shapes": [{"name": "x", "class_name": "", "vertices": 3}]},
        {"shapes": [{"name": "x", "class_name": "y", "vertices": 0}]}, {"shapes": "all"}, {"minutes": 0},
        {"preset": "fast"}, {"settings": [1]}, {"resume": 1}, {"pose_steps": 0}, {"steps": 3},
    ],
)  # fmt: skip
def test_requests_that_make_no_sense_are_refused_by_field(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        parse_request({"kind": "train", "name": "x", **fields})
    assert next(iter(fields)) in caught.value.what


def test_defaults() -> None:
    request = parse_request({"kind": "train", "name": "x"})
    assert request == TrainRequest(name="x") and request.preset == "auto" and request.minutes is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Dining Chairs", "Dining_Chairs"), ("chairs.001", "chairs.001"), (" a/b ", "a_b"), ("//", "shape"), ("形", "形")],
)
def test_a_collections_name_becomes_a_class(text: str, expected: str) -> None:
    assert class_name(text) == expected


def test_a_class_that_priors_leave_out_is_learnt_from_a_scene(primitives: dict[str, Mesh]) -> None:
    from engine.training.categories import OTHER
    from engine.training.shapes import Shape

    assert Shape("sweethome3d", "mug_cup_glass", "plate").category == OTHER
    assert Shape("scene", "mug_cup_glass", "plate").category == "mug_cup_glass"
