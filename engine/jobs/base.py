"""The things that travel between a client, the queue and the code that does the work. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..geometry.clouds import FloatArray
from ..geometry.meshes import IntArray, Mesh

Align = Literal["none", "scale", "similarity"]
Front = Literal["given", "evident"]
Ground = Literal["auto", "keep"]
Normals = Literal["auto", "given", "none"]
FIT_METHODS = ("auto", "sdf", "igr", "sal", "sal_l0", "sald", "siren", "digs", "occupancy")
"""The names of engine.surface_fit.base.METHODS, known without torch."""


@dataclass
class CompleteRequest:
    """Complete Shape: settings only; the arrays travel beside it.

    align: 'none' = the points are already in the canonical frame (z up, front -y, bounding box of the whole shape
    centred at 0, longest side 1); 'scale' = the axes are trusted, scale and translation are found; 'similarity' = also
    the rotation.  front: of 'scale', 'given' = it faces -y, 'evident' = unless the evidence clearly says another way.
    up: which input axis points up ('+z', '-y', ...).  viewpoint: where the sensor stood, in the input's
    frame, or None.  resolution: cells along the canonical box [-0.55, 0.55]^3 in the final mesh.  pose: the alignment
    itself, where the caller knows or has corrected it: the 16 numbers, row by row, of the matrix canonical -> input
    frame (as in a report's alignment.matrix); `align` and `up` then find nothing.
    class_name: one of the prior's classes, or '' = found.  noise: standard deviation of the points in the input's unit,
    or None = estimated.  ground: 'auto' = a floor under the object is found and left out, 'keep' = all points are the
    object's.  max_faces: decimate each result to at most so many triangles; 0 = as extracted.
    """

    kind: Literal["complete"] = "complete"
    prior: str = "household"
    align: Align = "scale"
    front: Front = "given"
    up: str = "+z"
    viewpoint: tuple[float, float, float] | None = None
    pose: tuple[float, ...] | None = None
    hypotheses: int = 1
    resolution: int = 128
    class_name: str = ""
    noise: float | None = None
    ground: Ground = "auto"
    max_faces: int = 0
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


@dataclass
class TrainShape:
    """One mesh among those sent to be learnt from: its rows of the arrays follow those of the shape before it."""

    name: str
    class_name: str
    vertices: int


@dataclass
class TrainRequest:
    """Train Prior: learn the prior `name` from meshes. It is listed when the job is done; the job has no result meshes.

    The meshes are the arrays' points and faces, cut into `shapes` by their numbers of vertices (z up, front -y, any
    size and place); or `folder` names a shape library on the engine's machine, and no arrays come.
    preset: 'cpu', 'gpu', or 'auto' by the device.  minutes: as many steps as fit, None = the preset's number.
    start_from: a prior whose weights the training begins with, '' = none.  resume: go on with the run of this name.
    pose_steps: of the pose network, None = as many as suit the length.  settings: of engine.training.train's
    TrainingSettings, by name.
    """

    kind: Literal["train"] = "train"
    name: str = ""
    folder: str = ""
    shapes: tuple[TrainShape, ...] = ()
    preset: Literal["auto", "cpu", "gpu"] = "auto"
    minutes: float | None = None
    start_from: str = ""
    resume: bool = False
    pose_steps: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"


Distribution = Literal["default", "gaussian", "mixture", "diffusion"]
BlendPath = Literal["plausible", "spherical", "straight"]
InputIs = Literal["auto", "whole", "partial"]


@dataclass
class GenerateRequest:
    """New shapes from the prior's latent distribution. No arrays. Results: shapes number first .. first + count - 1.

    class_name: one of the prior's classes, '' = any.  temperature: how far from the likely the shapes may be (0 = the
    mean shape, 1 = as the training shapes are).  avoid_duplicates: draw again what is nearly a training shape or an
    earlier one.  avoid_pieces: draw again (a few times) what does not hold together.
    first: shape k of a seed is the same whatever `first` and `count` are.
    Shapes come in the canonical frame (centre 0, longest side 1); placing them is the client's.
    """

    kind: Literal["generate"] = "generate"
    prior: str = "household"
    class_name: str = ""
    count: int = 1
    first: int = 0
    temperature: float = 0.9
    distribution: Distribution = "default"
    avoid_duplicates: bool = True
    avoid_pieces: bool = True
    resolution: int = 128
    seed: int = 0
    device: str = "auto"
    name: str = ""


@dataclass
class OfShapesRequest:
    """What requests that start from shapes share: the arrays' codes, or their points (and faces), encoded first.

    prior_sha256: the prior that the codes belong to ('' where the arrays have none).  input_is: a shape without a code
    is 'whole' (encoded as it is) or 'partial' (completed first); 'auto' = whole where it is a closed mesh.
    align, up: for input without a code, as in CompleteRequest.
    """

    prior: str = "household"
    prior_sha256: str = ""
    input_is: InputIs = "auto"
    align: Align = "scale"
    up: str = "+z"
    resolution: int = 128
    seed: int = 0
    device: str = "auto"
    name: str = ""


@dataclass
class VaryRequest(OfShapesRequest):
    """Relatives of one shape.

    strength: 0 = the shape itself (count 1 then simply gives a mesh or a scan its code), 1 = half way to any other
    shape.  The arrays may hold `kept` points (and normals): there every variant keeps the surface.
    """

    kind: Literal["vary"] = "vary"
    count: int = 5
    first: int = 0
    strength: float = 0.5
    avoid_pieces: bool = True
    viewpoint: tuple[float, float, float] | None = None


@dataclass
class BlendRequest(OfShapesRequest):
    """In-betweens of the arrays' shapes (itself and its `others`, two or more), with codes or without.

    steps: meshes between each neighbouring pair.  ends: also the shapes themselves, decoded from their codes.
    path: 'spherical' in the whitened coefficients, 'straight', or 'plausible': bent towards where the prior has shapes.
    Results in order along the path; poses are interpolated too.
    one_mesh: all results have the first one's triangles, their vertices follow the surface (for shape keys); JobFailed
    'blend_topology' where they cannot.
    """

    kind: Literal["blend"] = "blend"
    steps: int = 5
    ends: bool = True
    path: BlendPath = "plausible"
    one_mesh: bool = False


@dataclass
class ArithmeticRequest(OfShapesRequest):
    """A - B + C of the arrays' three shapes: what makes A out of B, done to C. One result, in C's place."""

    kind: Literal["arithmetic"] = "arithmetic"
    amount: float = 1.0


@dataclass
class DirectionsRequest:
    """What sliders there are for a class: the report's `directions`, see engine.generation.directions. No meshes.

    With a code in the arrays every direction also says where that shape lies.
    """

    kind: Literal["directions"] = "directions"
    prior: str = "household"
    prior_sha256: str = ""
    class_name: str = ""
    count: int = 8
    device: str = "auto"
    name: str = ""


@dataclass
class SlideRequest:
    """The arrays' code, moved: values[i] is how far along direction i of `class_name`, 0 = where it is, in the unit of
    DirectionsRequest's answer (standard deviations of the class).  stream: whose slider it is; on the light endpoint a
    newer request of a stream replaces the older.
    """

    kind: Literal["slide"] = "slide"
    prior: str = "household"
    prior_sha256: str = ""
    class_name: str = ""
    values: tuple[float, ...] = ()
    stream: str = ""
    normals: bool = True
    resolution: int = 64
    seed: int = 0
    device: str = "auto"
    name: str = ""


@dataclass
class GradientRequest:
    """Points and surfaces from a gradient field (ShapeGF, Cai 2020).

    field: name or path of a trained family.  mode: 'densify' = the arrays' sparse points, made dense; 'reconstruct' =
    through the encoder and back from noise; 'generate' = `count` new shapes, no arrays.  output: 'points', or 'mesh' =
    a closed shell about the surface.  points: how many a cloud.  class_name: for generating, '' = any.  latent: what
    new codes are drawn from.  align: 'scale' = the points' own bounding box is the shape's (they cover all of it),
    'none' = they are canonical.
    """

    kind: Literal["gradient"] = "gradient"
    field: str = "household"
    mode: Literal["densify", "reconstruct", "generate"] = "densify"
    output: Literal["points", "mesh"] = "points"
    points: int = 20_000
    class_name: str = ""
    count: int = 1
    latent: Literal["gan", "gaussian", "mixture", "diffusion"] = "gan"
    temperature: float = 1.0
    align: Literal["none", "scale"] = "scale"
    up: str = "+z"
    resolution: int = 128
    seed: int = 0
    device: str = "auto"
    name: str = ""


Request = (
    CompleteRequest | FitRequest | SelftestRequest | GenerateRequest | VaryRequest
    | BlendRequest | ArithmeticRequest | DirectionsRequest | SlideRequest | TrainRequest | GradientRequest
)  # fmt: skip


@dataclass
class ShapeCode:
    """A shape as its prior knows it: enough to make it again, vary or blend it.

    code: (C, R, R, R) float32, whole shape, decodes without evidence.  pose: (4, 4) float64, canonical frame -> scene.
    """

    code: FloatArray
    pose: NDArray[np.float64]


@dataclass
class JobArrays:
    """The input in its own (scene) frame.

    points: (N, 3) float32, (0, 3) where there is only a code.  normals: (N, 3) float32 or None.
    faces: (F, 3) int32 into points where the input is a mesh (its surface is sampled by the engine), or None.
    code: of a shape that has one.  kept, kept_normals: (K, 3), the part that variants leave as it is.
    others: further shapes of a blend (points, normals, faces, code).
    """

    points: FloatArray
    normals: FloatArray | None = None
    faces: IntArray | None = None
    code: ShapeCode | None = None
    kept: FloatArray | None = None
    kept_normals: FloatArray | None = None
    others: list[JobArrays] = field(default_factory=list)


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
