"""The command line: `entry` reads the arguments, one file in commands/ a command.

`engine.cli:main` is what installed `shapewright` scripts call; it stays the function's address.
"""

from .entry import main

__all__ = ["main"]
