"""Requests as they travel."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine.errors import InputError
from engine.jobs.complete.request import CompleteRequest
from engine.jobs.kinds import parse_request
from engine.jobs.selftest.request import SelftestRequest
from engine.plain_json import plain


@pytest.mark.parametrize(
    "request_",
    [
        CompleteRequest(),
        CompleteRequest(prior="a b", align="similarity", up="-y", viewpoint=(1.0, -2.5, 3.0), hypotheses=16, seed=7),
        CompleteRequest(class_name="chair", noise=0.01, ground="keep", max_faces=5000),
        SelftestRequest(steps=3, step_seconds=0.5),
    ],
)
def test_request_round_trip(request_: CompleteRequest | SelftestRequest) -> None:
    assert parse_request(json.loads(request_.model_dump_json())) == request_


def test_fields_left_out_take_the_defaults() -> None:
    assert parse_request({"kind": "complete"}) == CompleteRequest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "explode"), ("kind", None), ("kind", ["complete"]),
        ("resolution", 7), ("resolution", 513), ("resolution", 64.0), ("resolution", True), ("resolution", "64"),
        ("hypotheses", 0), ("hypotheses", 17),
        ("up", "z"), ("up", "+w"), ("up", 3),
        ("viewpoint", [0, 0]), ("viewpoint", [0, 0, float("nan")]), ("viewpoint", [0, 0, float("inf")]),
        ("viewpoint", "0,0,0"), ("viewpoint", [0, 0, True]), ("viewpoint", [0, 0, 10**400]),
        ("align", "rotate"), ("front", "left"), ("device", "tpu"), ("prior", ""), ("prior", "a\0b"), ("seed", -1),
        ("seed", 2**32),
        ("name", "x" * 300), ("class_name", 3), ("class_name", "x" * 65), ("noise", -0.1), ("noise", "0.1"),
        ("noise", float("nan")), ("ground", "floor"), ("ground", None), ("max_faces", 99), ("max_faces", -1),
        ("max_faces", False), ("max_faces", 1000.0),
    ],
)  # fmt: skip
def test_bad_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        parse_request({"kind": "complete", field: value})
    assert f"'{field}'" in caught.value.what
    assert caught.value.why and caught.value.remedy


def test_unknown_field_is_named() -> None:
    with pytest.raises(InputError, match="'resolutoin'"):
        parse_request({"kind": "complete", "resolutoin": 64})


@pytest.mark.parametrize("data", [None, [], "complete", 3])
def test_request_must_be_an_object(data: object) -> None:
    with pytest.raises(InputError):
        parse_request(data)


def test_plain_makes_strict_json() -> None:
    value = {"a": np.float32(1.5), "b": [np.nan, float("inf")], "c": np.arange(3), 4: (np.bool_(True), None)}
    assert plain(value) == {"a": 1.5, "b": [None, None], "c": [0, 1, 2], "4": [True, None]}
    with pytest.raises(TypeError):
        plain({"a": object()})
