"""The engine's priors as files, over the wire: bring one, fetch one, remove one. No bpy."""

from __future__ import annotations

import os
import urllib.parse
import uuid
from pathlib import Path
from typing import Any

from ...link.client import EngineClient
from ...link.multipart import Part, form
from ...link.problem import EngineProblem

SUFFIX = ".safetensors"
MAX_PRIOR_BYTES = 1 << 30


def bring(client: EngineClient, path: Path, name: str = "", replace: bool = False) -> dict[str, Any]:
    """`POST /v1/priors`: the prior as it is listed now. Raises EngineProblem with the reason for a refusal."""
    try:
        if path.stat().st_size > MAX_PRIOR_BYTES:
            raise EngineProblem(
                "prior_too_large",
                f"'{path.name}' was not imported.",
                f"It has more than {MAX_PRIOR_BYTES >> 20} MB.",
                "Choose the file of a prior.",
            )
        content = path.read_bytes()
    except OSError as error:
        raise EngineProblem(
            "file_unreadable",
            f"'{path.name}' was not imported.",
            f"{error.strerror or error}.",
            "Choose a file that exists and may be read.",
        ) from error
    # The engine reads the prior's name from the file itself.
    body, content_type = form(
        [
            Part("name", name.encode()),
            Part("replace", b"true" if replace else b"false"),
            Part("file", content, "application/octet-stream", path.name),
        ]
    )
    return client.json("POST", "/v1/priors", body, content_type)


def fetch(client: EngineClient, name: str, target: Path) -> Path:
    """`GET /v1/priors/{name}/file` into a file, which appears whole or not at all."""
    content = client.call("GET", f"{_address(name)}/file", limit=MAX_PRIOR_BYTES)
    if target.suffix != SUFFIX:
        target = target.with_name(target.name + SUFFIX)
    unfinished = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, target)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise EngineProblem(
            "file_unwritable",
            f"The prior '{name}' was not exported.",
            f"{error.strerror or error}.",
            "Choose a folder that exists and can be written to.",
        ) from error
    return target


def remove(client: EngineClient, name: str) -> None:
    """`DELETE /v1/priors/{name}`."""
    client.json("DELETE", _address(name))


def _address(name: str) -> str:
    return f"/v1/priors/{urllib.parse.quote(name, safe='')}"
