"""The papers' terms, one function each. All return a scalar mean; signed distance is negative inside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def clamped_l1(prediction: Tensor, distance: Tensor, delta: float = 0.1) -> Tensor:
    """mean |f - clamp(s, delta)| (DeepSDF, Park 2019, eq. 4).

    Only the target is clamped: with the prediction clamped too, a field that starts above delta never learns.
    """
    return (prediction - distance.clamp(-delta, delta)).abs().mean()


def sign_cross_entropy(prediction: Tensor, distance: Tensor, width: float = 0.01) -> Tensor:
    """Cross-entropy of being inside, with -f / width as the logit (Occupancy Networks, Mescheder 2019, eq. 3)."""
    return F.binary_cross_entropy_with_logits(-prediction / width, (distance < 0).to(prediction.dtype))


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
