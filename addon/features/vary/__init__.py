"""Variants: relatives of one shape, with a part of it kept where that is wanted."""

from ...ui.choices import shape_settings
from .. import Feature
from .operator import SHAPEWRIGHT_OT_vary
from .panel import SHAPEWRIGHT_PT_vary
from .settings import vary_settings

FEATURE = Feature(
    order=50,
    kinds=("vary",),
    operators=(SHAPEWRIGHT_OT_vary,),
    panels=(SHAPEWRIGHT_PT_vary,),
    settings={"shapewright_generation": (shape_settings, vary_settings)},
)
