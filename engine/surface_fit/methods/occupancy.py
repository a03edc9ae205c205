"""Occupancy of one shape."""

from __future__ import annotations

from dataclasses import replace

from ...fields import losses
from ..network_fit import method
from ..recipe import Recipe, given
from .sdf import sdf


def occupancy() -> Recipe:
    """Cross-entropy of being inside (Occupancy Networks, Mescheder 2019, eq. 3); samples as for `sdf`, for one shape's
    detail."""
    return replace(
        sdf(),
        terms={"occupancy": (1.0, lambda b: losses.sign_cross_entropy(b.space.value, given(b.distance), 0.02))},
    )


METHOD = method("occupancy", occupancy, "inside or outside; for meshes with an inside", "Mescheder et al. 2019")
