"""The wire: HTTP routes over the queue. See docs/wire.md. Importing this module does not import torch."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import FormData, Headers, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import PROTOCOL_VERSION, __version__
from ..errors import EngineError, InputError, JobFailed
from ..jobs.kinds import find, names, parse_request
from ..jobs.request import Request as JobRequest
from ..jobs.slide.request import SlideRequest
from ..plain_json import check_depth
from ..wire.arrays import checked_arrays, unpack_arrays
from ..wire.npz import MAX_BYTES
from . import storage
from .priors import PriorList, add_routes
from .queue import Job, JobQueue, QueueOptions

log = logging.getLogger(__name__)

MAX_BODY = MAX_BYTES + 2**20
MAX_REQUEST = 2**20
MAX_SLIDE = 16 * 2**20
STATUS = {
    "unauthorized": 401,
    "job_not_found": 404,
    "mesh_not_found": 404,
    "prior_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "prior_exists": 409,
    "superseded": 409,
    "arrays_too_large": 413,
    "protocol_mismatch": 426,
    "queue_full": 429,
    "storage_failed": 507,
    "prior_not_stored": 507,
}


def create_app(data_dir: Path, token: str, options: QueueOptions | None = None) -> FastAPI:
    """The application that serves `data_dir`'s jobs to whoever has `token`; its queue is `app.state.jobs`."""
    jobs = JobQueue(data_dir, options or QueueOptions())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await jobs.open()
        try:
            yield
        finally:
            await jobs.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.jobs = jobs
    app.add_middleware(Gate, token=token)
    app.add_exception_handler(EngineError, _on_engine_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_fault)
    started = time.time()
    priors = PriorList()

    @app.get("/v1/info")
    async def info() -> dict[str, Any]:
        return {
            "name": "shapewright",
            "version": __version__,
            "protocol": PROTOCOL_VERSION,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "pid": os.getpid(),
            "uptime_s": time.time() - started,
            "device": jobs.device,
            "worker": jobs.describe_worker(),
            "jobs": jobs.counts(),
            "kinds": names(),
            **await asyncio.to_thread(priors.read),
        }

    @app.post("/v1/jobs", status_code=201)
    async def submit(request: Request) -> dict[str, Any]:
        jobs.check_room()
        try:
            async with request.form(max_files=2, max_fields=2, max_part_size=MAX_REQUEST) as form:
                job = await _submit(jobs, form)
        except HTTPException as error:
            raise _form_error(f"{error.detail}.") from None
        return {"id": job.id}

    @app.get("/v1/jobs")
    async def list_jobs() -> dict[str, Any]:
        return {"jobs": [job.as_dict() for job in jobs.jobs.values()]}

    @app.post("/v1/slide")
    async def slide(request: Request) -> Response:
        try:
            async with request.form(max_files=2, max_fields=2, max_part_size=MAX_REQUEST) as form:
                settings, arrays = await _read_slide(form)
        except HTTPException as error:
            raise _form_error(f"{error.detail}.") from None
        mesh, report = await jobs.slide(settings, arrays)
        headers = {"Cache-Control": "no-store", "Shapewright-Report": json.dumps(report, separators=(",", ":"))}
        return Response(mesh, media_type="application/zip", headers=headers)

    @app.get("/v1/jobs/{job_id}")
    async def show(job_id: str) -> dict[str, Any]:
        return jobs.get(job_id).as_dict()

    @app.get("/v1/jobs/{job_id}/events")
    async def events(job_id: str, request: Request) -> StreamingResponse:
        job = jobs.get(job_id)
        seen = request.headers.get("last-event-id", "")
        after = int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 16 else 0
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_as_sse(jobs, job, after), media_type="text/event-stream", headers=headers)

    @app.get("/v1/jobs/{job_id}/meshes/{n}")
    async def mesh(job_id: str, n: int) -> Response:
        path = jobs.mesh_file(jobs.get(job_id), n)
        # Opened at once: a preview that is replaced while it is sent stays readable, and its length is known.
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            raise InputError(
                "mesh_not_found",
                f"The mesh number {n} is gone.",
                "A newer preview has replaced it, or its file was removed.",
                "Follow the job's events and fetch the newest mesh.",
            ) from None
        return Response(data, media_type="application/zip", headers={"Cache-Control": "no-store"})

    @app.delete("/v1/jobs/{job_id}")
    async def delete(job_id: str) -> JSONResponse:
        state = jobs.delete(jobs.get(job_id))
        return JSONResponse({"id": job_id, "state": state}, 202 if state == "cancelling" else 200)

    add_routes(app, data_dir)
    return app


# ------------------------------------------------------------------------------------------------------------- gate


class Gate:
    """Before anything is read: the token, the protocol's major version and the size of the body."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Shapewright-Protocol"] = PROTOCOL_VERSION
            await send(message)

        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise _body_too_large()
            return message

        try:
            self._check(Headers(scope=scope))
        except EngineError as error:
            await _error_response(error)(scope, receive, send_with_version)
            return
        await self._app(scope, receive_counted, send_with_version)

    def _check(self, headers: Headers) -> None:
        given = headers.get("authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._expected):
            raise InputError(
                "unauthorized",
                "The engine refuses the request.",
                "It carries no token, or not the one of this engine.",
                "Send 'Authorization: Bearer TOKEN' with the token from the engine's token file.",
            )
        protocol = headers.get("shapewright-protocol")
        if protocol is not None and protocol.split(".")[0] != PROTOCOL_VERSION.split(".")[0]:
            raise InputError(
                "protocol_mismatch",
                "The client and the engine do not speak the same language.",
                f"The client speaks protocol {protocol[:20]}, this engine {PROTOCOL_VERSION}.",
                "Update the older of the two; extension and engine of one release fit together.",
            )
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > MAX_BODY:
            raise _body_too_large()


def _body_too_large() -> InputError:
    return InputError(
        "arrays_too_large",
        "The input is too large.",
        f"A request may hold at most {MAX_BODY // 2**20} MB.",
        "Reduce the number of points.",
    )


# ------------------------------------------------------------------------------------------------------------- parts


async def _submit(jobs: JobQueue, form: FormData) -> Job:
    unknown = set(form) - {"request", "arrays"}
    if unknown:
        raise _form_error(f"It has an unexpected part '{sorted(unknown)[0][:80]}'.")
    request = parse_request(await _request_part(form.get("request")))
    arrays = form.get("arrays")
    if isinstance(arrays, str):
        raise _form_error("The part 'arrays' is a text, not a file.")
    if find(request.kind).needs_arrays(request) and arrays is None:
        raise _form_error(f"The part 'arrays' is missing; a '{request.kind}' job needs it.")
    if find(request.kind).needs_arrays(request) is False and arrays is not None:
        raise _form_error(f"This '{request.kind}' job takes no arrays.")
    return await _create(jobs, request, arrays)


async def _read_slide(form: FormData) -> tuple[SlideRequest, bytes]:
    request = parse_request(await _request_part(form.get("request")))
    if not isinstance(request, SlideRequest):
        raise _form_error(f"This is the place for 'slide' requests, not for '{request.kind}'.")
    arrays = form.get("arrays")
    if not isinstance(arrays, UploadFile):
        raise _form_error("The part 'arrays' is missing or not a file; it holds the code.")
    data = await arrays.read(MAX_SLIDE + 1)
    if len(data) > MAX_SLIDE:
        raise _form_error("The part 'arrays' is too long for a code.")
    return request, data


async def _request_part(part: UploadFile | str | None) -> Any:
    if part is None:
        raise _form_error("The part 'request' is missing.")
    if isinstance(part, UploadFile):
        data: bytes | str = await part.read(MAX_REQUEST + 1)
        if len(data) > MAX_REQUEST:
            raise _form_error("The part 'request' is too long.")
    else:
        data = part
    try:
        value = json.loads(data)
        check_depth(value)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a surrogate pair could never be listed
        return value
    except (ValueError, RecursionError) as error:
        raise _form_error(f"The part 'request' is not JSON that can be taken: {str(error)[:200]}.") from None


async def _create(jobs: JobQueue, request: JobRequest, arrays: UploadFile | None) -> Job:
    try:
        folder = jobs.new_folder()
    except OSError as error:
        raise _storage_error(error) from error
    try:
        if arrays is not None:
            await asyncio.to_thread(_store_arrays, arrays, folder / "arrays.npz", request.kind)
        return jobs.submit(folder, request)
    except OSError as error:
        storage.remove_folder(folder)
        raise _storage_error(error) from error
    except BaseException:
        storage.remove_folder(folder)
        raise


def _store_arrays(upload: UploadFile, path: Path, kind: str) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(upload.file, out, 2**20)
    checked_arrays(find(kind), unpack_arrays(path))  # the worker does so again and uses what it returns


async def _as_sse(jobs: JobQueue, job: Job, after: int) -> AsyncIterator[bytes]:
    yield b": connected\n\n"
    async for event in jobs.events(job, after):
        if event is None:
            yield b": keep-alive\n\n"
        else:
            data = json.dumps(event, separators=(",", ":"))
            yield f"id: {event['id']}\nevent: {event['type']}\ndata: {data}\n\n".encode()


# ------------------------------------------------------------------------------------------------------------ errors


def _error_response(error: EngineError) -> JSONResponse:
    status = STATUS.get(error.code, 422 if isinstance(error, InputError) else 500)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": error.as_dict()}, status, headers)


def _form_error(why: str) -> InputError:
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


async def _on_engine_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, EngineError)
    return _error_response(error)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        code, what = "method_not_allowed", f"'{request.url.path}' does not take {request.method}."
    elif error.status_code == 404:
        code, what = "not_found", f"There is nothing at '{request.url.path}'."
    else:
        code, what = "bad_request", "The request cannot be read."
    body = InputError(code, what, f"{error.detail}.", "See docs/wire.md for what the engine answers to.")
    return JSONResponse({"error": body.as_dict()}, error.status_code)


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    body = InputError(
        "request_invalid", "The request is not valid.", f"{where}: {first['msg']}.", "See docs/wire.md for its form."
    )
    return JSONResponse({"error": body.as_dict()}, 422)


async def _on_fault(request: Request, error: Exception) -> JSONResponse:
    body = JobFailed(
        "internal_error",
        "The engine met a fault of its own.",
        f"{type(error).__name__}: {str(error)[:300]}.",
        "Try again; if it happens again, report it with the engine's log.",
    )
    return JSONResponse({"error": body.as_dict()}, 500)
