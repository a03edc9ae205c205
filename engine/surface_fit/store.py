"""Fitted fields that outlive their job, so that they can be extracted again: one .safetensors each, bounded in all."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError
from ..folders import default_data_dir
from ..geometry.clouds import FloatArray, PointCloud
from .base import FittedField, field_kinds

log = logging.getLogger(__name__)

FORMAT = "shapewright-field-1"
KEPT_FIELDS = 64
KEPT_BYTES = 1024 * 2**20
_DENSE = ("points", "colours", "materials", "viewpoint", "scans")
_OURS = re.compile(r"[0-9a-f]{32}\.(safetensors|[0-9]+\.part)")


@dataclass
class KeptField:
    """field: on the device asked for.  points: (P, 3) some of the cloud in the unit frame, for trimming and residuals.
    reach: (P,) how far from each point the surface may go where boundaries stay open.
    about: the report of the fit and to_scene as scale and translation.  dense: points that say what the surface looks
    like, unit frame, where the input said it."""

    field: FittedField
    points: FloatArray
    reach: FloatArray
    about: dict[str, Any]
    dense: PointCloud | None = None


def store_folder() -> Path:
    return default_data_dir() / "fields"


def keep_field(
    fitted: FittedField, points: FloatArray, reach: FloatArray, about: dict[str, Any], dense: PointCloud | None = None
) -> str | None:
    """Write the field; returns its id, or None where the disk does not take it (the fit is not lost for that)."""
    tensors, arguments = fitted.to_state()
    content = {f"field.{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content |= {"points": torch.as_tensor(points), "reach": torch.as_tensor(reach)}
    arrays = {name: getattr(dense, name) for name in _DENSE if dense is not None}
    content |= {f"dense.{name}": torch.as_tensor(array) for name, array in arrays.items() if array is not None}
    card = {"format": FORMAT, "kind": fitted.kind, "arguments": arguments, "about": about}
    number = uuid.uuid4().hex
    folder = store_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{number}.{os.getpid()}.part"
        try:
            save_file(content, temporary, {"shapewright": json.dumps(card)})
            os.replace(temporary, _path(number))
        finally:
            temporary.unlink(missing_ok=True)
        _make_room(folder, number)
    except (OSError, SafetensorError) as error:
        log.warning("The fitted field could not be kept: %s", error)
        return None
    return number


def load_field(number: str, device: torch.device) -> KeptField:
    """Nothing is executed, and nothing larger than the file allocated. InputError 'field_missing', 'field_damaged'."""
    path = _path(number)
    try:
        with safe_open(path, "pt") as file:
            card = json.loads((file.metadata() or {})["shapewright"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        if card["format"] != FORMAT:
            raise ValueError(f"its format is {card['format']}")
        parts = {name[6:]: tensor.to(device) for name, tensor in tensors.items() if name.startswith("field.")}
        fitted = field_kinds()[card["kind"]](parts, card["arguments"])
        dense = {name: tensors[f"dense.{name}"].numpy() for name in _DENSE if f"dense.{name}" in tensors}
        kept = KeptField(
            fitted, tensors["points"].numpy(), tensors["reach"].numpy(), dict(card["about"]),
            PointCloud(**dense) if dense else None,
        )  # fmt: skip
        if len({len(array) for name, array in dense.items() if name != "viewpoint"}) > 1:
            raise ValueError("its points have not a colour or material each")
        if kept.points.ndim != 2 or kept.points.shape[1] != 3 or len(kept.points) != len(kept.reach):
            raise ValueError("its points are not rows of three")
    except FileNotFoundError:
        raise InputError(
            "field_missing",
            "The fitted field is not there any more.",
            f"The newest {KEPT_FIELDS} fits are kept, as far as {KEPT_BYTES // 2**20} MB reach; '{number}' is not one.",
            "Fit the shape again.",
        ) from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            "field_damaged",
            "The fitted field cannot be read.",
            f"{path.name}: {str(error)[:200]}.",
            "Fit the shape again.",
        ) from None
    try:
        os.utime(path)  # used: it goes last
    except OSError:
        log.debug("%s cannot be touched", path)
    return kept


def _path(number: str) -> Path:
    if len(number) != 32 or not set(number) <= set("0123456789abcdef"):
        raise InputError(
            "field_missing",
            "The fitted field is not there.",
            f"'{number[:80]}' is not the id of a field.",
            "Give the field_id of a fit's report.",
        )
    return store_folder() / f"{number}.safetensors"


def _make_room(folder: Path, newest: str) -> None:
    """Remove the longest unused beyond the bounds, never the newest; and what a killed process left half written.
    What has another name than `keep_field` gives, or is a link, is not ours and stays."""
    files = []
    for path in folder.iterdir():
        try:
            state = path.lstat()
            ours = _OURS.fullmatch(path.name) if stat.S_ISREG(state.st_mode) else None
            if ours is None:
                continue
            if ours[1] == "safetensors":
                files.append((path.stem != newest, -state.st_mtime, state.st_size, path))
            elif time.time() - state.st_mtime > 3600:
                path.unlink()
        except OSError:
            continue
    total = 0
    for number, (_, _, size, path) in enumerate(sorted(files)):
        total += size
        if number and (number >= KEPT_FIELDS or total > KEPT_BYTES):
            try:
                path.unlink()
            except OSError as error:  # Windows, while somebody reads it
                log.debug("%s stays: %s", path, error)


def some_of(points: FloatArray, area: Any, count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """At most `count` of the points, and how far each reaches: two and a half times its share of spacing."""
    reach = 2.5 * np.sqrt(np.asarray(area, np.float64))
    reach = np.minimum(reach, 3.0 * np.median(reach))
    if len(points) > count:
        chosen = np.sort(np.random.default_rng([seed, 7]).choice(len(points), count, replace=False))
        reach = reach[chosen] * min(np.sqrt(len(points) / count), 1.5)
        points = points[chosen]
    return np.ascontiguousarray(points, np.float32), reach.astype(np.float32)
