"""What concerns every job, whichever feature it is of."""

from .. import Feature
from .operators import SHAPEWRIGHT_OT_cancel_job, SHAPEWRIGHT_OT_tell

FEATURE = Feature(order=120, operators=(SHAPEWRIGHT_OT_cancel_job, SHAPEWRIGHT_OT_tell))
