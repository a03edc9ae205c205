"""A file as a job's input, and what reading it decided into the job's report: the same for every command.

Where a file's coordinates are far from the origin (surveys), the job works about an offset. What the caller says and
hears stays in the file's own frame: viewpoints and poses are moved in, the report's and the result's coordinates out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..geometry.files import Loaded, load
from ..jobs.base import JobArrays
from ..jobs.request import Request

R = TypeVar("R", bound=Request)


def arrays_of(loaded: Loaded) -> JobArrays:
    return JobArrays(loaded.points, loaded.normals, loaded.faces)


def read_input(path: Path, request: R) -> tuple[Loaded, R, R]:
    """The file; the request with the file's viewpoint where its kind takes one and it has none of its own; and the same
    about the offset."""
    loaded = load(path)
    takes_viewpoint = "viewpoint" in type(request).model_fields
    viewpoint = getattr(request, "viewpoint", None)
    if takes_viewpoint and viewpoint is None and loaded.viewpoint is not None:
        viewpoint = _three(loaded.viewpoint.astype(np.float64) + loaded.offset)
        request = request.but(viewpoint=viewpoint)
    local = request
    if loaded.moved and viewpoint is not None:
        local = local.but(viewpoint=_three(np.asarray(viewpoint) - loaded.offset))
    pose = getattr(request, "pose", None)
    if loaded.moved and pose is not None:
        moved = np.array(pose, np.float64).reshape(4, 4)
        moved[:3, 3] -= loaded.offset
        local = local.but(pose=tuple(moved.ravel().tolist()))
    return loaded, request, local


def _three(values: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def tell(report: dict[str, Any], loaded: Loaded, up: str = "+z") -> None:
    """Into a job's report: what was decided in reading, what was dropped, and places in the file's own frame."""
    report["input_file"] = {
        "notes": loaded.notes,
        "dropped_points": loaded.dropped,
        "offset": loaded.offset.tolist(),
        "colours": loaded.colours is not None,
        "materials": list(loaded.materials),
    }
    if not loaded.moved:
        return
    alignment = report.get("alignment")
    if isinstance(alignment, dict) and alignment.get("matrix") is not None:
        matrix = np.array(alignment["matrix"], np.float64)
        moved = matrix.reshape(4, 4)
        moved[:3, 3] += loaded.offset
        alignment["matrix"] = moved.reshape(matrix.shape).tolist()
    settings = report.get("settings")
    if isinstance(settings, dict) and settings.get("viewpoint") is not None:
        settings["viewpoint"] = (np.array(settings["viewpoint"], np.float64) + loaded.offset).tolist()
    ground = (report.get("evidence") or {}).get("ground")
    if isinstance(ground, dict) and "height" in ground:
        from ..frames import up_rotation

        ground["height"] += float((up_rotation(up) @ loaded.offset)[2])


def notes(loaded: Loaded, path: Path, output: Path) -> list[str]:
    """Lines for a person: what was decided in reading, and where the result stays about the offset, since its format
    has single precision only."""
    lines = [f"{path.name}: {note}" for note in loaded.notes]
    if loaded.moved and output.suffix.lower() == ".stl":
        x, y, z = loaded.offset
        place = f"({x:.12g}, {y:.12g}, {z:.12g})"
        lines.append(f"STL has no digits for places so far from the origin: {output.name} is about {place}.")
    return lines
