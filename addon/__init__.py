"""Shapewright: complete partial scans and broken meshes with a neural shape engine that runs beside Blender.

Rooms, each of which uses only those before it: link (the engine, seen from a client), scene (Blender's objects to
arrays and back), carried (what objects carry), writers (what a job leaves in the scene), session (the jobs), ui (what
panels share), preferences, features (what a person can do, one folder each).
"""

from . import features, preferences, session

_MODULES = (preferences, features, session)


def register() -> None:
    for module in _MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(_MODULES):
        module.unregister()
