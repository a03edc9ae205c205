"""A feature that is not the add-on's: test_registry.py puts its folder beside those of the add-on."""

from .. import Feature
from .operator import SHAPEWRIGHT_OT_check_sphere
from .panel import SHAPEWRIGHT_PT_sphere
from .settings import sphere_settings

FEATURE = Feature(
    order=35,
    kinds=("selftest",),
    operators=(SHAPEWRIGHT_OT_check_sphere,),
    panels=(SHAPEWRIGHT_PT_sphere,),
    settings={"shapewright_sphere": (sphere_settings,)},
)
