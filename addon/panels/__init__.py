"""The sidebar tab in the 3D view, one file a feature."""

import bpy

from . import complete, fit, generate, hypotheses, priors

CLASSES = (*complete.CLASSES, *hypotheses.CLASSES, *fit.CLASSES, *generate.CLASSES, *priors.CLASSES)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
