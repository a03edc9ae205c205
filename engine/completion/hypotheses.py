"""Other wholes for the same scan: what was seen stays, what was not is drawn anew.

Sampling the encoder's posterior changes next to nothing: most of what the decoder needs reaches it as evidence
features, in unseen space too, where they are the encoder's one guess. So a further hypothesis keeps code and features
where points or empty space were observed, weakens the features elsewhere, and puts there the code of another shape:
drawn from the prior's distribution of whole shapes (of the class asked for, or of one it may be) given the code of
what was seen, or, in a prior without one, smooth noise around the posterior. The optimisation then brings it back to
the evidence, and its score says how well that went.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..fields.base import Observation, Posterior
from ..priors.file import Prior
from ..priors.latent import LatentModel
from .complete import Vary


def variation(
    prior: Prior, number: int, seed: int, class_name: str, shares: dict[str, float], temperature: float = 1.0
) -> Vary | None:
    """What makes hypothesis `number` of the encoder's answer; None for the answer itself (number 0, no class chosen).

    class_name: the class chosen, or '' = each hypothesis draws one by the pose network's `shares`.
    """
    if number == 0 and (not class_name or prior.latent is None):
        return None

    family = prior.field

    def vary(posterior: Posterior, observation: Observation) -> Posterior:
        seen = family.seen(observation)
        if seen is None:  # a code without parts: the posterior is all there is
            return posterior
        generator = torch.Generator().manual_seed(seed * 1009 + number)
        mean = posterior.mean
        if prior.latent is not None and mean.shape[1:] == torch.Size(prior.latent.code_shape):
            drawn = class_name or _draw(shares, prior.latent, generator)
            other = _conditional(prior.latent, posterior, seen, drawn, temperature if number else 0.0, generator)
        else:
            other = mean + temperature * family.drift(mean, generator) * (1 + posterior.deviation)
        # A class that was chosen only leans the answer; another hypothesis replaces what was not seen.
        strength = 0.5 if number == 0 else (0.5, 0.75, 1.0)[number % 3]
        return family.lean(posterior, observation, other, strength)

    return vary


def _draw(shares: dict[str, float], latent: LatentModel, generator: torch.Generator) -> str:
    """A class by its share, flattened a little; '' where none of them is known to the distribution."""
    known = {name: share for name, share in shares.items() if name in latent.classes}
    if not known:
        return ""
    weight = torch.tensor(list(known.values())).clamp(min=1e-6).sqrt()
    return list(known)[int(torch.multinomial(weight, 1, generator=generator))]


def _conditional(
    latent: LatentModel, posterior: Posterior, seen: Tensor, class_name: str, temperature: float,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """A code of a whole shape of the class, given the encoder's code where it was seen: Gaussian conditioning.

    Coefficients c ~ N(centre, L L^T); the seen numbers of the code are basis^T (scales c) + mean + noise, its variance
    that of the posterior and of what the K coefficients cannot say.
    """
    label = latent.label(class_name)
    if label is None:
        centre, factor = torch.zeros_like(latent.scales), torch.eye(latent.size, device=latent.device)
    else:
        centre, factor = latent.centres[label], latent.factors[label]
    weight = (seen.expand_as(posterior.mean) / (posterior.log_variance.exp() + 0.3)).reshape(-1)
    # Neighbouring numbers err together: hundreds of them do not say hundreds of times as much.
    weight = weight * min(1.0, 2.0 * latent.size / max(1.0, float((weight > 0).sum())))
    maps = (latent.basis * latent.scales[:, None]).T @ factor  # (D, K), of white coefficients
    wanted = posterior.mean.reshape(-1) - latent.mean - (latent.basis * latent.scales[:, None]).T @ centre
    precision = torch.eye(latent.size, device=latent.device) + maps.T @ (maps * weight[:, None])
    lower = torch.linalg.cholesky(precision)
    white = torch.cholesky_solve((maps.T @ (weight * wanted))[:, None], lower)[:, 0]
    noise = torch.randn(latent.size, generator=generator).to(latent.device)
    white = white + temperature * torch.linalg.solve_triangular(lower.T, noise[:, None], upper=True)[:, 0]
    code: Tensor = latent.expand((centre + factor @ white)[None])
    return code
