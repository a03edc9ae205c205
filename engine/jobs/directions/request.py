"""What can be asked about sliders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...priors.registry import DEFAULT
from ..kinds import Kind
from ..request import ClassName, PriorName, Request, Sha256


class DirectionsRequest(Request):
    """Which sliders there are for a class: the report's `directions`. No meshes.

    With a code in the arrays every direction also says where that shape lies.
    """

    kind: Literal["directions"] = "directions"
    prior: PriorName = DEFAULT
    """name or path of the prior"""
    prior_sha256: Sha256 = ""
    """of the prior that the code belongs to, "" = the one named"""
    class_name: ClassName = ""
    """one of the prior's classes, "" = the code's own"""
    count: Annotated[int, Field(ge=1, le=64)] = 8
    """at most so many"""


KIND = Kind(DirectionsRequest, "engine.jobs.directions.run:run_directions", arrays=None, codes=True)
