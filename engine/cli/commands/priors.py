"""`priors`: list, show, verify, import, export or remove priors."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..terminal import DONE, answer


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("priors", parents=[common], help="list, show, verify, import, export or remove priors")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", parser_class=type(parser))
    listing = actions.add_parser("list", parents=[common], help="the installed priors")
    listing.set_defaults(run=_list)
    show = actions.add_parser("show", parents=[common], help="the card of one prior")
    show.add_argument("prior", metavar="NAME|PATH")
    show.set_defaults(run=_show)
    verify = actions.add_parser("verify", parents=[common], help="is this file a sound prior?")
    verify.add_argument("prior", metavar="NAME|PATH")
    verify.set_defaults(run=_verify)
    bring = actions.add_parser("import", parents=[common], help="take a prior's file among the user's priors")
    bring.add_argument("file", type=Path, metavar="FILE")
    bring.add_argument("--name", default="", help="what it is called from now on (default: its own name)")
    bring.add_argument("--replace", action="store_true", help="also where another prior has that name")
    bring.set_defaults(run=_import)
    export = actions.add_parser("export", parents=[common], help="write a prior to a file")
    export.add_argument("prior", metavar="NAME|PATH")
    export.add_argument("file", type=Path, metavar="FILE", help="a .safetensors file, or a folder for it")
    export.add_argument("--replace", action="store_true", help="overwrite the file")
    export.set_defaults(run=_export)
    remove = actions.add_parser("remove", parents=[common], help="delete a prior that was trained or imported here")
    remove.add_argument("prior", metavar="NAME")
    remove.set_defaults(run=_remove)
    parser.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> int:
    from ...priors.registry import list_priors

    found = [prior.as_json() for prior in list_priors()]
    lines = [
        f"{prior['name']:<20} {prior.get('version', ''):<10} {', '.join(prior.get('classes') or [])}" for prior in found
    ]
    return answer(options, {"priors": found}, lines or ["No priors are installed."])


def _show(options: argparse.Namespace) -> int:
    from ...plain_json import plain
    from ...priors.registry import read_card

    card = plain(read_card(options.prior))
    print(json.dumps(card, indent=None if options.json else 2))
    return DONE


def _verify(options: argparse.Namespace) -> int:
    from ...priors.registry import read_card, verify

    verify(options.prior)
    name = read_card(options.prior).get("name", options.prior)
    return answer(options, {"ok": True, "prior": str(options.prior), "name": name}, [f"{name}: sound"])


def _import(options: argparse.Namespace) -> int:
    from ...priors.exchange import import_prior

    info = import_prior(options.file, options.name, options.replace)
    return answer(options, {"prior": info.as_json()}, [f"Imported {info.name}"])


def _export(options: argparse.Namespace) -> int:
    from ...priors.exchange import export_prior

    path = export_prior(options.prior, options.file, options.replace).absolute()
    return answer(options, {"output": str(path)}, [f"Wrote {path}"])


def _remove(options: argparse.Namespace) -> int:
    from ...priors.exchange import remove_prior

    path = remove_prior(options.prior)
    return answer(options, {"removed": str(path)}, [f"Removed {path}"])
