"""Complete Shape: from a partial scan or a broken mesh to a whole shape."""

from .. import Feature
from .operator import SHAPEWRIGHT_OT_complete_again, SHAPEWRIGHT_OT_complete_shape, SHAPEWRIGHT_OT_show_alignment
from .panel import SHAPEWRIGHT_PT_complete
from .settings import completion_settings, panel_settings

FEATURE = Feature(
    order=10,
    kinds=("complete",),
    operators=(SHAPEWRIGHT_OT_complete_shape, SHAPEWRIGHT_OT_complete_again, SHAPEWRIGHT_OT_show_alignment),
    panels=(SHAPEWRIGHT_PT_complete,),
    settings={"shapewright": (completion_settings, panel_settings)},
)
