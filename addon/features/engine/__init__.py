"""The engine itself: start, stop and test it. It is drawn in the preferences and above Complete Shape."""

from .. import Feature
from .operators import SHAPEWRIGHT_OT_engine_start, SHAPEWRIGHT_OT_engine_stop, SHAPEWRIGHT_OT_engine_test
from .panel import draw_in_preferences

FEATURE = Feature(
    order=110,
    kinds=("selftest",),
    operators=(SHAPEWRIGHT_OT_engine_start, SHAPEWRIGHT_OT_engine_stop, SHAPEWRIGHT_OT_engine_test),
    draw_in_preferences=draw_in_preferences,
)
