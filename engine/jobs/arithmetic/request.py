"""What arithmetic of shapes can be asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..kinds import Kind
from ..request import OfShapesRequest


class ArithmeticRequest(OfShapesRequest):
    """A - B + C of the arrays' three shapes: what makes A out of B, done to C. One result, in C's place."""

    kind: Literal["arithmetic"] = "arithmetic"
    amount: Annotated[float, Field(ge=-4, le=4)] = 1.0
    """of the difference A - B"""


KIND = Kind(ArithmeticRequest, "engine.jobs.arithmetic.run:run_arithmetic", codes=True, several=True)
