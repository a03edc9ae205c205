"""What Blend can be asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..kinds import Kind
from ..request import OfShapesRequest

BlendPath = Literal["plausible", "spherical", "straight"]


class BlendRequest(OfShapesRequest):
    """In-betweens of two or more shapes, in order along the path; places are interpolated too."""

    kind: Literal["blend"] = "blend"
    steps: Annotated[int, Field(ge=0, le=256)] = 5
    """meshes between each neighbouring pair"""
    ends: bool = True
    """also the shapes themselves, decoded from their codes"""
    path: BlendPath = "plausible"
    """spherical in the whitened coefficients, straight, or plausible: bent towards where the prior has shapes"""
    one_mesh: bool = False
    """all results have the first one's triangles, for shape keys; fails with blend_topology where the shapes are too
    unlike"""


KIND = Kind(BlendRequest, "engine.jobs.blend.run:run_blend", codes=True, several=True)
