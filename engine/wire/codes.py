"""A shape's code as a file beside its mesh: the code, its pose and the prior that it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..jobs.base import ShapeCode
from .npz import CODE, POSE, TEXT, malformed, names, read_npz

_MEMBERS = {"code": CODE, "pose": POSE, "prior": TEXT, "prior_sha256": TEXT}


def read_code(path: Path) -> tuple[ShapeCode, str, str] | None:
    """Code, the prior's name and hash from a file that `write_code` wrote; None for any other file.

    Raises InputError 'code_damaged'.
    """
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None
    try:
        if "code" not in names(path):
            return None
        members = read_npz(path, _MEMBERS, frozenset(_MEMBERS))
        code, pose = np.asarray(members["code"], np.float32), np.asarray(members["pose"], np.float64)
        if not np.isfinite(code).all() or not np.isfinite(pose).all():
            raise malformed("Its numbers are not those of a code and a pose.")
    except (InputError, OSError) as error:
        why = error.why if isinstance(error, InputError) else f"{error}."
        what = f"The code in '{path.name}' cannot be read."
        raise InputError("code_damaged", what, why, "Make the shape again.") from None
    return ShapeCode(code, pose), str(members["prior"]), str(members["prior_sha256"])


def write_code(path: Path, code: ShapeCode, prior: dict[str, Any]) -> None:
    """prior: name and sha256, as in a report."""
    np.savez(
        path, code=np.asarray(code.code, np.float32), pose=np.asarray(code.pose, np.float64),
        prior=np.array(prior["name"]), prior_sha256=np.array(prior["sha256"]),
    )  # fmt: skip
