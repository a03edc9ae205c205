"""Sliders: a shape moved along the prior's main directions while one drags."""

from .. import Feature
from . import driving, values
from .operators import (
    SHAPEWRIGHT_OT_apply_sliders,
    SHAPEWRIGHT_OT_copy_code,
    SHAPEWRIGHT_OT_randomise_sliders,
    SHAPEWRIGHT_OT_reset_sliders,
    SHAPEWRIGHT_OT_show_sliders,
)
from .panel import SHAPEWRIGHT_PT_sliders


def _register() -> None:
    values.register()
    values.followers.append(driving.follow)


def _unregister() -> None:
    values.followers.remove(driving.follow)
    values.unregister()


FEATURE = Feature(
    order=70,
    kinds=("directions",),
    operators=(
        SHAPEWRIGHT_OT_show_sliders,
        SHAPEWRIGHT_OT_apply_sliders,
        SHAPEWRIGHT_OT_reset_sliders,
        SHAPEWRIGHT_OT_randomise_sliders,
        SHAPEWRIGHT_OT_copy_code,
    ),
    panels=(SHAPEWRIGHT_PT_sliders,),
    companions={"sliders": driving.Sliders},
    register=_register,
    unregister=_unregister,
)
