"""The checks that every array passes before anything is computed from it, whether it came from a file or over the wire.

Whatever is wrong ends in an InputError with a stable code:

    cloud_malformed, cloud_not_finite, cloud_too_small, cloud_too_large, cloud_degenerate
    coordinates_absurd, coordinates_far, viewpoint_invalid
    mesh_too_large, mesh_faces_invalid, mesh_without_area

What is left out (points that are not numbers, useless normals) is logged, and told to the caller in `notes`.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .clouds import FloatArray, PointCloud
from .meshes import Material, Mesh, face_areas, vertex_normals

log = logging.getLogger(__name__)

MIN_POINTS = 10
MAX_POINTS = 20_000_000
MAX_FACES = 2 * MAX_POINTS
MAX_BAD_SHARE = 0.05
"""Of normals: more that are zero or no numbers, and none of them is used."""

MAX_COORDINATE = 1e9
MIN_EXTENT = 1e-9
MIN_EXTENT_TO_DISTANCE = 1e-4
"""Nearer than this ratio of size to distance from the origin, float32 coordinates lose a thousandth of the size."""


def check_cloud(
    points: ArrayLike,
    normals: ArrayLike | None = None,
    viewpoint: ArrayLike | None = None,
    *,
    colours: FloatArray | None = None,
    scans: NDArray[np.integer[Any]] | None = None,
    source: str = "The input",
    notes: list[str] | None = None,
) -> PointCloud:
    """Points as they came from a file or over the wire -> a cloud that everything after may rely on.

    points: (N, 3), 10 to 20 million, at least 10 of them distinct, not all on one line; rows with NaN or infinite
    coordinates (the empty pixels of a depth camera) are dropped.  normals: (N, 3), made unit length; where more than
    5 % are zero or NaN they are all left out, else their points are dropped.  viewpoint: (3,), or (S, 3)
    with scans (N,) into it.  colours: (N, 3).
    source: named in the messages.  notes: gets a sentence for whatever is left out; where None, the log gets it.
    Raises InputError (codes: see this module).
    """
    values = _rows_of_three(points, "points", source)
    if len(values) > MAX_POINTS:
        raise InputError(
            "cloud_too_large",
            f"{source} has too many points.",
            f"It has {len(values):,}; at most {MAX_POINTS:,} are taken.",
            "Thin it out first; a few ten thousand points show a shape well.",
        )
    if len(values) < MIN_POINTS:
        raise _too_small(source, len(values))
    good = _finite_rows(values, source)
    lost = len(good) - int(good.sum())
    if lost:
        _tell(f"{lost:,} of its {len(good):,} points are not numbers and are left out.", source, notes)
    directions = _checked_normals(normals, values, good, source, notes)
    if directions is not None:
        useless = good & ~directions.any(axis=1)
        good &= ~useless
        if bool(useless.any()):
            _tell(f"{int(useless.sum()):,} of its {len(good):,} points have no usable normal and are left out.",
                  source, notes)  # fmt: skip
    if not bool(good.all()):
        values = values[good]
        directions = None if directions is None else directions[good]
        colours = None if colours is None else colours[good]
        scans = None if scans is None else scans[good]
    if len(values) < MIN_POINTS:
        raise _too_small(source, len(values))
    _check_extent(values, source)
    distinct = len(np.unique(values[:1000], axis=0))
    if distinct < MIN_POINTS:
        distinct = len(np.unique(values, axis=0))
    if distinct < MIN_POINTS:
        raise _too_small(source, distinct)
    centred = np.asarray(values, np.float64) - np.asarray(values, np.float64).mean(axis=0)
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(centred.T @ centred), 0.0))
    if spread[1] <= 1e-5 * spread[2]:
        raise InputError(
            "cloud_degenerate",
            f"{source} shows no surface.",
            "All its points lie on one line.",
            "Give points from the surface of an object.",
        )
    points_ = np.ascontiguousarray(values, np.float32)
    places = _checked_viewpoint(viewpoint, None if scans is None else int(scans.max(initial=0)), source)
    if scans is None or places is None:
        return PointCloud(points_, directions, places, colours)
    if len(scans) != len(points_) or int(scans.min()) < 0:
        raise _viewpoint_invalid(f"It has {len(points_):,} points and {len(scans):,} numbers of scans.", source)
    if len(places) == 1:
        return PointCloud(points_, directions, places[0], colours)
    return PointCloud(points_, directions, places, colours, scans=np.ascontiguousarray(scans, np.int32))


def check_mesh(
    vertices: ArrayLike,
    faces: ArrayLike,
    normals: ArrayLike | None = None,
    *,
    colours: FloatArray | None = None,
    materials: tuple[Material, ...] = (),
    face_materials: NDArray[np.integer[Any]] | None = None,
    source: str = "The input",
    notes: list[str] | None = None,
) -> Mesh:
    """Triangles as they came from a file or over the wire -> a mesh that everything after may rely on.

    The mesh may be open, broken, or overlap itself. Vertices that are NaN or infinite are dropped with their faces; so
    are normals of which more than 5 % are zero or NaN. Vertices that no face uses stay.  face_materials: (F,) into
    materials; left out where they are not one a face.  notes: as of check_cloud.
    Raises InputError (codes: see this module).
    """
    values = _rows_of_three(vertices, "vertices", source)
    index = np.asarray(faces)
    if index.ndim != 2 or index.shape[1] != 3 or (len(index) and index.dtype.kind not in "iu"):
        raise _faces_invalid(source, f"The faces have the shape {index.shape} and the type {index.dtype}.")
    if len(values) > MAX_POINTS or len(index) > MAX_FACES:
        raise InputError(
            "mesh_too_large",
            f"{source} has too many triangles.",
            f"It has {len(values):,} vertices and {len(index):,} faces; {MAX_POINTS:,} and {MAX_FACES:,} are the most.",
            "Decimate it first.",
        )
    if len(index) == 0 or len(values) == 0:
        raise _without_area(source)
    if int(index.min()) < 0 or int(index.max()) >= len(values):
        raise _faces_invalid(source, f"Faces refer to vertices outside 0 to {len(values) - 1:,}.")
    numbers = face_materials
    if numbers is not None and (len(numbers) != len(index) or int(numbers.max(initial=-1)) >= len(materials)):
        numbers = None
    good = _finite_rows(values, source)
    directions = _checked_normals(normals, values, good, source, notes)
    if directions is not None and not bool(directions.any(axis=1).all()):
        # A vertex that no face uses has none; any other gets the one that its faces give it.
        given = directions.any(axis=1)
        directions = np.where(given[:, None], directions, vertex_normals(Mesh(values.astype(np.float32), index)))
    if not bool(good.all()):
        keep = good[index].all(axis=1)
        lost, faceless = int((~good).sum()), int((~keep).sum())
        _tell(f"{lost:,} of its vertices are not numbers; they and {faceless:,} faces are left out.", source, notes)
        number = np.cumsum(good) - 1
        values, index = values[good], number[index[keep]]
        numbers = None if numbers is None else numbers[keep]
        directions = None if directions is None else directions[good]
        colours = None if colours is None else colours[good]
        if len(index) == 0:
            raise _without_area(source)
    _check_extent(values[np.unique(index)], source)
    mesh = Mesh(np.ascontiguousarray(values, np.float32), np.ascontiguousarray(index, np.int32), directions, colours)
    if numbers is not None:
        mesh.materials, mesh.face_materials = materials, np.maximum(numbers, -1).astype(np.int32)
    # Relative to the size, since a mesh in micrometres is as good as one in metres; below this, all is rounding.
    if not float(face_areas(mesh).sum()) > 1e-6 * float(np.ptp(values[np.unique(index)], axis=0).max()) ** 2:
        raise _without_area(source)
    return mesh


def _rows_of_three(array: ArrayLike, what: str, source: str) -> NDArray[Any]:
    values = np.asarray(array)
    if values.ndim != 2 or values.shape[1] != 3 or values.dtype.kind not in "fiu":
        raise InputError(
            "cloud_malformed",
            f"{source} cannot be used.",
            f"The {what} have the shape {values.shape}, type {values.dtype}; rows of three numbers are expected.",
            "Give x, y and z of each point.",
        )
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _finite_rows(values: NDArray[Any], source: str) -> NDArray[np.bool_]:
    """Rows without NaN and infinity. Raises where hardly any are left, and where a finite coordinate is absurd."""
    good: NDArray[np.bool_] = np.isfinite(values).all(axis=1)
    bad = len(good) - int(good.sum())
    largest = 0.0
    if bad:
        infinite = int(np.isinf(values).any(axis=1).sum())
        if len(good) - bad < min(MIN_POINTS, len(good)):
            if infinite > bad - infinite:
                largest = float("inf")
            else:
                raise InputError(
                    "cloud_not_finite",
                    f"{source} cannot be used.",
                    f"{bad:,} of its {len(good):,} points are not numbers (NaN).",
                    "Remove the invalid points, or export again without them.",
                )
        largest = max(largest, float(np.abs(values[good]).max(initial=0.0)))
    else:
        largest = max(float(values.max()), -float(values.min()))
    if largest > MAX_COORDINATE:
        raise InputError(
            "coordinates_absurd",
            f"{source} cannot be used.",
            f"It has coordinates as large as {largest:.3g}; at most {MAX_COORDINATE:.0e} makes sense.",
            "Remove the points that are meant as 'no value', or scale the object down.",
        )
    return good


def _check_extent(values: NDArray[Any], source: str) -> None:
    low, high = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
    extent = float((high - low).max())
    distance = float(np.maximum(np.abs(low), np.abs(high)).max())
    if extent <= 0.0:
        raise InputError(
            "cloud_degenerate",
            f"{source} shows no surface.",
            "All its points are at the same place.",
            "Give points from the surface of an object.",
        )
    if extent < MIN_EXTENT:
        raise InputError(
            "coordinates_absurd",
            f"{source} cannot be used.",
            f"It is only {extent:.3g} units large.",
            "Scale the object up.",
        )
    if extent < MIN_EXTENT_TO_DISTANCE * distance:
        raise InputError(
            "coordinates_far",
            f"{source} cannot be used.",
            f"It is {extent:.3g} units large and {distance:.3g} units from the origin: rounding has eaten its details.",
            "Move the object near the origin before exporting it.",
        )


def _tell(sentence: str, source: str, notes: list[str] | None) -> None:
    if notes is None:
        log.warning("%s: %s", source, sentence)
    else:
        notes.append(sentence)


def _checked_normals(
    normals: ArrayLike | None, points: NDArray[Any], good: NDArray[np.bool_], source: str, notes: list[str] | None
) -> FloatArray | None:
    """(N, 3) unit normals with zero rows where one is unusable, or None where there are none or too few.

    good: (N,) the points that count."""
    if normals is None:
        return None
    values = _rows_of_three(normals, "normals", source).astype(np.float64)
    if len(values) != len(points):
        raise InputError(
            "cloud_malformed",
            f"{source} cannot be used.",
            f"It has {len(points):,} points and {len(values):,} normals.",
            "Give one normal a point, or none at all.",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(values, axis=1, keepdims=True)
        usable = np.isfinite(length) & (length > 1e-12)
        unit = np.where(usable, values / np.where(usable, length, 1.0), 0.0).astype(np.float32)
    unusable = int((good & ~usable[:, 0]).sum())
    if unusable > MAX_BAD_SHARE * int(good.sum()):
        share = f"{unusable:,} of its {int(good.sum()):,} normals"
        _tell(f"{share} are zero or not numbers; all are left out.", source, notes)
        return None
    return unit


def _checked_viewpoint(viewpoint: ArrayLike | None, last: int | None, source: str) -> FloatArray | None:
    """(3,), or (S, 3) where scans are told apart, the last of which is number `last`."""
    if viewpoint is None:
        return None
    value = np.asarray(viewpoint)
    shaped = value.shape == (3,) if last is None else value.ndim == 2 and value.shape[1] == 3 and len(value) > last
    if value.dtype.kind not in "fiu" or not shaped or not bool((np.abs(value) <= MAX_COORDINATE).all()):
        shown = value.tolist() if value.size <= 8 else value.shape
        wanted = "three finite numbers are needed" if last is None else f"{last + 1} rows of them are needed"
        raise _viewpoint_invalid(f"The viewpoint is {shown}; {wanted}.", source)
    return value.astype(np.float32)


def _viewpoint_invalid(why: str, source: str) -> InputError:
    return InputError(
        "viewpoint_invalid",
        f"{source} cannot be used with this viewpoint.",
        why,
        "Give x, y and z of the place from where the object was seen, one for each scan, or leave it out.",
    )


def _too_small(source: str, count: int) -> InputError:
    return InputError(
        "cloud_too_small",
        f"{source} has too few points.",
        f"It has {count} distinct usable point{'' if count == 1 else 's'}; at least {MIN_POINTS} are needed.",
        "Give more points; a few hundred show a shape, a few thousand its details.",
    )


def _faces_invalid(source: str, why: str) -> InputError:
    return InputError("mesh_faces_invalid", f"{source} cannot be used.", why, "Export the mesh again.")


def _without_area(source: str) -> InputError:
    return InputError(
        "mesh_without_area",
        f"{source} has no surface.",
        "It holds no triangle with an area and finite corners.",
        "Check the file; to use its vertices only, save them as a point cloud (XYZ, or PLY without faces).",
    )


