"""The commands there are, found without a list: every file of commands/, and what a plugin registers."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import plugins

Add = Callable[[Any, argparse.ArgumentParser], None]
"""(commands, common): adds the command's parser to what `add_subparsers` gave, with parents=[common]."""

_FILES = frozenset(
    path.stem for path in (Path(__file__).parent / "commands").glob("*.py") if not path.stem.startswith("_")
)
_registered: dict[str, Add] = {}


def register(name: str, add: Add) -> None:
    """Make a command known that is no file here. Raises ValueError for a name that is taken."""
    if name in _registered or name in _FILES:
        raise ValueError(f"there is a command '{name}' already")
    _registered[name] = add


def unregister(name: str) -> None:
    """Take back a `register`."""
    _registered.pop(name, None)


def names() -> list[str]:
    plugins.load("commands")
    return sorted({*_FILES, *_registered})


def adders(first: str | None) -> list[Add]:
    """Those of the command line that begins with `first`: of that command alone where there is one, else of all."""
    wanted = [first] if first is not None and (first in _FILES or first in names()) else names()
    return [_registered[name] if name in _registered else _of_file(name) for name in wanted]


def _of_file(name: str) -> Add:
    add: Add = importlib.import_module(f"{__package__}.commands.{name}").add
    return add
