"""The families there are, by name. A module in engine/fields/families is found by being there: no list names it.

A family elsewhere (a test's, a plugin's: engine.plugins) registers itself by being imported.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TypeVar

from .. import plugins
from ..errors import InputError
from .arguments import arguments_of
from .base import Family

F = TypeVar("F", bound=Family)

DEFAULT = "grid"
"""What is trained where nothing else is asked for."""

_FOUND: dict[str, type[Family]] = {}


def register(family: type[F]) -> type[F]:
    """Decorator: the class can be named in settings and cards from now on. ValueError where another has the name."""
    other = _FOUND.get(family.name)
    if other is not None and (other.__module__, other.__qualname__) != (family.__module__, family.__qualname__):
        raise ValueError(f"There are two families called {family.name}: {other.__module__} and {family.__module__}")
    arguments_of(family)  # every one has a range
    _FOUND[family.name] = family
    return family


def family(name: str) -> type[Family]:
    """The family called `name`. InputError 'unknown_architecture' where there is none, naming those there are."""
    if name not in _FOUND and name.isidentifier() and name in _modules():
        importlib.import_module(f"{__package__}.families.{name}")
    if name not in _FOUND:
        everything = names()
        if name not in _FOUND:
            raise InputError(
                "unknown_architecture",
                f"There is no architecture called {name}.",
                f"This engine knows: {', '.join(everything)}.",
                "Choose one of these, or update the engine.",
            )
    return _FOUND[name]


def names() -> list[str]:
    """All families, sorted. Imports them, plugins' too."""
    plugins.load("families")
    for module in _modules():
        importlib.import_module(f"{__package__}.families.{module}")
    return sorted(_FOUND)


def _modules() -> list[str]:
    package = importlib.import_module(f"{__package__}.families")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))
