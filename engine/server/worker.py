"""The process that owns the device and runs jobs, one at a time: `python -m engine.server.worker`.

It hears of jobs on its standard input and tells of them on its standard output (see `messages`); arrays and meshes lie
as NPZ files in the job's folder. It leaves when its input closes, so it never outlives its server.

    in   {"type": "job", "id", "folder"}, {"type": "cancel", "id"}, {"type": "release"},
         {"type": "slide", "id", "folder", "request"}
    out  {"type": "ready", "pid", "device"}, {"type": "broken", "error"}, {"type": "heartbeat", "pid", "memory"},
         and, each with "id": "progress", "preview", "mesh", "done", "failed", "cancelled", "slid"
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, NoReturn

from ..errors import Cancelled, EngineError, InputError, JobFailed
from ..geometry.meshes import Mesh
from ..jobs import run as jobs_run
from ..jobs.base import FinishedMesh, JobArrays, JobCallbacks, Preview, Progress, ShapeCode
from ..jobs.kinds import find, parse_request
from ..plain_json import plain
from ..wire.arrays import checked_arrays, pack_mesh, unpack_arrays
from .messages import read_message, write_message
from .storage import write_atomically

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
PROGRESS_INTERVAL_S = 0.1


class Worker:
    def __init__(self, inbox: IO[bytes], outbox: IO[bytes]) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._lock = threading.Lock()
        self._work: queue.Queue[dict[str, Any]] = queue.Queue()
        self._slides: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelled: set[str] = set()
        self._warmed = threading.Event()

    def send(self, message: dict[str, Any]) -> None:
        try:
            with self._lock:
                write_message(self._outbox, message)
        except OSError:
            os._exit(0)  # the server has gone

    def run(self) -> int:
        """Serve until the input closes. Returns the exit status (only where the device cannot be used at all)."""
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        try:
            device = _start_device()
        except EngineError as error:
            self.send({"type": "broken", "error": error.as_dict()})
            return 3
        threading.Thread(target=self._slide, name="slide", daemon=True).start()
        self.send({"type": "ready", "pid": os.getpid(), "device": device})
        # Beside the first job, not within it: compiling takes seconds the first time on a machine.
        threading.Thread(target=self._warm, name="warm", daemon=True).start()
        while True:
            message = self._work.get()
            if message["type"] == "job":
                self._run_job(message["id"], Path(message["folder"]))
            elif message["type"] == "release":
                self._warmed.wait(60)
                release_memory()

    def _warm(self) -> None:
        try:
            from ..fields import fused

            log.info("kernels: %s, ready after %.1f s", fused.describe(), fused.warm())
        except Exception:
            log.warning("The kernels could not be made ready", exc_info=True)
        finally:
            self._warmed.set()

    def _listen(self) -> None:
        try:
            while (message := read_message(self._inbox)) is not None:
                if message["type"] == "cancel":
                    self._cancelled.add(message["id"])
                elif message["type"] == "slide":
                    self._slides.put(message)
                else:
                    self._work.put(message)
        except (OSError, ValueError):
            log.exception("The server's messages cannot be read")
        os._exit(0)  # not sys.exit: the main thread may be deep in a job

    def _beat(self) -> None:
        import psutil

        process = psutil.Process()
        while True:
            self.send({"type": "heartbeat", "pid": os.getpid(), "memory": process.memory_info().rss})
            time.sleep(HEARTBEAT_S)

    def _run_job(self, job_id: str, folder: Path) -> None:
        last_sent = 0.0
        last_stage = ""
        numbers = iter(range(1, 1 << 30))
        finished: dict[int, int] = {}  # index of the result -> number of its mesh

        def write(mesh: Mesh, code: ShapeCode | None = None) -> dict[str, int]:
            n = next(numbers)
            write_atomically(folder / f"mesh_{n}.npz", pack_mesh(mesh, code))
            return {"n": n, "vertices": len(mesh.vertices), "faces": len(mesh.faces)}

        def on_progress(progress: Progress) -> None:
            nonlocal last_sent, last_stage
            now = time.monotonic()
            if progress.stage == last_stage and now - last_sent < PROGRESS_INTERVAL_S:
                return
            last_sent, last_stage = now, progress.stage
            self.send({"type": "progress", "id": job_id, **plain(vars(progress))})

        def on_preview(preview: Preview) -> None:
            about = {"resolution": preview.resolution, "hypothesis": preview.hypothesis}
            self.send({"type": "preview", "id": job_id, **plain(about), **write(preview.mesh)})

        def on_mesh(one: FinishedMesh) -> None:
            about = {"index": one.index, "about": one.about}
            written = write(one.mesh, one.code)
            finished[one.index] = written["n"]
            self.send({"type": "mesh", "id": job_id, **plain(about), **written})

        def should_stop() -> bool:
            return job_id in self._cancelled

        try:
            if should_stop():
                raise Cancelled
            request = parse_request(json.loads((folder / "request.json").read_text("utf-8")))
            arrays_file = folder / "arrays.npz"
            arrays = _read_arrays(arrays_file, request.kind) if arrays_file.exists() else None
            result = jobs_run.run_job(request, arrays, JobCallbacks(on_progress, on_preview, should_stop, on_mesh))
            codes = result.codes or [None] * len(result.meshes)
            meshes = [
                finished[k] if k in finished else write(mesh, code)["n"]
                for k, (mesh, code) in enumerate(zip(result.meshes, codes, strict=True))
            ]
            answer: dict[str, Any] = {"type": "done", "id": job_id, "meshes": meshes, "report": plain(result.report)}
        except Cancelled:
            answer = {"type": "cancelled", "id": job_id}
        except Exception as error:
            answer = {"type": "failed", "id": job_id, "error": jobs_run.explain(error).as_dict()}
        if answer["type"] == "failed" and answer["error"]["code"] == "out_of_memory":
            self._warmed.wait(60)  # modules half imported by the warming thread cannot be asked to let go
            release_memory()  # here the failed job's frames, and what they held, are gone
        self._cancelled.discard(job_id)
        self.send(answer)

    def _slide(self) -> None:
        """Answer slide requests as they come, beside the running job: a slider must not wait for a minute's work."""
        while True:
            message = self._slides.get()
            slide_id, folder = message["id"], Path(message["folder"])

            def should_stop(slide_id: str = slide_id) -> bool:
                return slide_id in self._cancelled

            answer: dict[str, Any] = {"type": "slid", "id": slide_id}
            try:
                if should_stop():
                    raise Cancelled
                request = parse_request(message["request"])
                arrays = _read_arrays(folder / f"{slide_id}.npz", request.kind)
                result = jobs_run.run_job(request, arrays, JobCallbacks(should_stop=should_stop))
                data = pack_mesh(result.meshes[0], result.codes[0] if result.codes else None)
                (folder / f"{slide_id}_mesh.npz").write_bytes(data)
                answer["report"] = plain(result.report)
            except Cancelled:
                answer["cancelled"] = True
            except Exception as error:
                answer["error"] = jobs_run.explain(error).as_dict()
            self._cancelled.discard(slide_id)
            self.send(answer)


def _read_arrays(path: Path, kind: str) -> JobArrays:
    """The input, without the few rows that are not numbers."""
    return checked_arrays(find(kind), unpack_arrays(path))


def _start_device() -> dict[str, Any]:
    """Import torch and find the device: the slow part of starting, some seconds."""
    try:
        from ..device import describe_device, resolve_device

        return describe_device(resolve_device("auto"))
    except InputError:
        raise
    except Exception as error:
        log.exception("torch cannot be used")
        raise JobFailed(
            "torch_unusable",
            "The engine cannot start its worker.",
            f"torch cannot be imported: {type(error).__name__}: {str(error)[:300]}.",
            "Install the engine again (pip install of the project), then run 'shapewright doctor'.",
        ) from error


def release_memory() -> None:
    """Drop loaded priors and the device's cached blocks."""
    from ..device import release_device_memory

    loaded = sys.modules.get("engine.priors.file")  # where it was never imported there is nothing to drop
    if loaded is not None:
        loaded.forget_priors()
    release_device_memory()


def main() -> NoReturn:
    # Libraries print; the pipe must carry messages only. So the pipe moves away and descriptor 1 becomes descriptor 2.
    inbox_fd, outbox_fd = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(inbox_fd, os.O_BINARY)
        msvcrt.setmode(outbox_fd, os.O_BINARY)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the server's to handle
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(levelname)s %(name)s: %(message)s")
    status = Worker(os.fdopen(inbox_fd, "rb"), os.fdopen(outbox_fd, "wb")).run()
    sys.stderr.flush()
    os._exit(status)  # a tidy exit would wait for the thread that reads the pipe


if __name__ == "__main__":
    main()
