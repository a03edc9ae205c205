"""IGR."""

from __future__ import annotations

from ...fields import losses
from ...fields.implicit import Mlp
from ..network_fit import method
from ..recipe import Loss, Recipe, Weight, eikonal, given, surface


def igr(normals: bool = True) -> Recipe:
    """Surface, normal and Eikonal terms with weights 1, 1 and 0.1 (IGR, Gropp 2020, eq. 2); without normals the first
    and the third."""
    terms: dict[str, tuple[Weight, Loss]] = {"surface": (1.0, surface), "eikonal": (0.1, eikonal)}
    if normals:
        terms["normal"] = (1.0, lambda b: losses.normal(b.surface.gradient, given(b.normals)))
    return Recipe(
        lambda dimension: Mlp(dimension), terms, data_terms=("surface",), needs="oriented" if normals else "points"
    )


METHOD = method("igr", igr, "surface, normal and Eikonal terms", "IGR, Gropp et al. 2020")
