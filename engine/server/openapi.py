"""The interface described for programs: OpenAPI, with a JSON schema for each kind of job."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from .. import PROTOCOL_VERSION
from ..jobs.kinds import Kind, every

_REF = "#/components/schemas/"
_ARRAYS = {"type": "string", "format": "binary", "description": "NPZ, see docs/wire.md"}


def about_kinds() -> dict[str, Any]:
    """`GET /v1/kinds`: each kind's settings as a JSON schema, and what its arrays may be. arrays: true, false, or null
    where they may come or not."""
    return {
        name: {
            "summary": kind.summary,
            "arrays": None if callable(kind.arrays) else kind.arrays,
            "codes": kind.codes,
            "several": kind.several,
            "kept": kind.kept,
            "light": kind.light,
            "long": kind.long,
            "schema": kind.schema,
        }
        for name, kind in every().items()
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """`GET /openapi.json`."""
    kinds = list(every().values())
    document = get_openapi(
        title="Shapewright engine",
        version=PROTOCOL_VERSION,
        description="docs/wire.md says the rest.",
        routes=app.routes,
    )
    _, schemas = models_json_schema([(kind.request, "validation") for kind in kinds], ref_template=_REF + "{model}")
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas["$defs"])
    components["schemas"]["Error"] = _error_schema()
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    paths = document["paths"]
    paths["/v1/jobs"]["post"]["requestBody"] = _form(kinds, required=["request"])
    light = [kind for kind in kinds if kind.light]
    paths["/v1/slide"]["post"]["requestBody"] = _form(light, required=["request", "arrays"])
    paths["/v1/priors"]["post"]["requestBody"] = _prior_form()
    answer = {"description": "What is wrong", "content": {"application/json": {"schema": {"$ref": f"{_REF}Error"}}}}
    for path in paths.values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # FastAPI's own form of an error is never sent
            operation["responses"]["default"] = answer
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    return document


def _form(kinds: list[Kind], required: list[str]) -> dict[str, Any]:
    of_kind = {kind.name: f"{_REF}{kind.request.__name__}" for kind in kinds}
    request = {
        "oneOf": [{"$ref": ref} for ref in of_kind.values()],
        "discriminator": {"propertyName": "kind", "mapping": of_kind},
    }
    schema = {"type": "object", "required": required, "properties": {"request": request, "arrays": _ARRAYS}}
    encoding = {"request": {"contentType": "application/json"}}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema, "encoding": encoding}}}


def _prior_form() -> dict[str, Any]:
    properties = {
        "file": {"type": "string", "format": "binary", "description": "a safetensors file"},
        "name": {"type": "string", "description": "what it is called from now on; left out: the card's own name"},
        "replace": {"type": "string", "enum": ["true", "false"], "description": "also where another has that name"},
    }
    schema = {"type": "object", "required": ["file"], "properties": properties}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _error_schema() -> dict[str, Any]:
    parts = {
        "code": {"type": "string", "description": "stable, for programs"},
        "what": {"type": "string", "description": "what happened"},
        "why": {"type": "string", "description": "the cause"},
        "remedy": {"type": "string", "description": "what to do"},
    }
    error = {"type": "object", "required": list(parts), "properties": parts}
    return {"type": "object", "required": ["error"], "properties": {"error": error}}
