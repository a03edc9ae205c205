"""`generate`: new shapes from a prior."""

from __future__ import annotations

import argparse
from typing import Any

from .. import options as shared
from .. import shapes


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "generate", parents=[common], help="new shapes from a prior",
        description="New shapes of a class, or of any, from the prior's latent distribution. Number k of a seed is the "
        "same shape whatever else is asked for.",
    )  # fmt: skip
    shapes.add_folder(parser)
    shared.add_class(parser)
    shared.add_numbers(parser, 1)
    parser.add_argument("--temperature", type=float, default=0.9, metavar="T", help="0 typical .. 1 varied (0.9)")
    parser.add_argument(
        "--distribution", choices=("default", "gaussian", "mixture", "diffusion"), default="default",
        help="default: the prior's own",
    )  # fmt: skip
    parser.add_argument("--allow-duplicates", action="store_true", help="also near-copies of training shapes")
    parser.add_argument("--allow-pieces", action="store_true", help="also shapes that do not hold together")
    shapes.add_making(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    settings = shapes.settings_of(
        options, "generate", "class_name", "count", "first", "temperature", "distribution"
    )
    settings |= {"avoid_duplicates": not options.allow_duplicates, "avoid_pieces": not options.allow_pieces}
    numbers = range(options.first, options.first + options.count)
    return shapes.make(options, settings, None, shapes.Folder(options, "shape", numbers))
