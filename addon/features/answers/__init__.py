"""Several answers to one scan: to browse and to keep one; and the alignment that was found, to correct."""

from .. import Feature
from .operator import (
    SHAPEWRIGHT_OT_keep_hypothesis,
    SHAPEWRIGHT_OT_next_hypothesis,
    SHAPEWRIGHT_OT_previous_hypothesis,
)
from .panel import SHAPEWRIGHT_PT_alignment, SHAPEWRIGHT_PT_hypotheses

FEATURE = Feature(
    order=20,
    operators=(SHAPEWRIGHT_OT_next_hypothesis, SHAPEWRIGHT_OT_previous_hypothesis, SHAPEWRIGHT_OT_keep_hypothesis),
    panels=(SHAPEWRIGHT_PT_hypotheses, SHAPEWRIGHT_PT_alignment),
)
