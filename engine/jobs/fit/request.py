"""What Fit Shape can be asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...surface_fit import methods
from ..kinds import Arrays, Kind
from ..request import EXPECTED, FinishedRequest, OneOf, Seed, Viewpoint

FIT_METHODS = methods.names()
Normals = Literal["auto", "given", "none"]
FieldId = Annotated[
    str,
    Field(
        pattern=r"^([0-9a-f]{32})?$",
        json_schema_extra={EXPECTED: "the 32 digits and letters of a report's field_id, or an empty text"},
    ),
]


class FitRequest(FinishedRequest):
    """A surface from raw points or triangles, without a prior."""

    kind: Literal["fit"] = "fit"
    method: Annotated[str, OneOf(FIT_METHODS)] = "auto"
    """auto is exact and fast; the others train a network"""
    resolution: Annotated[int, Field(ge=16, le=512)] = 128
    """detail, cells along the box of the final mesh (the input's longest side takes nine tenths of it)"""
    smoothness: Annotated[float, Field(ge=0, le=1)] = 0.5
    """0 = through every point, 1 = very smooth; 0.5 weighs by the noise"""
    normals: Normals = "auto"
    """given = those of the input are trusted; none = ignored; auto = trusted as far as they agree with one another
    (also the faces of a mesh)"""
    viewpoint: Viewpoint | None = None
    """where the sensor stood, in the input's frame"""
    noise: Annotated[float, Field(ge=0, le=1e12)] | None = None
    """standard deviation of the points in the input's unit, null = estimated"""
    open_boundaries: bool = False
    """leave holes open, by cutting the surface off where no points are near"""
    iterations: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """of methods that train a network, null = the method's own"""
    reuse: FieldId = ""
    """field_id of an earlier fit's report: extract its field again (resolution, open_boundaries, max_faces and
    uvs count, the rest is as it was) without fitting; such a request has no arrays"""
    seed: Seed = 0


def _arrays(request: FitRequest) -> Arrays:
    return not request.reuse


KIND = Kind(FitRequest, "engine.jobs.fit.run:run_fit", arrays=_arrays)
