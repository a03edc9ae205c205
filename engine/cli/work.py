"""A job run from the terminal, and the report of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .terminal import ProgressLine, stop_on_interrupt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..geometry.files import Loaded
    from ..geometry.meshes import Mesh
    from ..jobs.base import FinishedMesh, JobArrays, JobResult
    from ..jobs.request import Request


def run(
    request: Request, arrays: JobArrays | None, on_mesh: Callable[[FinishedMesh], None] = lambda finished: None
) -> JobResult:
    """The job's result, with its progress on standard error. Raises what `run_job` raises; Ctrl-C is Cancelled."""
    from ..jobs.base import JobCallbacks
    from ..jobs.run import run_job

    show = ProgressLine()
    try:
        with stop_on_interrupt() as should_stop:
            return run_job(request, arrays, JobCallbacks(show, should_stop=should_stop, on_mesh=on_mesh))
    finally:
        show.end()


def write(path: Path, mesh: Mesh, offset: NDArray[np.float64] | None = None) -> None:
    """A mesh; where it has no faces its points as a cloud.  offset: (3,) that its file's coordinates lie about."""
    from ..geometry.clouds import PointCloud
    from ..geometry.files import write_cloud, write_mesh

    if len(mesh.faces):
        write_mesh(path, mesh, offset)
    else:
        write_cloud(path, PointCloud(mesh.vertices, mesh.normals, colours=mesh.colours), offset)


def finished(
    result: JobResult, request: Request, outputs: Sequence[Path], began: float, path: Path | None = None,
    source: Loaded | None = None, **seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """The report as the command tells it: JSON, with the files, the request and the time since `began`
    (time.perf_counter()).  path, source: the input where there is one.  seconds: more rows of its timings."""
    from ..plain_json import plain

    report: dict[str, Any] = plain(result.report)
    if source is not None:
        from .source import tell

        tell(report, source, getattr(request, "up", "+z"))
    report["input"] = None if path is None else str(path.absolute())
    report["outputs"] = [str(path.absolute()) for path in outputs]
    report["request"] = request.model_dump(mode="json")
    report.setdefault("versions", {}).setdefault("shapewright", __version__)
    report.setdefault("timings", {}).update(seconds)
    report["timings"]["total"] = time.perf_counter() - began
    return report
