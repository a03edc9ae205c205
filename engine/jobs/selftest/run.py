"""The job that proves an engine works: a torus and a sphere extracted on the real device, level by level.

Behind the Test button of Blender's preferences and `shapewright doctor`; `steps` and `step_seconds` stretch it, which
makes it the job for tests of queues, cancelling and faults too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ...device import describe_device, resolve_device
from ...errors import Cancelled, JobFailed
from ...frames import BOUND
from ...geometry.meshes import Mesh
from ...jobs.base import JobArrays, JobCallbacks, JobResult, Preview, Progress, versions
from .request import SelftestRequest

if TYPE_CHECKING:
    import torch

TORUS_CENTRE, TORUS_RADIUS, TORUS_TUBE = (0.0, 0.0, -0.15), 0.3, 0.1
SPHERE_CENTRE, SPHERE_RADIUS = (0.0, 0.0, 0.25), 0.2


def torus_and_sphere(points: torch.Tensor) -> torch.Tensor:
    """(N, 3) canonical points -> (N,) exact signed distance to a torus lying under a sphere."""
    import torch

    p = points - points.new_tensor(TORUS_CENTRE)
    ring = torch.linalg.vector_norm(p[:, :2], dim=1) - TORUS_RADIUS
    torus = torch.hypot(ring, p[:, 2]) - TORUS_TUBE
    sphere = torch.linalg.vector_norm(points - points.new_tensor(SPHERE_CENTRE), dim=1) - SPHERE_RADIUS
    return torch.minimum(torus, sphere)


def run_selftest(request: SelftestRequest, arrays: JobArrays | None, callbacks: JobCallbacks) -> JobResult:
    """Waits `steps` x `step_seconds`, extracts the surface with previews and checks it against the formula.

    Raises JobFailed 'selftest_wrong' where the surface found is off by more than a quarter of a cell or is not closed.
    """
    from ...surfaces.marching import extract_sparse

    started = time.perf_counter()
    device = resolve_device(request.device)
    for step in range(request.steps):
        if callbacks.should_stop():
            raise Cancelled
        fraction = 0.5 * step / request.steps
        left = (request.steps - step) * request.step_seconds
        callbacks.on_progress(Progress("Waiting", fraction, left, f"Step {step + 1} of {request.steps}"))
        time.sleep(request.step_seconds)
    waited = time.perf_counter()

    callbacks.on_progress(Progress("Extracting", 0.5, None, "Torus and sphere"))

    def on_level(mesh: Mesh, resolution: int) -> None:
        callbacks.on_preview(Preview(mesh, resolution))
        callbacks.on_progress(Progress("Extracting", 0.5 + 0.5 * resolution / (request.resolution + 1), None))

    extraction = extract_sparse(
        torus_and_sphere, request.resolution, device=device, on_level=on_level, should_stop=callbacks.should_stop
    )
    mesh = extraction.mesh
    extracted = time.perf_counter()

    cell = 2 * BOUND / request.resolution
    worst = _largest_distance(mesh)
    if worst > cell / 4:
        raise JobFailed(
            "selftest_wrong",
            "The self-test found a wrong surface.",
            f"A vertex lies {worst:.5f} from the true surface; at most {cell / 4:.5f} is expected.",
            "Install the engine again; if it happens on an accelerator only, choose the device 'cpu'.",
        )
    report: dict[str, Any] = {
        "kind": "selftest",
        "resolution": request.resolution,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "largest_distance": worst,
        "evaluations": extraction.evaluations,
        "timings": {"waiting": waited - started, "extracting": extracted - waited},
        "device": describe_device(device),
        "versions": versions(),
    }
    return JobResult([mesh], report)


def _largest_distance(mesh: Mesh) -> float:
    p = mesh.vertices.astype(np.float64)
    t = p - TORUS_CENTRE
    torus = np.hypot(np.hypot(t[:, 0], t[:, 1]) - TORUS_RADIUS, t[:, 2]) - TORUS_TUBE
    sphere = np.linalg.norm(p - np.asarray(SPHERE_CENTRE), axis=1) - SPHERE_RADIUS
    return float(np.abs(np.minimum(torus, sphere)).max(initial=np.inf if len(p) == 0 else 0.0))
