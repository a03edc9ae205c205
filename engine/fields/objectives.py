"""Terms that the objectives of families of signed distance share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from . import losses
from .base import Weights

CLAMP = 0.1
"""Distances are learnt up to here (DeepSDF, section 3)."""

STEP = 0.004
"""Of the differences that stand for the gradient: half a cell of a 128^3 grid."""


def gradient_loss(
    query: Callable[[Tensor], Tensor],
    points: Tensor,
    distances: Tensor,
    gradients: Tensor,
    signed: Tensor,
    settings: Weights,
) -> Tensor:
    """settings.eikonal x Eikonal loss + settings.normal x normal loss (IGR, Gropp 2020, eq. 2) of a batch's queries.

    query: points (B, P, 3) -> distances (B, P).  gradients: the true ones (B, P, 3).  signed: (B,); where 0, the normal
    loss takes either direction (SALD, Atzmon and Lipman 2021, eq. 3). The gradient is that of central differences: they
    cost six queries, and no second derivative of the networks. On every eighth point, within the clamped distance.
    Without weights nothing is queried.
    """
    if not (settings.eikonal or settings.normal):
        return distances.new_zeros(())
    x, distance, wanted = points[:, ::8], distances[:, ::8], gradients[:, ::8]
    batch, count = distance.shape
    aside = STEP * torch.eye(3, device=x.device, dtype=x.dtype)
    probes = x[:, None] + torch.cat([aside, -aside])[None, :, None]
    values = query(probes.reshape(batch, 6 * count, 3)).reshape(batch, 2, 3, count)
    gradient = (values[:, 0] - values[:, 1]).transpose(1, 2) / (2 * STEP)
    # Beyond the clamp the field is flat by intent: there the right answer is put in the field's place.
    known = (distance.abs() < CLAMP - STEP)[..., None] & (wanted.norm(dim=-1, keepdim=True) > 0.5)
    wanted = F.normalize(wanted, dim=-1)
    gradient = torch.where(known, gradient, wanted)
    backward = (signed[:, None, None] == 0) & ((gradient.detach() * wanted).sum(-1, keepdim=True) < 0)
    loss = settings.normal * losses.normal(gradient, torch.where(backward, -wanted, wanted))
    return loss + settings.eikonal * losses.eikonal(gradient)
