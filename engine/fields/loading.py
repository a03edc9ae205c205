"""Networks as shells, for weights that come from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_RANDOM_FILLS = frozenset({"normal_", "uniform_", "trunc_normal_", "bernoulli_", "exponential_"})


class _Unfilled(TorchFunctionMode):
    """Tensors that are to be filled at random stay as they are."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") in _RANDOM_FILLS:
            return arguments[0] if arguments else (keywords or {})["tensor"]
        return function(*arguments, **(keywords or {}))


@contextmanager
def shells() -> Iterator[None]:
    """Modules made here have the shapes of their tensors, no memory and no numbers: load_state_dict(assign=True) brings
    them.

    The random fills of fresh weights are left out: on torch's device 'meta' the first of them would import
    torch._dynamo and sympy, seconds of work for numbers that nobody sees.
    """
    with torch.device("meta"), _Unfilled():
        yield
