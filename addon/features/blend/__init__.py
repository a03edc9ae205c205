"""Blend: in-betweens of two or more shapes."""

from ...ui.choices import shape_settings
from .. import Feature
from .operator import SHAPEWRIGHT_OT_blend
from .panel import SHAPEWRIGHT_PT_blend
from .settings import blend_settings

FEATURE = Feature(
    order=60,
    kinds=("blend",),
    operators=(SHAPEWRIGHT_OT_blend,),
    panels=(SHAPEWRIGHT_PT_blend,),
    settings={"shapewright_generation": (shape_settings, blend_settings)},
)
