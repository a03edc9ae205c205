"""`run`: a job of any kind there is, with the options that the kind's own schema tells.

For kinds without a command of their own, and for those that a plugin brings.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from .. import shapes
from ..terminal import answer, notes_of, warnings_of

if TYPE_CHECKING:
    from ...jobs.base import JobArrays
    from ...jobs.kinds import Kind


_OURS = ("format", "overwrite", "kept-file", "json", "verbose", "help")
"""Options of this command: a setting of such a name is --set-NAME."""


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "run", parents=[common], help="a job of any kind, a plugin's too",
        description="A job of any kind. 'shapewright run KIND --help' tells its settings; without KIND the kinds are "
        "listed.",
    )  # fmt: skip
    parser.add_argument("kind", nargs="?", metavar="KIND")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="inputs and settings")
    parser.set_defaults(run=lambda options: _run(options, type(parser), common))


def _run(options: argparse.Namespace, make_parser: type[argparse.ArgumentParser], common: Any) -> int:
    from ...jobs import kinds
    from ...wire.arrays import checked_arrays
    from ...wire.codes import write_code
    from ..work import finished, run, write

    if options.kind is None:
        every = kinds.every()
        lines = [f"{name:<12} {kind.summary}" for name, kind in every.items()]
        return answer(options, {"kinds": {name: kind.schema for name, kind in every.items()}}, lines)
    began = time.perf_counter()
    kind = kinds.find(options.kind)
    parser = make_parser(prog=f"shapewright run {kind.name}", parents=[common], description=kind.summary)
    _add_settings(parser, kind)
    asked = parser.parse_args(options.rest)
    settings = _settings(asked, kind)
    arrays, origin = _arrays(asked, kind, settings)
    request = kinds.parse_request({"kind": kind.name} | settings)
    _check_number(asked, kind.needs_arrays(request))
    if arrays is not None:
        arrays = checked_arrays(kind, arrays)
    folder = None if asked.output is None else shapes.Folder(asked, kind.name, range(1000))
    if folder is not None:
        folder.prepare()
    result = run(request, arrays)
    written = [] if folder is None else [folder.path(number) for number in range(len(result.meshes))]
    for path, mesh, code in zip(written, result.meshes, result.codes or [None] * len(written), strict=False):
        write(path, mesh, origin)
        if code is not None and "sha256" in result.report.get("prior", {}):
            write_code(path.with_suffix(".npz"), shapes.about(code, origin), result.report["prior"])
    asked.json = asked.json or options.json
    report = finished(result, request, written, began)
    return answer(asked, report, _summary(report, len(result.meshes)))


def _add_settings(parser: argparse.ArgumentParser, kind: Kind) -> None:
    from ...jobs.request import expected

    parser.add_argument("inputs", type=Path, nargs="*", metavar="INPUT", help="scans and meshes, or codes (.npz)")
    parser.add_argument("-o", dest="output", type=Path, metavar="DIR", help="folder for the meshes (default: none)")
    shapes.add_format(parser)
    parser.add_argument("--overwrite", action="store_true", help="also where files of these names are there")
    if kind.kept:
        parser.add_argument("--kept-file", type=Path, metavar="FILE", help="points of the part that stays as it is")
    for name, schema in kind.schema["properties"].items():
        if name == "kind":
            continue
        words = " ".join(str(schema.get("description", "")).split()).replace("%", "%%")
        help_ = f"{words} ({expected(schema).replace('%', '%%')})".strip()
        flag = name.replace("_", "-")
        flag = f"--set-{flag}" if flag in _OURS else f"--{flag}"
        parser.add_argument(flag, dest=f"set_{name}", metavar="VALUE", help=help_)


def _settings(asked: argparse.Namespace, kind: Kind) -> dict[str, Any]:
    """The settings that were said: JSON where it is JSON and no text is wanted, lists also as 1,2,3."""
    settings = {}
    for name, schema in kind.schema["properties"].items():
        text = getattr(asked, f"set_{name}", None)
        if text is not None:
            settings[name] = _value(text, schema)
    return settings


def _value(text: str, schema: dict[str, Any]) -> Any:
    wanted = {schema.get("type")} | {option.get("type") for option in schema.get("anyOf", ())}
    if "string" in wanted or "enum" in schema:
        return text
    if "array" in wanted and text[:1] not in "[n":
        text = f"[{text}]"
    try:
        return json.loads(text)
    except ValueError:
        return text  # the request says what is expected in its place


def _arrays(
    asked: argparse.Namespace, kind: Kind, settings: dict[str, Any]
) -> tuple[JobArrays | None, shapes.Offset]:
    """What the inputs hold, and what it lies about."""
    if not asked.inputs:
        return None, np.zeros(3)
    if "viewpoint" in kind.schema["properties"]:
        settings.setdefault("viewpoint", None)
    arrays, origin = shapes.given(asked.inputs, settings, settings.get("prior"), codes=kind.codes)
    if getattr(asked, "kept_file", None) is not None:
        shapes.keep(arrays, asked.kept_file, origin)
    return arrays, origin


def _check_number(asked: argparse.Namespace, needs: bool | None) -> None:
    if needs is not None and needs != bool(asked.inputs):
        raise InputError(
            "usage",
            "The command cannot be understood.",
            "Such a job needs an INPUT." if needs else "Such a job takes no INPUT.",
            "Look at its --help.",
        )


def _summary(report: dict[str, Any], meshes: int) -> Iterator[str]:
    yield from (f"Wrote {path}" for path in report["outputs"])
    if meshes and not report["outputs"]:
        yield f"{meshes} meshes, unwritten: -o DIR keeps them"
    yield from notes_of(report)
    yield from warnings_of(report)
    yield f"Took {report['timings']['total']:.1f} s"
