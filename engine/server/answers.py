"""Errors as HTTP answers: whatever goes wrong has its three parts."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ..errors import EngineError, InputError, JobFailed

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
"""Of error codes; others are 422 where the request is at fault and 500 where the engine is."""


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(EngineError, _on_engine_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_fault)


def error_response(error: EngineError) -> JSONResponse:
    status = STATUS.get(error.code, 422 if isinstance(error, InputError) else 500)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": error.as_dict()}, status, headers)


async def _on_engine_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, EngineError)
    return error_response(error)


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
