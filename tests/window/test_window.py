"""What story.py found in a real windowed Blender. rig.py runs it once; nothing here is skipped where that fails.

Not part of `pytest tests/engine tests/addon`: it takes minutes. `scripts/test --window` or `pytest tests/window`.
"""

from __future__ import annotations

import pytest

SCREENSHOTS = (
    "1_tab.png",
    "2_before.png",
    "3_first_preview.png",
    "4_preview_grown.png",
    "5_result.png",
    "5_result_alone.png",
    "6_undone.png",
    "7_before_cancel.png",
    "8_cancelled.png",
    "9_failed.png",
    "10_two_jobs.png",
    "11_end.png",
)


STORY = "story"


def extent(box: list[list[float]], axis: int) -> float:
    return box[1][axis] - box[0][axis]


def overlap(a: list[list[float]], b: list[list[float]]) -> float:
    """Volume that two boxes share, as a part of the smaller one's."""

    def volume(low: list[float], high: list[float]) -> float:
        sides = [max(h - l, 0.0) for l, h in zip(low, high, strict=True)]
        return sides[0] * sides[1] * sides[2]

    low = [max(x, y) for x, y in zip(a[0], b[0], strict=True)]
    high = [min(x, y) for x, y in zip(a[1], b[1], strict=True)]
    return volume(low, high) / min(volume(*a), volume(*b))


def test_the_story_is_told_to_its_end(log):
    assert not log.get("error"), log["error"]
    assert log["ok"] and log["blender_exit"] == 0


def test_the_scan_came_in_as_points_alone(facts):
    assert facts["scan"]["vertices"] > 10_000 and facts["scan"]["faces"] == 0
    assert facts["scan"]["collections"] == ["Scans"] and facts["tab"] == "Shapewright"


def test_the_click_completes_the_chair(facts):
    chair = facts["chair"]
    assert chair["state"] == "done", chair["problem"]
    assert len(chair["results"]) == 1 and not chair["previews_left"]
    assert chair["alignments"] == ["chair_scan Alignment"]
    assert chair["rest_as_before"], (chair.get("before"), chair.get("after"))


def test_previews_appear_and_grow(facts):
    counts = facts["chair"]["faces_of_previews"]
    assert len(counts) >= 2 and counts[0] > 0
    assert max(counts) > counts[0] and counts[-1] == max(counts)


def test_the_job_tells_how_it_goes_on(facts):
    chair = facts["chair"]
    assert "running" in chair["states"] and len(chair["stages"]) >= 4
    assert chair["fractions"] == sorted(chair["fractions"]) and chair["fractions"][-1] == 1


def test_the_result_has_the_scans_place_and_size(facts):
    scan, result = facts["scan"], facts["chair"]["result"]
    assert overlap(scan["box"], result["box"]) > 0.8
    assert extent(result["box"], 2) == pytest.approx(scan["height_of_the_whole"], rel=0.25)
    # What was seen is part of the whole.
    for axis in range(3):
        assert extent(result["box"], axis) > 0.9 * extent(scan["box"], axis)
        assert extent(result["box"], axis) < 1.6


def test_the_result_keeps_what_was_seen_and_leaves_seen_empty_space_empty(facts):
    agreement, result = facts["chair"]["agreement"], facts["chair"]["result"]
    assert (
        agreement["median_distance"] < 0.005 and agreement["p95_distance"] < 0.03
    )  # metres; the scan's noise is 0.001
    assert agreement["blocked_part"] < 0.1
    sides = [extent(result["box"], axis) for axis in range(3)]
    assert result["volume"] < 0.4 * sides[0] * sides[1] * sides[2]  # a chair is mostly air; the box around it is not


def test_the_result_is_a_smooth_closed_mesh(facts):
    result = facts["chair"]["result"]
    assert result["faces"] > 2_000 and result["flat_faces"] == 0
    assert result["open_edges"] <= 0.001 * result["edges"] and result["edges"] == pytest.approx(1.5 * result["faces"])
    assert result["volume"] > 0  # its faces look outward


def test_the_result_lies_beside_its_source_and_tells_how_it_was_made(facts):
    result = facts["chair"]["result"]
    assert result["name"].startswith("chair_scan") and result["visible"]
    assert result["collections"] == facts["scan"]["collections"]
    told = result["properties"]
    assert told["shapewright_source"] == "chair_scan" and told["shapewright_prior"] == "household"
    assert len(told["shapewright_prior_hash"]) >= 16 and told["shapewright_engine_version"]
    assert told["shapewright_seed"] == 0 and '"resolution": 128' in told["shapewright_settings"]
    assert "shapewright_preview" not in told


def test_one_undo_takes_the_result_back_and_redo_brings_it_again(facts):
    undo = facts["undo"]
    names = facts["chair"]["results"]
    nothing: dict[str, int] = {}
    assert undo["before"] == {"results": names, "mark": "two", "scan": True, "previews": nothing}
    assert undo["after one undo"] == {"results": [], "mark": "two", "scan": True, "previews": nothing}
    assert undo["after two undos"] == {"results": [], "mark": "one", "scan": True, "previews": nothing}
    assert undo["after two redos"] == undo["before"]
    assert undo["result"] == facts["chair"]["result"]


def test_cancel_leaves_the_scene_as_it_was(facts):
    cancel = facts["cancel"]
    assert 0 < cancel["fraction"] < 1
    assert cancel["still_running_at_click"] and cancel["previews_before"]
    assert cancel["state"] == "cancelled" and not cancel["previews_at_once"]
    assert cancel["scene_as_before"], (cancel.get("before"), cancel.get("after"))
    assert cancel["engine"] == "ready"


def test_a_failure_gives_its_reason_and_leaves_the_scene_as_it_was(facts):
    failure = facts["failure"]
    assert failure["state"] == "failed" and failure["scene_as_before"] and failure["engine"] == "ready"
    assert all(failure["problem"][part] for part in ("code", "what", "why", "remedy"))
    assert "few points" in failure["problem"]["what"] and "5" in failure["problem"]["why"]


def test_of_two_jobs_one_is_cancelled_alone(facts):
    two = facts["two"]
    assert two["cancel_buttons"] == 2 and two["states"] == ["running", "queued"]
    assert two["after_cancel"][0] == "cancelled" and two["after_cancel"][1] in ("queued", "running", "done")
    assert two["at_the_end"] == ["cancelled", "done"], two["problem"]
    assert sorted(two["results"].values()) == ["chair_scan", "table_scan"] and not two["previews_left"]


def test_the_main_thread_was_watched(log):
    """The numbers are for a person; a busy machine's are not worth an assertion."""
    measured = log["main_thread"]
    assert measured["longest_step_seconds"] > 0 and measured["steps"]["count"] > 20
    assert measured["pauses"]["job"]["ticks"] > 20 and measured["pauses"]["no job"]["ticks"] > 20


def test_nothing_complained_and_no_engine_stayed(log):
    faults = [line for line in log["blender_says"] if "Traceback" in line or "Error" in line or "Exception" in line]
    assert not faults
    assert log["engine_left"] is True


def test_the_screenshots_are_there(log, output):
    for name in SCREENSHOTS:
        assert (output / name).stat().st_size > 20_000, name
