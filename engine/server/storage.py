"""Jobs on disk: one folder a job, so that results outlive a crash of the client, the worker or the server.

    DATA_DIR/jobs/ID/   request.json   arrays.npz (until the job ends)   mesh_N.npz   state.json

state.json names the server process that owns the job. A server that starts adopts the jobs of dead servers and leaves
those of living ones alone, so that several can share one folder.

The folder is one that a person chose, and other things may lie in it. Only folders with a name that `new_folder` gives
are jobs, only files with the names above are removed from them, and no link is followed or removed. A job whose state
is damaged is renamed ID.damaged and kept for a person to look at.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ..folders import default_data_dir as default_data_dir
from .states import check_state, read_state

log = logging.getLogger(__name__)

UNFINISHED_AFTER_S = 86_400
_JOB_NAME = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{12}")
_QUARANTINED = re.compile(_JOB_NAME.pattern + r"\.damaged(-[0-9]+)?")
_JOB_FILE = re.compile(r"(request\.json|state\.json|arrays\.npz|mesh_[0-9]+\.npz)(\.[a-z0-9_]{8}\.tmp)?")
_REPARSE_POINT = 0x400  # FILE_ATTRIBUTE_REPARSE_POINT: Windows' links, its junctions among them


def new_folder(jobs_dir: Path) -> Path:
    """Make the folder of a job to be; its name is the job's id."""
    folder = jobs_dir / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(6)}"
    folder.mkdir(mode=0o700)
    return folder


def is_job_folder(folder: Path) -> bool:
    """Whether the folder has a name that `new_folder` gives and is itself there, not a link to it."""
    return _JOB_NAME.fullmatch(folder.name) is not None and _is_itself(folder, stat.S_ISDIR)


def _is_itself(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Whether `path` is of the kind (stat.S_ISDIR, stat.S_ISREG) without following a link. OSError is no."""
    try:
        about = path.lstat()
    except OSError:
        return False
    return is_kind(about.st_mode) and not getattr(about, "st_file_attributes", 0) & _REPARSE_POINT


def job_files(folder: Path) -> list[Path]:
    """The files in a job's folder that the engine made; none where the folder is no job's. Raises OSError."""
    if not is_job_folder(folder):
        return []
    return [p for p in folder.iterdir() if _JOB_FILE.fullmatch(p.name) and _is_itself(p, stat.S_ISREG)]


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


def is_alive(mark: Any) -> bool:
    """Whether the process of this `process_mark` runs. What is no such mark is nobody's."""
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


@dataclass
class DamagedJob:
    """A job whose state cannot be believed.  id: its folder's name once.  kept: where its folder lies now."""

    id: str
    kept: Path
    why: str


def read_adoptable(jobs_dir: Path) -> tuple[list[tuple[Path, dict[str, Any]]], list[DamagedJob]]:
    """(folder, checked state) of every job whose server is dead, oldest first; and the jobs whose state is damaged,
    whose folders are put aside under another name and kept.

    A job's folder without a state is an upload that never finished: what the engine put there is removed once a day
    old. Everything else that is no job is left as it is and told once.
    """
    found: list[tuple[Path, dict[str, Any]]] = []
    damaged: list[DamagedJob] = []
    strange: list[Path] = []
    for folder in sorted(jobs_dir.iterdir()) if jobs_dir.is_dir() else []:
        if not is_job_folder(folder):
            if not _QUARANTINED.fullmatch(folder.name):
                strange.append(folder)
            continue
        try:
            if not os.path.lexists(folder / "state.json"):
                if time.time() - folder.stat().st_mtime > UNFINISHED_AFTER_S:
                    log.warning("Removing %s: its upload never finished", folder.name)
                    remove_folder(folder)
                continue
            if not _is_itself(folder / "state.json", stat.S_ISREG):
                strange.append(folder)
                continue
            state = read_state(folder)
            if not is_alive(state.get("owner")):
                check_state(state)
                found.append((folder, state))
        except ValueError as error:
            kept = _put_aside(folder)
            log.warning("The state of job %s is damaged: %s. Its files are kept in %s", folder.name, error, kept.name)
            damaged.append(DamagedJob(folder.name, kept, str(error)))
        except Exception as error:  # each job on its own: a folder that cannot be read now hides no other
            log.warning("Job %s cannot be read now and stays: %s: %s", folder.name, type(error).__name__, error)
    if strange:
        names = ", ".join(ascii(path.name) for path in strange[:20])
        log.warning("%d entries of %s are not the engine's and stay: %s", len(strange), ascii(str(jobs_dir)), names)
    found.sort(key=lambda item: float(item[1]["created"]))
    return found, damaged


def _put_aside(folder: Path) -> Path:
    """Rename a damaged job's folder to a name that no job has; returns it, also where the folder cannot be renamed
    (held open on Windows) and the next start tries again."""
    number = 1
    while os.path.lexists(kept := folder.with_name(f"{folder.name}.damaged{f'-{number}' * (number > 1)}")):
        number += 1
    try:
        folder.rename(kept)
    except OSError as error:
        log.warning("%s cannot be renamed yet: %s", folder.name, error)
    return kept


def folder_size(folder: Path) -> int:
    """Bytes of the files that `remove_folder` would remove."""
    total = 0
    try:
        for item in job_files(folder):
            try:
                total += item.lstat().st_size
            except OSError:  # removed meanwhile
                continue
    except OSError:
        return 0
    return total


def unlink(path: Path) -> None:
    """Remove one file of a job, where it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # Windows, while a client downloads it: it goes with the folder
        log.info("%s stays for now: %s", path.name, error)


def remove_folder(folder: Path) -> None:
    """Remove a job's files, then its folder where nothing else lies in it. What cannot be removed now (a file held
    open on Windows) is tried again by the next sweep, because the job's state is removed last."""
    try:
        for item in sorted(job_files(folder), key=lambda item: item.name == "state.json"):
            item.unlink(missing_ok=True)
        if not is_job_folder(folder):
            return
        left = [ascii(item.name) for item in folder.iterdir()]
        if left:
            log.warning("%s stays: %s in it is not the engine's", folder.name, ", ".join(left[:20]))
        else:
            folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s cannot be removed yet: %s", folder.name, error)
