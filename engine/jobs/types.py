"""The things that travel between a client, the queue and the code that does the work. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ..geometry.clouds import FloatArray
from ..geometry.meshes import IntArray, Mesh

Align = Literal["none", "scale", "similarity"]
Normals = Literal["auto", "given", "none"]
FIT_METHODS = ("auto", "sdf", "igr", "sal", "sald", "siren", "digs", "occupancy")
"""The names of engine.fitting.fit_types.METHODS, known without torch."""


@dataclass
class CompleteRequest:
    """Complete Shape: settings only; the arrays travel beside it.

    align: 'none' = the points are already in the canonical frame (z up, front -y, bounding box of the whole shape
    centred at 0, longest side 1); 'scale' = the axes are trusted, scale and translation are found; 'similarity' = also
    the rotation.  up: which input axis points up ('+z', '-y', ...).  viewpoint: where the sensor stood, in the input's
    frame, or None.  resolution: cells along the canonical box [-0.55, 0.55]^3 in the final mesh.
    """

    kind: Literal["complete"] = "complete"
    prior: str = "household"
    align: Align = "scale"
    up: str = "+z"
    viewpoint: tuple[float, float, float] | None = None
    hypotheses: int = 1
    resolution: int = 128
    seed: int = 0
    device: str = "auto"
    name: str = ""


@dataclass
class FitRequest:
    """Fit Shape: a surface from raw points or triangles, no prior. Settings only; the arrays travel beside it.

    method: one of FIT_METHODS.  resolution: detail, cells along the box of the final mesh (the input's longest side
    takes nine tenths of it).  smoothness: 0 = through every point, 1 = very smooth; 0.5 weighs by the noise.
    normals: 'given' = those of the input are trusted, 'none' = ignored, 'auto' = trusted as far as they agree with one
    another (also the faces of a mesh).  viewpoint: where the sensor stood, or None.  noise: standard deviation of the
    points, or None to estimate it; both in the input's frame and unit.  open_boundaries: leave holes open, by cutting
    the surface off where no points are near.  iterations: of methods that train a network, None = the method's own.
    reuse: report["field_id"] of an earlier fit: extract its field again (resolution and open_boundaries count, the rest
    is as it was) without fitting; such a request needs no arrays.
    """

    kind: Literal["fit"] = "fit"
    method: str = "auto"
    resolution: int = 128
    smoothness: float = 0.5
    normals: Normals = "auto"
    viewpoint: tuple[float, float, float] | None = None
    noise: float | None = None
    open_boundaries: bool = False
    iterations: int | None = None
    reuse: str = ""
    seed: int = 0
    device: str = "auto"
    name: str = ""


@dataclass
class SelftestRequest:
    """Prove that the engine works: see engine.jobs.selftest. The job waits `steps` times `step_seconds` first."""

    kind: Literal["selftest"] = "selftest"
    resolution: int = 64
    steps: int = 1
    step_seconds: float = 0.0
    device: str = "auto"
    name: str = ""


Request = CompleteRequest | FitRequest | SelftestRequest


@dataclass
class JobArrays:
    """The input in its own (scene) frame.

    points: (N, 3) float32.  normals: (N, 3) float32 or None.
    faces: (F, 3) int32 into points where the input is a mesh (its surface is sampled by the engine), or None.
    """

    points: FloatArray
    normals: FloatArray | None = None
    faces: IntArray | None = None


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
class JobCallbacks:
    """How running work reaches the outside. `should_stop` is asked at least once an optimiser step."""

    on_progress: Callable[[Progress], None] = lambda progress: None
    on_preview: Callable[[Preview], None] = lambda preview: None
    should_stop: Callable[[], bool] = lambda: False


@dataclass
class JobResult:
    """meshes: one a hypothesis, best first, in the input's scene frame.

    report: JSON-serialisable, the fields of the command line's report.
    """

    meshes: list[Mesh] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
