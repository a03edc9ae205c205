"""Where priors are, and what their cards say. Reads safetensors headers itself, so that torch is not needed."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..plain_json import check_depth, parse_strictly, plain, sendable

log = logging.getLogger(__name__)

SUFFIX = ".safetensors"
DEFAULT = "household"
"""The prior that is taken where none is named: it comes with the engine."""
_FORMAT = 1
_LONGEST_HEADER = 20_000_000
_LONGEST_LISTING = 2**20
_told: set[tuple[str, str]] = set()


@dataclass
class PriorInfo:
    """name: what requests call it.  classes: what it knows.  sha256: of the whole file.  shipped: comes with the
    engine.  about: what a person reads of the card, where it says so: class_counts, data (source -> shapes, licences),
    licence, training (date, steps, seconds, device, shapes), quality."""

    name: str
    path: Path
    version: str
    architecture: str
    classes: list[str]
    sha256: str
    bytes: int
    shipped: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As `/v1/info` and `/v1/priors` list it."""
        listed: dict[str, Any] = plain(vars(self))
        return listed


def user_folder() -> Path:
    """Where priors that a user trained or imported are kept (SHAPEWRIGHT_PRIORS, or the platform's data folder)."""
    if given := os.environ.get("SHAPEWRIGHT_PRIORS"):
        return Path(given)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
    return base / "shapewright" / "priors"


def folders() -> list[Path]:
    """The folders searched, the user's first, the shipped one last."""
    return [user_folder(), Path(__file__).parent]


def find(name_or_path: str | Path) -> Path:
    """The file of a prior given by name or by path. InputError where there is none, naming those there are."""
    name_or_path = str(name_or_path)
    if name_or_path.endswith(SUFFIX):
        path = Path(name_or_path)
        if path.is_file():
            return path
    elif name_or_path and not {"/", "\\"} & set(name_or_path):
        candidates = [folder / f"{name_or_path}{SUFFIX}" for folder in folders()]
        files = [path for path in candidates if path.is_file()]
        # As in `list_priors`, one that cannot be read hides no other of its name.
        if len(files) > 1:
            return next((path for path in files if _listed(path)), files[0])
        if files:
            return files[0]
    known = ", ".join(info.name for info in list_priors()) or "none"
    raise InputError(
        "prior_not_found",
        f"There is no prior called {name_or_path}.",
        f"The priors found are: {known}.",
        f"Choose one of them, give the path of a {SUFFIX} file, or put the file into {user_folder()}.",
    )


def _refuse(path: Path, why: str) -> InputError:
    return InputError(
        "prior_damaged",
        f"{path.name} is not a Shapewright prior that can be used.",
        why,
        "Copy or export the file again, or train the prior anew.",
    )


def _card(path: Path) -> dict[str, Any]:
    """The card in the file's header, after checking header and sizes. Nothing is executed, no tensor is read.

    InputError where it is damaged or could not be sent on, OSError where the file cannot be read.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for ever
        raise _refuse(path, "It is not a file.")
    size = about.st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 16 or length > min(size - 8, _LONGEST_HEADER):
            raise _refuse(path, "It is truncated or not a safetensors file.")
        try:
            header = json.loads(file.read(length))
            card = json.loads(header.pop("__metadata__")["shapewright"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _refuse(path, "It carries no Shapewright card.") from None
    try:
        check_depth(card)
        sendable(plain(card))
    except ValueError as error:
        raise _refuse(path, f"Its card cannot be passed on: {error}.") from None
    if not isinstance(card, dict) or card.get("format") != _FORMAT:
        given = str(card.get("format"))[:100] if isinstance(card, dict) else "?"
        raise _refuse(path, f"Its format is {given}, not {_FORMAT}.")
    missing = [k for k in ("name", "version", "architecture", "arguments", "classes") if k not in card]
    if missing:
        raise _refuse(path, f"Its card lacks: {', '.join(missing)}.")
    wrong = [k for k in ("name", "architecture") if not isinstance(card[k], str) or not card[k]]
    if not isinstance(card["classes"], list) or not all(isinstance(name, str) for name in card["classes"]):
        wrong.append("classes")
    if wrong:
        raise _refuse(path, f"Its card has no text or list of texts where one belongs: {', '.join(wrong)}.")
    widths = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "I8": 1}
    for name, entry in header.items():
        try:
            begin, end = entry["data_offsets"]
            if not all(type(number) is int and number >= 0 for number in (begin, end, *entry["shape"])):
                raise ValueError("texts or fractions where counts belong")
            expected = math.prod(entry["shape"]) * widths[entry["dtype"]]
            inside = 0 <= begin <= end <= size - 8 - length
        except (KeyError, TypeError, ValueError, OverflowError):
            raise _refuse(path, f"The entry of its tensor {name[:100]} cannot be read.") from None
        if not inside or end - begin != expected:
            raise _refuse(path, f"Its tensor {name[:100]} is truncated.")
    return card


def _info(path: Path, card: dict[str, Any]) -> PriorInfo:
    about: dict[str, Any] = {key: card[key] for key in ("class_counts", "licence", "quality") if key in card}
    data = card.get("data")
    if isinstance(data, dict):
        about["data"] = {
            str(source): {key: entry[key] for key in ("shapes", "licences") if key in entry}
            for source, entry in data.items()
            if isinstance(entry, dict)
        }
    training = card.get("training")
    if isinstance(training, dict):
        kept = ("date", "steps", "seconds", "device", "shapes", "started_from")
        about["training"] = {key: training[key] for key in kept if key in training}
    info = PriorInfo(
        path.stem, path, str(card["version"]), card["architecture"], list(card["classes"]), sha256(path),
        path.stat().st_size, path.parent == Path(__file__).parent, about,
    )
    try:
        size = len(sendable(info.as_json()))
    except ValueError as error:  # the file's name, for one, may be no text
        raise _refuse(path, f"It cannot be listed: {error}.") from None
    if size > _LONGEST_LISTING:
        raise _refuse(path, f"What is listed of it has {size // 1000} kB, more than {_LONGEST_LISTING // 1000}.")
    return info


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_card(name_or_path: str | Path) -> dict[str, Any]:
    """What the prior says of itself: name, version, architecture, classes, data with licences, measured quality; and
    what NAME.card.json beside its file adds. So a card can be completed while the file, whose digest saved codes name,
    stays as it is."""
    path = find(name_or_path)
    return _added(path) | _card(path)


def _added(path: Path) -> dict[str, Any]:
    """What the file beside a prior adds to its card; nothing where there is none that can be read."""
    beside = path.with_suffix(".card.json")
    try:
        if not beside.is_file() or beside.stat().st_size > _LONGEST_LISTING:
            return {}
        added = parse_strictly(beside.read_bytes())
    except (OSError, ValueError) as error:
        log.warning("%s is not used: %s", ascii(beside.name), error)
        return {}
    return added if isinstance(added, dict) else {}


def prior_paths() -> list[Path]:
    """What has a prior's suffix in the folders searched, whatever it is; a folder that cannot be read has none."""
    found: list[Path] = []
    for folder in folders():
        try:
            found += sorted(path for path in folder.iterdir() if os.path.normcase(path.name).endswith(SUFFIX))
        except OSError:  # as a rule it is not there
            continue
    return found


def list_priors() -> list[PriorInfo]:
    """All priors found, those in the user's folder before the shipped ones; a name counts once. What is no prior, or
    one that cannot be read, is left out and told once (`verify` names its fault); it hides no other."""
    found: dict[str, PriorInfo] = {}
    for path in prior_paths():
        if path.stem in found:
            continue
        info = _listed(path)
        if info is not None:
            found[path.stem] = info
    return list(found.values())


def _listed(path: Path) -> PriorInfo | None:
    """How the prior is listed; None where it is not, which is told once."""
    try:
        return _info(path, _card(path))
    except (InputError, OSError) as error:
        why = error.why if isinstance(error, InputError) else error.strerror or type(error).__name__
    except Exception as error:  # whatever is in that file, the others are listed
        why = f"{type(error).__name__}: {error}"
    if (str(path), why) not in _told:
        _told.add((str(path), why))
        log.warning("%s is left out of the priors: %s", ascii(path.name), why)
    return None


def verify(name_or_path: str | Path) -> PriorInfo:
    """Read the whole file: header, sizes, and every number finite. InputError names the fault."""
    import numpy as np
    from safetensors import safe_open

    path = find(name_or_path)
    card = _card(path)
    try:
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 (not a dictionary)
                if not np.isfinite(file.get_tensor(name).astype(np.float32)).all():
                    raise _refuse(path, f"Its tensor {name} holds numbers that are not finite.")
    except InputError:
        raise
    except Exception as error:  # tensors that overlap, a type NumPy lacks: the reader has an exception for each
        raise _refuse(path, f"It cannot be read: {' '.join(str(error).split())[:300]}.") from None
    return _info(path, card)
