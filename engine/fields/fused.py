"""The per-point decoder of the `grid` architecture in one pass: interpolation and MLP without temporaries.

Plain torch writes eight gathered corners a point (P x 8 x W numbers) and a matrix a layer to memory and reads them
back. On the CPU a few dozen points at a time go through trilinear interpolation and both hidden layers within the
first-level cache, compiled by numba to vector instructions: the same numbers to rounding. `GridField.query` and the
lattices of the refinement use it wherever no gradient is asked for; where numba is missing torch does the work, and the
log says so.

Threads are a pool of this module's own, as many as torch uses: of numba's own layers one spins while it waits, another
ends the process when two Python threads meet in it.

On CUDA (or wherever it is asked for, see `mixed_values`) most points can be evaluated in bfloat16, those near the
surface again in float32.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import machine_code

log = logging.getLogger(__name__)

_POINTS_A_THREAD = 2048
"""With fewer points a second thread costs more than it saves."""

NEAR = 0.03
"""Mixed precision evaluates what lies nearer to the surface than this (canonical units) in float32."""


_making = threading.Lock()


def _kernels() -> machine_code.Kernels | None:
    """The compiled functions, or None where they cannot be used; the reason goes to the log, once."""
    with _making:  # a job and the thread that warms must not both compile
        return _loaded()


@lru_cache(maxsize=1)
def _loaded() -> machine_code.Kernels | None:
    if os.environ.get("SHAPEWRIGHT_FUSED") == "0":
        log.info("The fused kernels are switched off (SHAPEWRIGHT_FUSED=0): torch evaluates the field.")
        return None
    try:
        return machine_code.load()
    except Exception as error:  # a numba that does not fit its numpy fails in more ways than ImportError
        log.warning(
            "torch evaluates the field, several times slower: numba cannot be used (%s: %s). "
            "Install it with 'pip install numba'.",
            type(error).__name__, error,
        )  # fmt: skip
        return None


def describe() -> str:
    """One line for people: whether the fused kernels are used."""
    if os.environ.get("SHAPEWRIGHT_FUSED") == "0":
        return "switched off (SHAPEWRIGHT_FUSED=0); torch evaluates the field, several times slower"
    if _kernels() is None:
        return "not available (pip install numba); torch evaluates the field, several times slower"
    return "compiled by numba"


def warm() -> float:
    """Compile the kernels, or load them from where they were kept the last time. Returns the seconds it took.

    Costs some seconds once on a machine, else next to nothing: at start, not within the first preview.
    """
    began = time.perf_counter()
    _kernels()
    return time.perf_counter() - began


def _needed() -> machine_code.Kernels:
    kernels = _kernels()
    assert kernels is not None, "`applies` says whether there are kernels"
    return kernels


def applies(*tensors: Tensor) -> bool:
    """Whether the kernels may be used on these: float32 on the CPU, nothing to be differentiated, numba there."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    if any(t.device.type != "cpu" or t.dtype != torch.float32 or t.numel() == 0 for t in tensors):
        return False
    # Inside torch.func's transforms tensors are wrappers that carry a batch or a tangent.
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return _kernels() is not None


# --- threads ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    # `process` in the key: after a fork the parent's threads are not there.
    return ThreadPoolExecutor(threads, thread_name_prefix="fused")


def _in_parts(count: int, work: Callable[[int, int], None]) -> None:
    """work(start, end) over [0, count), in as many threads as torch uses."""
    threads = min(torch.get_num_threads(), count // _POINTS_A_THREAD)
    if threads <= 1:
        work(0, count)
        return
    bounds = [count * k // threads for k in range(threads + 1)]
    pool = _pool(os.getpid(), torch.get_num_threads())
    others = [pool.submit(work, bounds[k], bounds[k + 1]) for k in range(1, threads)]
    work(0, bounds[1])
    for other in others:
        other.result()


# --- what they do ----------------------------------------------------------------------------------------------------


def _padded(weight: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    out = np.zeros((rows, columns), np.float32)
    out[: weight.shape[0], : weight.shape[1]] = weight
    return out


def grid_values(features: Tensor, points: Tensor, layers: Sequence[Tensor], scale: float) -> Tensor:
    """scale * MLP(trilinear(features, x), x) with SiLU after its two hidden layers, on the CPU in float32.

    features: (B, W, R, R, R), fastest where channels are last in memory.  points: (B, P, 3).  layers: weights and
    biases (J, W + 3), (J,), (J, J), (J,), (1, J), (1,).  Returns (B, P). Keeps no gradients.
    """
    kernels = _needed()
    batch, width, side = features.shape[:3]
    w1, b1, w2, b2, w3, b3 = (t.detach().numpy() for t in layers)
    hidden, inputs = -(-len(b1) // 4) * 4, -(-(width + 3) // 4) * 4
    w1, w2 = _padded(w1, hidden, inputs), _padded(w2, hidden, hidden)
    b1, b2, w3 = (_padded(row.reshape(1, -1), 1, hidden)[0] for row in (b1, b2, w3))
    last = float(b3[0])
    # .contiguous() copies only what is not laid out so already.
    flat = features.detach().permute(0, 2, 3, 4, 1).contiguous().view(batch, -1).numpy()
    at = points.detach().contiguous().numpy()
    out = np.empty(points.shape[:2], np.float32)

    for b in range(batch):

        def work(start: int, end: int, b: int = b) -> None:
            kernels.grid(flat[b], side, at[b, start:end], w1, b1, w2, b2, w3, last, scale, out[b, start:end])

        _in_parts(points.shape[1], work)
    return torch.from_numpy(out)


def lattice_sum(lattices: Sequence[Tensor], points: Tensor) -> Tensor:
    """Sum of the trilinear interpolations of lattices (1, 1, R, R, R) at points (N, 3) -> (N,), CPU, float32."""
    kernels = _needed()
    flat = [lattice.detach().contiguous().view(-1).numpy() for lattice in lattices]
    at = points.detach().contiguous().numpy()
    out = np.zeros(len(at), np.float32)

    def work(start: int, end: int) -> None:
        for numbers, lattice in zip(flat, lattices, strict=True):
            kernels.lattice(numbers, lattice.shape[-1], at[start:end], out[start:end])

    _in_parts(len(at), work)
    return torch.from_numpy(out)


def mixed_by_default() -> bool:
    """Whether fields are to be evaluated in mixed precision: SHAPEWRIGHT_PRECISION=mixed in the environment."""
    return os.environ.get("SHAPEWRIGHT_PRECISION", "float32") == "mixed"


def mixed_values(
    query: Callable[[Tensor, Tensor], Tensor], features: Tensor, points: Tensor, near: float = NEAR
) -> Tensor:
    """query(features, points) in bfloat16 where the surface is far, in float32 where it is near. Any device.

    bfloat16 has eight bits, an error of about 0.002 in the distance: enough to know that the surface is not here.
    features: (B, ...) float32.  points: (B, P, 3).  Returns (B, P) float32.
    """
    with torch.autocast(points.device.type, dtype=torch.bfloat16):
        values = query(features.bfloat16(), points).float()
    close = ~(values.abs() >= near)  # what is not a number is looked at again too
    for b in range(len(values)):
        rows = close[b].nonzero()[:, 0]
        if len(rows):
            values[b, rows] = query(features[b : b + 1], points[b : b + 1, rows])[0]
    return values
