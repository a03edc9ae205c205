"""What story_surfaces.py found: Fit Shape and Train Prior, used in a real windowed Blender."""

from __future__ import annotations

import pytest

STORY = "story_surfaces"
SCREENSHOTS = ("1_tab.png", "2_fit.png", "3_fit_alone.png", "4_detail.png", "5_train.png", "7_card.png")


def test_the_story_is_told_to_its_end(log):
    assert not log.get("error"), log["error"]
    assert log["ok"] and log["blender_exit"] == 0 and log["engine_left"] is True
    assert not [line for line in log["blender_says"] if "Traceback" in line or "Error" in line]


def test_the_click_fits_a_closed_surface_to_the_scan(facts):
    fit = facts["fit"]
    assert fit["state"] == "done" and fit["report"]["method"] == "auto" and not fit["previews_left"]
    result = fit["result"]
    assert result["faces"] > 2_000 and result["flat_faces"] == 0 and result["visible"]
    assert result["open_edges"] <= 0.001 * result["edges"]
    # metres; the points' noise is 0.003
    assert fit["agreement"]["median_distance"] < 0.006 and fit["agreement"]["p95_distance"] < 0.03
    assert result["volume"] > 0
    assert fit["previews_shown"] >= 1 and fit["rest_as_before"]


def test_the_fit_tells_how_it_was_made(facts):
    told = facts["fit"]["result"]["properties"]
    assert told["shapewright_source"] == "statue" and told["shapewright_field_id"]
    assert told["shapewright_resolution"] == 96 and '"smoothness": 0.5' in told["shapewright_settings"]
    assert "shapewright_prior" not in told and "shapewright_preview" not in told


def test_another_detail_comes_from_the_same_field_and_is_one_undo_step(facts):
    fit, detail = facts["fit"]["result"], facts["detail"]
    assert detail["state"] == "done" and detail["report"]["reused"] is True and detail["number"] == 1
    assert detail["result"]["properties"]["shapewright_resolution"] == 160
    assert detail["result"]["open_edges"] > 20, "holes are left open"
    assert detail["faces after an undo"] == fit["faces"]
    assert detail["faces after a redo"] == detail["result"]["faces"]


def test_a_prior_is_learnt_from_the_collection_and_listed_with_its_card(facts):
    train = facts["train"]
    assert train["state"] == "done" and not train["warnings"]
    assert train["report"]["classes"] == {"Cones": 2, "Rings": 2} and train["report"]["training"]["steps"] == 2
    assert train["previews"], "a held-out shape was completed before everybody's eyes"
    assert train["rest_as_before"]
    card = train["listed"]["about"]
    assert card["class_counts"] == {"Cones": 2, "Rings": 2} and card["quality"]["held_out"]["shapes"] == 2
    assert card["training"]["started_from"]["prior"] == "household"
    assert train["chosen"] == train["listed"]["name"] == "my shapes"
    assert facts["card"]["found"]


@pytest.mark.parametrize("name", SCREENSHOTS)
def test_there_is_a_picture(log, output, name):
    assert (output / name).stat().st_size > 20_000
