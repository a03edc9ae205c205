"""What story_answers.py found: the browser of hypotheses and the alignment, used in a real windowed Blender."""

from __future__ import annotations

import pytest

STORY = "story_answers"
SCREENSHOTS = ("1_tab.png", "2_hypotheses.png", "3_next.png", "4_kept.png", "5_alignment.png")


def test_the_story_is_told_to_its_end(log):
    assert not log.get("error"), log["error"]
    assert log["ok"] and log["blender_exit"] == 0 and log["engine_left"] is True
    assert not [line for line in log["blender_says"] if "Traceback" in line or "Error" in line]


def test_several_answers_come_as_a_collection_of_which_the_best_is_shown(facts):
    complete = facts["complete"]
    assert len(complete["all"]) >= 2 and complete["seen"] == ["chair_scan Complete"]
    assert "chair_scan Hypotheses" in complete["collections"]
    assert complete["scores"] == sorted(complete["scores"])
    assert len({str(box) for box in complete["boxes"]}) == len(complete["boxes"]), "they differ"
    assert complete["alignments"] == ["chair_scan Alignment"]


def test_clicking_next_goes_through_all_and_round(facts):
    complete, browse = facts["complete"], facts["browse"]
    names = complete["all"]
    assert browse["next"] == [[name] for name in [*names[1:], names[0]]]
    assert browse["previous"] == [names[-1]] == browse["after a redo"]
    assert browse["after an undo"] == [names[0]]


def test_it_is_there_again_after_opening_the_file(facts):
    assert facts["opened"]["seen"] == facts["browse"]["after a redo"]
    assert facts["opened"]["all"] == facts["complete"]["all"]


def test_keep_removes_the_others_in_one_step(facts):
    kept = facts["keep"]
    assert kept["after"]["all"] == kept["after"]["seen"] == kept["chosen"] and len(kept["chosen"]) == 1
    assert "chair_scan Hypotheses" not in kept["after"]["collections"]
    assert kept["after an undo"]["all"] == facts["complete"]["all"]
    assert kept["after an undo"]["seen"] == kept["chosen"]
    assert kept["after a redo"] == kept["after"]


def test_the_alignment_moved_by_hand_is_what_the_engine_gets(facts):
    alignment = facts["alignment"]
    assert alignment["moved"] == pytest.approx([0, 0, 0.05], abs=1e-4)
    assert alignment["state"] == "done", alignment["problem"]
    for sent, shown in zip(alignment["sent"], alignment["empty"], strict=True):
        assert sent == pytest.approx(shown, abs=1e-4)


def test_the_screenshots_are_there(log, output):
    for name in SCREENSHOTS:
        assert (output / name).stat().st_size > 20_000, name
