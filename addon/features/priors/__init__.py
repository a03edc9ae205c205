"""The priors: what each knows, and its file to import, export and remove."""

from .. import Feature
from .operators import SHAPEWRIGHT_OT_export_prior, SHAPEWRIGHT_OT_import_prior, SHAPEWRIGHT_OT_remove_prior
from .panel import SHAPEWRIGHT_PT_priors

FEATURE = Feature(
    order=90,
    operators=(SHAPEWRIGHT_OT_import_prior, SHAPEWRIGHT_OT_export_prior, SHAPEWRIGHT_OT_remove_prior),
    panels=(SHAPEWRIGHT_PT_priors,),
)
