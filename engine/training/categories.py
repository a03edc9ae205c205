"""The classes a prior learns, and which class of an index counts as which."""

from __future__ import annotations

import re

OTHER = "other"
"""Category of shapes that no prior is trained on: they are several things in one."""


# (class in the index, pattern searched in the shape's name, category): the first line that fits wins, an empty pattern
# always fits. A class that no line names is its own category, so a user's own classes need no entry here.
CATEGORY_TABLE: tuple[tuple[str, str, str], ...] = (
    ("chair", r"arm_?chair|fotel|relaxchair", "armchair"),
    ("chair", r"bar_chair", "stool"),
    ("chair", r"", "chair"),
    ("office_chair", r"", "chair"),
    ("bar_chair", r"", "stool"),
    ("stool", r"", "stool"),
    ("armchair", r"", "armchair"),
    ("sofa", r"", "sofa"),
    ("table", r"bedsidetable", "cabinet"),
    ("table", r"desk|office|dressing", "desk"),
    ("table", r"", "table"),
    ("table_dining", r"", "table"),
    ("table_coffee", r"", "table"),
    ("table_side", r"", "table"),
    ("table_cocktail", r"", "table"),
    ("desk", r"", "desk"),
    ("bed", r"", "bed"),
    ("bookcase", r"", "shelf"),
    ("shelf_cell", r"", "shelf"),
    ("shelf_large", r"", "shelf"),
    ("tvstand", r"", "shelf"),
    ("cabinet_shelf", r"shel[fv]|bookcase|tvstand", "shelf"),
    ("cabinet_shelf", r"", "cabinet"),
    ("cabinet", r"", "cabinet"),
    ("lamp_desk", r"", "lamp"),
    ("lamp_floor", r"", "lamp"),
    ("lamp", r"", "lamp"),
    ("cup", r"", "mug"),
    ("mug_cup_glass", r"plate", OTHER),
    ("mug_cup_glass", r"cocktail|wine", "wineglass"),
    ("mug_cup_glass", r"", "mug"),
    ("wineglass", r"", "wineglass"),
    ("bowl", r"", "bowl"),
    ("vase", r"", "vase"),
    ("vase_jar_bowl", r"bowl", "bowl"),
    ("vase_jar_bowl", r"vase|jar", "vase"),
    ("vase_jar_bowl", r"pottery", "pot"),
    ("vase_jar_bowl", r"cosmeticspot", "jar"),
    ("vase_jar_bowl", r"", OTHER),
    ("bottle", r"", "bottle"),
    ("pot", r"", "pot"),
    ("jar", r"", "jar"),
    ("plane", r"", "aeroplane"),
)


BESIDE = frozenset(
    (
        "aeroplane", "animal", "bicycle", "boat", "building", "bus", "car", "clothing", "column", "exterior", "fence",
        "figure", "food", "motorcycle", "plant", "playground", "rock", "ship", "spaceship", "sport", "staircase",
        "tank", "tractor", "train", "truck", "vehicle_other",
    )
)  # fmt: skip
"""Categories that a prior of household things learns beside them, in a share of the draws of their own (see
`engine.training.prior_training.select`), so that it knows a car when it sees one."""


def category_of(class_name: str, name: str = "") -> str:
    """The class a prior learns for a shape of index class `class_name` called `name`; `OTHER` where none is learnt."""
    lowered = name.lower()
    for index_class, pattern, category in CATEGORY_TABLE:
        if index_class == class_name and re.search(pattern, lowered):
            return category
    return class_name
