"""No network: a smooth signed distance in a band about the surface."""

from __future__ import annotations

from ..auto import fit_auto
from ..base import Method

METHOD = Method(
    name="auto",
    summary="seconds, no network: winding number, then a smooth signed distance in a band about the surface",
    citation="Kazhdan, Bolitho, Hoppe 2006 (Poisson); Calakli, Taubin 2011 (SSD); Lin, Shi, Liu 2024 (WNNC)",
    needs="oriented",
    fit=fit_auto,
)
