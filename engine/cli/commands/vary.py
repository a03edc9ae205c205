"""`vary`: relatives of a shape."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import options as shared
from .. import shapes


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "vary", parents=[common], help="relatives of a shape",
        description="Relatives of a shape: of a code, of a whole mesh, or of a partial scan, which is completed first.",
    )  # fmt: skip
    parser.add_argument("input", type=Path, metavar="INPUT", help="a mesh, a scan, or the .npz with a shape's code")
    shapes.add_folder(parser)
    shared.add_numbers(parser, 5)
    parser.add_argument("--strength", type=float, default=0.5, metavar="S", help="0 itself .. 2 another shape (0.5)")
    parser.add_argument("--allow-pieces", action="store_true", help="also shapes that do not hold together")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="points of the part that stays as it is")
    shapes.add_given(parser)
    shapes.add_making(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    settings = shapes.settings_of(options, "vary", "count", "first", "strength", "input_is", "align", "up")
    settings |= {"avoid_pieces": not options.allow_pieces, "viewpoint": None}
    arrays, origin = shapes.given([options.input], settings, options.prior)
    if options.keep is not None:
        shapes.keep(arrays, options.keep, origin)
    numbers = range(options.first, options.first + options.count)
    out = shapes.Folder(options, f"{options.input.stem}_variant", numbers)
    return shapes.make(options, settings, arrays, out, origin)
