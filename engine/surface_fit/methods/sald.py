"""SALD."""

from __future__ import annotations

from dataclasses import replace

from ...fields import losses
from ..network_fit import method
from ..recipe import Recipe, given
from .sal import sal


def sald() -> Recipe:
    """SAL with derivatives, weight 0.1 (SALD, Atzmon and Lipman 2021, eq. 3)."""
    return replace(
        sal(),
        terms={
            **sal().terms,
            "derivative": (0.1, lambda b: losses.sign_agnostic_gradient(b.space.gradient, given(b.direction))),
        },
        batch=1024,
    )


METHOD = method("sald", sald, "sign-agnostic regression with derivatives", "SALD, Atzmon and Lipman 2021")
