"""Which shapes a prior is learnt from, and how often each is drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engine.training.categories import BESIDE, category_of
from engine.training.library import Library
from engine.training.prior_training import BESIDE_SHARE, REAL_SHARE, select
from engine.training.shapes import Shape


def library(*groups: tuple[str, str, int, int]) -> Library:
    """(source, class, training shapes, validation shapes) of each group."""
    shapes = [
        Shape(source, class_name, f"{class_name}{k}", "train" if k < train else "validation")
        for source, class_name, train, held_out in groups
        for k in range(train + held_out)
    ]
    return Library(Path("nowhere"), shapes)


def shares(given: Library) -> dict[tuple[str, str], float]:
    selection = select(given, np.ones(len(given), bool))
    found: Counter[tuple[str, str]] = Counter()
    for k, weight in zip(selection.indices, selection.weights, strict=True):
        found[given.shapes[k].source, given.shapes[k].category] += float(weight)
    return dict(found)


def test_what_is_known_beside_has_a_share_of_its_own_and_the_household_keeps_its_order() -> None:
    given = library(
        ("made", "chair", 1600, 0), ("made", "sofa", 400, 0), ("real", "chair", 40, 9), ("real", "car", 60, 9),
        ("real", "tree house", 9, 0), ("real", "building", 60, 0),
    )  # fmt: skip
    found = shares(given)
    beside = found["real", "car"] + found["real", "building"]
    assert beside == pytest.approx(BESIDE_SHARE) and sum(found.values()) == pytest.approx(1)
    assert found["real", "car"] == pytest.approx(found["real", "building"])
    assert found["made", "chair"] == pytest.approx(2 * found["made", "sofa"])  # by the root of the number
    assert "real", "tree house" in found  # a class that no table knows is as good as any
    selection = select(given, np.ones(len(given), bool))
    assert selection.classes == ["building", "car", "chair", "sofa", "tree house"]
    assert {given.shapes[k].split for k in selection.validation} == {"validation"} and len(selection.validation) == 18


def test_without_anything_beside_and_with_nothing_else_the_shares_are_as_they_were() -> None:
    household = shares(library(("made", "chair", 400, 0), ("real", "chair", 40, 9)))
    assert household["real", "chair"] == pytest.approx(REAL_SHARE)
    cars = shares(library(("mine", "car", 16, 0), ("mine", "plane", 4, 0)))
    assert cars["mine", "car"] == pytest.approx(2 / 3) and cars["mine", "aeroplane"] == pytest.approx(1 / 3)


def test_everything_beside_is_a_category_that_some_class_has() -> None:
    assert {category_of(name) for name in BESIDE} == BESIDE
