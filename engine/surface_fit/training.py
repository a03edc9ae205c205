"""The loop that fits a recipe's network. It does not know the dimension: the behaviour that the papers show on plane
curves is tested on plane curves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import Cancelled, JobFailed
from ..fields.adam import Adam
from .base import never
from .recipe import Recipe, Source
from .samples import Sampler


def train(
    source: Source,
    recipe: Recipe,
    *,
    iterations: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int, nn.Module], None] = lambda step, steps, network: None,
    should_stop: Callable[[], bool] = never,
) -> tuple[nn.Module, dict[str, float]]:
    """Fit the recipe's network to the source with Adam; the network and each term's mean value over the last steps.

    on_step(step, steps, network) after every step. Raises Cancelled once should_stop(), JobFailed "fit_diverged".
    """
    device = torch.device(device)
    steps = iterations or recipe.iterations
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = recipe.network(source.points.shape[1]).to(device)
    sampler = Sampler(source, recipe, seed, device)
    optimiser = Adam(network.parameters(), recipe.rate)
    last: dict[str, list[Tensor]] = {name: [] for name in recipe.terms}
    for step in range(steps):
        if should_stop():
            raise Cancelled
        progress = step / steps
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * 0.05 ** max(0.0, 2 * progress - 1)
        batch = sampler.draw(network)
        total = torch.zeros((), device=device)
        for name, (weight, loss) in recipe.terms.items():
            factor = weight(progress) if callable(weight) else weight
            if factor > 0:
                value = loss(batch)
                total = total + factor * value
                if step >= steps - 50:
                    last[name].append(value.detach())
        if not bool(torch.isfinite(total)):
            raise JobFailed(
                "fit_diverged",
                "The surface could not be fitted.",
                f"The optimisation lost its way: its loss was no number after {step} steps.",
                "Try another seed or another method; 'auto' suits most inputs.",
            )
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        on_step(step + 1, steps, network)
    network.requires_grad_(False)
    return network.eval(), {name: float(torch.stack(v).mean()) for name, v in last.items() if v}
