"""Densify: from a sparse cloud to a dense one, or to a surface, with a gradient field."""

from ...ui.choices import shape_settings
from .. import Feature
from .operator import SHAPEWRIGHT_OT_densify
from .panel import SHAPEWRIGHT_PT_densify
from .settings import densify_settings

FEATURE = Feature(
    order=80,
    kinds=("gradient",),
    operators=(SHAPEWRIGHT_OT_densify,),
    panels=(SHAPEWRIGHT_PT_densify,),
    settings={"shapewright_generation": (shape_settings, densify_settings)},
)
