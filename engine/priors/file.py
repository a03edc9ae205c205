"""A prior in memory: the trained field, the pose network and the card. Saved as one safetensors file, never pickled."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError
from ..fields.base import Family, create
from ..fields.loading import shells
from ..fields.pose import PoseNet
from ..fields.registry import family
from .latent import LatentModel, latent_from
from .registry import find, read_card, sha256

FORMAT = 1


@dataclass
class Prior:
    """field: trained, in evaluation mode, on its device.  card: JSON-serialisable.  sha256: of the file.

    pose: proposes pose and class of a partial cloud; None in a prior that was trained without.  latent: where the codes
    of whole shapes lie; None in a prior that cannot generate."""

    field: Family
    card: dict[str, Any]
    pose: PoseNet | None = None
    sha256: str = ""
    latent: LatentModel | None = None

    @property
    def name(self) -> str:
        return str(self.card["name"])

    @property
    def classes(self) -> list[str]:
        return list(self.card["classes"])

    @property
    def device(self) -> torch.device:
        return next(self.field.parameters()).device


def save_prior(
    path: Path, field: Family, card: dict[str, Any], pose: PoseNet | None = None, latent: LatentModel | None = None
) -> str:
    """Write the prior atomically, weights in half precision; returns its sha256."""
    card = {"format": FORMAT, "architecture": field.name, "arguments": field.arguments, **card}
    tensors: dict[str, Tensor] = {f"field.{k}": v for k, v in field.state_dict().items()}
    if pose is not None:
        card["pose"] = pose.arguments
        tensors |= {f"pose.{k}": v for k, v in pose.state_dict().items()}
    if latent is not None:
        card["latent"] = latent.about()
        tensors |= {f"latent.{k}": v for k, v in latent.tensors().items()}
    half = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    save_file(half, temporary, {"shapewright": json.dumps(card)})
    os.replace(temporary, path)
    forget_priors()
    return sha256(path)


def load_prior(name_or_path: str, device: str = "cpu") -> Prior:
    """Load a prior by name or path onto a device, once while its file stays as it is.

    InputError where it is missing, damaged or foreign. Nothing is executed, and nothing larger than the file allocated.
    """
    path = find(name_or_path)
    state = path.stat()
    return _load(path.absolute(), state.st_mtime_ns, state.st_size, device)


def forget_priors() -> None:
    """Drop the priors kept in memory; those in use stay until they are let go."""
    _load.cache_clear()


@lru_cache(maxsize=2)
def _load(path: Path, changed: int, size: int, device: str) -> Prior:
    card = read_card(path)
    try:
        kind = family(card["architecture"])
    except InputError as unknown:
        raise InputError(
            "prior_architecture",
            f"The prior {path.stem} cannot be used.",
            f"Its architecture {card['architecture']} is not one this engine knows: {unknown.why}",
            "Update the engine, or choose another prior.",
        ) from None
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118 (not a dictionary)
    try:
        with shells():  # the weights are the file's
            field = create(kind, card["arguments"])
            pose = PoseNet(**card["pose"]) if "pose" in card else None
        latent = None
        if isinstance(card.get("latent"), dict):  # of version 0.1.0 a sentence
            latent = latent_from(card["latent"], {k[7:]: v for k, v in tensors.items() if k.startswith("latent.")})
        field.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("field.")}, assign=True)
        if pose is not None:
            pose.load_state_dict({k[5:]: v for k, v in tensors.items() if k.startswith("pose.")}, assign=True)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise InputError(
            "prior_damaged",
            f"The prior {path.name} cannot be used.",
            f"Its weights do not fit its architecture: {' '.join(str(error).split())[:300]}.",
            "Copy or export the file again, or train the prior anew.",
        ) from None
    field = field.eval().requires_grad_(False).to(device).laid_out()
    field.warm()  # here, so that compiling is part of loading and not of the first preview
    if pose is not None:
        pose = pose.eval().requires_grad_(False).to(device)
    if latent is not None:
        latent = latent.to(device)
    return Prior(field, card, pose, sha256(path), latent)
