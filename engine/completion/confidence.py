"""How far a prior may be believed about a scan: does it foresee what was seen, before it is shown it?

A completion network reproduces whatever points it is given, an elephant's too: its error at them says little. What it
foretells of points that are held back does: a block of the scan is taken out (a quarter of it, and what it tells of
empty space with it), the rest encoded, and the field asked where the missing points lie. A prior that knows the kind of
thing continues it; one that does not closes the gap smoothly, or with furniture. To this come the doubts of the pose
network about the class and about whether it stands at all, and space that was looked through but is filled.

The signals are joined by logistic regression. Its weights, and the value below which a warning is given, are `DEFAULT`,
measured by scripts/calibrate_confidence on held-out shapes and on things no furniture prior knows (docs/confidence.md);
a prior may bring its own in its card under "confidence".
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..fields.base import Clouds
from ..fields.shapes import Shape
from ..frames import BOUND
from ..geometry.clouds import PointCloud
from ..priors.file import Prior
from .alignment import stands

POINTS = 2048
GAP = 0.04
"""Held-out points nearer than this (canonical units) to one that is shown do not count: anybody could tell them."""

_BALLS, _RADIUS = 5, 0.1
"""How many balls of which radius (canonical units) are cut out of the scan at once."""

SIGNALS = ("foreseen", "worst", "gaps", "empty", "doubt", "lies")


@dataclass
class Signals:
    """What speaks for or against the prior; all are larger where it does not know the thing.

    foreseen: mean distance |f| at points of held-back blocks, in canonical units, at most 0.1.  worst: the same of the
    block foreseen worst.  gaps: mean |f| within a few small balls that are cut out at once.  empty: share of the
    seen-empty samples that the answer to the rest then fills.  doubt: entropy of the class over that of total doubt.
    lies: logit of the pose network's belief that it does not stand, 0 without one: what it knows, it sees standing.
    """

    foreseen: float
    worst: float
    gaps: float
    empty: float
    doubt: float
    lies: float


@dataclass
class Calibration:
    """weights of the standardised signals in the order of SIGNALS (value - mean) / deviation, of logarithms where the
    signal is a distance; threshold: confidence below it earns a warning."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    threshold: float


# --- measured by scripts/calibrate_confidence, which rewrites the lines from here ...
DEFAULT = Calibration(
    means=(-4.3496, -3.7605, -5.0319, 0.0048, 0.4489, -1.1752),
    deviations=(1.0132, 1.1309, 1.0053, 0.0103, 0.2046, 2.0145),
    weights=(-0.2409, -0.2816, -0.2166, -0.2256, -0.3451, -0.6108),
    bias=0.0557,
    threshold=0.4667,
)
# --- ... to here


def calibration_of(prior: Prior) -> Calibration:
    """The prior's own, where its card has one that fits, or the default."""
    given = prior.card.get("confidence")
    if isinstance(given, dict):
        try:
            own = Calibration(
                **{k: tuple(float(x) for x in given[k]) for k in ("means", "deviations", "weights")},
                bias=float(given["bias"]), threshold=float(given["threshold"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            return DEFAULT
        if len(own.means) == len(own.deviations) == len(own.weights) == len(SIGNALS):
            return own
    return DEFAULT


def measure(prior: Prior, cloud: PointCloud, classes: dict[str, float], noise: float = 0.0) -> Signals | None:
    """The signals of a cloud in the canonical frame, or None for a prior without an encoder.

    classes: the pose network's shares.  noise: standard deviation of the points, canonical, whose expected |f| is taken
    off.  Costs five encodings of the evidence.
    """
    family, device = prior.field, prior.device
    if "encode" not in family.can:
        return None
    inside = np.flatnonzero((np.abs(cloud.points) < BOUND).all(1))
    if len(inside) < 20:
        return None
    chosen = np.random.default_rng(len(inside)).permutation(inside)[:POINTS]
    points = torch.as_tensor(cloud.points[chosen], dtype=torch.float32, device=device)
    eyes = None
    if cloud.seen_from is not None:
        places = cloud.seen_from if cloud.seen_from.ndim == 1 else cloud.seen_from[chosen]
        eyes = torch.as_tensor(places, dtype=torch.float32, device=device).expand_as(points)
    expected = noise * math.sqrt(2 / math.pi)

    def answer_to(shown: torch.Tensor) -> Shape:
        """shown: (P,) which points."""
        posterior = family.encode(family.observe(Clouds.seen(points[shown], None if eyes is None else eyes[shown])))
        return family.decode(posterior.mean, posterior.evidence)

    def off(answer: Shape, at: torch.Tensor) -> torch.Tensor:
        return (answer.off(at[None])[0] - expected).clamp(0, 0.1)

    with torch.no_grad():
        away = torch.cdist(points, points[:_BALLS]).amin(1)  # the first ones are random ones
        shown, hidden = away > _RADIUS, points[away < _RADIUS - GAP]
        if int(shown.sum()) < 10 or len(hidden) < 3:
            return None
        answer = answer_to(shown)
        gaps = float(off(answer, hidden).mean())
        empty = 0.0
        if eyes is not None:
            towards = eyes - points
            length = towards.norm(dim=1, keepdim=True)
            # From 3 % of the size before the point, where noise does not reach, to 40 %.
            along = 0.03 + 0.37 * torch.linspace(0, 1, len(points), device=device)[:, None] ** 2
            free = points + towards / length.clamp(min=1e-6) * torch.minimum(along, length)
            free = free[(free.abs() < BOUND).all(1)]
            if len(free) and answer.signed:
                empty = float((answer.values(free[None])[0] < 0).float().mean())
        foreseen = []
        block = _blocks(points)
        for k in range(4):
            shown, hidden = block != k, points[block == k]
            if int(shown.sum()) < 10 or len(hidden) < 3:
                continue
            alone = hidden[torch.cdist(hidden, points[shown]).amin(1) > GAP]
            if len(alone) < 3:
                continue
            foreseen.append(off(answer_to(shown), alone))
    if not foreseen:
        return None
    shares = np.array([p for p in classes.values() if p > 0])
    doubt = float(-(shares * np.log(shares)).sum()) / math.log(max(2, len(classes))) if len(shares) else 1.0
    lies = 0.0
    if prior.pose is not None:
        lies = -float(stands(prior, PointCloud(cloud.points[chosen]), [np.array([0.0, 0.0, 1.0])], sides=4)[0])
    worst = max(float(part.mean()) for part in foreseen)
    return Signals(float(torch.cat(foreseen).mean()), worst, gaps, empty, doubt, lies)


def _blocks(points: torch.Tensor) -> torch.Tensor:
    """(N,) block 0..3 of each point: quarters along the two directions of largest spread."""
    from_middle = points - points.median(0).values
    along = from_middle @ torch.linalg.eigh(from_middle.T @ from_middle)[1][:, 1:]
    quarter: torch.Tensor = (along[:, 0] > along[:, 0].median()).long() * 2
    half: torch.Tensor = (along[:, 1] > along[:, 1].median()).long()
    return quarter + half


def standardised(signals: Signals) -> NDArray[np.float64]:
    """The signals as the regression takes them: distances by their logarithm."""
    values = asdict(signals)
    return np.array(
        [
            math.log(max(values[name], 1e-4)) if name in ("foreseen", "worst", "gaps") else values[name]
            for name in SIGNALS
        ]
    )


def confidence(signals: Signals, calibration: Calibration = DEFAULT) -> float:
    """0..1: probability that the prior knows the thing, where half of all things are of its kinds."""
    z = (standardised(signals) - np.array(calibration.means)) / np.array(calibration.deviations)
    return float(1 / (1 + math.exp(-float(z.clip(-4, 4) @ np.array(calibration.weights)) - calibration.bias)))


SPARSEST = 1000
"""Points of the sparsest scans that the calibration has seen."""


def most_confidence(points: int) -> float:
    """0..1: what a confidence can be at most for so many points. The signals are means over held-back points, whose
    standard error grows with the inverse root of their number, and the regression knows no scan of fewer than SPARSEST:
    of fifty points of a chair little is foreseen wrongly because little is there to be foreseen."""
    return min(1.0, math.sqrt(points / SPARSEST))


def fit_calibration(known: list[Signals], unknown: list[Signals], most_false_warnings: float = 0.2) -> Calibration:
    """Ridge logistic regression (Newton's method), both groups weighing the same.

    threshold: the highest that warns of at most this share of the known.
    """
    x = np.array([standardised(s) for s in [*known, *unknown]])
    y = np.r_[np.ones(len(known)), np.zeros(len(unknown))]
    share = np.r_[np.full(len(known), 0.5 / len(known)), np.full(len(unknown), 0.5 / len(unknown))]
    mean = share @ x
    deviation = np.sqrt(share @ (x - mean) ** 2).clip(1e-6)
    z = np.c_[((x - mean) / deviation).clip(-4, 4), np.ones(len(x))]
    w = np.zeros(z.shape[1])
    ridge = np.diag(np.r_[np.full(len(w) - 1, 0.1), 1e-9])
    for _ in range(50):
        p = 1 / (1 + np.exp(-z @ w))
        gradient = z.T @ (share * (p - y)) + ridge @ w
        step = np.linalg.solve(z.T @ (z * (share * p * (1 - p))[:, None]) + ridge, gradient)
        w -= step
        if np.abs(step).max() < 1e-9:
            break
    made = Calibration(tuple(mean), tuple(deviation), tuple(w[:-1]), float(w[-1]), 0.5)
    values = [confidence(s, made) for s in known]
    made.threshold = float(np.quantile(values, most_false_warnings))
    return made
