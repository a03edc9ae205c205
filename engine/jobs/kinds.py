"""The kinds of jobs there are, found without a list: each folder here with a request.py is one, of the folder's name.

request.py defines the kind's class of requests and KIND, which says the rest; neither it nor this module imports torch.
The code that does the work is named there and imported when a job runs. A module from outside (engine.plugins, a
test's file) calls `register` with its KIND.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .. import plugins
from ..errors import InputError
from ..jobs.base import Runner
from .request import Request, explained, invalid

Arrays = bool | None
"""Whether a job comes with arrays; None: with or without."""


@dataclass(frozen=True)
class Kind:
    """request: the settings' class.  run: 'module:function', a `Runner`.  arrays: whether its jobs come with arrays, or
    a function that tells it of a request.  codes: the arrays may be codes in place of points.  several: they may hold
    more than one shape.  kept: they may hold a part to be kept.  light: it also runs beside the queue, answered at
    once (POST /v1/slide).  long: it may take as long as a training."""

    request: type[Request]
    run: str
    arrays: Arrays | Callable[[Any], Arrays] = True
    codes: bool = False
    several: bool = False
    kept: bool = False
    light: bool = False
    long: bool = False

    @property
    def name(self) -> str:
        return str(self.request.model_fields["kind"].default)

    @property
    def summary(self) -> str:
        """One sentence for people."""
        return " ".join(inspect.cleandoc(self.request.__doc__ or "").partition("\n\n")[0].split())

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the settings, types and ranges and what each is for."""
        return self.request.model_json_schema()

    def needs_arrays(self, request: Request) -> Arrays:
        return self.arrays(request) if callable(self.arrays) else self.arrays

    def runner(self) -> Runner:
        module, function = self.run.split(":")
        found: Runner = getattr(importlib.import_module(module), function)
        return found


_registered: dict[str, Kind] = {}


def register(kind: Kind, *, replace: bool = False) -> Kind:
    """Make a kind known that is no folder here. Raises ValueError for a name that is taken, unless `replace`."""
    if not replace and (kind.name in _registered or kind.name in _folders()):
        raise ValueError(f"there is a job kind '{kind.name}' already")
    _registered[kind.name] = kind
    return kind


def names() -> list[str]:
    plugins.load("jobs")
    return sorted({*_folders(), *_registered})


def every() -> dict[str, Kind]:
    """Name -> kind, in the order of their names."""
    return {name: find(name) for name in names()}


def find(name: str) -> Kind:
    """Raises InputError 'kind_unknown'. Of the kinds here only the one asked for is imported."""
    if name not in _registered and name in _folders():
        kind: Kind = importlib.import_module(f"{__package__}.{name}.request").KIND
        assert kind.name == name, f"the folder {name} holds the kind {kind.name}"
        _registered[name] = kind
    if name not in _registered:
        plugins.load("jobs")
    if name not in _registered:
        raise InputError(
            "kind_unknown",
            f"The job kind {name[:80]!r} is not known.",
            f"This engine knows {_listed()}.",
            "Use an engine of the version that the client was made for.",
        )
    return _registered[name]


def parse_request(data: Any) -> Request:
    """JSON object -> request. Fields left out take their defaults; anything unknown or out of range raises InputError
    'request_invalid' or 'request_field_unknown', which names the field."""
    if not isinstance(data, dict):
        raise InputError(
            "request_invalid",
            "The request cannot be read.",
            f"It is a JSON {type(data).__name__}, not an object.",
            'Send an object such as {"kind": "complete", "resolution": 128}.',
        )
    name = data.get("kind")
    if not isinstance(name, str) or (name not in _folders() and name not in names()):
        raise invalid("kind", name, f"one of {_listed()}")
    request = find(name).request
    try:
        return request.model_validate(data)
    except ValidationError as error:
        raise explained(error, request, data) from None


def _listed() -> str:
    missing = [f"the plugin {module} was not loaded: {why}" for module, why in plugins.failures().items()]
    return "; ".join([", ".join(names()), *missing])


def _folders() -> frozenset[str]:
    return _FOLDERS


_FOLDERS = frozenset(path.parent.name for path in Path(__file__).parent.glob("*/request.py"))
