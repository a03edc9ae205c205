"""Generate: new shapes from the prior, in a grid."""

from ...ui.choices import shape_settings
from .. import Feature
from .operator import SHAPEWRIGHT_OT_generate
from .panel import SHAPEWRIGHT_PT_generate
from .settings import generate_settings, panel_settings

FEATURE = Feature(
    order=40,
    kinds=("generate",),
    operators=(SHAPEWRIGHT_OT_generate,),
    panels=(SHAPEWRIGHT_PT_generate,),
    settings={"shapewright_generation": (shape_settings, panel_settings, generate_settings)},
)
