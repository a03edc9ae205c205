"""Fit Shape: from raw points or triangles to a surface, with no prior; and its field at another resolution."""

from .. import Feature
from .operators import SHAPEWRIGHT_OT_fit_shape, SHAPEWRIGHT_OT_refit_resolution
from .panel import SHAPEWRIGHT_PT_fit, SHAPEWRIGHT_PT_fit_settings
from .settings import fit_settings

FEATURE = Feature(
    order=30,
    kinds=("fit",),
    operators=(SHAPEWRIGHT_OT_fit_shape, SHAPEWRIGHT_OT_refit_resolution),
    panels=(SHAPEWRIGHT_PT_fit, SHAPEWRIGHT_PT_fit_settings),
    settings={"shapewright_fit": (fit_settings,)},
)
