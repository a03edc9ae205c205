"""SAL."""

from __future__ import annotations

from ...fields import losses
from ...fields.implicit import Mlp
from ..network_fit import method
from ..recipe import Recipe, given


def sal() -> Recipe:
    """Sign-agnostic regression of the unsigned distance (SAL, Atzmon and Lipman 2020, eq. 4).

    Starts as a sphere that holds the data, which it then shrinks onto: a start within a notch stays inverted there.
    Softplus for the paper's ReLU, as SALD does: small ReLU networks keep wrong signs more often. Samples all over the
    box besides the paper's sigma of 0.3: where there are none, a large gap lets the inside out.
    """
    return Recipe(
        lambda dimension: Mlp(dimension, radius=1.0),
        {"distance": (1.0, lambda b: losses.sign_agnostic_l2(b.space.value, given(b.distance)))},
        distances="unsigned",
        far=(0.3, None),
        batch=2048,
    )


METHOD = method("sal", sal, "sign-agnostic regression of the distance; rounds corners", "SAL, Atzmon and Lipman 2020")
