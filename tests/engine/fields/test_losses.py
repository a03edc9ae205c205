"""Every term: its known values, and its gradient against central differences in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engine.fields import losses

Term = Callable[..., Tensor]


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# name: (term of its arguments, arguments, which of them carry gradients). The kinks (|x| at 0) are met with chance 0.
TERMS: dict[str, tuple[Term, tuple[Tensor, ...], int]] = {
    "clamped_l1": (losses.clamped_l1, (numbers(40, scale=0.1), numbers(40, seed=1, scale=0.2)), 1),
    "sign_cross_entropy": (losses.sign_cross_entropy, (numbers(40, scale=0.02), numbers(40, seed=1)), 1),
    "gaussian_kl": (losses.gaussian_kl, (numbers(5, 8), numbers(5, 8, seed=1)), 2),
    "surface": (losses.surface, (numbers(40),), 1),
    "normal": (losses.normal, (numbers(40, 3), numbers(40, 3, seed=1)), 1),
    "eikonal": (losses.eikonal, (numbers(40, 3),), 1),
    "seen_empty": (lambda f: losses.seen_empty(f, 0.3), (numbers(40),), 1),
    "off_surface": (lambda f: losses.off_surface(f, 10.0), (numbers(40, scale=0.1),), 1),
    "normal_cosine": (losses.normal_cosine, (numbers(40, 3), numbers(40, 3, seed=1)), 1),
    "sign_agnostic": (lambda f, h: losses.sign_agnostic(f, h).mean(), (numbers(40), numbers(40, seed=1)), 2),
    "sign_agnostic_l2": (lambda f, h: losses.sign_agnostic_l2(f, h, 1.5), (numbers(40), numbers(40, seed=1).abs()), 1),
    "sign_agnostic_l0": (losses.sign_agnostic_l0, (numbers(40), numbers(30, seed=1)), 2),
    "sign_agnostic_gradient": (losses.sign_agnostic_gradient, (numbers(40, 3), numbers(40, 3, seed=1)), 1),
    "divergence": (losses.divergence, (numbers(40, scale=40.0),), 1),
}


@pytest.mark.parametrize("name", TERMS)
def test_gradient_is_that_of_central_differences(name: str) -> None:
    term, arguments, count = TERMS[name]
    step = 1e-6
    for which in range(count):
        inputs = [value.clone().requires_grad_(k == which) for k, value in enumerate(arguments)]
        value = term(*inputs)
        assert value.shape == ()
        (gradient,) = torch.autograd.grad(value, inputs[which])
        assert gradient.abs().max() > 0
        for place in range(0, arguments[which].numel(), 3):
            ends = []
            for sign in (1.0, -1.0):
                moved = [value.clone() for value in arguments]
                moved[which].view(-1)[place] += sign * step
                ends.append(float(term(*moved)))
            slope = (ends[0] - ends[1]) / (2 * step)
            assert float(gradient.view(-1)[place]) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_every_term_is_tested() -> None:
    public = {name for name, value in vars(losses).items() if callable(value) and value.__module__ == losses.__name__}
    assert public == set(TERMS)


def test_clamped_l1_clamps_the_target_only() -> None:
    assert float(losses.clamped_l1(torch.tensor([0.1]), torch.tensor([5.0]))) == 0.0
    assert float(losses.clamped_l1(torch.tensor([-0.04]), torch.tensor([0.02]))) == pytest.approx(0.06)
    # A prediction beyond the clamp is still pulled back.
    far = torch.tensor([0.7], requires_grad=True)
    losses.clamped_l1(far, torch.tensor([0.5])).backward()
    assert far.grad is not None and float(far.grad) == 1.0


def test_sign_cross_entropy_rewards_the_right_side() -> None:
    truth = torch.tensor([-0.3, 0.3])
    assert float(losses.sign_cross_entropy(torch.zeros(2), truth)) == pytest.approx(math.log(2))
    assert float(losses.sign_cross_entropy(torch.tensor([-0.1, 0.1]), truth)) < 1e-4
    assert float(losses.sign_cross_entropy(torch.tensor([0.1, -0.1]), truth)) == pytest.approx(10, abs=1e-3)


def test_gaussian_kl_is_torchs() -> None:
    mean, log_variance = numbers(6, 4), numbers(6, 4, seed=3)
    ours = losses.gaussian_kl(mean, log_variance)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()), torch.distributions.Normal(0.0, 1.0)
    ).mean()
    assert float(ours) == pytest.approx(float(theirs))
    assert float(losses.gaussian_kl(torch.zeros(4), torch.zeros(4))) == 0.0


def test_a_true_signed_distance_has_no_loss() -> None:
    """The sphere's own distance: zero on it, gradient the normal and of length one, positive outside."""
    normals = torch.nn.functional.normalize(numbers(50, 3), dim=1)
    points = (0.3 * normals).requires_grad_(True)
    distance = points.norm(dim=1) - 0.3
    (gradient,) = torch.autograd.grad(distance.sum(), points)
    assert float(losses.surface(distance.detach())) < 1e-12
    assert float(losses.normal(gradient, normals)) < 1e-12
    assert float(losses.eikonal(gradient)) < 1e-12
    assert float(losses.eikonal(3 * gradient)) == pytest.approx(2)
    assert float(losses.normal(gradient, -normals)) == pytest.approx(2)
    outside = (2 * points.detach()).norm(dim=1) - 0.3
    assert float(losses.seen_empty(outside)) == 0.0
    assert float(losses.seen_empty(outside, margin=0.4)) == pytest.approx(0.1)
    assert float(losses.seen_empty(-outside)) == pytest.approx(0.3)


def test_sign_agnostic_terms_do_not_know_the_sign() -> None:
    f, h = numbers(50), numbers(50, seed=1).abs()
    assert float(losses.sign_agnostic_l2(f, h)) == float(losses.sign_agnostic_l2(-f, h))
    assert float(losses.sign_agnostic_l2(-h, h)) == 0.0
    assert float(losses.sign_agnostic_l0(f, h)) == float(losses.sign_agnostic_l0(-f, -h))
    assert float(losses.sign_agnostic_l0(torch.zeros(5), torch.tensor([1.0, -1.0]))) == 0.0
    a, b = numbers(50, 3), numbers(50, 3, seed=1)
    assert float(losses.sign_agnostic_gradient(a, b)) == pytest.approx(float(losses.sign_agnostic_gradient(-a, b)))
    assert float(losses.sign_agnostic_gradient(-b, b)) == 0.0


def test_off_surface_and_divergence_have_their_limits() -> None:
    assert float(losses.off_surface(torch.zeros(3))) == 1.0
    assert float(losses.off_surface(torch.tensor([0.5, -0.5]))) < 1e-20
    assert float(losses.divergence(torch.tensor([-1000.0, 3.0]), largest=10.0)) == 6.5
    upright = torch.tensor([[0.0, 0.0, 1.0]])
    assert float(losses.normal_cosine(upright, upright)) == 0.0
    assert float(losses.normal_cosine(-upright, upright)) == 2.0
