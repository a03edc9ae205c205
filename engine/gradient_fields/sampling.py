"""From a gradient field to points and surfaces: annealed Langevin dynamics, densifying, extraction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import Cancelled, InputError
from ..geometry.clouds import FloatArray
from ..geometry.connected import vertex_components
from ..geometry.meshes import Mesh, compacted
from ..surfaces.marching import extract_sparse
from .model import Features, GradientField

CHUNK = 16_384

ENCODED = 2048
"""Points that the encoder sees of a cloud."""
GAN_TRIES = 500
"""Draws of the adversarial generator among which one of the class wanted is looked for."""


def new_code(
    model: GradientField, name: str, number: int, seed: int, class_name: str, latent: str, temperature: float = 1.0
) -> Tensor:
    """(1, *code shape), the code of new shape `number` of the seed. name: of the model, for messages.

    latent: 'gan' or one of the prior's distributions.  class_name: one of its classes, '' = any.  Raises InputError
    'gradient_field_cannot_generate' where the model has nothing to draw from, 'gan_without_class'.
    """
    prior = model.prior.latent
    if prior is None or (latent == "gan" and model.generator is None):
        raise InputError(
            "gradient_field_cannot_generate",
            f"The gradient field {name} cannot make new shapes.",
            f"Its prior {model.prior.name} was trained without a latent distribution.",
            "Densify with it, or train one on a prior that can generate.",
        )
    generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % 2**63)
    if latent != "gan":
        return prior.expand(prior.sample(1, class_name, temperature, generator, latent))
    label = prior.label(class_name)
    assert model.generator is not None
    # The adversarial generator knows no classes: of many draws the first that the mixture takes for the class.
    noise = torch.randn((1 if label is None else GAN_TRIES, model.generator.noise), generator=generator)
    with torch.no_grad():
        drawn = model.generator((noise * temperature).to(model.device))
    if label is not None:
        mine = prior.class_posterior(drawn).argmax(1) == label
        if not mine.any():
            raise InputError(
                "gan_without_class",
                f"No {class_name} was generated.",
                f"Among {GAN_TRIES} draws of the adversarial generator, which knows no classes, was none.",
                "Choose another seed or temperature, or another latent distribution (mixture or diffusion).",
            )
        drawn = drawn[mine][:1]
    return prior.expand(drawn)


def langevin(
    model: GradientField,
    features: Features,
    points: Tensor,
    *,
    generator: torch.Generator,
    first_level: int = 0,
    steps: int = 5,
    rate: float = 1.0,
    on_progress: Callable[[float], None] = lambda fraction: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tensor:
    """Annealed Langevin dynamics (Song, Ermon 2019, algorithm 1; Cai 2020, algorithm 1), `steps` a noise level.

    features: of one shape, from `model.decode`.  points: (N, 3), where they start, canonical.  first_level: begin below
    the largest blur, for points that lie near the surface already.  rate: epsilon of the step, relative to sigma^2.
    With the exact score five steps of 1 gave clouds as good as ten of 0.5.
    The last level ends without noise, on the surface as far as the field knows it.  Returns (N, 3).
    """
    x = points.clone()
    levels = model.levels[first_level:].tolist()
    with torch.no_grad():
        for k, sigma in enumerate(levels):
            alpha = rate * sigma**2
            for step in range(steps):
                if should_stop():
                    raise Cancelled
                noise = torch.randn(x.shape, generator=generator).to(x.device)
                for begin in range(0, len(x), CHUNK):
                    part = x[begin : begin + CHUNK]
                    score = model.step_to_surface(part[None], sigma, features)[0] / sigma**2
                    x[begin : begin + CHUNK] = part + alpha / 2 * score + alpha**0.5 * noise[begin : begin + CHUNK]
                on_progress((k + (step + 1) / steps) / len(levels))
        for begin in range(0, len(x), CHUNK):  # the expected clean point (Tweedie)
            part = x[begin : begin + CHUNK]
            x[begin : begin + CHUNK] = part + model.step_to_surface(part[None], levels[-1], features)[0]
    return x


def sample_points(
    model: GradientField, features: Features, count: int, generator: torch.Generator, **options: object
) -> Tensor:
    """(count, 3) points of the shape with these features, from noise."""
    start = torch.randn((count, 3), generator=generator).to(model.device) * float(model.levels[0])
    return langevin(model, features, start, generator=generator, **options)  # type: ignore[arg-type]


def encode(model: GradientField, points: FloatArray, rng: np.random.Generator, count: int = ENCODED) -> Tensor:
    """Code (1, *code shape) of points (N, 3) in the canonical frame."""
    return model.encode(_evenly(model, points, rng, count))


def observe(model: GradientField, points: FloatArray, rng: np.random.Generator) -> Features:
    """Features of points (N, 3) in the canonical frame: of their code, and of what they tell beyond it."""
    return model.observe(_evenly(model, points, rng, ENCODED))


def _evenly(model: GradientField, points: FloatArray, rng: np.random.Generator, count: int) -> Tensor:
    """(1, count, 3) of the points, as many as in training; some several times where there are fewer."""
    if len(points) < 8:
        raise InputError(
            "too_few_points", "The cloud cannot be read.", f"It has {len(points)} points; at least 8 are needed.",
            "Give a denser cloud.",
        )
    chosen = rng.choice(len(points), count, replace=len(points) < count)
    return torch.as_tensor(points[chosen], dtype=torch.float32, device=model.device)[None]


def densify(
    model: GradientField, points: FloatArray, count: int, seed: int, **options: object
) -> FloatArray:
    """(count, 3): a dense cloud of the surface that sparse points (N, 3) come from (Cai 2020, section 5.4).

    New points start near the given ones, at a blur of about their spacing, and are drawn in by the shape's field.
    """
    rng, generator = np.random.default_rng([seed, 11]), torch.Generator().manual_seed(seed)
    features = observe(model, points, rng)
    from scipy.spatial import cKDTree

    spacing = float(np.median(cKDTree(points).query(points, k=2)[0][:, 1]))
    levels = model.levels
    first = int((levels - 2 * spacing).abs().argmin())
    start = points[rng.integers(0, len(points), count)] + rng.normal(0, float(levels[first]), (count, 3))
    moved = langevin(
        model, features, torch.as_tensor(start, dtype=torch.float32, device=model.device),
        generator=generator, first_level=first, **options,  # type: ignore[arg-type]
    )
    return np.asarray(moved.cpu().numpy(), np.float32)


def extract_surface(
    model: GradientField, features: Features, resolution: int = 128, offset: float = 0.012,
    should_stop: Callable[[], bool] = lambda: False,
) -> Mesh:
    """The shape's surface, thickened by `offset` to both sides: where the field's way to the surface is that long.

    The length of the way approximates the distance to the surface (Cai 2020, section 3.3), and it has no sign; the
    closed shell about it is what marching cubes can find, and its inner walls are dropped. A small noise level knows
    only its own neighbourhood, so the way is asked for level by level, the smaller ones only where the way is short.
    """

    def distance(x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([_way_length(model, part, features, offset) for part in torch.split(x, CHUNK)]) - offset

    mesh = extract_sparse(distance, resolution, device=model.device, should_stop=should_stop).mesh
    return _outer_shells(mesh)


def _way_length(model: GradientField, points: Tensor, features: Features, smallest: float) -> Tensor:
    """(N,) length of the way to the surface from points (N, 3)."""
    levels = model.levels.tolist()
    length: Tensor = model.step_to_surface(points[None], levels[0], features)[0].norm(dim=1)
    for sigma in levels[1:]:
        near = length < 1.5 * sigma
        if sigma < 0.5 * smallest or not near.any():
            break
        length[near] = model.step_to_surface(points[near][None], sigma, features)[0].norm(dim=1)
    return length


def _outer_shells(mesh: Mesh) -> Mesh:
    """Without the components that turn inside out: the walls of closed hollows (negative volume)."""
    labels = vertex_components(mesh)
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    volume = np.bincount(labels[mesh.faces[:, 0]], (a * np.cross(b, c)).sum(1) / 6, minlength=labels.max() + 1)
    keep = volume[labels[mesh.faces[:, 0]]] > 1e-6
    return compacted(Mesh(mesh.vertices, mesh.faces[keep], mesh.normals))
