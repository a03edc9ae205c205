"""SIREN."""

from __future__ import annotations

from ...fields import losses
from ...fields.implicit import Siren
from ..network_fit import method
from ..recipe import Recipe, eikonal_everywhere, given, surface


def siren() -> Recipe:
    """Sine network; surface, normal, Eikonal and off-surface terms, weights 3000, 100, 50, 100 (SIREN, Sitzmann 2020,
    eq. 6 and supplement)."""
    return Recipe(
        lambda dimension: Siren(dimension),
        {
            "surface": (3e3, surface),
            "normal": (1e2, lambda b: losses.normal_cosine(b.surface.gradient, given(b.normals))),
            "eikonal": (5e1, eikonal_everywhere),
            "off surface": (1e2, lambda b: losses.off_surface(b.far.value)),
        },
        data_terms=("surface",),
        needs="oriented",
        rate=5e-4,
    )


METHOD = method("siren", siren, "sine network, fine detail; needs good normals", "SIREN, Sitzmann et al. 2020")
