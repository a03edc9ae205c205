"""What a person can do, one file a feature."""

import bpy

from ..features.answers import operator as hypotheses
from ..features.blend import operator as blend
from ..features.complete import operator as complete_shape
from ..features.densify import operator as densify
from ..features.engine import operators as engine
from ..features.fit import operators as fit_shape
from ..features.generate import operator as generate
from ..features.jobs import operators as cancel_job
from ..features.priors import operators as prior_files
from ..features.slide import operators as sliders
from ..features.train import operator as train_prior
from ..features.vary import operator as vary

CLASSES = (
    *complete_shape.CLASSES,
    *hypotheses.CLASSES,
    *fit_shape.CLASSES,
    *generate.CLASSES,
    *vary.CLASSES,
    *blend.CLASSES,
    *sliders.CLASSES,
    *densify.CLASSES,
    *train_prior.CLASSES,
    *prior_files.CLASSES,
    *cancel_job.CLASSES,
    *engine.CLASSES,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
