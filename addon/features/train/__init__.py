"""Train Prior: learn a prior from a collection or a folder of meshes."""

from .. import Feature
from .operator import SHAPEWRIGHT_OT_train_prior
from .panel import SHAPEWRIGHT_PT_train
from .settings import panel_settings, train_settings

FEATURE = Feature(
    order=100,
    kinds=("train",),
    operators=(SHAPEWRIGHT_OT_train_prior,),
    panels=(SHAPEWRIGHT_PT_train,),
    settings={"shapewright_train": (train_settings, panel_settings)},
)
