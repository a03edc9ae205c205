"""E57, by pye57: scans in their common frame; where all have a pose each one's place is the viewpoint of its points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import gates
from ._scans import seen_from
from .gates import Damaged, Float64Array, short, unit_colours
from .loaded import Raw
from .registry import Format
from .thinning import Thinner

_CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
_SPHERICAL = ("sphericalRange", "sphericalAzimuth", "sphericalElevation")
_COLOURS = ("colorRed", "colorGreen", "colorBlue")
_INVALID = ("cartesianInvalidState", "sphericalInvalidState")
MAX_SCANS = 10_000


def read_e57(path: Path) -> Raw:
    import pye57

    with path.open("rb") as stream:
        if stream.read(8) != b"ASTM-E57":
            raise Damaged("It does not begin as an E57 file.")
    thinner = Thinner()
    places: list[Float64Array] = []
    invalid = 0
    any_colours = False
    with pye57.E57(str(path)) as file:
        scans = int(file.scan_count)
        if scans > MAX_SCANS:
            raise gates.too_large(path.name, f"It has more than {MAX_SCANS:,} scans.")
        for number in range(scans):
            header = file.get_header(number)
            count, size = int(header.point_count), path.stat().st_size
            if not 0 <= count <= 8 * size:  # even a point a bit
                raise short(f"{count:,} points", count // 8, size)
            if header.has_pose():
                places.append(np.asarray(header.translation, np.float64).ravel()[:3])
            any_colours |= all(name in header.point_fields for name in _COLOURS)
            invalid += _scan(file, header, count, number, thinner)
    found = thinner.result()
    if not found:
        raise Damaged("It has no points.")
    points, colours, numbers = found
    notes = list(thinner.note())
    if invalid:
        notes.append(f"{invalid:,} points are marked as invalid and are left out.")
    told = "" if scans < 2 else f"It holds {scans} scans, not all of which say from where; no viewpoint is used."
    viewpoint, of_points = None, None
    if 0 < scans == len(places):
        viewpoint, of_points, told = seen_from(places, numbers)
    notes += [told] * bool(told)
    shown = unit_colours(colours) if any_colours else None
    return Raw(points, None, None, viewpoint, shown, notes=notes, scans=of_points)


def _scan(file: Any, header: Any, count: int, number: int, thinner: Thinner) -> int:
    """The points of scan `number` into the thinner; how many of them are invalid."""
    given = set(header.point_fields)
    cartesian = set(_CARTESIAN) <= given
    if not cartesian and not set(_SPHERICAL) <= given:
        raise Damaged("One of its scans has no coordinates.")
    coloured = set(_COLOURS) <= given
    names = [*(_CARTESIAN if cartesian else _SPHERICAL), *(_COLOURS if coloured else ())]
    names += [name for name in _INVALID if name in given]
    size = max(1, min(count, gates.CHUNK_ROWS))
    data, buffers = file.make_buffers(names, size)
    reader = header.points.reader(buffers)
    turn, shift = _pose(header)
    invalid = 0
    try:
        while count > 0 and (got := int(reader.read())) > 0:
            count -= got
            good = np.ones(got, bool)
            for name in _INVALID:
                if name in data:
                    good &= data[name][:got] == 0
            invalid += got - int(good.sum())
            three = np.stack([data[name][:got][good].astype(np.float64) for name in names[:3]], axis=1)
            placed = (three if cartesian else _from_sphere(three)) @ turn.T + shift
            # Scans without colours beside others with them are white.
            colours = (
                np.stack([data[name][:got][good] for name in _COLOURS], axis=1).astype(np.float64)
                if coloured else np.full((len(placed), 3), np.nan)
            )  # fmt: skip
            mask = thinner.keep(len(placed))
            scan = np.full(len(placed), number, np.int32)
            thinner.add(*((placed, colours, scan) if mask is None else (placed[mask], colours[mask], scan[mask])))
    finally:
        reader.close()
    return invalid


def _pose(header: Any) -> tuple[Float64Array, Float64Array]:
    if not header.has_pose():
        return np.eye(3), np.zeros(3)
    turn = np.asarray(header.rotation_matrix, np.float64).reshape(3, 3)
    shift = np.asarray(header.translation, np.float64).ravel()[:3]
    if not bool(np.isfinite(turn).all() and np.isfinite(shift).all()):
        raise Damaged("The pose of one of its scans is not finite.")
    return turn, shift


def _from_sphere(three: NDArray[np.float64]) -> Float64Array:
    distance, azimuth, elevation = three.T
    level = distance * np.cos(elevation)
    return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), distance * np.sin(elevation)], axis=1)


FORMATS = (
    Format(
        "E57",
        (".e57",),
        read_e57,
        packages=(("pye57", "pye57"),),
        isolated=True,
        by="pye57",
        carries="points, colours, viewpoint",
    ),
)
