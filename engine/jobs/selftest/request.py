"""What the self-test can be asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..kinds import Kind
from ..request import Request, Resolution


class SelftestRequest(Request):
    """Prove that the engine works, after waiting `steps` times `step_seconds`."""

    kind: Literal["selftest"] = "selftest"
    resolution: Resolution = 64
    """cells along the box of the mesh"""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    """how often it waits"""
    step_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    """how long it waits each time"""


KIND = Kind(SelftestRequest, "engine.jobs.selftest.run:run_selftest", arrays=False)
