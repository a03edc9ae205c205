"""Results remeshed in quads, for those who go on modelling."""

from .. import Feature
from .operator import SHAPEWRIGHT_OT_make_quads

FEATURE = Feature(order=25, operators=(SHAPEWRIGHT_OT_make_quads,))
