"""Between shapes: paths of codes that stay plausible, and sums and differences of codes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from ..fields.adam import Adam
from ..geometry.transforms import Similarity
from ..priors.latent import LatentModel, denoise, follow, noise_levels
from .sampling import WHOLE

_NODES = 17
_STEPS = 80
_FLOW_STEPS = 40
TIDY_LEVEL, TIDY_STEPS = 1.0, 5
"""Noise level from which the steps of a spherical way are denoised, and the steps of that."""


def spherical(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """a, b: (K,), t: (T,) -> (T, K): directions turn evenly, lengths change linearly (Shoemake 1985; White 2016).

    Of draws from a Gaussian the straight mean is shorter than either, and so too average; this is not.
    """
    la, lb = a.norm().clamp(min=1e-9), b.norm().clamp(min=1e-9)
    cosine = torch.dot(a / la, b / lb).clamp(-1.0, 1.0)
    angle = torch.arccos(cosine)
    t = t[:, None]
    if float(angle) < 1e-3 or float(angle) > torch.pi - 1e-3:
        return (1 - t) * a + t * b
    turned = (torch.sin((1 - t) * angle) * (a / la) + torch.sin(t * angle) * (b / lb)) / torch.sin(angle)
    way: Tensor = turned * ((1 - t) * la + t * lb)
    return way


def plausible(latent: LatentModel, a: Tensor, b: Tensor, t: Tensor) -> Iterator[Tensor]:
    """(K,), (K,), (T,) -> ways (T, K) in even steps, the best guess first.

    With a diffusion model: within a class the spherical way, then that through noise; between classes first the way
    through noise; last the spherical one carried to shapes step by step. Without: the spherical way, bent by the
    mixture.
    """
    if latent.denoiser is None:
        yield _evenly(_along_density(latent, a, b), t)
        return
    first, second = latent.class_posterior(torch.stack([a, b])).argmax(1).tolist()
    same = first == second
    if same:
        yield spherical(a, b, t)
    yield _evenly(_through_noise(latent, a, b), t)
    yield _evenly(_tidied(latent, a, b, first if same else len(latent.classes)), t)
    if not same:
        yield spherical(a, b, t)


def _evenly(nodes: Tensor, t: Tensor) -> Tensor:
    """Places t (T,) along a polygon (N, K), by its length."""
    along = torch.cat([t.new_zeros(1), (nodes[1:] - nodes[:-1]).norm(dim=1).cumsum(0)])
    along = along / along[-1].clamp(min=1e-9)
    place = torch.searchsorted(along, t.clamp(0, 1).contiguous()).clamp(1, len(nodes) - 1)
    low, high = along[place - 1], along[place]
    share = ((t - low) / (high - low).clamp(min=1e-9))[:, None]
    way: Tensor = (1 - share) * nodes[place - 1] + share * nodes[place]
    return way


def _tidied(latent: LatentModel, a: Tensor, b: Tensor, label: int) -> Tensor:
    """(_NODES, K): the spherical way, every node of it taken for a shape with a little noise and carried down the
    probability flow to one without. What that does to the two ends is taken off again."""
    assert latent.denoiser is not None
    at = torch.linspace(0, 1, _NODES, device=a.device)
    labels = torch.full((_NODES,), label, device=a.device)
    nodes = denoise(latent.denoiser, spherical(a, b, at), labels, TIDY_STEPS, TIDY_LEVEL)
    return nodes + (1 - at)[:, None] * (a - nodes[0]) + at[:, None] * (b - nodes[-1])


@torch.no_grad()
def _through_noise(latent: LatentModel, a: Tensor, b: Tensor) -> Tensor:
    """(_NODES, K): both shapes are followed up the diffusion's probability flow to noise, the noise turns from the one
    to the other, and each turn is followed down again (Song, Meng and Ermon 2021, section 5.3).

    Every node is then as much a shape as any draw. What the numerical flow loses of the two ends is mixed back in.
    """
    assert latent.denoiser is not None
    label = len(latent.classes)  # stands for any class
    levels = noise_levels(_FLOW_STEPS, a.device)[:-1]
    noise = follow(latent.denoiser, torch.stack([a, b]), levels.flip(0), label)
    at = torch.linspace(0, 1, _NODES, device=a.device)
    nodes = follow(latent.denoiser, spherical(noise[0], noise[1], at), levels, label)
    return nodes + (1 - at)[:, None] * (a - nodes[0]) + at[:, None] * (b - nodes[-1])


def _along_density(latent: LatentModel, a: Tensor, b: Tensor) -> Tensor:
    """(_NODES, K): as `spherical`, bent where the prior's mixture finds the way less likely than its ends.

    The nodes of a band between a and b are drawn together (so that steps stay even) and pushed up the log density
    wherever that is below the line between the ends' (a string method: E, Ren and Vanden-Eijnden 2002). A way that is
    likely enough stays the spherical one.
    """
    at = torch.linspace(0, 1, _NODES, device=a.device)
    start = spherical(a, b, at)
    ends = latent.log_density(torch.stack([a, b]))
    wanted = (ends[0] + at[1:-1] * (ends[1] - ends[0])).detach()
    inner = start[1:-1].clone().requires_grad_(True)
    optimiser = Adam([inner], lr=0.03)
    spacing = (start[1:] - start[:-1]).square().sum(1).mean().clamp(min=1e-9)
    for _ in range(_STEPS):
        with torch.enable_grad():
            nodes = torch.cat([a[None], inner, b[None]])
            lacking = (wanted - latent.log_density(inner)).clamp(min=0) / latent.size
            stretch = (nodes[1:] - nodes[:-1]).square().sum(1) / spacing
            loss = 4.0 * lacking.sum() + 0.5 * stretch.sum() + 0.5 * (stretch - stretch.mean()).square().sum()
            loss = loss + 0.2 * (inner - start[1:-1]).square().sum() / (spacing * _NODES)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return torch.cat([a[None], inner.detach(), b[None]])


def between(
    latent: LatentModel,
    first: Tensor,
    second: Tensor,
    t: Tensor,
    path: str,
    largest_piece: Callable[[Tensor], float] | None = None,
) -> Tensor:
    """Codes first, second: (C, R, R, R); t: (T,) in 0..1 -> (T, C, R, R, R). What the coefficients do not hold is
    mixed straight.

    largest_piece: of a code, how far its shape holds together. Of the plausible ways that one is then taken whose
    in-betweens hold together best: one way for all of them, so that they follow each other.
    """
    a, b = latent.project(torch.stack([first, second]))
    left = torch.stack([first, second]) - latent.expand(torch.stack([a, b]))
    share = t.view(-1, *([1] * first.dim()))

    def codes(way: Tensor) -> Tensor:
        return latent.expand(way) + (1 - share) * left[0] + share * left[1]

    if path == "straight":
        return codes(a + t[:, None] * (b - a))
    if path == "spherical":
        return codes(spherical(a, b, t))
    best, most = None, -1.0
    inner = [k for k, place in enumerate(t.tolist()) if 0 < place < 1]
    for way in plausible(latent, a, b, t):
        found = codes(way)
        if largest_piece is None or not inner:
            return found
        held = [min(largest_piece(found[k]), WHOLE) for k in inner]
        if sum(held) > most:
            best, most = found, sum(held)
        if min(held) >= WHOLE:
            break
    assert best is not None
    return best


def arithmetic(latent: LatentModel, a: Tensor, b: Tensor, c: Tensor, amount: float) -> Tensor:
    """The code C + amount (A - B), all (C, R, R, R).

    Where the sum is further out than each of the three (in the whitened coefficients) it is drawn back to the length of
    the longest: beyond that the prior has seen nothing.
    """
    total = c + amount * (a - b)
    coefficients = latent.project(torch.stack([total, a, b, c]))
    longest = float(coefficients[1:].norm(dim=1).max())
    length = float(coefficients[0].norm())
    if length <= longest:
        return total
    drawn_back = latent.expand(coefficients[:1] * (longest / length))[0]
    left_over = total - latent.expand(coefficients[:1])[0]
    return drawn_back + left_over


def poses_between(first: Similarity, second: Similarity, t: NDArray[np.float64]) -> list[Similarity]:
    """Places between two: scale geometrically, rotation by the shortest turn, position straight."""
    turn = Slerp([0.0, 1.0], Rotation.from_matrix(np.stack([first.rotation, second.rotation])))
    scales = np.exp((1 - t) * np.log(first.scale) + t * np.log(second.scale))
    moves = (1 - t)[:, None] * first.translation + t[:, None] * second.translation
    return [
        Similarity(float(s), r, m) for s, r, m in zip(scales, turn(t).as_matrix(), moves, strict=True)
    ]


def stations(shapes: int, steps: int, ends: bool) -> list[tuple[int, int, float]]:
    """(from, to, t) of every mesh of a blend through `shapes` shapes with `steps` between each pair, in order."""
    inner = [(k + 1) / (steps + 1) for k in range(steps)]
    found: list[tuple[int, int, float]] = []
    for a, b in itertools.pairwise(range(shapes)):
        if ends:
            found.append((a, b, 0.0))
        found += [(a, b, t) for t in inner]
    if ends:
        found.append((shapes - 2, shapes - 1, 1.0))
    return found
