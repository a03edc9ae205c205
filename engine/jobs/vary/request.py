"""What Vary can be asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..kinds import Kind
from ..request import Count, First, OfShapesRequest, Viewpoint


class VaryRequest(OfShapesRequest):
    """Relatives of one shape: number `first` to `first` + `count` - 1 of the seed, in its place.

    The arrays may hold `kept` points (and normals): there every variant keeps the surface. Strength 0 and count 1
    simply give a mesh or a scan its code.
    """

    kind: Literal["vary"] = "vary"
    count: Count = 5
    """how many"""
    first: First = 0
    """number of the first"""
    strength: Annotated[float, Field(ge=0, le=2)] = 0.5
    """0 = the shape itself, 1 = half way to any other shape"""
    avoid_pieces: bool = True
    """draw again (a few times) what does not hold together"""
    viewpoint: Viewpoint | None = None
    """where the sensor stood, of a partial scan"""


KIND = Kind(VaryRequest, "engine.jobs.vary.run:run_vary", codes=True, kept=True)
