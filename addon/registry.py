"""Finds what registers itself: features, connections. No bpy."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def discover(package: ModuleType, attribute: str) -> dict[str, Any]:
    """{name of a module of the package: its attribute}, by the modules' names; a module without it is passed over.

    Every folder of the package's `__path__` counts. A module that cannot be imported is an error, not passed over.
    """
    names = sorted({module.name for module in pkgutil.iter_modules(package.__path__)})
    modules = {name: importlib.import_module(f"{package.__name__}.{name}") for name in names}
    return {name: getattr(module, attribute) for name, module in modules.items() if hasattr(module, attribute)}
