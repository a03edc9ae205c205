"""The methods of Fit Shape: one file each, of the method's name, that says METHOD. No list names them."""

from __future__ import annotations

import pkgutil


def names() -> tuple[str, ...]:
    """All methods, 'auto' first; none is imported."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return ("auto", *(name for name in found if name != "auto"))
