"""What can be asked of a gradient field."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..kinds import Kind
from ..request import ClassName, Count, PriorName, Request, Resolution, Seed, UpAxis


class GradientRequest(Request):
    """Points and surfaces from a gradient field (ShapeGF, Cai 2020)."""

    kind: Literal["gradient"] = "gradient"
    field: PriorName = "household"
    """name or path of a trained gradient field"""
    mode: Literal["densify", "reconstruct", "generate"] = "densify"
    """densify = the arrays' sparse points, made dense; reconstruct = through the encoder and back from noise;
    generate = new shapes, without arrays"""
    output: Literal["points", "mesh"] = "points"
    """points (a mesh without faces), or mesh = a closed shell about the surface"""
    points: Annotated[int, Field(ge=8, le=5_000_000)] = 20_000
    """how many a cloud"""
    class_name: ClassName = ""
    """of new shapes, "" = any"""
    count: Count = 1
    """how many new shapes"""
    latent: Literal["gan", "gaussian", "mixture", "diffusion"] = "gan"
    """what new codes are drawn from"""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    """how far from the likely new shapes may be"""
    align: Literal["none", "scale"] = "scale"
    """scale = the points' own bounding box is the shape's (they cover all of it); none = they are canonical"""
    up: UpAxis = "+z"
    """which input axis points up"""
    resolution: Resolution = 128
    """cells along the box of a mesh"""
    seed: Seed = 0


KIND = Kind(GradientRequest, "engine.jobs.gradient.run:run_gradient", arrays=None)
