"""The papers' single-shape fits, each a recipe: one network, named and weighed losses, and where to sample them.

All run in one loop (`train`). Networks see the shape in the papers' own scale, about [-1, 1] on a side (`NETWORK_SCALE`
times the unit frame of fit_types), so that the papers' weights, widths and learning rates keep their meaning. The loop
does not know the dimension: the behaviour the papers show on plane curves is tested on plane curves.

A recipe of one's own is a `Recipe`; docs/methods.md shows one in ten lines.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor, nn

from ..errors import Cancelled, EngineError, InputError, JobFailed
from ..fields import implicit, losses
from ..fields.adam import Adam
from ..fields.implicit import NETWORKS, Mlp, Siren
from ..geometry.meshes import Mesh
from ..geometry.sampling import sample_surface
from ..geometry.transforms import Similarity
from .base import (
    FIELDS,
    METHODS,
    UNIT_SIDE,
    FitData,
    FitSettings,
    FittedField,
    Method,
    OnField,
    OnProgress,
    never,
    no_field,
    no_progress,
)

NETWORK_SCALE = 2.0 / UNIT_SIDE
"""Unit frame -> network frame, where the longest side of the input is 2."""

BOX = 1.3
"""Half the side of the box of uniform samples, network frame: a little more than the fields' domain."""

POOL = 150_000
"""Space samples prepared for a fit with distances; without distances every step draws fresh ones."""

MESH_SAMPLES = 150_000
"""Surface samples of a mesh, for its unsigned distance and as its data points."""

Array = NDArray[np.float32]
SignedQuery = Callable[[Array], tuple[Array, Array]]
"""(M, D) points -> signed distance (M,) and its gradient (M, D)."""


# --- what a loss sees -------------------------------------------------------------------------------------------------


class At:
    """A network at points (N, D): what is asked for is computed once, and can be differentiated.

    value: (N,).  gradient: (N, D).  divergence: (N,), of the gradient; costs several gradients.
    """

    def __init__(self, network: nn.Module, points: Tensor) -> None:
        self.network, self.points = network, points.detach().requires_grad_(True)

    @cached_property
    def value(self) -> Tensor:
        answer: Tensor = self.network(self.points)
        return answer

    @cached_property
    def gradient(self) -> Tensor:
        return implicit.gradient(self.value, self.points)

    @cached_property
    def divergence(self) -> Tensor:
        return implicit.divergence(self.gradient, self.points)


class Part:
    """Some of an `At`'s points; one evaluation of the network serves all parts."""

    def __init__(self, whole: At, start: int, stop: int) -> None:
        self._whole, self._rows = whole, slice(start, stop)

    @property
    def points(self) -> Tensor:
        return self._whole.points[self._rows]

    @property
    def value(self) -> Tensor:
        return self._whole.value[self._rows]

    @property
    def gradient(self) -> Tensor:
        return self._whole.gradient[self._rows]


@dataclass
class Batch:
    """One step's samples. surface: data points.  space: around them and farther off.  far: the second half of those.

    every: all of them.  few: an eighth of `space`, evaluated apart, for terms as dear as the divergence.
    normals: (S, D) at the surface points, or None.  distance: (P,) at the space points, signed where the recipe asks
    for it and else unsigned, and direction: (P, D), its gradient; None where the recipe takes no distances.
    """

    surface: Part
    space: Part
    far: Part
    every: At
    few: At
    normals: Tensor | None = None
    distance: Tensor | None = None
    direction: Tensor | None = None


Loss = Callable[[Batch], Tensor]
Weight = float | Callable[[float], float]
"""A number, or a function of the fit's progress (0..1)."""


def annealed(weight: float, hold: float = 0.2, end: float = 0.5) -> Callable[[float], float]:
    """`weight` until `hold` of the fit, then linearly down to 0 at `end`."""
    return lambda progress: weight * min(1.0, max(0.0, (end - progress) / (end - hold)))


@dataclass
class Recipe:
    """network: the dimension -> a fresh network.  terms: name -> (weight, loss).

    distances: 'none', 'unsigned' (to the data) or 'signed' (needs a mesh with an inside).  near: standard deviations of
    the first half of the space samples about data points, network frame; None = the distance to the 50th neighbour, as
    in SAL and IGR.  far: those of the second half; None = uniform in the box.  data_terms: the ones that 'smoothness'
    trades against the others.  needs: as Method.needs.
    batch: surface points a step, and as many space points.  rate: Adam's, falling to a twentieth over the second half.
    """

    network: Callable[[int], nn.Module]
    terms: dict[str, tuple[Weight, Loss]]
    distances: str = "none"
    near: tuple[float | None, ...] = (None,)
    far: tuple[float | None, ...] = (None,)
    data_terms: tuple[str, ...] = ()
    needs: str = "points"
    iterations: int = 2000
    batch: int = 1024
    rate: float = 1e-3


@dataclass
class Source:
    """What is learnt from, network frame. points: (N, D) float32.  normals: (N, D), trusted, or None.
    signed: the signed distance where the data has an inside."""

    points: Array
    normals: Array | None = None
    signed: SignedQuery | None = None


# --- samples ----------------------------------------------------------------------------------------------------------


class Sampler:
    """Draws the batches of one fit, reproducibly and alike on every device."""

    def __init__(self, source: Source, recipe: Recipe, seed: int, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.rng = np.random.default_rng([seed, 5])
        self.points, self.normals = source.points, source.normals
        self.tree = cKDTree(self.points)
        count = len(self.points)
        neighbour = min(50, max(4, count // 100), count - 1)
        few = self.rng.permutation(count)[:20_000]
        self.local = np.full(count, np.nan, np.float32)
        self.local[few] = self.tree.query(self.points[few], [neighbour + 1])[0][:, 0]
        self.local = np.where(np.isnan(self.local), np.median(self.local[few]), self.local)
        self.pool: tuple[Array, Array, Array] | None = None
        if recipe.distances != "none":
            half = POOL // 2 if self.points.shape[1] == 3 else POOL // 6
            space = np.concatenate([self._near(half), self._far(half)])
            if recipe.distances == "signed":
                if source.signed is None:
                    raise ValueError("this recipe needs signed distances")
                distance, direction = source.signed(space)
            else:
                distance, direction = self._unsigned(space)
            self.pool = space, distance, direction

    def _near(self, count: int) -> Array:
        row = self.rng.integers(len(self.points), size=count)
        widths = self.recipe.near
        which = self.rng.integers(len(widths), size=count)
        sigma = np.array([0.0 if w is None else w for w in widths], np.float32)[which]
        sigma = np.where(np.array([w is None for w in widths])[which], self.local[row], sigma)
        return self._about(row, sigma)

    def _far(self, count: int) -> Array:
        widths = self.recipe.far
        which = self.rng.integers(len(widths), size=count)
        anywhere = np.array([w is None for w in widths])[which]
        sigma = np.array([0.0 if w is None else w for w in widths], np.float32)[which]
        samples = self._about(self.rng.integers(len(self.points), size=count), sigma)
        box = self.rng.uniform(-BOX, BOX, samples.shape).astype(np.float32)
        return np.where(anywhere[:, None], box, samples)

    def _about(self, row: NDArray[np.int64], sigma: Array) -> Array:
        offset = self.rng.standard_normal((len(row), self.points.shape[1]), np.float32)
        return np.asarray(self.points[row] + sigma[:, None] * offset, np.float32)

    def _unsigned(self, space: Array) -> tuple[Array, Array]:
        distance, index = self.tree.query(space)
        offset = space - self.points[index]
        return distance.astype(np.float32), (offset / np.maximum(distance, 1e-9)[:, None]).astype(np.float32)

    def draw(self, network: nn.Module) -> Batch:
        size = self.recipe.batch
        row = self.rng.integers(len(self.points), size=min(size, len(self.points)))
        half = size // 2
        distance = direction = None
        if self.pool is None:
            space = np.concatenate([self._near(half), self._far(half)])
        else:
            middle = len(self.pool[0]) // 2
            chosen = np.concatenate(
                [self.rng.integers(middle, size=half), middle + self.rng.integers(middle, size=half)]
            )
            space = self.pool[0][chosen]
            distance, direction = self._tensor(self.pool[1][chosen]), self._tensor(self.pool[2][chosen])
        on, total = len(row), len(row) + 2 * half
        every = At(network, self._tensor(np.concatenate([self.points[row], space])))
        return Batch(
            Part(every, 0, on),
            Part(every, on, total),
            Part(every, on + half, total),
            every,
            At(network, self._tensor(space[::8])),
            None if self.normals is None else self._tensor(self.normals[row]),
            distance,
            direction,
        )

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)


# --- the loop ---------------------------------------------------------------------------------------------------------


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


# --- the papers' recipes ----------------------------------------------------------------------------------------------


def _given(values: Tensor | None) -> Tensor:
    assert values is not None, "the recipe's data has no normals or distances"
    return values


def _surface(batch: Batch) -> Tensor:
    return losses.surface(batch.surface.value)


def _eikonal(batch: Batch) -> Tensor:
    return losses.eikonal(batch.space.gradient)


def _eikonal_everywhere(batch: Batch) -> Tensor:
    return losses.eikonal(batch.every.gradient)


def sdf() -> Recipe:
    """Clamped L1 on signed distances, most of them near the surface (DeepSDF, Park 2019, sections 3 and 5)."""
    return Recipe(
        lambda dimension: Mlp(dimension),
        {"distance": (1.0, lambda b: losses.clamped_l1(b.space.value, _given(b.distance), 0.1))},
        distances="signed",
        near=(0.05, 0.016),
        needs="mesh",
        batch=2048,
    )


def occupancy() -> Recipe:
    """Cross-entropy of being inside (Occupancy Networks, Mescheder 2019, eq. 3); samples as for `sdf`, for one shape's
    detail."""
    return replace(
        sdf(),
        terms={"occupancy": (1.0, lambda b: losses.sign_cross_entropy(b.space.value, _given(b.distance), 0.02))},
    )


def igr(normals: bool = True) -> Recipe:
    """Surface, normal and Eikonal terms with weights 1, 1 and 0.1 (IGR, Gropp 2020, eq. 2); without normals the first
    and the third."""
    terms: dict[str, tuple[Weight, Loss]] = {"surface": (1.0, _surface), "eikonal": (0.1, _eikonal)}
    if normals:
        terms["normal"] = (1.0, lambda b: losses.normal(b.surface.gradient, _given(b.normals)))
    return Recipe(
        lambda dimension: Mlp(dimension), terms, data_terms=("surface",), needs="oriented" if normals else "points"
    )


def sal() -> Recipe:
    """Sign-agnostic regression of the unsigned distance (SAL, Atzmon and Lipman 2020, eq. 4).

    Starts as a sphere that holds the data, which it then shrinks onto: a start within a notch stays inverted there.
    Softplus for the paper's ReLU, as SALD does: small ReLU networks keep wrong signs more often. Samples all over the
    box besides the paper's sigma of 0.3: where there are none, a large gap lets the inside out.
    """
    return Recipe(
        lambda dimension: Mlp(dimension, radius=1.0),
        {"distance": (1.0, lambda b: losses.sign_agnostic_l2(b.space.value, _given(b.distance)))},
        distances="unsigned",
        far=(0.3, None),
        batch=2048,
    )


def sal_l0() -> Recipe:
    """Sign-agnostic regression of the L0 distance, 0 on the data and 1 off it (SAL, Atzmon and Lipman 2020, eq. 3)."""
    return replace(
        sal(),
        terms={"distance": (1.0, lambda b: losses.sign_agnostic_l0(b.surface.value, b.space.value))},
        distances="none",
    )


def sald() -> Recipe:
    """SAL with derivatives, weight 0.1 (SALD, Atzmon and Lipman 2021, eq. 3)."""
    return replace(
        sal(),
        terms={
            **sal().terms,
            "derivative": (0.1, lambda b: losses.sign_agnostic_gradient(b.space.gradient, _given(b.direction))),
        },
        batch=1024,
    )


def siren() -> Recipe:
    """Sine network; surface, normal, Eikonal and off-surface terms, weights 3000, 100, 50, 100 (SIREN, Sitzmann 2020,
    eq. 6 and supplement)."""
    return Recipe(
        lambda dimension: Siren(dimension),
        {
            "surface": (3e3, _surface),
            "normal": (1e2, lambda b: losses.normal_cosine(b.surface.gradient, _given(b.normals))),
            "eikonal": (5e1, _eikonal_everywhere),
            "off surface": (1e2, lambda b: losses.off_surface(b.far.value)),
        },
        data_terms=("surface",),
        needs="oriented",
        rate=5e-4,
    )


def digs() -> Recipe:
    """SIREN without normals: a divergence term, annealed, and a start as a sphere (DiGS, Ben-Shabat 2022, sections 3.2
    and 3.3). Surface, Eikonal and off-surface weights are the paper's 3000, 50, 100.

    The paper takes 10,000 steps of 15,000 points at omega 30 and a divergence weight of 100. In a tenth of the steps
    that ends in ripples; omega 10 and weight 10, at a higher rate, end with the right signs.
    """
    return Recipe(
        lambda dimension: Siren(dimension, omega=10.0, initialisation="digs"),
        {
            "surface": (3e3, _surface),
            "eikonal": (5e1, _eikonal_everywhere),
            "off surface": (1e2, lambda b: losses.off_surface(b.far.value)),
            "divergence": (annealed(10.0, 0.3, 0.75), lambda b: losses.divergence(b.few.divergence)),
        },
        data_terms=("surface",),
        rate=5e-4,
    )


# --- in the registry --------------------------------------------------------------------------------------------------


@dataclass
class NetworkField:
    """A FittedField that is a network in its own frame: f(x) = g(scale x) / scale."""

    network: nn.Module
    lipschitz: float = 1.5
    scale: float = NETWORK_SCALE
    warnings: list[dict[str, str]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    kind: str = "network"

    def signed_distance(self, points: Tensor) -> Tensor:
        """(N, 3) unit frame -> (N,)."""
        answer: Tensor = self.network(points * self.scale) / self.scale
        return answer

    def to_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        network: Any = self.network
        if network.name not in NETWORKS:
            raise ValueError(f"only {', '.join(NETWORKS)} can be stored, not {network.name}")
        arguments = {"network": network.name, "arguments": network.arguments, "scale": self.scale}
        return dict(self.network.state_dict()), {**arguments, "lipschitz": self.lipschitz}

    @staticmethod
    def from_state(tensors: dict[str, Tensor], arguments: dict[str, Any]) -> NetworkField:
        network = NETWORKS[arguments["network"]](**arguments["arguments"])
        network.load_state_dict(tensors)
        network.requires_grad_(False)
        return NetworkField(network.eval(), float(arguments["lipschitz"]), float(arguments["scale"]))


def unit_data(points: Array, normals: Array | None = None, mesh: Mesh | None = None) -> tuple[FitData, Similarity]:
    """FitData of clean points (N, 3) in any frame, with normals (outwards) and mesh in the same, and the transform of
    the unit frame back to theirs. The job `fit` does more: duplicates, noise, orientation."""
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    scale = UNIT_SIDE / max(float((high - low).max()), 1e-12)
    to_unit = Similarity(scale, np.eye(3), -scale * 0.5 * (low + high))
    unit = to_unit.apply(points)
    spacing = float(np.median(cKDTree(unit).query(unit[:: max(1, len(unit) // 2000)], [2])[0]))
    moved = None if mesh is None else Mesh(to_unit.apply(mesh.vertices), mesh.faces)
    return FitData(unit, normals, normals is not None, None, moved, 0.0, spacing), to_unit.inverse()


def fit_recipe(
    recipe: Recipe,
    data: FitData,
    settings: FitSettings,
    device: torch.device | str = "cpu",
    on_progress: OnProgress = no_progress,
    on_field: OnField = no_field,
    should_stop: Callable[[], bool] = never,
) -> NetworkField:
    """The recipe's network fitted to the data (unit frame). Smoothness 0.5 leaves the recipe's weights as they are; its
    ends make the recipe's data terms four times stronger or weaker. Raises InputError where the data lacks what the
    recipe needs; Cancelled; JobFailed."""
    device = torch.device(device)
    on_progress("Preparing samples", 0.0)
    began = time.perf_counter()
    source = _source(recipe, data, settings.seed)
    strength = 4.0 ** (1.0 - 2.0 * settings.smoothness)
    terms = {n: (_scaled(w, strength) if n in recipe.data_terms else w, t) for n, (w, t) in recipe.terms.items()}

    def on_step(step: int, steps: int, network: nn.Module) -> None:
        on_progress("Fitting", 0.05 + 0.95 * step / steps)
        if step in (steps // 6, steps // 2):
            on_field(_as_field(network, source))

    network, values = train(
        source,
        replace(recipe, terms=terms),
        iterations=settings.iterations,
        seed=settings.seed,
        device=device,
        on_step=on_step,
        should_stop=should_stop,
    )
    fitted = _as_field(network, source)
    fitted.report = {
        "losses": values,
        "iterations": settings.iterations or recipe.iterations,
        "parameters": sum(p.numel() for p in network.parameters()),
        "smoothness_used": bool(recipe.data_terms),
        "seconds": time.perf_counter() - began,
    }
    return fitted


def _scaled(weight: Weight, factor: float) -> Weight:
    return (lambda progress: factor * weight(progress)) if callable(weight) else factor * weight


def _as_field(network: nn.Module, source: Source) -> NetworkField:
    """Measures the slope about the data, where the extraction needs to know it."""
    rng = np.random.default_rng(0)
    row = rng.integers(len(source.points), size=1000)
    near = source.points[row] + 0.05 * rng.standard_normal((1000, source.points.shape[1])).astype(np.float32)
    device = next(network.parameters()).device
    with torch.enable_grad():
        at = At(network, torch.from_numpy(near.astype(np.float32)).to(device))
        slope = float(torch.linalg.vector_norm(at.gradient.detach(), dim=1).quantile(0.98))
    return NetworkField(network, min(max(1.2 * slope, 1.0), 20.0) if math.isfinite(slope) else 1.5)


def _source(recipe: Recipe, data: FitData, seed: int) -> Source:
    if recipe.needs == "oriented" and (data.normals is None or not data.oriented):
        raise InputError(
            "normals_missing",
            "The surface cannot be fitted with this method.",
            "It learns from normals that look outwards, and the input has none.",
            "Give points with normals, or use 'digs' or 'auto', which need none.",
        )
    points, signed = data.points, None
    if recipe.distances == "signed":
        signed = _signed_query(data)
    if recipe.distances != "none" and data.mesh is not None:
        points = sample_surface(data.mesh, MESH_SAMPLES, np.random.default_rng([seed, 6]))[0]
        normals = None  # of other points than these; recipes with distances use none
    else:
        normals = data.normals if data.oriented else None
    return Source((points * np.float32(NETWORK_SCALE)).astype(np.float32), normals, signed)


def _signed_query(data: FitData) -> SignedQuery:
    if data.mesh is None or len(data.mesh.faces) == 0:
        raise _no_inside("The input is points, which have no inside to learn from.")
    try:
        from ..geometry.signed_distance import SignedDistance

        field_ = SignedDistance(data.mesh)
    except ImportError as error:
        raise EngineError(
            "signed_distance_unavailable",
            "The inside of the mesh cannot be told from its outside.",
            f"A package is not installed for this Python ({error}).",
            "Install the training extras: pip install 'shapewright[train]'.",
        ) from error
    points, normals = sample_surface(data.mesh, 2000, np.random.default_rng(0))
    beside = [~field_.outside((points + side * 0.004 * normals).astype(np.float32)) for side in (-1.0, 1.0)]
    share = float((beside[0] | beside[1]).mean())
    if share < 0.7:
        raise _no_inside(f"Of its surface {1 - share:.0%} can be seen from both sides.")

    def query(points: Array) -> tuple[Array, Array]:
        distance, direction = field_((points / np.float32(NETWORK_SCALE)).astype(np.float32))
        return (distance * np.float32(NETWORK_SCALE)).astype(np.float32), direction

    return query


def _no_inside(why: str) -> InputError:
    return InputError(
        "no_inside",
        "The surface cannot be fitted with this method.",
        f"It learns from the inside of a closed mesh. {why}",
        "Use 'auto', 'sald' or 'digs', which learn from the surface alone.",
    )


def _fit(
    make: Callable[[], Recipe],
    data: FitData,
    settings: FitSettings,
    device: torch.device,
    on_progress: OnProgress,
    on_field: OnField,
    should_stop: Callable[[], bool],
) -> FittedField:
    recipe = make()
    recipe = replace(recipe, **{k: v for k, v in settings.options.items() if k in ("batch", "rate", "network")})
    return fit_recipe(recipe, data, settings, device, on_progress, on_field, should_stop)


def _register(name: str, make: Callable[[], Recipe], summary: str, citation: str) -> None:
    needs: Any = make().needs
    METHODS[name] = Method(name, summary, citation, needs, partial(_fit, make))


FIELDS["network"] = NetworkField.from_state
_register("sdf", sdf, "regression of the signed distance; for meshes with an inside", "DeepSDF, Park et al. 2019")
_register("igr", igr, "surface, normal and Eikonal terms", "IGR, Gropp et al. 2020")
_register("sal", sal, "sign-agnostic regression of the distance; rounds corners", "SAL, Atzmon and Lipman 2020")
_register("sal_l0", sal_l0, "sign-agnostic, 0 on the data and 1 off it", "SAL (L0), Atzmon and Lipman 2020")
_register("sald", sald, "sign-agnostic regression with derivatives", "SALD, Atzmon and Lipman 2021")
_register("siren", siren, "sine network, fine detail; needs good normals", "SIREN, Sitzmann et al. 2020")
_register("digs", digs, "sine network for points without normals", "DiGS, Ben-Shabat et al. 2022")
_register("occupancy", occupancy, "inside or outside; for meshes with an inside", "Mescheder et al. 2019")
