"""Which engine there is on this machine, and how it is called. Standard library only: no bpy."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .problem import EngineProblem

PYTHON_VARIABLE = "SHAPEWRIGHT_ENGINE_PYTHON"


@dataclass
class EngineCommand:
    """How to call the engine. argv: what `serve` and its options are appended to.  cwd: None for the current folder."""

    argv: list[str]
    cwd: Path | None
    found_by: str


def find_engine(preferred: str = "", environment: dict[str, str] | None = None) -> EngineCommand:
    """The engine's Python: the one preferred, else $SHAPEWRIGHT_ENGINE_PYTHON, else `.venv` of the checkout that this
    add-on is part of, else the command `shapewright` on the PATH.

    Raises EngineProblem('engine_not_found') that says how to install one. A path that was given but does not exist is
    an error, never skipped.
    """
    environment = dict(os.environ) if environment is None else environment
    for given, origin in (
        (preferred, "the add-on's preferences"),
        (environment.get(PYTHON_VARIABLE, ""), f"the variable {PYTHON_VARIABLE}"),
    ):
        given = given.strip()
        if not given:
            continue
        path = Path(given).expanduser()
        if path.is_dir():
            path = venv_python(path)
        if not path.is_file():
            raise EngineProblem(
                "engine_not_found",
                "The engine's Python was not found.",
                f"There is no file {path}, named by {origin}.",
                "Correct the path, or clear it so that the add-on looks for the engine itself.",
            )
        return _command_of(path, origin)
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "engine" / "__main__.py").is_file():
        python = venv_python(checkout / ".venv")
        if python.is_file():
            return EngineCommand([str(python), "-m", "engine"], checkout, "the checkout's .venv")
    command = shutil.which("shapewright", path=environment.get("PATH"))
    if command:
        return EngineCommand([command], None, "the command on the PATH")
    raise EngineProblem(
        "engine_not_found",
        "No engine is installed that the add-on could start.",
        "Neither its preferences nor the PATH name one.",
        "Run scripts/setup in the Shapewright checkout (or `pip install .` into a Python 3.11 or newer environment), "
        "then put the path of that Python into the add-on's preferences.",
    )


def venv_python(environment: Path) -> Path:
    """Where a virtual environment keeps its interpreter."""
    return environment / "Scripts" / "python.exe" if os.name == "nt" else environment / "bin" / "python"


def _command_of(python: Path, origin: str) -> EngineCommand:
    # An environment inside a checkout need not have the engine installed: it is found from the checkout's folder.
    # (Not resolved: a virtual environment's python is often a link, and what it links to knows no packages.)
    for folder in python.absolute().parents[:4]:
        if (folder / "engine" / "__main__.py").is_file() and (folder / "engine" / "server").is_dir():
            return EngineCommand([str(python), "-m", "engine"], folder, origin)
    return EngineCommand([str(python), "-m", "engine"], None, origin)
