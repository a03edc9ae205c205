"""The wire: HTTP routes over the queue. See docs/wire.md. Importing this module does not import torch."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from .. import PROTOCOL_VERSION, __version__
from ..errors import InputError
from ..jobs.kinds import names
from . import answers, forms, openapi, priors
from .gate import Gate
from .job import Job
from .options import QueueOptions
from .queue import JobQueue

_NO_STORE = {"Cache-Control": "no-store"}


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
    answers.add_handlers(app)
    _add_about(app, jobs)
    _add_jobs(app, jobs)
    priors.add_routes(app, data_dir)
    return app


def _add_about(app: FastAPI, jobs: JobQueue) -> None:
    """GET /v1/info, GET /v1/kinds, GET /openapi.json."""
    started = time.time()
    installed = priors.PriorList()

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
            **await asyncio.to_thread(installed.read),
        }

    @app.get("/v1/kinds")
    async def kinds() -> dict[str, Any]:
        return {"kinds": await asyncio.to_thread(openapi.about_kinds)}

    @app.get("/openapi.json", include_in_schema=False)
    async def description() -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(openapi.describe, app))


def _add_jobs(app: FastAPI, jobs: JobQueue) -> None:
    """The routes under /v1/jobs, and POST /v1/slide."""

    @app.post("/v1/jobs", status_code=201)
    async def submit(request: Request) -> dict[str, Any]:
        jobs.check_room()
        async with forms.form_of(request) as form:
            job = await forms.submit(jobs, form)
        return {"id": job.id}

    @app.post("/v1/slide")
    async def slide(request: Request) -> Response:
        async with forms.form_of(request) as form:
            settings, arrays = await forms.read_light(form)
        mesh, report = await jobs.slides.answer(settings, arrays)
        headers = _NO_STORE | {"Shapewright-Report": json.dumps(report, separators=(",", ":"))}
        return Response(mesh, media_type="application/zip", headers=headers)

    @app.get("/v1/jobs")
    async def list_jobs() -> dict[str, Any]:
        return {"jobs": [job.as_dict() for job in jobs.jobs.values()]}

    @app.get("/v1/jobs/{job_id}")
    async def show(job_id: str) -> dict[str, Any]:
        return jobs.get(job_id).as_dict()

    @app.get("/v1/jobs/{job_id}/events")
    async def events(job_id: str, request: Request) -> StreamingResponse:
        job = jobs.get(job_id)
        seen = request.headers.get("last-event-id", "")
        after = int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 16 else 0
        headers = _NO_STORE | {"X-Accel-Buffering": "no"}
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
        return Response(data, media_type="application/zip", headers=_NO_STORE)

    @app.delete("/v1/jobs/{job_id}")
    async def delete(job_id: str) -> JSONResponse:
        state = jobs.delete(jobs.get(job_id))
        return JSONResponse({"id": job_id, "state": state}, 202 if state == "cancelling" else 200)


async def _as_sse(jobs: JobQueue, job: Job, after: int) -> AsyncIterator[bytes]:
    yield b": connected\n\n"
    async for event in jobs.events(job, after):
        if event is None:
            yield b": keep-alive\n\n"
        else:
            data = json.dumps(event, separators=(",", ":"))
            yield f"id: {event['id']}\nevent: {event['type']}\ndata: {data}\n\n".encode()
