"""What story_generation.py found: Generate, Blend and Sliders, used in a real windowed Blender."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import rig
from shapes import BLENDED, CLASS, COUNT, RESOLUTION, SEED, STEPS, STRENGTH

from engine.geometry.files import read_shape

STORY = "story_generation"
SCREENSHOTS = (
    "1_tab.png", "2_half.png", "3_ten.png", "4_cancel.png", "5_blend.png", "6_sliders.png", "7_dragged.png",
    "8_slid.png",
)  # fmt: skip


def test_the_story_is_told_to_its_end(log):
    assert not log.get("error"), log["error"]
    assert log["ok"] and log["blender_exit"] == 0 and log["engine_left"] is True
    assert not [line for line in log["blender_says"] if "Traceback" in line or "Error" in line]


def test_ten_chairs_appear_one_after_another(facts):
    generate = facts["generate"]
    assert generate["appeared"][-1] == 10 and len(generate["appeared"]) >= 6
    assert generate["appeared"] == sorted(generate["appeared"])
    assert generate["names"] == sorted(f"Chair {number}" for number in range(1, 11))
    for shape in generate["shapes"]:
        assert shape["collections"] == ["Generated Chair"] and shape["faces"] > 500 and shape["visible"]
        assert shape["open_edges"] <= 0.001 * shape["edges"]
        assert shape["properties"]["shapewright_class"] == "chair"


def test_they_stand_apart_on_the_ground_and_differ(facts):
    boxes = [shape["box"] for shape in facts["generate"]["shapes"]]
    assert all(abs(low[2]) < 1e-3 for low, _ in boxes)
    for number, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[number + 1 :]:
            assert any(high[axis] <= other_low[axis] or other_high[axis] <= low[axis] for axis in (0, 1))
    assert len({shape["faces"] for shape in facts["generate"]["shapes"]}) > 5


def test_one_undo_takes_them_away(facts):
    generate = facts["generate"]
    assert generate["after undo"] == [] and "Generated Chair" not in generate["collections after undo"]
    assert generate["undos"] <= 2
    assert generate["after redo"] == generate["names"]


def test_cancelled_in_the_middle_it_leaves_nothing(facts):
    cancel = facts["cancel"]
    assert cancel["shown"] >= 1 and cancel["state"] == "cancelled"
    assert cancel["left at once"] is True and cancel["left"] is True


def test_a_blend_of_two_in_five_steps_stands_in_a_row(facts):
    blend = facts["blend"]
    assert len(blend["names"]) == 7, "five between, and both ends"
    gaps = [b[0] - a[0] for a, b in zip(blend["places"], blend["places"][1:], strict=False)]
    assert max(gaps) - min(gaps) < 1e-3 and min(gaps) > 0.1
    heights = [shape["box"][1][2] - shape["box"][0][2] for shape in blend["shapes"]]
    assert (
        abs(heights[0] - blend["heights of both"][0]) < 0.03 and abs(heights[-1] - blend["heights of both"][1]) < 0.03
    )
    for shape in blend["shapes"]:
        assert shape["faces"] > 500 and shape["open_edges"] <= 0.001 * shape["edges"]


def arrays_of(path: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(vertices, faces, code) of each shape that `save_shapes` wrote."""
    with np.load(path) as file:
        count = len(file.files) // 3
        return [(file[f"{k}_vertices"], file[f"{k}_faces"], file[f"{k}_code"]) for k in range(count)]


def written(folder: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The same of a folder of PLY files with their codes beside them."""
    found = []
    for path in sorted(folder.glob("*.ply")):
        shape = read_shape(path)
        vertices, faces = shape.vertices, shape.faces
        with np.load(path.with_suffix(".npz")) as code:
            found.append((vertices, faces, code["code"].reshape(-1)))
    return found


@pytest.fixture(scope="module")
def command_line(log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders generate, vary and blend with what the command line makes of what was clicked."""
    place = tmp_path_factory.mktemp("command line")
    of = [place / "generate" / f"shape_{int(name.split()[-1]) - 1:03d}.npz" for name in BLENDED]
    calls = (
        ["generate", "--class", CLASS, "-n", COUNT],
        ["vary", of[0], "-n", 1, "--strength", STRENGTH],
        ["blend", *of, "--steps", STEPS],
    )
    for call in calls:
        asked = ["-o", place / str(call[0]), "--seed", SEED, "--resolution", RESOLUTION, "--device", "cpu"]
        argv = [rig.engine_interpreter(), "-m", "engine", *call, *asked]
        subprocess.run([str(part) for part in argv], cwd=rig.ROOT, check=True, capture_output=True)
    return place


@pytest.mark.parametrize(("kind", "count"), [("generate", COUNT), ("vary", 1), ("blend", STEPS + 2)])
def test_one_seed_gives_the_same_shapes_in_the_window_in_the_background_and_from_the_command_line(
    output, command_line, kind, count
):
    """Vertex by vertex: bit by bit in Blender, in the objects' own coordinates. Files hold the engine's frame, of which
    an object's origin has moved to the middle of its base: codes and faces to the last bit, places to rounding."""
    in_window = arrays_of(output / f"window_{kind}.npz")
    others = {
        "blender -b": arrays_of(output / f"background_{kind}.npz"),
        "command line": written(command_line / kind),
    }
    if kind == "generate":
        others["batch script"] = written(output / "batch")
    assert len(in_window) == count
    for name, shapes in others.items():
        assert len(shapes) == (3 if name == "batch script" else count), name
        for number, (one, other) in enumerate(zip(in_window, shapes, strict=False)):
            about = f"{name}, shape {number}"
            for ours, theirs in zip(one[1:], other[1:], strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=about)
            if name == "blender -b":
                np.testing.assert_array_equal(one[0], other[0], err_msg=about)
            else:
                ours, theirs = (places.astype(np.float64) - places.min(0) for places in (one[0], other[0]))
                np.testing.assert_allclose(ours, theirs, atol=3e-7, err_msg=about)


def test_the_mesh_follows_while_a_slider_is_dragged(facts):
    slide = facts["slide"]
    assert slide["slider"] and not slide["problem"]
    assert len(set(slide["values"])) > 5
    assert len(slide["meshes"]) >= 3, "it changes during the drag, not only after it"
    assert slide["after"] != slide["before"] and slide["after"] == slide["meshes"][-1]
    assert slide["after undo"] == slide["before"] and slide["after redo"] == slide["after"]


def test_the_main_thread_was_watched(log):
    measured = log["main_thread"]
    assert measured["longest_step_seconds"] > 0 and measured["steps"]["count"] > 20


def test_the_screenshots_are_there(log, output):
    for name in SCREENSHOTS:
        assert (output / name).stat().st_size > 20_000, name
