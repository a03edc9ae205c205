"""Priors over the wire: the list in /v1/info, and a prior's file brought, fetched and removed. No torch here."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from ..errors import InputError, JobFailed
from ..plain_json import plain
from ..priors.exchange import check_name, remove_prior
from ..priors.registry import SUFFIX, PriorInfo, list_priors, prior_paths, read_card

log = logging.getLogger(__name__)

CHECK_TIMEOUT_S = 300.0


class PriorList:
    """The installed priors, read again when a file among them has changed."""

    def __init__(self) -> None:
        self._state: tuple[Any, ...] | None = None
        self._answer: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """{"priors": [...], "priors_error": text or null}"""
        try:
            state = _state()
            if state != self._state:
                self._answer = {"priors": [prior.as_json() for prior in list_priors()], "priors_error": None}
                self._state = state
        except Exception as error:  # one damaged file must not hide the engine
            log.exception("The priors cannot be listed")
            self._state = None
            self._answer = {"priors": [], "priors_error": ascii(f"{type(error).__name__}: {error}")[1:-1]}
        return self._answer


def _state() -> tuple[Any, ...]:
    """What changes where a prior is added, removed or replaced."""
    found = []
    for path in prior_paths():
        try:
            about = path.stat()
            found.append((str(path), about.st_mtime_ns, about.st_size))
        except OSError:  # a link to nothing, or gone meanwhile
            found.append((str(path), 0, 0))
    return tuple(found)


def add_routes(app: FastAPI, data_dir: Path) -> None:
    """GET /v1/priors/{name}, GET /v1/priors/{name}/file, POST /v1/priors, DELETE /v1/priors/{name}."""

    @app.get("/v1/priors/{name}")
    async def card(name: str) -> dict[str, Any]:
        info = await asyncio.to_thread(_listed, name)
        return info.as_json() | {"card": plain(await asyncio.to_thread(read_card, info.path))}

    @app.get("/v1/priors/{name}/file")
    async def file(name: str) -> FileResponse:
        info = await asyncio.to_thread(_listed, name)
        return FileResponse(info.path, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})

    @app.post("/v1/priors", status_code=201)
    async def bring(request: Request) -> dict[str, Any]:
        try:
            async with request.form(max_files=1, max_fields=2) as form:
                upload, name = form.get("file"), form.get("name", "")
                replace = form.get("replace", "false")
                if not isinstance(upload, UploadFile) or not isinstance(name, str) or replace not in ("true", "false"):
                    raise InputError(
                        "form_invalid",
                        "The prior cannot be read.",
                        "The form has no file 'file', or its 'name' or 'replace' (true or false) is not a text.",
                        "Send multipart/form-data with the prior's file as 'file' and, where wanted, these two.",
                    )
                return await asyncio.to_thread(_import, upload, name, replace == "true", data_dir)
        except HTTPException as error:
            raise InputError(
                "form_invalid", "The prior cannot be read.", f"{error.detail}.", "Send multipart/form-data."
            ) from None

    @app.delete("/v1/priors/{name}")
    async def remove(name: str) -> dict[str, Any]:
        await asyncio.to_thread(remove_prior, name)
        return {"name": name, "state": "removed"}


def _listed(name: str) -> PriorInfo:
    """By its name only: a path from a client would be one of the engine's machine."""
    for info in list_priors():
        if info.name == name:
            return info
    raise InputError(
        "prior_not_found",
        f"There is no prior called {name[:120]}.",
        f"The priors found are: {', '.join(info.name for info in list_priors()) or 'none'}.",
        "Choose one of them.",
    )


def _import(upload: UploadFile, name: str, replace: bool, data_dir: Path) -> dict[str, Any]:
    """In a process of its own, which may import torch to see whether the weights make a network: this one does not,
    and a hostile file cannot hurt it."""
    if name:
        check_name(name)
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="prior-", dir=data_dir) as folder:
        # The name that the client's file had is part of the messages: what of it can be a file's name here.
        given = "".join(c if c.isalnum() or c in " -_" else "_" for c in Path(upload.filename or "").stem)[:80]
        path = Path(folder) / f"{given.strip() or 'prior'}{SUFFIX}"
        with path.open("wb") as out:
            shutil.copyfileobj(upload.file, out, 2**20)
        command = [sys.executable, "-m", "engine", "priors", "import", "--json", f"--name={name}"]
        command += ["--replace"] * replace
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        try:
            done = subprocess.run(
                [*command, "--", str(path)], stdin=subprocess.DEVNULL, capture_output=True, timeout=CHECK_TIMEOUT_S,
                creationflags=flags, check=False,
            )  # fmt: skip
            answer = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            raise _check_failed(f"It took longer than {CHECK_TIMEOUT_S:.0f} seconds.") from None
        except ValueError:
            words = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise _check_failed(f"The check ended with status {done.returncode}: {' '.join(words)[:300]}.") from None
    error = answer.get("error")
    if error is not None:
        kind = InputError if done.returncode == 2 else JobFailed
        raise kind(error["code"], error["what"], error["why"], error["remedy"])
    prior: dict[str, Any] = answer["prior"]
    return prior


def _check_failed(why: str) -> JobFailed:
    return JobFailed(
        "prior_check_failed",
        "The prior could not be checked.",
        why,
        "Try again; if it happens again, run 'shapewright priors import FILE' on the engine's machine.",
    )
