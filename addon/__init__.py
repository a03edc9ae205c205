"""Shapewright: complete partial scans and broken meshes with a neural shape engine that runs beside Blender."""

from . import operators, panels, preferences, properties, session

_MODULES = (properties, preferences, operators, panels, session)


def register() -> None:
    for module in _MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(_MODULES):
        module.unregister()
