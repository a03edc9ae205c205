"""A file as a job's input, and what reading it decided into the job's report: the same for every command.

Where a file's coordinates are far from the origin (surveys), the job works about an offset, and an OBJ, whose y is up,
is stood up. What the caller says and hears stays in the file's own frame: axes, viewpoints and poses are moved in, the
report's places out; and the result stands where the input does when Blender imports both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..geometry.files import Loaded, axis_in_scene, format_of, load
from ..jobs.base import JobArrays
from ..jobs.request import Request

R = TypeVar("R", bound=Request)


def arrays_of(loaded: Loaded) -> JobArrays:
    return JobArrays(
        loaded.points, loaded.normals, loaded.faces, colours=loaded.shape.colours, materials=loaded.materials,
        face_materials=loaded.face_materials, viewpoints=loaded.viewpoints, scans=loaded.scans,
    )  # fmt: skip


def read_input(path: Path, request: R) -> tuple[Loaded, R, R]:
    """The file; the request with the file's viewpoint where its kind takes one and it has none of its own; and the same
    about the offset."""
    loaded = load(path)
    takes_viewpoint = "viewpoint" in type(request).model_fields
    viewpoint = getattr(request, "viewpoint", None)
    if takes_viewpoint and viewpoint is None and loaded.viewpoint is not None:
        viewpoint = _three(loaded.turn.T @ (loaded.viewpoint.astype(np.float64) + loaded.offset))
        request = request.but(viewpoint=viewpoint)
    local = request
    if not is_elsewhere(loaded):
        return loaded, request, local
    if viewpoint is not None:
        local = local.but(viewpoint=_three(loaded.turn @ np.asarray(viewpoint) - loaded.offset))
    up = getattr(request, "up", None)
    if up is not None:
        local = local.but(up=axis_in_scene(up, loaded.turn))
    pose = getattr(request, "pose", None)
    if pose is not None:
        moved = frame_of(loaded) @ np.array(pose, np.float64).reshape(4, 4)
        local = local.but(pose=tuple(moved.ravel().tolist()))
    return loaded, request, local


def is_elsewhere(loaded: Loaded) -> bool:
    """Is the frame that the job works in another than the file's?"""
    return loaded.moved or bool((loaded.turn != np.eye(3)).any())


def frame_of(loaded: Loaded) -> NDArray[np.float64]:
    """(4, 4) from the file's coordinates to those of the shape that was loaded."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = loaded.turn, -loaded.offset
    return matrix


def _three(values: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def tell(report: dict[str, Any], loaded: Loaded, up: str = "+z") -> None:
    """Into a job's report: what reading decided and dropped; and places in the file's own frame. up: in its axes."""
    report["input_file"] = {
        "notes": loaded.notes,
        "dropped_points": loaded.dropped,
        "offset": loaded.offset.tolist(),
        "viewpoints": len(loaded.viewpoints) if loaded.viewpoints is not None else int(loaded.viewpoint is not None),
        "colours": loaded.colours is not None,
        "materials": [material.name for material in loaded.materials],
    }
    if not is_elsewhere(loaded):
        return
    back = np.linalg.inv(frame_of(loaded))
    alignment = report.get("alignment")
    if isinstance(alignment, dict) and alignment.get("matrix") is not None:
        matrix = np.array(alignment["matrix"], np.float64)
        alignment["matrix"] = (back @ matrix.reshape(4, 4)).reshape(matrix.shape).tolist()
    for warning in report.get("warnings") or []:
        if "up" in warning:
            warning["up"] = axis_in_scene(warning["up"], loaded.turn.T)
    settings = report.get("settings")
    if isinstance(settings, dict) and settings.get("viewpoint") is not None:
        settings["viewpoint"] = (back[:3, :3] @ settings["viewpoint"] + back[:3, 3]).tolist()
    if isinstance(settings, dict) and "up" in settings:
        settings["up"] = up
    evidence = report.get("evidence") or {}
    found = evidence.get("viewpoint_found")
    if isinstance(found, dict):
        found["at"] = (back[:3, :3] @ found["at"] + back[:3, 3]).tolist()
    ground = evidence.get("ground")
    if isinstance(ground, dict) and "height" in ground:
        from ..frames import up_rotation

        ground["height"] += float((up_rotation(axis_in_scene(up, loaded.turn)) @ loaded.offset)[2])


def notes(loaded: Loaded, path: Path, output: Path) -> list[str]:
    """Lines for a person: what was decided in reading, and where the result stays about the offset, since its format
    has single precision only."""
    lines = [f"{path.name}: {note}" for note in loaded.notes]
    if loaded.moved and output.suffix.lower() == ".stl":
        x, y, z = loaded.offset
        place = f"({x:.12g}, {y:.12g}, {z:.12g})"
        lines.append(f"STL has no digits for places so far from the origin: {output.name} is about {place}.")
    written = format_of(output)
    if loaded.colours is not None and written is not None and not written.colours:
        lines.append(f"{written.name} has no room for colours: {output.name} is without those of {path.name}.")
    return lines
