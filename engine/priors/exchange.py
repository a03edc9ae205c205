"""Priors as files that travel: import one into the user's folder, export one, remove one.

A file from a stranger is read by the rules of `registry`: its header and sizes are checked before a tensor is touched,
every number must be finite, and the weights must make the network that the card names. Nothing in it is executed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import uuid
from pathlib import Path

from ..errors import InputError, JobFailed
from ..plain_json import sendable
from .registry import SUFFIX, PriorInfo, find, list_priors, read_card, user_folder, verify


def check_name(name: str) -> str:
    """`name`, where a prior can be called so. InputError 'prior_name' where it cannot become a file's name."""
    if not re.fullmatch(r"\w[\w .-]*", name) or name.endswith((" ", ".")) or len(name) > 100:
        raise InputError(
            "prior_name",
            f"A prior cannot be called {name[:120]!r}.",
            "It becomes a file name: letters, digits, spaces, '_', '-' and '.', a letter or digit first.",
            "Choose another name.",
        )
    return name


def import_prior(path: str | Path, name: str = "", replace: bool = False) -> PriorInfo:
    """Copy the prior file at `path` into the user's folder; returns how it is listed.

    name: what it is called from now on; '' takes the card's own name.  replace: also where another prior has that name.
    The same file under the same name is no fault. Raises InputError where the file is damaged, foreign, of an
    architecture that this engine does not know, or where the name is taken or cannot be used.
    """
    from .file import load_prior

    path = Path(path)
    if not path.is_file():
        raise InputError(
            "prior_not_found",
            f"The prior {path.name or path} cannot be imported.",
            f"There is no file {path}." if not path.is_dir() else f"{path} is a folder.",
            f"Name a {SUFFIX} file that Shapewright exported or trained.",
        )
    # Another suffix is no fault of the content: browsers and mail programs change names.
    with _Copy(path) as copy:
        info = verify(copy)
        load_prior(str(copy))
        name = check_name(name or str(read_card(copy)["name"]))
        target = user_folder() / f"{name}{SUFFIX}"
        known = next((info for info in list_priors() if info.name.casefold() == name.casefold()), None)
        if known is not None and known.sha256 == info.sha256:
            return known
        if (known is not None or os.path.lexists(target)) and not replace:
            raise InputError(
                "prior_exists",
                f"The prior '{name}' was not imported.",
                "Another prior of that name is there already." if known is not None else
                f"{target.name} is there already, though it is no prior that can be read.",
                "Import it under another name, or say that it shall take the other's place (--replace).",
            )  # fmt: skip
        info = dataclasses.replace(info, name=name, path=target, shipped=False)
        sendable(info.as_json())  # all that could be refused is refused before the file is in its place
        try:
            os.replace(copy, target)
        except OSError as error:  # a folder has that name, or the name is too long for the disk
            raise _cannot_store(error) from error
    return info


class _Copy:
    """A copy in the user's folder, under a name that no prior has, removed where it does not become one."""

    def __init__(self, source: Path) -> None:
        self.source = source

    def __enter__(self) -> Path:
        folder = user_folder() / "incoming"
        self.path = folder / f"{self.source.stem[:40]}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.source, self.path)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise _cannot_store(error) from error
        return self.path

    def __exit__(self, *_: object) -> None:
        from .file import forget_priors

        forget_priors()
        with contextlib.suppress(OSError):  # held open on Windows, or others are importing too: it is not listed
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()


def _cannot_store(error: OSError) -> JobFailed:
    return JobFailed(
        "prior_not_stored",
        "The prior cannot be stored.",
        f"{error.strerror or error}.",
        "Free disk space, or check that the folder can be written to.",
    )


def export_prior(name_or_path: str, target: str | Path, replace: bool = False) -> Path:
    """Copy a prior's file, card included, to `target` (a file or a folder); returns the file written, atomically.

    Raises InputError where there is no such prior, where it is damaged, and where `target` exists (unless `replace`).
    """
    source = find(name_or_path)
    read_card(source)
    target = Path(target)
    if target.is_dir():
        target = target / f"{source.stem}{SUFFIX}"
    elif target.suffix != SUFFIX:
        target = target.with_name(target.name + SUFFIX)
    if target.exists() and (not replace or target.samefile(source)):
        raise InputError(
            "output_exists",
            f"The prior was not exported to '{target.name}'.",
            "The file is the prior itself." if target.samefile(source) else f"{target} would be overwritten.",
            "Choose another file, or say that it shall be overwritten (--replace).",
        )
    unfinished = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        shutil.copyfile(source, unfinished)
        os.replace(unfinished, target)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise InputError(
            "output_unwritable",
            f"The prior cannot be written to {target}.",
            f"{error.strerror or error}.",
            "Choose a folder that exists and can be written to.",
        ) from error
    return target


def remove_prior(name: str) -> Path:
    """Delete a prior that the user trained or imported; returns the file that is gone.

    Raises InputError for a prior that comes with the engine, and where there is none of that name.
    """
    path = user_folder() / f"{name}{SUFFIX}"
    if {"/", "\\"} & set(name) or not path.is_file():
        found = find(name)  # raises with the names there are
        raise InputError(
            "prior_not_removed",
            f"The prior '{name}' was not removed.",
            f"{found} comes with the engine, or was named by its path.",
            "Name a prior that was trained or imported here.",
        )
    try:
        path.unlink()
    except OSError as error:
        raise _cannot_store(error) from error
    return path
