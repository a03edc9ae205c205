"""What Generate can be asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...priors.registry import DEFAULT
from ..kinds import Kind
from ..request import ClassName, Count, FinishedRequest, First, PriorName, Resolution, Seed

Distribution = Literal["default", "gaussian", "mixture", "diffusion"]


class GenerateRequest(FinishedRequest):
    """New shapes from the prior's latent distribution: number `first` to `first` + `count` - 1 of the seed.

    Shape k of a seed is the same whatever `first` and `count` are. Shapes come in the canonical frame (centre 0,
    longest side 1); placing them is the client's.
    """

    kind: Literal["generate"] = "generate"
    prior: PriorName = DEFAULT
    """name or path of the prior"""
    class_name: ClassName = ""
    """one of the prior's classes, "" = any"""
    count: Count = 1
    """how many"""
    first: First = 0
    """number of the first"""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.9
    """how far from the likely the shapes may be (0 = the mean shape, 1 = as the training shapes are)"""
    distribution: Distribution = "default"
    """what codes are drawn from; default = the prior's own"""
    avoid_duplicates: bool = True
    """draw again what is nearly a training shape or an earlier one"""
    avoid_pieces: bool = True
    """draw again (a few times) what does not hold together"""
    resolution: Resolution = 128
    """cells along the box of each mesh"""
    seed: Seed = 0


KIND = Kind(GenerateRequest, "engine.jobs.generate.run:run_generate", arrays=False)
