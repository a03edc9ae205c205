"""The interface described: OpenAPI, the kinds' schemas, and the tables in docs/wire.md that are made of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import httpx
import pytest

from engine.jobs import kinds
from tests.engine.server.conftest import ROOT, Client, environment


@pytest.fixture(scope="module")
def document(strange: Client) -> dict[str, Any]:
    return strange.http.get("/openapi.json").json()


def test_the_description_is_for_those_who_have_the_token(strange: Client) -> None:
    for path in ("/openapi.json", "/v1/kinds"):
        bare = httpx.get(f"http://127.0.0.1:{strange.port}{path}", trust_env=False)
        assert bare.status_code == 401 and bare.json()["error"]["code"] == "unauthorized"


def test_every_kind_has_its_schema(document: dict[str, Any], strange: Client) -> None:
    form = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    of_kind = form["properties"]["request"]["discriminator"]["mapping"]
    assert set(of_kind) == set(kinds.names()) == set(strange.http.get("/v1/kinds").json()["kinds"])
    for name, ref in of_kind.items():
        schema = resolved(document, ref)
        assert schema["properties"]["kind"]["const"] == name and schema["additionalProperties"] is False
        assert set(schema["properties"]) == set(kinds.find(name).request.model_fields)
    slider = document["paths"]["/v1/slide"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(slider["properties"]["request"]["discriminator"]["mapping"]) == {"slide"}


def test_every_reference_leads_somewhere_and_every_error_has_its_form(document: dict[str, Any]) -> None:
    for ref in references(document):
        assert resolved(document, ref)
    for path, operations in document["paths"].items():
        assert path.startswith("/v1/")
        for operation in operations.values():
            answer = operation["responses"]["default"]["content"]["application/json"]["schema"]
            assert set(resolved(document, answer["$ref"])["properties"]["error"]["required"]) == {
                "code", "what", "why", "remedy",
            }  # fmt: skip


def test_the_tables_in_the_docs_are_those_of_the_schemas() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "wire_docs"), "--check"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def resolved(document: dict[str, Any], ref: str) -> dict[str, Any]:
    value: Any = document
    for part in ref.removeprefix("#/").split("/"):
        value = value[part]
    return value


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for item in value.values() for ref in references(item)]
    return [ref for item in value for ref in references(item)] if isinstance(value, list) else []
