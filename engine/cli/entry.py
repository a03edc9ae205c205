"""The command line. Exit status: 0 done; 2 bad usage or input; 3 failed; 130 cancelled.

With --json standard output is one JSON object and progress goes to standard error; errors go to standard error in
three sentences (what happened, why, what to do), and with --json as {"error": {...}} too.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import Cancelled, EngineError, InputError
from .inputs import join_signed
from .registry import adders
from .terminal import BAD_INPUT, CANCELLED, FAILED


class _Parser(argparse.ArgumentParser):
    """argparse, with its errors in the form of all others."""

    def error(self, message: str) -> NoReturn:
        raise InputError(
            "usage", f"{self.prog}: the command cannot be understood.", f"{message}.", f"Run '{self.prog} --help'."
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; never raises but for SystemExit of --help and --version."""
    # Python's last collections would walk through every object of torch, for 0.4 s, to free what the end of the
    # process frees at once.
    atexit.register(gc.freeze)
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    for stream in (sys.stdout, sys.stderr):  # a Windows console or a C locale cannot print every name
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = _parser(given[0] if given else None).parse_args(join_signed(given))
        if not getattr(options, "verbose", False):
            logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        else:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        status: int = options.run(options)
        return status
    except (Cancelled, KeyboardInterrupt) as error:
        kept = str(error) if isinstance(error, Cancelled) else ""
        told = EngineError("cancelled", "Cancelled.", "You asked for it.", kept or "Nothing was written.")
        return _report(told, as_json, CANCELLED)
    except InputError as error:
        return _report(error, as_json, BAD_INPUT)
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        from ..jobs.run import explain

        explained = explain(error)
        return _report(explained, as_json, BAD_INPUT if isinstance(explained, InputError) else FAILED)


def _report(error: EngineError, as_json: bool, status: int) -> int:
    print(f"{error.what}\n{error.why}\n{error.remedy}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": error.as_dict()}))
    return status


def _parser(first: str | None) -> argparse.ArgumentParser:
    """first: of the arguments; where it is a command, the others are not loaded."""
    parser = _Parser(prog="shapewright", description="Completes, fits and generates 3D shapes.")
    parser.add_argument("--version", action="version", version=f"shapewright {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON object on standard output")
    common.add_argument("--verbose", action="store_true", help="log what happens to standard error")
    for add in adders(first):
        add(commands, common)
    return parser


if __name__ == "__main__":
    sys.exit(main())
