"""What a class may be made with, and in which range, told by the annotations of its __init__.

A card's arguments are a stranger's: what has no range could ask for any amount of memory.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Range:
    """What a number among a family's arguments may be: Annotated[int, Range(1, 64)]. step: its multiples only."""

    least: float
    most: float
    step: int = 1


@dataclass(frozen=True)
class Argument:
    """kind: int, float, bool or str.  range: of numbers.  choices: of texts."""

    kind: type
    default: Any
    range: Range | None = None
    choices: tuple[str, ...] = ()

    def fault(self, value: Any) -> str | None:
        """Why the value cannot be taken; None where it can."""
        if self.kind is float:
            good = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            good = type(value) is self.kind
        if not good:
            return f"{value!r} is not of the kind {self.kind.__name__}"
        if self.choices and value not in self.choices:
            return f"{value!r} is none of {', '.join(self.choices)}"
        if self.range is not None and not self.range.least <= value <= self.range.most:
            return f"{value} is not within {self.range.least:g} to {self.range.most:g}"
        if self.range is not None and self.kind is int and value % self.range.step:
            return f"{value} is not a multiple of {self.range.step}"
        return None


def arguments_of(kind: type) -> dict[str, Argument]:
    """The arguments of a class's __init__ by name, from its annotations. TypeError for one that has no range: a card
    of a stranger could ask for any amount of memory."""
    made: Any = kind.__init__  # type: ignore[misc]  # of this very class
    hints = get_type_hints(made, include_extras=True)
    found: dict[str, Argument] = {}
    for name, parameter in list(inspect.signature(made).parameters.items())[1:]:
        hint, extent = hints[name], None
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            extent = next((extra for extra in extras if isinstance(extra, Range)), None)
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        of = str if choices else hint
        if of not in (int, float, bool, str) or (of in (int, float) and extent is None) or (of is str and not choices):
            raise TypeError(f"The argument {name} of {kind.__name__} has no range")
        found[name] = Argument(of, parameter.default, extent, choices)
    return found
