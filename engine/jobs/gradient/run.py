"""Densify, reconstruct and generate with a gradient field as a job: clouds (meshes without faces) or shells."""

from __future__ import annotations

import platform
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import __version__
from ...completion.alignment import observed_frame
from ...device import describe_device, resolve_device
from ...errors import Cancelled, InputError
from ...frames import up_rotation
from ...geometry.meshes import Mesh
from ...geometry.sampling import estimate_normals
from ...geometry.transforms import Similarity
from ...gradient_fields.model import GradientField
from ...gradient_fields.registry import find_gradient_field
from ...gradient_fields.sampling import densify, encode, extract_surface, observe, sample_points
from ..base import FinishedMesh, GradientRequest, JobArrays, JobCallbacks, JobResult, Progress

GAN_TRIES = 500


def new_codes(model: GradientField, request: GradientRequest, number: int) -> Tensor:
    """(1, *code shape), the code of new shape `number` of the request's seed. InputError where the family cannot do
    it."""
    latent = model.prior.latent
    if latent is None or (request.latent == "gan" and model.generator is None):
        raise InputError(
            "gradient_field_cannot_generate",
            f"The gradient field {request.field} cannot make new shapes.",
            f"Its prior {model.prior.name} was trained without a latent distribution.",
            "Densify with it, or train one on a prior that can generate.",
        )
    generator = torch.Generator().manual_seed((request.seed * 1_000_003 + number) % 2**63)
    if request.latent != "gan":
        return latent.expand(
            latent.sample(1, request.class_name, request.temperature, generator, request.latent)
        )
    label = latent.label(request.class_name)
    assert model.generator is not None
    # The adversarial generator knows no classes: of many draws the first that the mixture takes for the class.
    noise = torch.randn((1 if label is None else GAN_TRIES, model.generator.noise), generator=generator)
    with torch.no_grad():
        drawn = model.generator((noise * request.temperature).to(model.device))
    if label is not None:
        mine = latent.class_posterior(drawn).argmax(1) == label
        if not mine.any():
            raise InputError(
                "gan_without_class",
                f"No {request.class_name} was generated.",
                f"Among {GAN_TRIES} draws of the adversarial generator, which knows no classes, was none.",
                "Choose another seed or temperature, or another latent distribution (mixture or diffusion).",
            )
        drawn = drawn[mine][:1]
    return latent.expand(drawn)


def run_gradient(request: GradientRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """The contract is in engine.jobs.base. Clouds carry normals estimated from themselves."""
    began = time.perf_counter()
    callbacks.on_progress(Progress("Loading the gradient field", 0.01))
    device = resolve_device(request.device)
    model = find_gradient_field(request.field, device)
    to_scene = Similarity()
    given = 0
    canonical = np.zeros((0, 3), np.float32)
    if request.mode != "generate":
        if arrays is None or len(arrays.points) == 0:
            raise InputError(
                "input_missing", "There is nothing to work on.", "The request came without points.", "Send points."
            )
        given = len(arrays.points)
        if request.align == "scale":
            centre = Similarity(translation=-np.median(arrays.points.astype(np.float64), axis=0))
            upright = Similarity(rotation=up_rotation(request.up)).after(centre)
            into = observed_frame(upright.apply(arrays.points)).after(upright)
            to_scene = into.inverse()
            canonical = into.apply(arrays.points)
        else:
            canonical = arrays.points
    count = request.count if request.mode == "generate" else 1
    meshes: list[Mesh] = []
    rows: list[dict[str, Any]] = []
    for number in range(count):
        if callbacks.should_stop():
            raise Cancelled

        def on_progress(done: float, number: int = number) -> None:
            callbacks.on_progress(Progress("Moving points", min(0.99, (number + done) / count)))

        if request.mode == "densify" and request.output == "points":
            dense = densify(
                model, canonical, request.points, request.seed, on_progress=on_progress,
                should_stop=callbacks.should_stop,
            )
            mesh = _cloud(dense)
        else:
            rng = np.random.default_rng([request.seed, 11])
            if request.mode == "generate":
                features = model.decode(new_codes(model, request, number))
            elif request.mode == "densify":
                features = observe(model, canonical, rng)
            else:
                features = model.decode(encode(model, canonical, rng))
            if request.output == "mesh":
                mesh = extract_surface(model, features, request.resolution, should_stop=callbacks.should_stop)
            else:
                generator = torch.Generator().manual_seed((request.seed * 1_000_003 + number + 7) % 2**63)
                points = sample_points(
                    model, features, request.points, generator, on_progress=on_progress,
                    should_stop=callbacks.should_stop,
                )
                mesh = _cloud(points.cpu().numpy().astype(np.float32))
        normals = None if mesh.normals is None else to_scene.apply_to_directions(mesh.normals)
        placed = Mesh(to_scene.apply(mesh.vertices), mesh.faces, normals)
        meshes.append(placed)
        rows.append({"vertices": len(placed.vertices), "faces": len(placed.faces)})
        if request.mode == "generate":
            callbacks.on_mesh(FinishedMesh(number, placed, about=rows[-1]))
    report = {
        "kind": "gradient", "mode": request.mode, "field": request.field, "prior": model.prior.name,
        "seed": request.seed,
        "settings": {
            "output": request.output, "points": request.points, "class_name": request.class_name,
            "latent": request.latent, "temperature": request.temperature, "align": request.align,
        },
        "input_points": {"given": given}, "shapes": rows, "timings": {"total": time.perf_counter() - began},
        "device": describe_device(device),
        "versions": {"shapewright": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    callbacks.on_progress(Progress("Done", 1.0, 0.0))
    return JobResult(meshes, report)


def _cloud(points: np.ndarray[Any, np.dtype[np.float32]]) -> Mesh:
    centre = points.mean(0)
    normals = estimate_normals(points, 16, None)
    outward = np.where(((points - centre) * normals).sum(1, keepdims=True) < 0, -normals, normals)
    return Mesh(points, np.zeros((0, 3), np.int32), outward.astype(np.float32))
