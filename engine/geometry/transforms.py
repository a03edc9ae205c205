"""Similarity transforms between the scene and the canonical frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clouds import FloatArray, PointCloud

Float64Array = NDArray[np.float64]


@dataclass
class Similarity:
    """x -> scale * rotation @ x + translation. Kept in float64: scenes may lie kilometres from their origin.

    scale: > 0.  rotation: (3, 3), orthonormal, determinant +1.  translation: (3,).
    """

    scale: float = 1.0
    rotation: Float64Array = field(default_factory=lambda: np.eye(3))
    translation: Float64Array = field(default_factory=lambda: np.zeros(3))

    def apply(self, points: NDArray[np.floating[Any]]) -> FloatArray:
        """(N, 3) points of the source frame -> (N, 3) float32 points of the target frame."""
        moved = self.scale * (np.asarray(points, np.float64) @ self.rotation.T) + self.translation
        return moved.astype(np.float32)

    def apply_to_directions(self, directions: NDArray[np.floating[Any]]) -> FloatArray:
        """(N, 3) unit vectors of the source frame -> the same directions in the target frame."""
        return (np.asarray(directions, np.float64) @ self.rotation.T).astype(np.float32)

    def inverse(self) -> Similarity:
        rotation = self.rotation.T
        return Similarity(1.0 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    def after(self, first: Similarity) -> Similarity:
        """The transform that applies `first`, then self."""
        return Similarity(
            self.scale * first.scale,
            self.rotation @ first.rotation,
            self.scale * (self.rotation @ first.translation) + self.translation,
        )

    @classmethod
    def from_matrix(cls, matrix: NDArray[np.floating[Any]]) -> Similarity:
        """(4, 4) homogeneous matrix of translation, rotation and one positive scale -> Similarity; the rotation is the
        orthonormal matrix nearest to what the matrix holds (which may come from a float32 world)."""
        m = np.asarray(matrix, np.float64)
        u, _, v = np.linalg.svd(m[:3, :3])
        return cls(float(np.cbrt(np.linalg.det(m[:3, :3]))), u @ v, m[:3, 3].copy())

    def matrix(self) -> Float64Array:
        """(4, 4) homogeneous matrix."""
        m = np.eye(4)
        m[:3, :3] = self.scale * self.rotation
        m[:3, 3] = self.translation
        return m


def yaw_rotation(angle: float) -> Float64Array:
    """(3, 3) turn by `angle` radians about z."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def moved_cloud(cloud: PointCloud, transform: Similarity) -> PointCloud:
    """The cloud in the transform's target frame, its normals and viewpoint with it."""
    return replace(
        cloud,
        points=transform.apply(cloud.points),
        normals=None if cloud.normals is None else transform.apply_to_directions(cloud.normals),
        viewpoint=None
        if cloud.viewpoint is None
        else transform.apply(cloud.viewpoint.reshape(-1, 3)).reshape(cloud.viewpoint.shape),
    )
