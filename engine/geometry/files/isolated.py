"""A reader in a process of its own, for libraries of native code.

What a damaged file makes them do (abort, overrun, ask for all the memory there is) ends that process, not the engine.
That process runs isolated_reader.py.
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
from ..meshes import Material
from .gates import Damaged
from .loaded import Raw

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_SECONDS, BYTES_A_SECOND = 120.0, 1 << 19
"""A reader that takes longer for a file than this allows hangs."""


def read_isolated(path: Path) -> Raw:
    """What the format of the file's suffix reads, in a child process. Raises InputError, Damaged or MemoryError."""
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    environment.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="shapewright-read-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "engine.geometry.files.isolated_reader", str(path.absolute()), name]
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
    materials = tuple(Material(name, colour and tuple(colour)) for name, colour in told["materials"])
    return Raw(**found, materials=materials, notes=told["notes"])  # type: ignore[arg-type]
