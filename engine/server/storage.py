"""Jobs on disk: one folder a job, so that results outlive a crash of the client, the worker or the server.

    DATA_DIR/jobs/ID/   request.json   arrays.npz (until the job ends)   mesh_N.npz   state.json

state.json names the server process that owns the job. A server that starts adopts the jobs of dead servers and leaves
those of living ones alone, so that several can share one folder.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from ..folders import default_data_dir as default_data_dir

log = logging.getLogger(__name__)


def write_atomically(path: Path, data: bytes) -> None:
    """Write so that a reader sees the old content or the new, never a part."""
    handle, name = tempfile.mkstemp(prefix=path.name + ".", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        for attempt in range(20):
            try:
                temporary.replace(path)
                return
            except PermissionError:  # Windows, while somebody reads the old file
                if attempt == 19:
                    raise
                time.sleep(0.05)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def process_mark() -> dict[str, Any]:
    """What tells this process from a later one with the same number."""
    return {"pid": os.getpid(), "started": psutil.Process().create_time()}


def is_alive(mark: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(int(mark["pid"]))
        same = abs(process.create_time() - float(mark["started"])) < 2
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
        return False


def to_json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def write_state(folder: Path, state: dict[str, Any]) -> None:
    write_atomically(folder / "state.json", to_json(state))


def read_adoptable(jobs_dir: Path) -> list[tuple[Path, dict[str, Any]]]:
    """(folder, state) of every job whose server is dead, oldest first. Folders that hold no job are removed once a
    day old: uploads that never finished."""
    found: list[tuple[Path, dict[str, Any]]] = []
    for folder in sorted(jobs_dir.iterdir()) if jobs_dir.is_dir() else []:
        if not folder.is_dir():
            continue
        try:
            state = json.loads((folder / "state.json").read_text("utf-8"))
            if not isinstance(state, dict) or not isinstance(state.get("id"), str) or state["id"] != folder.name:
                raise ValueError("not a job")
        except (OSError, ValueError) as error:
            try:
                stale = time.time() - folder.stat().st_mtime > 86_400
            except OSError:
                continue
            if stale:
                log.warning("Removing %s, which holds no job: %s", folder.name, error)
                remove_folder(folder)
            continue
        if not is_alive(state.get("owner") or {}):
            found.append((folder, state))
    found.sort(key=lambda item: item[1].get("created") or 0)
    return found


def folder_size(folder: Path) -> int:
    total = 0
    try:
        for item in folder.iterdir():
            try:
                total += item.stat().st_size
            except OSError:  # removed meanwhile
                continue
    except OSError:
        return 0
    return total


def remove_folder(folder: Path) -> None:
    """Remove a job's folder. What cannot be removed now (a file held open on Windows) is tried again by the next
    sweep, because its state is removed last."""
    try:
        for item in folder.iterdir():
            if item.name != "state.json":
                item.unlink(missing_ok=True)
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s cannot be removed yet: %s", folder.name, error)
