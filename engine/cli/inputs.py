"""Arguments read and outputs checked: what every command does before its work begins."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from ..errors import InputError

_SIGNED = ("--up", "--viewpoint", "--pose-matrix")


# ---------------------------------------------------------------------------------------------------------- arguments


def join_signed(arguments: list[str]) -> list[str]:
    """argparse takes the value of '--up -y' or '--viewpoint -1,2,3' for an option of its own: join the two."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in _SIGNED:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def positive(text: str) -> float:
    """Of argparse's `type`: a finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def count(text: str) -> int:
    """Of argparse's `type`: a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def names(text: str | None) -> list[str] | None:
    """'A, B' -> ['A', 'B']; None for None and for nothing."""
    return [part.strip() for part in text.split(",") if part.strip()] if text else None


def axis(text: str | None, path: Path) -> str:
    """'y' -> '+y'; what begins with a sign stays; None is the axis that the format of the file means."""
    if text is None:
        from ..geometry.files import format_of

        one = format_of(path)
        return "+z" if one is None else one.up
    return text if text[:1] in "+-" else f"+{text}"


def viewpoint(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise InputError(
            "usage",
            "--viewpoint cannot be understood.",
            f"It is {text!r}, not three numbers.",
            "Write it as --viewpoint=0.5,-2,1.4.",
        )
    return values


def pose_matrix(text: str | None) -> Any:
    """--pose-matrix: a JSON file with 4 rows of 4 numbers, 16 numbers or a report that holds them; or 16 numbers."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        pass
    try:
        value = json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "usage",
            "--pose-matrix cannot be understood.",
            f"It is neither 16 numbers nor a JSON file that can be read: {error}.",
            "Give a report of an earlier run, a file with 4 rows of 4 numbers, or 16 numbers row by row, with commas.",
        ) from None
    return value.get("alignment", {}).get("matrix", value) if isinstance(value, dict) else value


# --------------------------------------------------------------------------------------------------------------- files


def numbered(output: Path, number: int) -> Path:
    """OUT for the first of several meshes, OUT_2, OUT_3, ... (before the suffix) for the others."""
    return output if number == 1 else output.with_name(f"{output.stem}_{number}{output.suffix}")


def check_suffix(output: Path) -> None:
    """Raises InputError where no format of that name is written."""
    from ..geometry.files import writable

    known = writable("mesh")
    if output.suffix.lower() not in known:
        raise InputError(
            "output_format",
            f"The output '{output.name}' cannot be written.",
            f"Its suffix is {output.suffix!r}; a mesh is written as {', '.join(known)}.",
            "Give the output file one of these suffixes.",
        )


def check_output(output: Path, source: Path | None = None) -> None:
    """Refuse before an hour of work, not after it."""
    check_suffix(output)
    folder = output.absolute().parent
    if not folder.is_dir():
        raise InputError(
            "output_folder",
            f"The output '{output.name}' cannot be written.",
            f"The folder '{folder}' does not exist.",
            "Make the folder first, or choose another one.",
        )
    if output.is_dir():
        raise InputError(
            "output_is_folder",
            f"The output '{output.name}' cannot be written.",
            "It is a folder.",
            "Name a file in it.",
        )
    if source is not None and output.exists() and source.exists() and output.samefile(source):
        raise InputError(
            "output_is_input",
            f"The output '{output.name}' cannot be written.",
            "It is the input itself, which would be lost.",
            "Choose another name for the output.",
        )
