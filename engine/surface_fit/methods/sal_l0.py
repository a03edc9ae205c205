"""SAL with the L0 distance."""

from __future__ import annotations

from dataclasses import replace

from ...fields import losses
from ..network_fit import method
from ..recipe import Recipe
from .sal import sal


def sal_l0() -> Recipe:
    """Sign-agnostic regression of the L0 distance, 0 on the data and 1 off it (SAL, Atzmon and Lipman 2020, eq. 3)."""
    return replace(
        sal(),
        terms={"distance": (1.0, lambda b: losses.sign_agnostic_l0(b.surface.value, b.space.value))},
        distances="none",
    )


METHOD = method("sal_l0", sal_l0, "sign-agnostic, 0 on the data and 1 off it", "SAL (L0), Atzmon and Lipman 2020")
