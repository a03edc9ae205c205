"""DiGS."""

from __future__ import annotations

from ...fields import losses
from ...fields.implicit import Siren
from ..network_fit import method
from ..recipe import Recipe, annealed, eikonal_everywhere, surface


def digs() -> Recipe:
    """SIREN without normals: a divergence term, annealed, and a start as a sphere (DiGS, Ben-Shabat 2022, sections 3.2
    and 3.3). Surface, Eikonal and off-surface weights are the paper's 3000, 50, 100.

    The paper takes 10,000 steps of 15,000 points at omega 30 and a divergence weight of 100. In a tenth of the steps
    that ends in ripples; omega 10 and weight 10, at a higher rate, end with the right signs.
    """
    return Recipe(
        lambda dimension: Siren(dimension, omega=10.0, initialisation="digs"),
        {
            "surface": (3e3, surface),
            "eikonal": (5e1, eikonal_everywhere),
            "off surface": (1e2, lambda b: losses.off_surface(b.far.value)),
            "divergence": (annealed(10.0, 0.3, 0.75), lambda b: losses.divergence(b.few.divergence)),
        },
        data_terms=("surface",),
        rate=5e-4,
    )


METHOD = method("digs", digs, "sine network for points without normals", "DiGS, Ben-Shabat et al. 2022")
