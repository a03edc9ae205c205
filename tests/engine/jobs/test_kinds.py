"""Kinds of jobs: found without a list, described by one class each, and taken from outside as from here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from engine import plugins
from engine.errors import InputError
from engine.jobs import kinds
from engine.jobs.complete.request import CompleteRequest
from engine.jobs.kinds import parse_request
from engine.jobs.request import Request, explained
from engine.jobs.selftest.request import KIND, SelftestRequest

ROOT = Path(__file__).parents[3]


def test_every_folder_with_a_request_is_a_kind_with_a_runner_and_words_for_people() -> None:
    every = kinds.every()
    assert {"complete", "fit", "generate", "train", "selftest"} <= set(every)
    for name, kind in every.items():
        assert kind.name == name and kind.summary.endswith(".") and callable(kind.runner())
        described = {field for field, schema in kind.schema["properties"].items() if schema.get("description")}
        missing = set(kind.request.model_fields) - described - {"kind"}
        assert not missing, f"{name}: {missing} have no description"
        for row in kind.schema.get("$defs", {}).values():
            assert all(field.get("description") for field in row.get("properties", {}).values()), row["title"]


@pytest.mark.parametrize("name", kinds.names())
def test_the_defaults_of_a_kind_are_valid_and_travel(name: str) -> None:
    request = parse_request({"kind": name} | ({"name": "mine"} if name == "train" else {}))
    assert parse_request(request.model_dump(mode="json")) == request


def test_requests_do_not_change_and_changes_are_checked() -> None:
    request = CompleteRequest(resolution=64)
    with pytest.raises(ValidationError):
        request.resolution = 128  # type: ignore[misc]
    assert request.but(up="-y") == CompleteRequest(resolution=64, up="-y") and request.up == "+z"
    with pytest.raises(ValidationError):
        request.but(resolution=1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kind": "complete", "resolution": 7}, "a whole number from 8 to 512"),
        ({"kind": "fit", "smoothness": "0.5"}, "a number from 0 to 1"),
        ({"kind": "fit", "noise": -1.0}, "a number from 0 to 1e+12, or null"),
        ({"kind": "fit", "method": "magic"}, "one of auto, digs,"),
        ({"kind": "vary", "align": 3}, "one of none, scale, similarity"),
        ({"kind": "vary", "avoid_pieces": 1}, "true or false"),
        ({"kind": "complete", "viewpoint": [0, 1]}, "three finite numbers (x, y, z), or null"),
        ({"kind": "complete", "prior": ""}, "a text of 1 to 1024 characters"),
        ({"kind": "complete", "max_faces": 99}, "0, or a whole number from 100"),
        ({"kind": "slide", "values": [11]}, "a list of at most 64 numbers from -10 to 10"),
        ({"kind": "train"}, "needs it; expected a text of 1 to 100 characters"),
        ({"kind": "train", "name": "x", "settings": {"rate": float("inf")}}, "an object of settings"),
        ({"kind": "train", "name": "x", "shapes": [{"name": "x"}]}, "objects with name, class_name, vertices"),
        ({"kind": "explode"}, "one of arithmetic, blend, complete,"),
    ],
)
def test_what_is_expected_is_said_in_words(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_request(settings)
    assert caught.value.code == "request_invalid" and expected in caught.value.why
    field = "name" if list(settings.values()) == ["train"] else list(settings)[-1]
    assert f"'{field}'" in caught.value.what


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"ge": 1}, "a whole number of at least 1"),
        ({"lt": 5}, "a whole number below 5"),
        ({"gt": 0, "le": 9}, "a whole number above 0 and of at most 9"),
        ({}, "a whole number"),
    ],
)
def test_a_kind_from_outside_may_leave_ends_open(limits: dict[str, int], expected: str) -> None:
    class Own(Request):
        steps: Annotated[int, Field(**limits)] = 2  # type: ignore[call-overload]

    with pytest.raises(ValidationError) as caught:
        Own(kind="own", steps="many")  # type: ignore[arg-type]
    error = explained(caught.value, Own, {"kind": "own", "steps": "many"})
    assert error.why == f"It is 'many'; expected {expected}."


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="selftest"):
        kinds.register(KIND)
    kinds.register(KIND, replace=True)
    assert kinds.find("selftest").request is SelftestRequest


ALONE = """
import sys
from engine.jobs import kinds
from engine.errors import InputError
{}
assert "torch" not in sys.modules and "fastapi" not in sys.modules
"""


def alone(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", ALONE.format(code)], env=environment, capture_output=True, text=True, check=True
    )


def test_one_kind_is_found_without_the_others() -> None:
    alone(
        "kinds.parse_request({'kind': 'fit'})\n"
        "assert 'engine.jobs.train.request' not in sys.modules\n"
        "assert kinds.every()['train'].long and 'engine.jobs.train.request' in sys.modules"
    )


@pytest.mark.parametrize("named", ["{}", "jobs:{}", "tests.nowhere, {}", "jobs:{},families:tests.nowhere"])
def test_a_kind_from_outside_is_named_by_the_environment(named: str) -> None:
    outside = named.format("tests.engine.jobs.kind_from_outside")
    alone(
        "request = kinds.parse_request({'kind': 'crate', 'margin': 0.5})\n"
        "assert request.margin == 0.5 and 'crate' in kinds.names() and kinds.find('crate').needs_arrays(request)",
        SHAPEWRIGHT_PLUGINS=outside,
    )


def test_a_plugin_for_another_registry_is_left_alone_and_a_broken_one_is_told() -> None:
    code = (
        "try:\n    kinds.find('crate')\n"
        "except InputError as error:\n    told = str(error)\n"
        "assert ('tests.nowhere' in told) == {broken}, told"
    )
    alone(code.format(broken=True), SHAPEWRIGHT_PLUGINS="tests.nowhere")
    alone(code.format(broken=False), SHAPEWRIGHT_PLUGINS="families:tests.nowhere")


def test_a_kind_from_outside_is_named_by_an_installed_package(tmp_path: Path) -> None:
    about = tmp_path / "crates-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: crates\nVersion: 1.0\n", "utf-8")
    entry = "[shapewright.jobs]\ncrate = tests.engine.jobs.kind_from_outside\n"
    (about / "entry_points.txt").write_text(entry, "utf-8")
    paths = os.pathsep.join([str(ROOT), str(tmp_path)])
    alone("assert 'crate' in kinds.names()", PYTHONPATH=paths)
    assert plugins.failures() == {}
