"""What Train Prior can be asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from ..kinds import Kind
from ..request import EXPECTED, JsonObject, NoNull, Part, Request

MAX_SHAPES = 20_000
MAX_VERTICES = 20_000_000

_Name = Annotated[str, Field(min_length=1, max_length=256), NoNull]


class TrainShape(Part):
    """One mesh among those sent to be learnt from: its rows of the arrays follow those of the shape before it."""

    name: _Name
    """what it is called in its class"""
    class_name: _Name
    """what it is an example of"""
    vertices: Annotated[int, Field(ge=1, le=MAX_VERTICES)]
    """how many of the rows are its own"""


class TrainRequest(Request):
    """Learn a prior from meshes. It is listed when the job is done; the job has no result meshes.

    The meshes are the arrays' points and faces, cut into `shapes` by their numbers of vertices (z up, front -y, any
    size and place); or `folder` names a shape library on the engine's machine, and no arrays come.
    """

    kind: Literal["train"] = "train"
    name: Annotated[str, Field(min_length=1, max_length=100), NoNull]
    """of the new prior"""
    folder: Annotated[str, Field(max_length=4096), NoNull] = ""
    """a shape library on the engine's machine, in place of arrays"""
    shapes: Annotated[
        tuple[TrainShape, ...],
        Strict(False),  # JSON knows lists only
        Field(
            max_length=MAX_SHAPES,
            json_schema_extra={EXPECTED: f"a list of at most {MAX_SHAPES} objects with name, class_name, vertices"},
        ),
    ] = ()
    """which rows of the arrays are which mesh"""
    preset: Literal["auto", "cpu", "gpu"] = "auto"
    """size and length of the training; auto = by the device"""
    minutes: Annotated[float, Field(ge=0.01, le=100_000)] | None = None
    """as many steps as fit, null = the preset's number"""
    start_from: Annotated[str, Field(max_length=1024), NoNull] = ""
    """a prior whose weights the training begins with, "" = none"""
    resume: bool = False
    """go on with the run of this name"""
    pose_steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """of the pose network, null = as many as suit the length"""
    settings: JsonObject = Field(default_factory=dict)
    """of engine.training.train's TrainingSettings, by name"""


KIND = Kind(TrainRequest, "engine.jobs.train.run:run_train", arrays=None, long=True)
