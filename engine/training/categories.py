"""What the classes of an index are called by a prior that learns from it: a table of data.

`household.tsv` is that of the default library (scripts/build_dataset), whose packages call things in many ways. Its
columns: class in the index, pattern searched in the shape's name in small letters, category. The first line that fits
wins, an empty pattern always fits. Lines without a class name the categories that are learnt beside the others. A class
that no line names is its own category, so a library of one's own needs no table. `household_words.tsv` has the words
that its categories have for measures (engine.generation.directions); they go into the card of a prior that learns them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

OTHER = "other"
"""Category of shapes that no prior is trained on: they are several things in one."""


def _rows(path: Path, *columns: str) -> list[tuple[str, ...]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [tuple(row[column] for column in columns) for row in csv.DictReader(file, delimiter="\t")]


_HOUSEHOLD = _rows(Path(__file__).with_name("household.tsv"), "class", "name", "category")

BESIDE = frozenset(category for index_class, _, category in _HOUSEHOLD if not index_class)
"""Categories that a prior learns beside the others, in a share of the draws of their own (see
`engine.training.prior_training.select`), so that one of household things knows a car when it sees one."""


def category_of(class_name: str, name: str = "") -> str:
    """The class a prior learns for a shape of index class `class_name` called `name`; `OTHER` where none is learnt."""
    lowered = name.lower()
    for index_class, pattern, category in _HOUSEHOLD:
        if index_class == class_name and re.search(pattern, lowered):
            return category
    return class_name


def words_of(categories: Iterable[str]) -> dict[str, dict[str, str]]:
    """{category: {measure: word}} of those categories that have words of their own."""
    wanted = set(categories)
    words: dict[str, dict[str, str]] = {}
    table = Path(__file__).with_name("household_words.tsv")
    for category, measure, word in _rows(table, "category", "measure", "word"):
        if category in wanted:
            words.setdefault(category, {})[measure] = word
    return words
