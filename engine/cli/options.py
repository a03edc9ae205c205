"""Options that several commands have: name, default and words stand here once."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..device import DEVICES
from ..priors.registry import DEFAULT


def add_input(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    parser.add_argument("input", type=Path, nargs=nargs, metavar="INPUT", help="a scan or mesh: PLY, OBJ, ...")


def add_output_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=".ply, .obj, .glb, .stl, .off")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=DEVICES, default="auto", help="default: auto")


def add_device_and_seed(parser: argparse.ArgumentParser) -> None:
    add_device(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")


def add_prior(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prior", default=DEFAULT, metavar="NAME|PATH", help=f"default: {DEFAULT}")


def add_resolution(parser: argparse.ArgumentParser, words: str = "cells a side (8 to 512)") -> None:
    parser.add_argument("--resolution", type=int, default=128, metavar="N", help=f"{words}, default: 128")


def add_finish(parser: argparse.ArgumentParser) -> None:
    """What is done to every mesh at its end: the names are those of the request's fields."""
    parser.add_argument(
        "--faces", type=int, default=0, dest="max_faces", metavar="N", help="exactly N triangles, or N - 1"
    )
    parser.add_argument("--uvs", action="store_true", help="unwrap the mesh (.obj, .glb); best with --faces")


def add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--up", metavar="AXIS", help="the file's up axis: -z, +y, ... (default: +z, and +y of OBJ)")


def add_align(parser: argparse.ArgumentParser, default: str = "scale") -> None:
    parser.add_argument(
        "--align", choices=("none", "scale", "similarity"), default=default, help=f"default: {default}"
    )


def add_front(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--front", choices=("given", "evident"), default="given",
        help="of --align scale: it faces -y (default), or does so unless the evidence clearly says another way",
    )  # fmt: skip


def add_viewpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--viewpoint", metavar="X,Y,Z", help="where the sensor stood, in the input's frame")


def add_noise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--noise", type=float, metavar="S", help="standard deviation of points (default: estimated)")


def add_class(parser: argparse.ArgumentParser, words: str = "default: any") -> None:
    parser.add_argument("--class", default="", dest="class_name", metavar="NAME", help=words)


def add_numbers(parser: argparse.ArgumentParser, default: int) -> None:
    """How many, and which is the first."""
    parser.add_argument("-n", "--count", type=int, default=default, metavar="N", help=f"how many (default: {default})")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="number of the first (default: 0)")
