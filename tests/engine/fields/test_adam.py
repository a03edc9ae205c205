"""Our Adam against torch's, to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.fields.adam import Adam


def _network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 33), nn.Softplus(), nn.Linear(33, 7), nn.Tanh(), nn.Linear(7, 1))


def test_its_steps_are_those_of_torch() -> None:
    ours, theirs = _network(), _network()
    x = torch.randn(64, 5)
    pairs = [
        (network, optimiser(network.parameters(), 1e-2))
        for network, optimiser in ((ours, Adam), (theirs, torch.optim.Adam))
    ]
    for step in range(50):
        for network, optimiser in pairs:
            optimiser.param_groups[0]["lr"] = 1e-2 * 0.9**step
            optimiser.zero_grad()
            (network(x) - x.sum(1, keepdim=True)).square().mean().backward()
            optimiser.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(ours[0].weight, _network()[0].weight)


@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.9, 0.999)])
def test_groups_have_rates_of_their_own(betas: tuple[float, float]) -> None:
    def run(optimiser: type) -> list[torch.Tensor]:
        torch.manual_seed(0)
        a, b, idle = (torch.randn(2, 4, 3, requires_grad=True) for _ in range(3))
        steps = optimiser([{"params": [a], "lr": 0.3}, {"params": [b, idle]}], lr=0.01, betas=betas)
        for _ in range(11):
            steps.zero_grad()
            ((a * b).sin().sum() + (a - b).square().sum()).backward()
            steps.step()
        return [a.detach(), b.detach(), idle.detach()]

    for a, b in zip(run(Adam), run(torch.optim.Adam), strict=True):
        assert torch.equal(a, b)


def test_it_follows_a_memory_format_and_leaves_what_has_no_gradient() -> None:
    def run(optimiser: type) -> torch.Tensor:
        torch.manual_seed(1)
        code = torch.randn(1, 8, 4, 4, 4).to(memory_format=torch.channels_last_3d).requires_grad_(True)
        steps = optimiser([code], lr=0.1)
        steps.step()
        assert torch.equal(code, code.detach().clone())
        for _ in range(5):
            steps.zero_grad()
            code.pow(3).sum().backward()
            steps.step()
        return code.detach()

    assert torch.equal(run(Adam), run(torch.optim.Adam))
