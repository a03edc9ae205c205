"""What the columns of a table of points mean: by their names where it has any, else by their range and place.

Nothing is guessed silently: every decision beyond x, y, z is a sentence in the notes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .gates import Damaged, Float64Array, unit_colours
from .loaded import Raw

_NAMES = {
    "x": "x", "y": "y", "z": "z", "px": "x", "py": "y", "pz": "z", "posx": "x", "posy": "y", "posz": "z",
    "xcoord": "x", "ycoord": "y", "zcoord": "z", "xcoordinate": "x", "ycoordinate": "y", "zcoordinate": "z",
    "pointsx": "x", "pointsy": "y", "pointsz": "z", "points0": "x", "points1": "y", "points2": "z",
    "easting": "x", "northing": "y", "elevation": "z", "east": "x", "north": "y", "height": "z", "altitude": "z",
    "alt": "z", "rechtswert": "x", "hochwert": "y", "hoehe": "z",
    "nx": "nx", "ny": "ny", "nz": "nz", "normalx": "nx", "normaly": "ny", "normalz": "nz", "xnormal": "nx",
    "ynormal": "ny", "znormal": "nz", "normals0": "nx", "normals1": "ny", "normals2": "nz", "normal0": "nx",
    "normal1": "ny", "normal2": "nz",
    "r": "red", "g": "green", "b": "blue", "red": "red", "green": "green", "blue": "blue", "rf": "red", "gf": "green",
    "bf": "blue", "r0255": "red", "g0255": "green", "b0255": "blue", "diffusered": "red", "diffusegreen": "green",
    "diffuseblue": "blue", "rgba0": "red", "rgba1": "green", "rgba2": "blue", "colorr": "red", "colorg": "green",
    "colorb": "blue", "rgb0": "red", "rgb1": "green", "rgb2": "blue",
}  # fmt: skip
"""Names of columns as programs write them, without case and signs -> what they are. ('points:0' is ParaView's.)"""


def meaning(name: str) -> str:
    """'x', 'nx', 'red' ... of a column's name, '' for anything else. '//X', 'X[m]' and 'Points:0' are x."""
    bare = re.sub(r"\[(m|mm|cm|km|ft|deg)\]|\((m|mm|cm|km|ft|deg)\)", "", name.lower())
    return _NAMES.get(re.sub(r"[^a-z0-9]", "", bare), "")


@dataclass
class Layout:
    """Which columns hold what: three numbers each, or None."""

    xyz: tuple[int, int, int]
    normals: tuple[int, int, int] | None = None
    colours: tuple[int, int, int] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[int]:
        return [*self.xyz, *(self.normals or ()), *(self.colours or ())]


def layout_by_names(names: Sequence[str]) -> Layout | None:
    """Of a header row; None where it does not name x, y and z."""
    found: dict[str, int] = {}
    for number, name in enumerate(names):
        known = meaning(name)
        if known:
            found.setdefault(known, number)

    def three(wanted: Sequence[str]) -> tuple[int, int, int] | None:
        if not all(name in found for name in wanted):
            return None
        return found[wanted[0]], found[wanted[1]], found[wanted[2]]

    xyz = three(("x", "y", "z"))
    if xyz is None:
        return None
    layout = Layout(xyz, three(("nx", "ny", "nz")), three(("red", "green", "blue")))
    rest = [name for number, name in enumerate(names) if number not in layout.columns and name]
    what = _told(layout)
    ignored = f" Not used: {', '.join(rest)[:100]}." if rest else ""
    if what or rest or xyz != (0, 1, 2):
        layout.notes.append(f"Its columns were taken by their names{what}.{ignored}")
    return layout


def layout_by_range(table: Float64Array, suffix: str = "") -> Layout:
    """Of some rows (N, C) without a header. Raises Damaged where there are not even three columns.

    Columns 1 to 3 are x, y, z, unless the first one counts the points. Of the others, left to right, three that are of
    unit length and not all the same are normals; three that are whole numbers from 0 to 255, or from 0 to 1, or
    always the same, are colours; anything else is a scalar (intensity, time, a class) that is not used. In a .pts file,
    by its makers' rule, a single column before three whole ones is the intensity.
    """
    count = table.shape[1]
    if count < 3:
        raise Damaged(f"Its rows have {count} columns; a point has three.")
    first = 0
    if count >= 4 and _counts(table[:, 0]):
        first = 1
    layout = Layout((first, first + 1, first + 2))
    at = first + 3
    scalars = []
    while at < count:
        three = table[:, at : at + 3]
        intensity_first = (suffix == ".pts" and count - at >= 4 and at == first + 3) or (
            count - at == 4 and _are_bytes(table[:, at + 1 : at + 4]) and not _are_bytes(three)
        )
        if three.shape[1] == 3 and not intensity_first:
            if layout.normals is None and _are_normals(three):
                layout.normals = (at, at + 1, at + 2)
                at += 3
                continue
            if layout.colours is None and _are_colours(three):
                layout.colours = (at, at + 1, at + 2)
                at += 3
                continue
        scalars.append(at)
        at += 1
    what = _told(layout)
    if first:
        what = ", the first counts the points" + what
    if scalars:
        listed = " and ".join(str(number + 1) for number in scalars) if len(scalars) < 4 else f"{len(scalars)} others"
        what += f", column{'s' if len(scalars) > 1 else ''} {listed} not used"
    if what:
        layout.notes.append(f"Its {count} columns have no names and were told by their range{what}.")
    return layout


def _told(layout: Layout) -> str:
    parts = []
    for name, columns in (("normals", layout.normals), ("colours", layout.colours)):
        if columns:
            parts.append(f"{', '.join(str(number + 1) for number in columns)} are {name}")
    return ": columns " + "; ".join(parts) if parts else ""


def raw_of(table: Float64Array, layout: Layout, notes: Sequence[str] = ()) -> Raw:
    """A table whose columns are layout.columns, in that order -> Raw."""
    at = 3
    normals = colours = None
    if layout.normals:
        normals = table[:, at : at + 3]
        at += 3
    if layout.colours:
        colours = unit_colours(table[:, at : at + 3])
    return Raw(table[:, :3], normals, None, None, colours, notes=[*layout.notes, *notes])


def _counts(column: Float64Array) -> bool:
    """1, 2, 3, ... in steps of one from 0 or 1."""
    if len(column) < 3 or column[0] not in (0.0, 1.0):
        return False
    return bool((np.diff(column) == 1.0).all())


def _are_normals(three: Float64Array) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(three, axis=1)
        unit = np.abs(length - 1.0) < 0.05
        nothing = (length == 0) | ~np.isfinite(length)
    some = three[unit]
    if unit.sum() < 0.5 * len(three) or (unit | nothing).mean() < 0.9:
        return False
    # The same everywhere: one colour, or normals that say nothing.
    return len(some) < 2 or bool((np.ptp(some, axis=0) > 1e-3).any())


def _are_bytes(three: Float64Array) -> bool:
    return bool(((three >= 0) & (three <= 255) & (three == np.round(three))).all())


def _are_colours(three: Float64Array) -> bool:
    if not bool(np.isfinite(three).all()):
        return False
    if _are_bytes(three) or bool(((three >= 0) & (three <= 1)).all()):
        return True
    whole = bool((three == np.round(three)).all())
    if whole and bool(((three >= 0) & (three <= 65535)).all()) and three.max() > 255:
        return True  # 16 bits a channel
    return len(three) > 1 and not bool((np.ptp(three, axis=0) > 0).any()) and bool((np.abs(three) <= 255).all())
