"""`arithmetic`: A - B + C of shapes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import options as shared
from .. import shapes
from ..inputs import check_output


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "arithmetic", parents=[common], help="A - B + C of shapes",
        description="What makes A out of B, done to C: the shape of the code C + amount (A - B), in C's place.",
    )  # fmt: skip
    for name in "ABC":
        parser.add_argument(name.lower(), type=Path, metavar=name, help="a mesh, a scan or a code")
    shared.add_output_file(parser)
    parser.add_argument("--amount", type=float, default=1.0, metavar="X", help="default: 1")
    shapes.add_given(parser)
    shapes.add_making(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    settings = shapes.settings_of(options, "arithmetic", "amount", "input_is", "align", "up")
    sources = [options.a, options.b, options.c]
    for source in sources:
        check_output(options.output, source)
    arrays, origin = shapes.given(sources, settings, options.prior)
    return shapes.make(options, settings, arrays, shapes.File(options.output), origin)
