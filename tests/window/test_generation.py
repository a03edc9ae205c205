"""What story_generation.py found: Generate, Blend and Sliders, used in a real windowed Blender."""

from __future__ import annotations

STORY = "story_generation"
SCREENSHOTS = (
    "1_tab.png", "2_half.png", "3_ten.png", "4_blend.png", "5_sliders.png", "6_dragged.png", "7_slid.png",
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
