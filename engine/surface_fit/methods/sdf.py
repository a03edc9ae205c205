"""DeepSDF's single-shape case."""

from __future__ import annotations

from ...fields import losses
from ...fields.implicit import Mlp
from ..network_fit import method
from ..recipe import Recipe, given


def sdf() -> Recipe:
    """Clamped L1 on signed distances, most of them near the surface (DeepSDF, Park 2019, sections 3 and 5)."""
    return Recipe(
        lambda dimension: Mlp(dimension),
        {"distance": (1.0, lambda b: losses.clamped_l1(b.space.value, given(b.distance), 0.1))},
        distances="signed",
        near=(0.05, 0.016),
        needs="mesh",
        batch=2048,
    )


METHOD = method("sdf", sdf, "regression of the signed distance; for meshes with an inside", "DeepSDF, Park et al. 2019")
