"""What a person can do, one file a feature."""

import bpy

from . import (
    blend,
    cancel_job,
    complete_shape,
    densify,
    engine,
    fit_shape,
    generate,
    hypotheses,
    prior_files,
    sliders,
    train_prior,
    vary,
)

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
