"""Point clouds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass
class PointCloud:
    """Surface points as a scanner or an artist gives them, all in one frame (the caller says which).

    points: (N, 3) float32.  normals: (N, 3) float32 of unit length, or None.
    viewpoint: (3,) float32 where the sensor stood, or None when unknown; of several scans (S, 3), where each one's
    stood, with scans: (N,) int32, which of them saw each point.
    colours: (N, 3) float32, sRGB in 0..1, or None.  materials: (N,) int32, the number of the material that the surface
    has at each point, -1 where it has none; or None.
    """

    points: FloatArray
    normals: FloatArray | None = None
    viewpoint: FloatArray | None = None
    colours: FloatArray | None = None
    materials: NDArray[np.int32] | None = None
    scans: NDArray[np.int32] | None = None

    @property
    def seen_from(self) -> FloatArray | None:
        """Where the sensor stood: (3,) for all points, or (N, 3) for each."""
        return self.viewpoint if self.viewpoint is None or self.scans is None else self.viewpoint[self.scans]

    def at(self, which: NDArray[Any]) -> PointCloud:
        """The points that a mask (N,) or an index (M,) chooses, with all that belongs to each."""
        return replace(
            self,
            points=self.points[which],
            normals=None if self.normals is None else self.normals[which],
            colours=None if self.colours is None else self.colours[which],
            materials=None if self.materials is None else self.materials[which],
            scans=None if self.scans is None else self.scans[which],
        )
