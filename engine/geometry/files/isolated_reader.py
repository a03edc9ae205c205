"""The child process of isolated.py: reads one file by a library of native code, in bounded memory.

    python -m engine.geometry.files.isolated_reader FILE FOLDER    reads FILE, leaves raw.npz and told.json in FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from .gates import Damaged
from .registry import format_of

MEMORY = 8 << 30

_ARRAYS = ("points", "normals", "faces", "viewpoint", "colours", "face_materials", "scans")


def main(path: Path, folder: Path) -> None:
    _limit_memory()
    told: dict[str, Any] = {}
    try:
        one = format_of(path)
        assert one is not None and one.read is not None
        raw = one.read(path)
        arrays = {key: value for key in _ARRAYS if (value := getattr(raw, key)) is not None}
        np.savez(folder / "raw.npz", **arrays)
        told = {"notes": raw.notes, "materials": [(one.name, one.colour) for one in raw.materials]}
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
