"""Shapes made from codes, handed out one after another, each as soon as it is done: for the kinds that generate."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ..device import describe_device, resolve_device
from ..errors import Cancelled, JobFailed
from ..fields.shapes import Parts, Patches, Shape
from ..finish import soundness
from ..finish.finishing import Finish, finished, standing
from ..generation.codes import CRUMBS, decode, largest_piece, latent_of, prior_of
from ..geometry.connected import is_watertight
from ..geometry.meshes import Mesh
from ..geometry.transforms import Similarity
from ..jobs.base import (
    Clock,
    FinishedMesh,
    JobCallbacks,
    JobResult,
    Progress,
    Reporter,
    ShapeCode,
    about_prior,
    mesh_to_scene,
    versions,
)
from ..surfaces.cleanup import clean_mesh
from ..surfaces.of import of

log = logging.getLogger(__name__)


def _nothing(mesh: Mesh) -> dict[str, Any]:
    return {}


class Delivery:
    """A job's prior, its clock, and what it has handed out so far."""

    def __init__(
        self, kind: str, prior: str, digest: str, resolution: int, seed: int, device: str, callbacks: JobCallbacks,
        finish: Finish,
    ) -> None:
        """prior, digest: as `prior_of` takes them.  resolution: of every mesh.  finish: what is done to each.
        Raises InputError."""
        callbacks.on_progress(Progress("Loading the prior", 0.01))
        self.kind, self.resolution, self.seed, self.callbacks = kind, resolution, seed, callbacks
        self.ending = finish
        self.clock, self.progress = Clock(), Reporter(callbacks)
        self.device = resolve_device(device)
        self.prior = prior_of(prior, digest, str(self.device))
        self.latent = latent_of(self.prior)
        self._meshes: list[Mesh] = []
        self._codes: list[ShapeCode | None] = []
        self._rows: list[dict[str, Any]] = []
        self._empty: list[int] = []
        self._evaluations = 0
        self.clock.lap("load")

    def holds(self, code: Tensor) -> float:
        """How far the shape of a code (C, R, R, R) holds together, 0 to 1."""
        if self.callbacks.should_stop():
            raise Cancelled
        return largest_piece(decode(self.prior, code))

    def deliver(
        self,
        shape: Shape,
        code: Tensor,
        to_scene: Similarity,
        number: int,
        row: dict[str, Any],
        place: tuple[int, int],
        measure: Callable[[Mesh], dict[str, Any]] = _nothing,
    ) -> None:
        """Extract one shape and hand it out. A shape without a surface is left out, and the report says so.

        shape: a batch of one, canonical.  code: (*code_shape), what it was decoded from.  row: of the
        report.  place: it is the a-th of b.  measure: more for the row, of the mesh in the scene.
        """
        extracted = self.extract(shape, number, place)
        if extracted is not None:
            extracted = standing(finished(extracted, self.ending, self.resolution, to_scene.scale))
            self.hand_out(extracted, code, to_scene, number, row, measure)

    def extract(self, shape: Shape, number: int, place: tuple[int, int]) -> Mesh | None:
        """The shape's surface in the canonical frame; None, and a note for the report, where it has none."""
        done, total = place
        self.progress("Making shapes", 0.1 + 0.9 * done / total, f"Shape {done + 1} of {total}")
        try:
            extraction = of(
                shape, self.resolution, device=self.device, should_stop=self.callbacks.should_stop, with_normals=True
            )
        except JobFailed as error:
            if error.code != "empty_surface":
                raise
            log.info("Shape %s has no surface", number)
            self._empty.append(number)
            return None
        self._evaluations += extraction.evaluations
        if isinstance(shape, Patches | Parts):
            return extraction.mesh  # of pieces by nature
        return clean_mesh(extraction.mesh, CRUMBS)

    def hand_out(
        self,
        mesh: Mesh,
        code: Tensor,
        to_scene: Similarity,
        number: int,
        row: dict[str, Any],
        measure: Callable[[Mesh], dict[str, Any]] = _nothing,
    ) -> None:
        """Put a canonical mesh in its place and hand it out."""
        placed = mesh_to_scene(mesh, to_scene)
        self.clock.lap("extract")
        index = len(self._meshes)
        kept = ShapeCode(code.detach().cpu().numpy().astype(np.float32), to_scene.matrix())
        coefficients = self.latent.project(code[None])
        row = {
            "index": index,
            "number": number,
            "prior": {"name": self.prior.name, "sha256": self.prior.sha256},
            **row,
            "log_density": float(-0.5 * coefficients.square().sum() / self.latent.size),
            "vertices": len(placed.vertices),
            "faces": len(placed.faces),
            "watertight": is_watertight(placed),
            "soundness": soundness.report(mesh, scale=to_scene.scale),
            **measure(placed),
        }
        self._meshes.append(placed)
        self._codes.append(kept)
        self._rows.append(row)
        self.clock.lap("measure")
        self.callbacks.on_mesh(FinishedMesh(index, placed, kept, row))

    def finish(self, **more: Any) -> JobResult:
        """The job's result; more: what the report says besides. Raises JobFailed 'empty_surface' where no shape came
        out."""
        if not self._meshes:
            raise JobFailed(
                "empty_surface",
                "No shape came out.",
                f"None of the {len(self._empty)} codes has a surface.",
                "Lower the temperature or the strength, or try another seed.",
            )
        report: dict[str, Any] = {
            "kind": self.kind,
            "prior": about_prior(self.prior),
            "seed": self.seed,
            **more,
            "shapes": self._rows,
            "empty": self._empty,
            "timings": self.clock.laps,
            "evaluations": self._evaluations,
            "device": describe_device(self.device),
            "versions": versions(),
        }
        self.callbacks.on_progress(Progress("Done", 1.0, 0.0))
        return JobResult(self._meshes, report, self._codes)
