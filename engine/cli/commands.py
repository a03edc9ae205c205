"""Commands beyond `complete`, `train`, `evaluate`, `priors`, `serve` and `doctor`: one file a feature.

A module has `add(commands, common)`: it adds its parsers (parents=[common]) and sets their `run(options) -> status`.
"""

from types import ModuleType

from . import fit, generate, gradient

MODULES: tuple[ModuleType, ...] = (fit, generate, gradient)
