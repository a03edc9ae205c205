"""Where this program keeps what is the user's, and what it can make again."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def default_data_dir() -> Path:
    """The user's cache folder for this program, by the platform's custom, or SHAPEWRIGHT_DATA_DIR."""
    override = os.environ.get("SHAPEWRIGHT_DATA_DIR")
    if override:
        return Path(override)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        return base / "Shapewright" / "engine"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "Shapewright"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shapewright"


def user_cache_folder() -> Path:
    """Where this user's recomputable files live: SHAPEWRIGHT_CACHE, or the platform's own place."""
    if chosen := os.environ.get("SHAPEWRIGHT_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "shapewright"
