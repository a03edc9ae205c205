"""What the requests of all kinds are made of: their base, the types that several share, and their errors in words.

A request is settings only; the arrays travel beside it. Types are strict: a boolean is no number, a text is no number,
NaN is nothing. What a field may be stands once, in its type: the check, the sentence of the error, the JSON schema and
the table in docs/wire.md come from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from ..device import DEVICES
from ..errors import InputError
from ..frames import UP_AXES
from ..priors.registry import DEFAULT

EXPECTED = "x-expected"
"""In a JSON schema: what a value has to be, where the schema's own words do not tell a person."""


@dataclass(frozen=True)
class OneOf:
    """A text that is one of these."""

    options: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.literal_schema(list(self.options))


def _without_null(text: str) -> str:
    if "\0" in text:
        raise ValueError("a text holds no null character")
    return text


def _flattened(value: Any) -> Any:
    """4 rows of 4 -> 16; anything else as it is."""
    if isinstance(value, list | tuple) and len(value) == 4 and all(isinstance(row, list | tuple) for row in value):
        return tuple(item for row in value for item in row)
    return value


def _similarity(flat: tuple[float, ...]) -> tuple[float, ...]:
    matrix = np.array(flat, np.float64).reshape(4, 4)
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    if (
        not 1e-9 < scale < 1e9
        or np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6
        or np.abs(matrix[:3, :3] @ matrix[:3, :3].T / scale**2 - np.eye(3)).max() > 1e-3
    ):
        raise ValueError("not a similarity")
    return flat


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return value


NoNull = AfterValidator(_without_null)
Device = Annotated[str, OneOf(DEVICES)]
UpAxis = Annotated[str, OneOf(UP_AXES)]
Align = Literal["none", "scale", "similarity"]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1, description="the same request with the same seed has one result")]
Resolution = Annotated[int, Field(ge=8, le=512)]
Count = Annotated[int, Field(ge=1, le=1000)]
First = Annotated[int, Field(ge=0, le=1_000_000)]
Label = Annotated[str, Field(max_length=256), NoNull]
ClassName = Annotated[str, Field(max_length=64), NoNull]
PriorName = Annotated[str, Field(min_length=1, max_length=1024), NoNull]
Sha256 = Annotated[
    str,
    Field(
        pattern=r"^([0-9a-f]{64})?$",
        json_schema_extra={EXPECTED: "the 64 hexadecimal digits of a prior's sha256, or an empty text"},
    ),
]
_Coordinate = Annotated[float, Field(gt=-1e12, lt=1e12)]
Viewpoint = Annotated[
    tuple[_Coordinate, _Coordinate, _Coordinate],
    Strict(False),  # JSON knows lists only
    Field(json_schema_extra={EXPECTED: "three finite numbers (x, y, z)"}),
]
PoseMatrix = Annotated[
    tuple[_Coordinate, ...],
    Strict(False),
    Field(
        min_length=16,
        max_length=16,
        json_schema_extra={
            EXPECTED: "16 numbers, row by row, of a matrix of translation, rotation and one positive scale"
        },
    ),
    AfterValidator(_similarity),
    BeforeValidator(_flattened),
]
JsonObject = Annotated[
    dict[str, Any],
    Field(max_length=64),
    AfterValidator(_as_json),
    WithJsonSchema({"type": "object", "maxProperties": 64, EXPECTED: "an object of settings"}),
]


class Part(BaseModel):
    """A row of a request."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Request(Part):
    """The settings of a job. A kind's own class says what `kind` is."""

    kind: str
    device: Device = "auto"
    """what computes it; auto = the fastest there is: cuda, then mps, then cpu"""
    name: Label = ""
    """what the user calls the job"""

    def but(self, **changes: Any) -> Self:
        """The same request but for these settings, checked. Raises pydantic.ValidationError."""
        return type(self)(**{**dict(self), **changes})


def _enough(faces: int) -> int:
    if 0 < faces < 100:
        raise ValueError("fewer than 100 triangles would leave nothing to recognise")
    return faces


MostFaces = Annotated[
    int,
    Field(ge=0, le=100_000_000),
    AfterValidator(_enough),
    WithJsonSchema({
        "anyOf": [{"const": 0}, {"type": "integer", "minimum": 100, "maximum": 100_000_000}],
        EXPECTED: "0, or a whole number from 100 to 100000000",
    }),
]


class FinishedRequest(Request):
    """What the requests share whose results are surfaces that go into a scene."""

    max_faces: MostFaces = 0
    """triangles of each result: exactly so many or, where a closed surface cannot have them, one less; more where its
    topology needs more; 0 = as extracted"""
    uvs: bool = False
    """unwrap each result (takes seconds for tens of thousands of triangles; needs the package xatlas)"""


class OfShapesRequest(FinishedRequest):
    """What requests that start from shapes share: the arrays' codes, or their points (and faces), encoded first."""

    prior: PriorName = DEFAULT
    """name or path of the prior"""
    prior_sha256: Sha256 = ""
    """of the prior that the arrays' codes belong to, "" where they have none"""
    input_is: Literal["auto", "whole", "partial"] = "auto"
    """a shape without a code is encoded as it is or completed first; auto = whole where it is a closed mesh"""
    align: Align = "scale"
    """of a shape without a code, as in complete"""
    up: UpAxis = "+z"
    """which input axis points up, of a shape without a code"""
    resolution: Resolution = 128
    """cells along the box of each mesh"""
    seed: Seed = 0


# ------------------------------------------------------------------------------------------------------- in words


def expected(schema: Mapping[str, Any]) -> str:
    """What a value of this JSON schema has to be, in words: 'a whole number from 8 to 512'."""
    if EXPECTED in schema:
        return str(schema[EXPECTED])
    if "anyOf" in schema:
        options = [expected(option) for option in schema["anyOf"] if option.get("type") != "null"]
        null = [option for option in schema["anyOf"] if option.get("type") == "null"]
        return ", or ".join(options + ["null"] * bool(null))
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(str(option) for option in schema["enum"])
    match schema.get("type"):
        case "integer":
            return f"a whole number{_range(schema, '')}"
        case "number":
            return f"a number{_range(schema, 'g')}"
        case "string":
            return f"a text of {schema.get('minLength', 0)} to {schema.get('maxLength', 'any number of')} characters"
        case "boolean":
            return "true or false"
        case "array":
            return f"a list of at most {schema['maxItems']}" if "maxItems" in schema else "a list"
        case _:
            return "an object"


def _range(schema: Mapping[str, Any], form: str) -> str:
    """Of a number; either end may be missing, or excluded."""
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']:{form}} to {schema['maximum']:{form}}"
    ends = (
        ("minimum", "of at least"), ("exclusiveMinimum", "above"),
        ("maximum", "of at most"), ("exclusiveMaximum", "below"),
    )  # fmt: skip
    told = [f"{word} {schema[end]:{form}}" for end, word in ends if end in schema]
    return f" {' and '.join(told)}" if told else ""


def invalid(field: str, value: Any, wanted: str) -> InputError:
    shown = repr(value)
    return InputError(
        "request_invalid",
        f"The request's field '{field}' is not valid.",
        f"It is {shown if len(shown) <= 80 else shown[:77] + '...'}; expected {wanted}.",
        f"Change '{field}' and try again.",
    )


def explained(error: ValidationError, request: type[Request], data: Mapping[str, Any]) -> InputError:
    """What pydantic found wrong with `data`, as an error that names the field and says what is expected there."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "kind"
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        return InputError(
            "request_field_unknown",
            f"The request has an unknown field '{field[:80]}'.",
            f"A '{data.get('kind')}' request has the fields {', '.join(request.model_fields)}.",
            "Remove the field, or use an engine of the version that the client was made for.",
        )
    wanted = expected(request.model_json_schema()["properties"][field])
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return InputError(
            "request_invalid",
            f"The request's field '{field}' is missing.",
            f"A '{data.get('kind')}' request needs it; expected {wanted}.",
            f"Add '{field}' and try again.",
        )
    return invalid(field, data.get(field), wanted)
