"""The papers' terms, one function each; all but `sign_agnostic` return a mean. Signed distance is negative inside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def clamped_l1(prediction: Tensor, distance: Tensor, delta: float = 0.1) -> Tensor:
    """mean |f - clamp(s, delta)| (DeepSDF, Park 2019, eq. 4).

    Only the target is clamped: with the prediction clamped too, a field that starts above delta never learns.
    """
    return (prediction - distance.clamp(-delta, delta)).abs().mean()


def sign_cross_entropy(
    prediction: Tensor, distance: Tensor, width: float = 0.01, weight: Tensor | None = None
) -> Tensor:
    """Cross-entropy of being inside, with -f / width as the logit (Occupancy Networks, Mescheder 2019, eq. 3)."""
    inside = (distance < 0).to(prediction.dtype)
    return F.binary_cross_entropy_with_logits(-prediction / width, inside, weight=weight)


def sign_agnostic(prediction: Tensor, distance: Tensor) -> Tensor:
    """| |f| - |s| |, of each point: the unsigned regression that leaves the sign to the network (SAL, Atzmon and Lipman
    2020, eq. 2 with tau = |.|_1 and the L2 distance)."""
    return (prediction.abs() - distance.abs()).abs()


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(log_variance)) from N(0, 1), averaged over all numbers (Kingma, Welling 2014)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()


def surface(prediction: Tensor) -> Tensor:
    """mean |f| at surface points (IGR, Gropp 2020, eq. 2)."""
    return prediction.abs().mean()


def normal(gradient: Tensor, normals: Tensor) -> Tensor:
    """mean ||grad f - n|| at surface points (IGR, Gropp 2020, eq. 2). Both (..., 3)."""
    length: Tensor = torch.linalg.vector_norm(gradient - normals, dim=-1)
    return length.mean()


def eikonal(gradient: Tensor) -> Tensor:
    """mean | ||grad f|| - 1 | (IGR, Gropp 2020). gradient: (..., 3)."""
    length: Tensor = torch.linalg.vector_norm(gradient, dim=-1)
    return (length - 1).abs().mean()


def seen_empty(prediction: Tensor, margin: float = 0.0) -> Tensor:
    """mean max(0, margin - f) where space was seen to be empty (free-space term of DeepSDF, Park 2019, section 6.3)."""
    return F.relu(margin - prediction).mean()


def off_surface(prediction: Tensor, alpha: float = 100.0) -> Tensor:
    """mean exp(-alpha |f|) away from the surface: no zero where there are no points (SIREN, Sitzmann 2020, eq. 6)."""
    return torch.exp(-alpha * prediction.abs()).mean()


def normal_cosine(gradient: Tensor, normals: Tensor) -> Tensor:
    """mean 1 - cos(grad f, n) at surface points (SIREN, Sitzmann 2020, eq. 6). Both (..., D).

    The paper writes the inner product; with its weights (100 against the Eikonal term's 50) that has no minimum.
    """
    return (1 - F.cosine_similarity(gradient, normals, dim=-1)).mean()


def sign_agnostic_l2(prediction: Tensor, distance: Tensor, power: float = 1.0) -> Tensor:
    """mean | |f| - h |^l with h the L2 distance to the data (SAL, Atzmon and Lipman 2020, eq. 4).

    The same for f and -f. A start that is negative inside and positive outside (a sphere) stays signed.
    """
    return (sign_agnostic(prediction, distance) ** power).mean()


def sign_agnostic_l0(on_data: Tensor, off_data: Tensor, power: float = 1.0) -> Tensor:
    """mean |f|^l on the data plus mean | |f| - 1 |^l off it: the L0 distance (SAL, Atzmon and Lipman 2020, eq. 3).

    The answer tends to an indicator, -1 inside and 1 outside.
    """
    return sign_agnostic_l2(on_data, torch.zeros_like(on_data), power) + sign_agnostic_l2(
        off_data, torch.ones_like(off_data), power
    )


def sign_agnostic_gradient(gradient: Tensor, distance_gradient: Tensor) -> Tensor:
    """mean min(||grad f - grad h||, ||grad f + grad h||) (SALD, Atzmon and Lipman 2021, eq. 3).

    h: the unsigned distance. Both (..., D). Sobolev training (Czarnecki 2017) that does not know the sign.
    """
    same: Tensor = torch.linalg.vector_norm(gradient - distance_gradient, dim=-1)
    opposite: Tensor = torch.linalg.vector_norm(gradient + distance_gradient, dim=-1)
    return torch.minimum(same, opposite).mean()


def divergence(laplacian: Tensor, largest: float = 50.0) -> Tensor:
    """mean min(|div grad f|, largest) off the surface (DiGS, Ben-Shabat 2022, eq. 8): few sources and sinks, so that
    the gradient field agrees with itself where no normal says how. A distance's true singularities (its medial axis)
    are capped at `largest`, so that they are not fought. Annealed away over the fit, for detail."""
    return laplacian.abs().clamp(max=largest).mean()
