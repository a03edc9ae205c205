"""Packages that only some commands need, training and evaluation above all: imported where they are, or told how to get
them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

from .errors import InputError

TRAINING = ("igl", "warp", "matplotlib")
PIP_NAMES = {"igl": "libigl", "warp": "warp-lang", "PIL": "pillow", "skimage": "scikit-image"}
"""How the package index calls modules, where it calls them by another name."""
ALONE = {"xatlas"}
"""What belongs neither to training nor to evaluation."""


def need(module: str, what: str) -> Any:
    """The imported module. what: the sentence about what cannot be done without it. Raises InputError
    'package_missing', which names the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing([module], what, str(error)) from error


def missing(modules: Sequence[str], what: str, reason: str = "") -> InputError:
    """The error for modules that could not be imported."""
    names = [PIP_NAMES.get(module.split(".")[0], module.split(".")[0]) for module in modules]
    package = "package" if len(names) == 1 else "packages"
    are = "is" if len(names) == 1 else "are"
    because = f" ({reason})" if reason else ""
    bundle = "; 'shapewright[train]' in its place brings all that training and evaluation need."
    return InputError(
        "package_missing",
        what,
        f"It needs the {package} {' and '.join(names)}, which {are} not installed for this Python{because}.",
        how_to_install(names) + ("." if ALONE.issuperset(modules) else bundle),
    )


def how_to_install(names: Sequence[str]) -> str:
    """The remedy: the command that installs packages into this Python."""
    return f'Run: "{sys.executable}" -m pip install {" ".join(names)}'


def require_training() -> None:
    """Raises InputError 'package_missing' where a package is missing that training needs: said once and at its
    beginning, not of every shape that could not be prepared."""
    lacking = [name for name in TRAINING if importlib.util.find_spec(name) is None]
    if lacking:
        raise missing(lacking, "This engine cannot train priors.")
