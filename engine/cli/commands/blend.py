"""`blend`: in-betweens of shapes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import shapes


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "blend", parents=[common], help="in-betweens of shapes",
        description="In-betweens of two or more shapes along a path that stays plausible.",
    )  # fmt: skip
    parser.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help="meshes, scans or codes, in order")
    shapes.add_folder(parser)
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="between each pair (default: 5)")
    parser.add_argument("--path", choices=("plausible", "spherical", "straight"), default="plausible")
    parser.add_argument("--one-mesh", action="store_true", help="all with the first one's triangles, for shape keys")
    parser.add_argument("--no-ends", action="store_true", help="only what lies between")
    shapes.add_given(parser)
    shapes.add_making(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    settings = shapes.settings_of(options, "blend", "steps", "path", "one_mesh", "input_is", "align", "up")
    settings["ends"] = not options.no_ends
    arrays, origin = shapes.given(options.inputs, settings, options.prior)
    pairs = len(options.inputs) - 1
    count = pairs * options.steps + (0 if options.no_ends else pairs + 1)
    return shapes.make(options, settings, arrays, shapes.Folder(options, "blend", range(count)), origin)
