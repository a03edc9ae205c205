"""What a slider's step is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from ...priors.registry import DEFAULT
from ..kinds import Kind
from ..request import EXPECTED, ClassName, NoNull, PriorName, Request, Resolution, Seed, Sha256


class SlideRequest(Request):
    """The arrays' code, moved along directions of a class: a slider's step."""

    kind: Literal["slide"] = "slide"
    prior: PriorName = DEFAULT
    """name or path of the prior"""
    prior_sha256: Sha256 = ""
    """of the prior that the code belongs to, "" = the one named"""
    class_name: ClassName = ""
    """whose directions, "" = those of all shapes"""
    values: Annotated[
        tuple[Annotated[float, Field(ge=-10, le=10)], ...],
        Strict(False),  # JSON knows lists only
        Field(max_length=64, json_schema_extra={EXPECTED: "a list of at most 64 numbers from -10 to 10"}),
    ] = ()
    """how far along each direction, 0 = where the shape is, in the unit of the answer to `directions` (standard
    deviations of the class)"""
    stream: Annotated[str, Field(max_length=64), NoNull] = ""
    """whose slider it is: beside the queue a newer request of a stream replaces the older"""
    normals: bool = True
    """also the vertices' normals"""
    resolution: Resolution = 64
    """cells along the box of the mesh"""
    seed: Seed = 0


KIND = Kind(SlideRequest, "engine.jobs.slide.run:run_slide", codes=True, light=True)
