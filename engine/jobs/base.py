"""What the jobs of all kinds share: what goes in, what comes out, and the tools to tell of the way. No torch here."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..errors import Cancelled
from ..geometry.clouds import FloatArray, PointCloud
from ..geometry.meshes import IntArray, Material, Mesh
from ..geometry.transforms import Similarity

if TYPE_CHECKING:
    from ..priors.file import Prior

# ------------------------------------------------------------------------------------------------------- in and out


@dataclass
class ShapeCode:
    """A shape as its prior knows it: enough to make it again, vary or blend it.

    code: (C, R, R, R) float32, whole shape, decodes without evidence.  pose: (4, 4) float64, canonical frame -> scene.
    """

    code: FloatArray
    pose: NDArray[np.float64]


@dataclass
class JobArrays:
    """The input in its own (scene) frame, or about an offset in it.

    points: (N, 3) float32, (0, 3) where there is only a code.  normals: (N, 3) float32 or None.
    faces: (F, 3) int32 into points where the input is a mesh (its surface is sampled by the engine), or None.
    code: of a shape that has one.  kept, kept_normals: (K, 3), the part that variants leave as it is.
    others: further shapes of a blend (points, normals, faces, code, colours).  colours: (N, 3) float32, sRGB in 0..1,
    of the points, or None.  materials, face_materials: (F,) int32 into them, of a mesh's faces, -1 for none; or None.
    viewpoints: (S, 3) float32 where the sensors of several scans stood, with scans: (N,) int32, which of them saw each
    point, of an input without faces; a request's viewpoint goes before.  offset: (3,) float64, what to add to all
    points, and to all results, for the places in the world of a survey, whose coordinates float32 cannot hold; None =
    nothing.  notes: what the checks left out of all that came, a sentence each.
    """

    points: FloatArray
    normals: FloatArray | None = None
    faces: IntArray | None = None
    code: ShapeCode | None = None
    kept: FloatArray | None = None
    kept_normals: FloatArray | None = None
    others: list[JobArrays] = field(default_factory=list)
    colours: FloatArray | None = None
    materials: tuple[Material, ...] = ()
    face_materials: IntArray | None = None
    viewpoints: FloatArray | None = None
    scans: IntArray | None = None
    offset: NDArray[np.float64] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def has_faces(self) -> bool:
        return self.faces is not None and len(self.faces) > 0

    @property
    def mesh(self) -> Mesh:
        """The input as a mesh, of one that has faces."""
        assert self.faces is not None
        return Mesh(
            self.points, self.faces, self.normals, self.colours, None, self.materials, self.face_materials
        )

    def cloud(self, viewpoint: tuple[float, float, float] | None) -> PointCloud:
        """The points with all that belongs to them; viewpoint: a request's."""
        if viewpoint is None and self.viewpoints is not None and self.scans is not None:
            return PointCloud(self.points, self.normals, self.viewpoints, self.colours, scans=self.scans)
        place = None if viewpoint is None else np.asarray(viewpoint, np.float32)
        return PointCloud(self.points, self.normals, place, self.colours)

    @property
    def shape_alone(self) -> JobArrays:
        """Without what the surface looks like."""
        return replace(self, colours=None, materials=(), face_materials=None)


@dataclass
class Progress:
    """stage: a short word a user understands.  fraction: 0..1 of the whole job.  eta_s: seconds left, None unknown."""

    stage: str
    fraction: float
    eta_s: float | None = None
    message: str = ""


@dataclass
class Preview:
    """A mesh in the input's scene frame, coarser than the result. hypothesis: which of the results it previews."""

    mesh: Mesh
    resolution: int
    hypothesis: int = 0


@dataclass
class FinishedMesh:
    """One of several results, finished before the others: the very mesh that JobResult.meshes[index] will be.

    about: its row of the report.
    """

    index: int
    mesh: Mesh
    code: ShapeCode | None = None
    about: dict[str, Any] = field(default_factory=dict)


@dataclass
class JobCallbacks:
    """How running work reaches the outside. `should_stop` is asked at least once an optimiser step."""

    on_progress: Callable[[Progress], None] = lambda progress: None
    on_preview: Callable[[Preview], None] = lambda preview: None
    should_stop: Callable[[], bool] = lambda: False
    on_mesh: Callable[[FinishedMesh], None] = lambda finished: None


@dataclass
class JobResult:
    """meshes: one a hypothesis, best first, in the input's scene frame.  codes: one a mesh, or empty: none has one.

    report: JSON-serialisable, the fields of the command line's report.
    """

    meshes: list[Mesh] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    codes: list[ShapeCode | None] = field(default_factory=list)


Runner = Callable[[Any, JobArrays | None, JobCallbacks], JobResult]
"""What does a job: (request of the kind's class, its arrays, callbacks). Raises InputError (the request is at fault),
JobFailed (the engine is), Cancelled."""


# --------------------------------------------------------------------------------------------------------- on the way


class Clock:
    """Where the time of a job goes."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        """Stage -> seconds, for the report's `timings`."""
        self._began = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """What has passed since the last lap belongs to `stage`."""
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now

    @property
    def seconds(self) -> float:
        """Since the clock was made."""
        return time.perf_counter() - self._began


class Reporter:
    """Progress with the time left, and the place where a job learns that it should stop."""

    def __init__(self, callbacks: JobCallbacks) -> None:
        self._callbacks = callbacks
        self._clock = Clock()

    def __call__(self, stage: str, fraction: float, message: str = "") -> None:
        """fraction: 0..1 of the whole job. Raises Cancelled."""
        if self._callbacks.should_stop():
            raise Cancelled
        # Of the first part, which loads and reads, nothing can be told of the rest.
        left = self._clock.seconds * (1 - fraction) / fraction if fraction > 0.15 else None
        self._callbacks.on_progress(Progress(stage, min(fraction, 0.999), left, message))

    def part(self, low: float, high: float) -> Callable[[str, float], None]:
        """For the stages of a part of the job, which runs from `low` to `high`."""
        return lambda stage, within: self(stage, low + (high - low) * min(max(within, 0.0), 1.0))


def mesh_to_scene(mesh: Mesh, to_scene: Similarity) -> Mesh:
    """A mesh of the canonical (or any other) frame in the scene."""
    normals = None if mesh.normals is None else to_scene.apply_to_directions(mesh.normals)
    own = None
    if mesh.own_frame is not None:
        own = to_scene.after(Similarity.from_matrix(mesh.own_frame)).matrix()
        own[:3, :3] /= to_scene.scale
    return replace(mesh, vertices=to_scene.apply(mesh.vertices), normals=normals, own_frame=own)


# ---------------------------------------------------------------------------------------------------------- the report


def versions() -> dict[str, str]:
    """A report's `versions`: what made the result."""
    import torch

    return {
        "shapewright": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def about_prior(prior: Prior) -> dict[str, str]:
    """A report's `prior`: which one."""
    return {"name": prior.name, "version": prior.card["version"], "sha256": prior.sha256}
