"""The parts of a submitted form: `request` (JSON) and `arrays` (NPZ)."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from ..errors import InputError, JobFailed
from ..jobs.kinds import Kind, find, parse_request
from ..jobs.request import Request as JobRequest
from ..plain_json import check_depth
from ..wire.arrays import checked_arrays, unpack_arrays
from . import storage
from .job import Job
from .queue import JobQueue

MAX_REQUEST = 2**20
MAX_LIGHT = 16 * 2**20
"""Bytes of the arrays of what is answered at once."""


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """Raises InputError 'form_invalid' for what is no such form."""
    try:
        async with request.form(max_files=2, max_fields=2, max_part_size=MAX_REQUEST) as form:
            yield form
    except HTTPException as error:
        raise _invalid(f"{error.detail}.") from None


async def submit(jobs: JobQueue, form: FormData) -> Job:
    """Check request and arrays and queue the job. Raises InputError, JobFailed 'storage_failed'."""
    unknown = set(form) - {"request", "arrays"}
    if unknown:
        raise _invalid(f"It has an unexpected part '{sorted(unknown)[0][:80]}'.")
    request = parse_request(await _json_part(form.get("request")))
    kind = find(request.kind)
    arrays = form.get("arrays")
    if isinstance(arrays, str):
        raise _invalid("The part 'arrays' is a text, not a file.")
    needed = kind.needs_arrays(request)
    if needed and arrays is None:
        raise _invalid(f"The part 'arrays' is missing; a '{kind.name}' job needs it.")
    if needed is False and arrays is not None:
        raise _invalid(f"This '{kind.name}' job takes no arrays.")
    return await _create(jobs, request, kind, arrays)


async def read_light(form: FormData) -> tuple[JobRequest, bytes]:
    """The request of a light kind, and its arrays as they came. Raises InputError."""
    request = parse_request(await _json_part(form.get("request")))
    if not find(request.kind).light:
        raise _invalid(f"This is the place for 'slide' requests, not for '{request.kind}'.")
    arrays = form.get("arrays")
    if not isinstance(arrays, UploadFile):
        raise _invalid("The part 'arrays' is missing or not a file; it holds the code.")
    data = await arrays.read(MAX_LIGHT + 1)
    if len(data) > MAX_LIGHT:
        raise _invalid("The part 'arrays' is too long for a code.")
    return request, data


async def _json_part(part: UploadFile | str | None) -> Any:
    if part is None:
        raise _invalid("The part 'request' is missing.")
    if isinstance(part, UploadFile):
        data: bytes | str = await part.read(MAX_REQUEST + 1)
        if len(data) > MAX_REQUEST:
            raise _invalid("The part 'request' is too long.")
    else:
        data = part
    try:
        value = json.loads(data)
        check_depth(value)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a surrogate pair could never be listed
        return value
    except (ValueError, RecursionError) as error:
        raise _invalid(f"The part 'request' is not JSON that can be taken: {str(error)[:200]}.") from None


async def _create(jobs: JobQueue, request: JobRequest, kind: Kind, arrays: UploadFile | None) -> Job:
    try:
        folder = jobs.new_folder()
    except OSError as error:
        raise _storage_error(error) from error
    try:
        if arrays is not None:
            await asyncio.to_thread(_store_arrays, arrays, folder / "arrays.npz", kind)
        return jobs.submit(folder, request)
    except OSError as error:
        storage.remove_folder(folder)
        raise _storage_error(error) from error
    except BaseException:
        storage.remove_folder(folder)
        raise


def _store_arrays(upload: UploadFile, path: Path, kind: Kind) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(upload.file, out, 2**20)
    checked_arrays(kind, unpack_arrays(path))  # the worker does so again and uses what it returns


def _invalid(why: str) -> InputError:
    return InputError(
        "form_invalid",
        "The request cannot be read.",
        why,
        "Send multipart/form-data with a part 'request' (JSON) and, for kinds with input, a file 'arrays' (NPZ).",
    )


def _storage_error(error: OSError) -> JobFailed:
    return JobFailed(
        "storage_failed",
        "The job cannot be stored.",
        f"{error.strerror or error}.",
        "Free disk space, or start the engine with another --data-dir.",
    )
