"""A reader in a process of its own, for libraries of native code.

What a damaged file makes them do (abort, overrun, ask for all the memory there is) ends that process, not the engine.

    python -m engine.geometry.files.isolated FILE FOLDER    reads FILE and leaves raw.npz and told.json in FOLDER
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from .gates import Damaged
from .loaded import Raw

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEMORY = 8 << 30
LEAST_SECONDS, BYTES_A_SECOND = 120.0, 1 << 19
"""A reader that takes longer for a file than this allows hangs."""

_ARRAYS = ("points", "normals", "faces", "viewpoint", "colours", "face_materials")


def read_isolated(path: Path) -> Raw:
    """What the format of the file's suffix reads, in a child process. Raises InputError, Damaged or MemoryError."""
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    environment.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="shapewright-read-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "engine.geometry.files.isolated", str(path.absolute()), name]
        seconds = LEAST_SECONDS + path.stat().st_size / BYTES_A_SECOND
        try:
            done = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Damaged("The library that reads it came to no end.") from None
        told: dict[str, Any] = {}
        if (folder / "told.json").is_file():
            told = json.loads((folder / "told.json").read_text("utf-8"))
        if "error" in told:
            raise InputError(**told["error"])
        if told.get("raised") == "MemoryError":
            raise MemoryError
        if "damaged" in told or not (folder / "raw.npz").is_file():
            raise Damaged(told.get("damaged", f"The library that reads it broke down (status {done.returncode})."))
        with np.load(folder / "raw.npz", allow_pickle=False) as arrays:
            found: dict[str, NDArray[Any]] = {key: arrays[key] for key in arrays.files}
    return Raw(**found, materials=tuple(told["materials"]), notes=told["notes"])  # type: ignore[arg-type]


def main(path: Path, folder: Path) -> None:
    _limit_memory()
    from .registry import format_of

    told: dict[str, Any] = {}
    try:
        one = format_of(path)
        assert one is not None and one.read is not None
        raw = one.read(path)
        arrays = {key: value for key in _ARRAYS if (value := getattr(raw, key)) is not None}
        np.savez(folder / "raw.npz", **arrays)
        told = {"notes": raw.notes, "materials": list(raw.materials)}
    except InputError as error:
        told = {"error": error.as_dict()}
    except Damaged as error:
        told = {"damaged": str(error)}
    except MemoryError:
        told = {"raised": "MemoryError"}
    except BaseException as error:
        told = {"damaged": f"Its content makes no sense ({type(error).__name__})."}
    (folder / "told.json").write_text(json.dumps(told), "utf-8")


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
