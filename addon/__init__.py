"""Shapewright: complete partial scans and broken meshes with a neural shape engine that runs beside Blender."""

from . import generation, operators, panels, preferences, priors, properties, session, sliding

_MODULES = (properties, generation, sliding, preferences, operators, panels, priors, session)


def register() -> None:
    for module in _MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(_MODULES):
        module.unregister()
