"""What a reader gives (Raw), and what the engine works with after the checks (Loaded)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import MAX_COORDINATE, check_cloud, check_mesh
from ..clouds import FloatArray, PointCloud
from ..meshes import IntArray, Material, Mesh, material_colours
from .gates import Float64Array

log = logging.getLogger(__name__)

FAR = 1e-3
"""Ratio of size to distance from the origin below which coordinates are centred before they become float32."""


@dataclass
class Raw:
    """What a file holds, unchecked, in the file's own frame and number types.

    points: (N, 3).  normals: (N, 3).  faces: (F, 3) into points.  colours: (N, 3) float32 in 0..1, as in the file.
    viewpoint: (3,) where the sensor stood, or (S, 3) with scans: (N,), which of them saw each point.
    materials, and face_materials (F,) into them, -1 for none; where these say all that is known of the colours,
    `colours` is None.
    notes: what was decided or left out, a sentence each.
    """

    points: NDArray[Any]
    normals: NDArray[Any] | None = None
    faces: NDArray[Any] | None = None
    viewpoint: NDArray[Any] | None = None
    colours: NDArray[np.float32] | None = None
    materials: tuple[Material, ...] = ()
    face_materials: NDArray[Any] | None = None
    notes: list[str] = field(default_factory=list)
    scans: NDArray[Any] | None = None


@dataclass
class Loaded:
    """A file's shape, checked: everything after may rely on it.

    shape: a Mesh where the file has triangles, else a PointCloud, float32, with normals, colours and materials where
    known, about `offset`.  offset: (3,) float64, what to add to get the file's own coordinates; zero unless they are
    too far from the origin for float32.
    dropped: how many points were no numbers or had no usable normal.  notes: sentences for the report.
    turn: (3, 3) rotation from the file's axes to the shape's.
    """

    shape: Mesh | PointCloud
    offset: Float64Array
    dropped: int = 0
    notes: list[str] = field(default_factory=list)
    turn: Float64Array = field(default_factory=lambda: np.eye(3))

    @property
    def points(self) -> FloatArray:
        """(N, 3) points of the cloud or vertices of the mesh, about the offset."""
        return self.shape.vertices if isinstance(self.shape, Mesh) else self.shape.points

    @property
    def normals(self) -> FloatArray | None:
        return self.shape.normals

    @property
    def colours(self) -> FloatArray | None:
        """(N, 3) sRGB of the points, where only materials have colours by these; None where nothing has."""
        if isinstance(self.shape, Mesh) and self.shape.colours is None:
            return material_colours(self.shape)
        return self.shape.colours

    @property
    def materials(self) -> tuple[Material, ...]:
        return self.shape.materials if isinstance(self.shape, Mesh) else ()

    @property
    def face_materials(self) -> IntArray | None:
        """(F,) into the materials, -1 for none."""
        return self.shape.face_materials if isinstance(self.shape, Mesh) else None

    @property
    def faces(self) -> IntArray | None:
        return self.shape.faces if isinstance(self.shape, Mesh) else None

    @property
    def viewpoint(self) -> FloatArray | None:
        """(3,) where the sensor stood, about the offset; None where that is not known, or several places are."""
        return None if isinstance(self.shape, Mesh) or self.shape.scans is not None else self.shape.viewpoint

    @property
    def viewpoints(self) -> FloatArray | None:
        """(S, 3) where the sensors of several scans stood, about the offset."""
        return None if isinstance(self.shape, Mesh) or self.shape.scans is None else self.shape.viewpoint

    @property
    def scans(self) -> IntArray | None:
        """(N,) which of the viewpoints saw each point."""
        return None if isinstance(self.shape, Mesh) else self.shape.scans

    @property
    def moved(self) -> bool:
        return bool(self.offset.any())


def checked(raw: Raw, source: str) -> Loaded:
    """Raw -> Loaded: points that are no numbers dropped and counted, far coordinates centred, all checked.

    source: the file's name, for messages. Raises InputError (codes: engine.geometry.checks).
    """
    notes = list(raw.notes)
    offset = np.zeros(3)
    points = np.asarray(raw.points)
    viewpoint = raw.viewpoint
    if points.ndim == 2 and points.shape[1:] == (3,) and points.dtype.kind in "fiu" and len(points):
        offset = offset_of(points)
        if offset.any():
            points = points - offset
            viewpoint = None if viewpoint is None else np.asarray(viewpoint, np.float64) - offset
            text = ", ".join(f"{v:.12g}" for v in offset)
            notes.append(f"Its coordinates are far from the origin; it is worked on about ({text}).")
    shape: Mesh | PointCloud
    if raw.faces is not None and len(raw.faces):
        shape = check_mesh(
            points, raw.faces, raw.normals, colours=raw.colours, materials=raw.materials,
            face_materials=raw.face_materials, source=source, notes=notes,
        )  # fmt: skip
        left = len(shape.vertices)
    else:
        shape = check_cloud(
            points, raw.normals, viewpoint, colours=raw.colours, scans=raw.scans, source=source, notes=notes
        )
        left = len(shape.points)
    return Loaded(shape, offset, len(points) - left, notes)


def offset_of(points: NDArray[Any]) -> Float64Array:
    """(3,) float64: where to put the origin of (N, 3) points that are small beside their distance from it; else zero.

    Only of numbers that have more digits than float32: in others rounding has eaten the details already. The offset is
    a round number near the middle, as survey programs take it, so that it can be read and typed.
    """
    if points.dtype.itemsize < 8:
        return np.zeros(3)
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(points).all(axis=1) if points.dtype.kind == "f" else np.ones(len(points), bool)
        good = points if bool(finite.all()) else points[finite]
        if len(good) == 0:
            return np.zeros(3)
        low, high = good.min(axis=0).astype(np.float64), good.max(axis=0).astype(np.float64)
    extent = float((high - low).max())
    distance = float(np.maximum(np.abs(low), np.abs(high)).max())
    if not 0.0 < extent < FAR * distance or distance > MAX_COORDINATE:
        return np.zeros(3)
    unit = 10.0 ** np.floor(np.log10(extent))
    return np.asarray(np.round((low + high) / 2 / unit) * unit, np.float64)
