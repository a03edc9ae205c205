"""Adam, for what is optimised while somebody waits.

Making any optimiser of torch.optim imports torch._dynamo and sympy with it, about two seconds; ten steps on a code do
not earn that. Training keeps torch's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_EPSILON = 1e-8


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) with torch.optim.Adam's update, operation by operation: on the CPU the
    parameters come out the same to the bit.

    parameters: leaf tensors, or groups {"params": [...], "lr": ...}, which may leave out what `lr` says.
    param_groups may be changed between steps, as of torch's. A parameter without a gradient stays as it is.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        given = list(parameters)
        groups = [one for one in given if isinstance(one, dict)] or [{"params": given}]
        self.param_groups: list[dict[str, Any]] = [
            {"lr": lr, **group, "params": list(group["params"])} for group in groups
        ]
        self._betas = betas
        self._state: dict[Tensor, tuple[Tensor, Tensor, int]] = {}
        """Of each parameter: the running means of gradient and squared gradient, and the number of its steps."""

    def zero_grad(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        first, second = self._betas
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                mean, square, steps = self._state.get(parameter) or (
                    torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    0,
                )
                steps += 1
                self._state[parameter] = mean, square, steps
                mean.lerp_(gradient, 1 - first)
                square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
                size = group["lr"] / (1 - first**steps)
                spread = (square.sqrt() / (1 - second**steps) ** 0.5).add_(_EPSILON)
                parameter.addcdiv_(mean, spread, value=-size)
