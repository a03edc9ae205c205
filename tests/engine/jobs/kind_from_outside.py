"""A job kind that is no part of the engine: a plugin as somebody else would write it. See test_kinds.py."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from engine.errors import InputError
from engine.geometry.meshes import Mesh
from engine.jobs.base import JobArrays, JobCallbacks, JobResult, Preview, Reporter, ShapeCode
from engine.jobs.kinds import Kind, register
from engine.jobs.request import Request


class CrateRequest(Request):
    """The box around the points, upright."""

    kind: Literal["crate"] = "crate"
    margin: Annotated[float, Field(ge=0, le=1)] = 0.0
    """how far its sides are from the points"""


def run_crate(request: CrateRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    assert arrays is not None
    progress = Reporter(callbacks)
    progress("Packing", 0.2)
    low, high = arrays.points.min(0) - request.margin, arrays.points.max(0) + request.margin
    if request.name == "refuse":
        raise InputError("too_heavy", "The crate cannot be lifted.", "It is too heavy.", "Take something out.")
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], np.int32)
    mesh = Mesh((low + corners * (high - low)).astype(np.float32), faces)
    callbacks.on_preview(Preview(mesh, 8))
    code = ShapeCode(np.asarray([request.margin], np.float32), np.eye(4))
    return JobResult([mesh], {"kind": request.kind, "volume": float(np.prod(high - low))}, [code])


register(Kind(CrateRequest, f"{__name__}:run_crate"))
