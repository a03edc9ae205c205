"""Colours from materials and their pictures, by trimesh's visuals and Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 1 << 26
"""Of a picture: 8192 x 8192. A larger one is left unopened."""


def picture_colours(uv: NDArray[Any], picture: Any) -> NDArray[np.float32] | None:
    """(N, 2) texture coordinates, origin at the picture's lower left, and a Pillow image that need not be decoded yet
    -> (N, 3) sRGB in 0..1; None where the picture is too large or damaged."""
    from trimesh.visual.color import uv_to_color

    width, height = picture.size
    if width * height > MAX_PIXELS or not bool(np.isfinite(uv).all()):
        return None
    try:
        colours = uv_to_color(np.asarray(uv, np.float64), picture.convert("RGBA"))
    except Exception:  # Pillow's decoders raise whatever they like on damaged data
        return None
    return None if colours is None else (np.asarray(colours)[:, :3] / np.float32(255.0)).astype(np.float32)
