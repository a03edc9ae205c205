"""Packages that training and evaluation need and running does not."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from .errors import EngineError, JobFailed

TRAINING = ("igl", "warp", "embreex", "matplotlib")


def need(module: str, code: str, what: str) -> ModuleType:
    """The module. Raises EngineError `code`, whose first sentence is `what`, where its package is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EngineError(
            code,
            what,
            f"The package {module.partition('.')[0]} is not installed for this Python ({error}).",
            "Install the training extras: pip install 'shapewright[train]'.",
        ) from error


def require_training() -> None:
    """Raises JobFailed 'training_not_installed' where a package is missing that training needs: said once and at its
    beginning, not of every shape that could not be prepared."""
    missing = [name for name in TRAINING if importlib.util.find_spec(name) is None]
    if missing:
        raise JobFailed(
            "training_not_installed",
            "This engine cannot train priors.",
            f"It was installed without the packages that training needs: {', '.join(missing)}.",
            "Install them on the engine's machine: pip install 'shapewright[train]'.",
        )
