"""Where gradient fields are kept: beside the user's priors, and the one that comes with the engine."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from ..errors import InputError
from ..priors.registry import user_folder
from .model import SUFFIX, GradientField, load_gradient_field


def gradient_folders() -> list[Path]:
    """Searched in this order."""
    return [user_folder() / "gradient_fields", Path(__file__).parent]


def list_gradient_fields() -> list[str]:
    """Names of all that were found."""
    return sorted({
        path.name.removesuffix(SUFFIX) for folder in gradient_folders() if folder.is_dir()
        for path in folder.glob(f"*{SUFFIX}")
    })


def find_gradient_field(name_or_path: str, device: torch.device) -> GradientField:
    """By name or path, kept in memory while its file stays as it is. InputError names those there are."""
    candidates = [Path(name_or_path)] if name_or_path.endswith(SUFFIX) else [
        folder / f"{name_or_path}{SUFFIX}" for folder in gradient_folders()
    ]
    for path in candidates:
        if path.is_file():
            state = path.stat()
            return _load(path.absolute(), state.st_mtime_ns, str(device))
    raise InputError(
        "gradient_field_not_found",
        f"There is no gradient field called {name_or_path}.",
        f"Those found are: {', '.join(list_gradient_fields()) or 'none'}.",
        "Choose one of them, or train one: shapewright gradient train DATASET --name NAME.",
    )


@lru_cache(maxsize=1)
def _load(path: Path, changed: int, device: str) -> GradientField:
    return load_gradient_field(path, torch.device(device))
