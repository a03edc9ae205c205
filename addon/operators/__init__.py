"""What a person can do, one file a feature."""

import bpy

from . import cancel_job, complete_shape, engine, fit_shape, hypotheses

CLASSES = (*complete_shape.CLASSES, *hypotheses.CLASSES, *fit_shape.CLASSES, *cancel_job.CLASSES, *engine.CLASSES)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
