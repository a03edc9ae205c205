"""Where this program keeps what it can make again."""

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
