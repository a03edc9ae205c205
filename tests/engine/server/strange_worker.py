"""A worker whose jobs misbehave in the way that their request's name says; everything else of it is the real worker.

It does not import torch, so that it starts at once.
"""

import ctypes
import dataclasses
import os
import time

import numpy as np

from engine.errors import Cancelled, InputError
from engine.geometry.meshes import Mesh
from engine.jobs import kinds
from engine.jobs.base import FinishedMesh, JobResult, Preview, Progress, ShapeCode
from engine.server import worker

TRIANGLE = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))


def run_strange(request, arrays, callbacks):
    match request.name:
        case "no memory":
            raise MemoryError
        case "no torch memory":
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        case "fault":
            raise ZeroDivisionError("the sum of nothing")
        case "refuse":
            raise InputError("prior_missing", "What.", "Why.", "Remedy.")
        case "deaf":  # neither asks should_stop nor ends
            while True:
                time.sleep(0.05)
        case "frozen":  # holds the interpreter's lock: not even the heartbeat goes on
            ctypes.PyDLL(None).sleep(3600)
        case "exit":
            os._exit(7)
        case "prints":
            print("a library says hello")
            os.write(1, b"and so does a C library\n")
        case "not a number":
            return JobResult([TRIANGLE], {"residual": {"median": float("nan"), "count": np.int64(3)}})
        case "chatty":
            for i in range(300):
                if callbacks.should_stop():
                    raise Cancelled
                callbacks.on_progress(Progress(f"Stage {i}", i / 300))
                callbacks.on_preview(Preview(TRIANGLE, i + 8))
        case "several":  # one after another, the last of them only at the end
            code = ShapeCode(np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2), np.diag([2.0, 2.0, 2.0, 1.0]))
            for index in range(2):
                callbacks.on_mesh(FinishedMesh(index, TRIANGLE, code, {"number": index + 5}))
                while index == 1 and not os.path.exists(request.prior):
                    if callbacks.should_stop():
                        raise Cancelled
                    time.sleep(0.01)
            return JobResult([TRIANGLE] * 3, {}, [code, code, None])
        case "patient":
            while not callbacks.should_stop():
                time.sleep(0.01)
            raise Cancelled
    for _ in range(request.steps if request.kind == "selftest" else 1):
        if callbacks.should_stop():
            raise Cancelled
        callbacks.on_progress(Progress("Waiting", 0.5))
        time.sleep(request.step_seconds if request.kind == "selftest" else 0)
    if arrays is not None:
        faces = arrays.faces if arrays.faces is not None else np.zeros((0, 3), np.int32)
        return JobResult([Mesh(arrays.points, faces, arrays.normals)], {"seed": request.seed})
    return JobResult([TRIANGLE, TRIANGLE], {"kind": request.kind})


if __name__ == "__main__":
    for kind in kinds.every().values():
        kinds.register(dataclasses.replace(kind, run=f"{__name__}:run_strange"), replace=True)
    worker._start_device = lambda: {"type": "cpu", "name": "strange"}
    worker.main()
