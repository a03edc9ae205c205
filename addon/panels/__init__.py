"""The sidebar tab in the 3D view, one file a feature."""

import bpy

from ..features.answers import panel as hypotheses
from ..features.complete import panel as complete
from ..features.fit import panel as fit
from ..features.generate import panel as generate
from ..features.priors import panel as priors

CLASSES = (*complete.CLASSES, *hypotheses.CLASSES, *fit.CLASSES, *generate.CLASSES, *priors.CLASSES)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
