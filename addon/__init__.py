"""Shapewright: complete partial scans and broken meshes with a neural shape engine that runs beside Blender."""

from . import operators, panels, preferences, properties
from .features.priors import priors
from .features.slide import sliding
from .session import session
from .writers import side_by_side as generation

_MODULES = (properties, generation, sliding, preferences, operators, panels, priors, session)


def register() -> None:
    for module in _MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(_MODULES):
        module.unregister()
