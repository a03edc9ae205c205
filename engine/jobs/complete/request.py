"""What Complete Shape can be asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...priors.registry import DEFAULT
from ..kinds import Kind
from ..request import Align, ClassName, FinishedRequest, PoseMatrix, PriorName, Resolution, Seed, UpAxis, Viewpoint

Front = Literal["given", "evident"]
Ground = Literal["auto", "keep"]
SeenFrom = Literal["estimate", "unknown"]


class CompleteRequest(FinishedRequest):
    """The rest of a shape of which a scan or a mesh shows a part, by a prior that has learnt such shapes.

    Canonical frame: z up, front -y, the bounding box of the whole shape centred at 0, its longest side 1.
    """

    kind: Literal["complete"] = "complete"
    prior: PriorName = DEFAULT
    """name or path of the prior"""
    align: Align = "scale"
    """none = the points are in the canonical frame; scale = the axes are trusted, scale and place are found; similarity
    = also the rotation"""
    front: Front = "given"
    """with align scale: given = it faces -y, and up is up; evident = unless the evidence clearly says another way"""
    up: UpAxis = "+z"
    """which input axis points up"""
    viewpoint: Viewpoint | None = None
    """where the sensor stood, in the input's frame"""
    seen_from: SeenFrom = "estimate"
    """where no viewpoint is told: estimate = found from the points where one sensor saw them; unknown = none is used"""
    pose: PoseMatrix | None = None
    """the alignment itself where it is known or corrected: the matrix canonical -> input frame, as in a report's
    alignment.matrix; align and up then find nothing"""
    hypotheses: Annotated[int, Field(ge=1, le=16)] = 1
    """how many answers, best first"""
    resolution: Resolution = 128
    """cells along the canonical box [-0.55, 0.55]^3 in the final mesh"""
    class_name: ClassName = ""
    """one of the prior's classes, "" = found"""
    noise: Annotated[float, Field(ge=0, le=1e9)] | None = None
    """standard deviation of the points in the input's unit, null = estimated"""
    ground: Ground = "auto"
    """auto = a floor under the object is found and left out; keep = all points are the object's"""
    close_gaps: bool = True
    """whether gaps of a few cells are closed and parts near one another joined, unless one saw through there"""
    seed: Seed = 0


KIND = Kind(CompleteRequest, "engine.jobs.complete.run:run_complete")
