"""Point clouds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass
class PointCloud:
    """Surface points as a scanner or an artist gives them, all in one frame (the caller says which).

    points: (N, 3) float32.  normals: (N, 3) float32 of unit length, or None.
    viewpoint: (3,) float32 where the sensor stood, or None when unknown.
    colours: (N, 3) float32, sRGB in 0..1, or None.
    """

    points: FloatArray
    normals: FloatArray | None = None
    viewpoint: FloatArray | None = None
    colours: FloatArray | None = None
