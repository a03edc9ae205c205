"""Triangle meshes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .clouds import FloatArray

IntArray = NDArray[np.int32]


@dataclass
class Mesh:
    """Triangles, counter-clockwise seen from outside.

    vertices: (V, 3) float32.  faces: (F, 3) int32 into vertices.
    normals: (V, 3) float32 unit vertex normals, or None.
    """

    vertices: FloatArray
    faces: IntArray
    normals: FloatArray | None = None
