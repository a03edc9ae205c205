"""What a result's surface looks like where its input showed it: colours of vertices, materials of faces.

Nothing moves: a mesh comes back with the same vertices and faces. Where the input showed nothing a vertex has no look
of its own; it is marked (`Mesh.seen`) and takes that of the nearest point that has one, so that a file looks sensible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..geometry.clouds import FloatArray, PointCloud
from ..geometry.meshes import IntArray, Material, Mesh, face_areas, vertex_normals
from ..geometry.sampling import remove_duplicates

NEIGHBOURS = 6
REACH = 2.5
"""Spacings from the nearest point within which a vertex was seen."""
DENSEST, SPARSEST = 0.5, 4.0
"""A point's own spacing counts between these multiples of the usual one: a stray colours little."""
BEHIND = -0.2
"""Cosine between a vertex's normal and the way to the viewpoint, below which it looks away: seen was the other side."""

Mask = NDArray[np.bool_]


@dataclass
class Look:
    """Of a mesh. colours: (V, 3) or None.  seen: (V,).  face_materials: (F,) into materials, or None.  share: of the
    surface's area that was seen."""

    colours: FloatArray | None
    seen: Mask
    materials: tuple[Material, ...]
    face_materials: IntArray | None
    share: float

    def on(self, mesh: Mesh) -> Mesh:
        """The mesh with this look, wherever it has been moved to meanwhile."""
        return replace(
            mesh, colours=self.colours, seen=self.seen, materials=self.materials, face_materials=self.face_materials
        )


class Observed:
    """Points of which it is known what the surface looks like there."""

    def __init__(self, cloud: PointCloud, materials: Sequence[Material] = ()) -> None:
        """cloud: with colours, materials (into `materials`) or both."""
        self.cloud, self.materials = remove_duplicates(cloud), tuple(materials)
        self._tree = cKDTree(self.cloud.points, balanced_tree=False)
        self._usual = float(np.median(self._spacing(_some(len(self.cloud.points), 2000))))

    def look(self, mesh: Mesh) -> Look:
        """Of a mesh in the cloud's frame: near an observed point, within a small multiple of the points' spacing there,
        a vertex has the mean colour of the nearest, weighed by distance; a face has the material of the point nearest
        to its middle. A surface that looks away from where the points were seen was not seen with them."""
        near = self._nearest(mesh.vertices)
        seen = self._seen(mesh, near)
        colours = None
        if self.cloud.colours is not None:
            colours = np.where(seen[:, None], self._mean_colours(near), self.cloud.colours[near[1][:, 0]])
        face_materials: IntArray | None = None
        if self.cloud.materials is not None:
            middles = mesh.vertices[mesh.faces].mean(axis=1)
            face_materials = self.cloud.materials[self._tree.query(middles)[1]]
        areas = face_areas(mesh)
        total = float(areas.sum())
        share = float((areas * seen[mesh.faces].mean(axis=1)).sum()) / total if total > 0 else float(seen.mean())
        return Look(colours, seen, self.materials if face_materials is not None else (), face_materials, share)

    def _nearest(self, vertices: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(V, K) distances and numbers of the nearest points."""
        distance, index = self._tree.query(vertices, k=list(range(1, min(NEIGHBOURS, len(self.cloud.points)) + 1)))
        return distance, index

    def _seen(self, mesh: Mesh, near: tuple[NDArray[np.float64], NDArray[np.int64]]) -> Mask:
        distance, index = near[0][:, 0], near[1][:, 0]
        asked, back = np.unique(index, return_inverse=True)
        spacing = self._spacing(asked).clip(DENSEST * self._usual, SPARSEST * self._usual)[back.ravel()]
        # A surface is exact to a fraction of its triangles, however dense the points are.
        edges = np.linalg.norm(mesh.vertices[mesh.faces[:, 0]] - mesh.vertices[mesh.faces[:, 1]], axis=1)
        exact = 0.5 * float(np.median(edges)) if len(edges) else 0.0
        seen: Mask = distance <= np.maximum(REACH * spacing, exact)
        eyes = self.cloud.seen_from
        if eyes is not None and len(mesh.faces):
            normals = vertex_normals(mesh) if mesh.normals is None else mesh.normals
            towards = (eyes if eyes.ndim == 1 else eyes[index]) - mesh.vertices
            length = np.maximum(np.linalg.norm(towards, axis=1), 1e-30)
            seen &= np.einsum("ij,ij->i", normals, towards) / length > BEHIND
        return seen

    def _mean_colours(self, near: tuple[NDArray[np.float64], NDArray[np.int64]]) -> FloatArray:
        """(V, 3) of the nearest points, by a Gaussian of the usual spacing about the vertex."""
        assert self.cloud.colours is not None
        distance, index = near
        width = max(self._usual, 1e-30)
        weight = np.exp(-0.5 * (distance**2 - distance[:, :1] ** 2) / width**2)
        weight /= weight.sum(axis=1, keepdims=True)
        mean = np.einsum("vk,vkc->vc", weight, self.cloud.colours[index])
        return np.asarray(mean.clip(0, 1), np.float32)

    def _spacing(self, which: NDArray[Any]) -> NDArray[np.float64]:
        """Of these points: the side of the square of surface that each has for itself, by how far the sixth neighbour
        is, since n neighbours share a disk of area n spacings squared."""
        count = min(NEIGHBOURS, len(self.cloud.points) - 1)
        far = self._tree.query(self.cloud.points[which], k=[count + 1])[0][:, 0]
        return np.asarray(far * np.sqrt(np.pi / max(count, 1)), np.float64)


def _some(count: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def observed(cloud: PointCloud, materials: Sequence[Material] = ()) -> Observed | None:
    """None where nothing is known of how the surface looks, or too few points are there to tell."""
    known = cloud.colours is not None or (cloud.materials is not None and len(materials) > 0)
    return Observed(cloud, materials) if known and len(cloud.points) > 1 else None


def report(look: Look | None) -> dict[str, Any] | None:
    """A report's `appearance`: of the first result; None where the input had none."""
    if look is None:
        return None
    return {
        "colours": look.colours is not None,
        "materials": [material.name for material in look.materials],
        "seen": look.share,
    }
