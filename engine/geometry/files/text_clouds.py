"""Text clouds: a point a line, in whatever way a program writes it.

Any separator (blank, tab, comma, semicolon), decimal commas, a header row of names, a count line, comments, columns in
any order, an empty column too many. What the numbers mean is engine.geometry.files.columns's matter. Rows are parsed
piece by piece and thinned while reading, so size costs time and not memory.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clouds import PointCloud
from . import gates
from .columns import Layout, layout_by_names, layout_by_range, raw_of
from .gates import Damaged, Float64Array, table, text_lines
from .loaded import Raw
from .registry import Format
from .thinning import Thinner
from .writing import rows

COMMENTS = (b"#", b"//", b"%", b"!")
LOOK = 2000
"""Lines that are looked at before anything is decided."""

_NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf(?:inity)?)"
_IS_NUMBER = re.compile(rb"(?i:" + _NUMBER + rb")")
_IS_COMMA_NUMBER = re.compile(rb"[-+]?\d*,\d+(?:[eE][-+]?\d+)?|[-+]?\d+(?:[eE][-+]?\d+)?|(?i:nan)")
_IS_COUNT = re.compile(rb"\s*\d{1,15}\s*")


@dataclass
class _Style:
    """How a line becomes numbers. separator: b',', b';', b'\\t', b' ' (blanks) or b'mixed'."""

    separator: bytes
    decimal_comma: bool
    notes: list[str] = field(default_factory=list)

    def split(self, line: bytes) -> list[bytes]:
        """The fields of a line, without an empty one at its end."""
        if self.separator in (b" ", b"mixed"):
            return self.normal(line).split()
        parts = [part.strip() for part in line.split(self.separator)]
        return parts[:-1] if len(parts) > 1 and not parts[-1] else parts

    def normal(self, line: bytes) -> bytes:
        """The line with blanks between numbers and points in them."""
        if self.separator not in (b" ", b"mixed"):
            twice = self.separator * 2
            line = line.strip(b" \r\n")
            while twice in line:  # an empty field is no number, and no reason to shift the others
                line = line.replace(twice, self.separator + b"nan" + self.separator)
            if line.startswith(self.separator):
                line = b"nan" + line
            if line.endswith(self.separator):
                line += b"nan"
        return line.translate(_TRANSLATED[self.decimal_comma])


_TRANSLATED = {
    False: bytes.maketrans(b',;\t"', b"    "),
    True: bytes.maketrans(b',;\t"', b".   "),
}


def read_text_cloud(path: Path) -> Raw:
    """Any text cloud -> Raw, its columns told by header, range and name."""
    suffix = path.suffix.lower()
    lines = _content(text_lines(path))
    look = list(itertools.islice(lines, LOOK))
    if not look:
        raise Damaged("It has no rows of numbers.")
    declared = None
    header: bytes | None = None
    if _IS_COUNT.fullmatch(look[0]) and len(look) > 1:  # the number of points, as some write it
        declared = int(look.pop(0))
    if not _has_numbers(look[0]):
        header = look.pop(0).lstrip(b"#/%! \t")
        _refuse_strangers(path, header)
        if look and declared is None and _IS_COUNT.fullmatch(look[0]) and len(look) > 1:
            declared = int(look.pop(0))
    if not look:
        raise Damaged("It has a header and no rows of numbers.")
    style = _style(path, look, header)
    layout = _layout(look, header, style, suffix)
    if declared is not None and declared > gates.MAX_STREAMED_BYTES:
        raise Damaged(f"It declares {declared:,} points.")
    several = suffix == ".pts"
    wanted = _Rows(itertools.chain(look, lines), style, declared, several)
    thinner = Thinner()
    for chunk in wanted:
        mask = thinner.keep(len(chunk))
        if mask is not None:
            chunk = list(itertools.compress(chunk, mask.tolist()))
        thinner.add(_numbers(chunk, style, layout))
    if declared is not None and wanted.count < wanted.declared:
        raise Damaged(f"It declares {wanted.declared:,} points and has {wanted.count:,}.")
    (points,) = thinner.result() or (np.zeros((0, 3)),)
    return raw_of(points, layout, [*style.notes, *thinner.note()])


def _content(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines that are neither empty nor comments; the one comment before the first row that names columns stays."""
    waiting: bytes | None = None
    began = False
    for line in lines:
        bare = line.strip()
        if not bare:
            continue
        if bare.startswith(COMMENTS):
            if not began and layout_by_names(_words(bare.lstrip(b"#/%! \t"))) is not None:
                waiting = bare
            continue
        if not began:
            began = True
            if (waiting is not None and _has_numbers(bare)) or (waiting is not None and _IS_COUNT.fullmatch(bare)):
                yield waiting
        yield line


class _Rows:
    """Chunks of lines with numbers: as many as declared; in .pts also those of further scans with their counts."""

    def __init__(self, lines: Iterator[bytes], style: _Style, declared: int | None, several: bool) -> None:
        self._lines, self._several = lines, several
        self._left = declared
        self.declared = declared or 0
        self.count = 0

    def __iter__(self) -> Iterator[list[bytes]]:
        while True:
            chunk: list[bytes] = []
            for line in self._lines:
                if self._left == 0:
                    if not (self._several and _IS_COUNT.fullmatch(line)):
                        break
                    self._left = int(line)
                    self.declared += self._left
                    continue
                chunk.append(line)
                if self._left is not None:
                    self._left -= 1
                if len(chunk) == gates.CHUNK_ROWS:
                    break
            if not chunk:
                return
            self.count += len(chunk)
            yield chunk


def _numbers(lines: list[bytes], style: _Style, layout: Layout) -> Float64Array:
    return table([style.normal(line) for line in lines], "points", layout.columns)


def _has_numbers(line: bytes) -> bool:
    """Does a row of a table begin here: are at least three of its fields numbers, and most of them?"""
    bare = line.replace(b'"', b"")
    for marks, number in ((rb"[;\t ]+", _IS_COMMA_NUMBER), (rb"[,;\t ]+", _IS_NUMBER)):
        fields = [part for part in re.split(marks, bare) if part]
        numbers = sum(bool(number.fullmatch(part)) for part in fields)
        if numbers >= 3 and 2 * numbers >= len(fields):
            return True
    return False


def _words(header: bytes) -> list[str]:
    text = header.decode("utf-8", "replace").replace('"', "")
    for separator in (";", "\t", ","):
        if separator in text:
            return [word.strip() for word in text.split(separator)]
    return text.split()


def _refuse_strangers(path: Path, header: bytes) -> None:
    if header.lower().startswith(b"ncols"):
        raise gates.unsupported(
            path.name, "It is a grid of heights (Esri ASCII), not a list of points.", "Export it as points: x y z."
        )


def _style(path: Path, look: list[bytes], header: bytes | None) -> _Style:
    """Separator and decimal sign, from the first rows. Raises 'file_ambiguous' where a comma may be either."""
    some = [line.strip() for line in look[:200]]
    has_comma = any(b"," in line for line in some)
    if not has_comma:
        present = [mark for mark in (b";", b"\t") if all(mark in line for line in some)]
        return _Style(present[0] if len(present) == 1 else b"mixed" if present else b" ", False)
    point = any(b"." in line for line in some)
    tokens = [re.split(rb"[;\t ]+", line.strip(b";\t ").replace(b'"', b"")) for line in some]
    if (
        not point
        and all(len(row) >= 3 for row in tokens)
        and all(_IS_COMMA_NUMBER.fullmatch(part) for row in tokens for part in row if part)
    ):
        separator = b";" if all(b";" in line for line in some) else b" "
        return _Style(separator, True, ["Its numbers have decimal commas, which were read as points."])
    fields = [[part.strip() for part in line.rstrip(b",;\t ").split(b",")] for line in some]
    if not point and header is None and all(len(row) in (6, 8, 12) for row in fields):
        second = [row[i] for row in fields for i in range(1, len(row), 2)]
        digits = {len(part) for part in second}
        whole = all(re.fullmatch(rb"[-+]?\d+", part) for row in fields for part in row)
        signless = all(part[:1].isdigit() for part in second)
        zeros = any(part.startswith(b"0") and len(part) > 1 for part in second)
        if whole and signless and (zeros or (len(digits) == 1 and digits.pop() > 2)):
            raise gates.ambiguous(
                path.name,
                "Its commas may be decimal signs or stand between numbers: 1,5,2,5,3,5.",
                "Export it with decimal points, or with semicolons between the numbers.",
            )
    others = [mark for mark in (b";", b"\t") if any(mark in line for line in some)]
    return _Style(b"mixed" if others else b",", False)


def _layout(look: list[bytes], header: bytes | None, style: _Style, suffix: str) -> Layout:
    split = [style.split(line) for line in look]
    widths = [len(row) for row in split]
    width = max(set(widths), key=widths.count)
    if header is not None:
        names = _words(header)
        layout = layout_by_names(names)
        while len(names) > width and not names[-1]:
            names.pop()
        if layout is not None and len(names) == width - 1:
            # An unnamed first column, as data frames write their index.
            column = np.array([_number(row[0]) for row in split if len(row) == width])
            if len(column) > 2 and bool((np.diff(column) == 1.0).all()):
                layout = layout_by_names(["", *names])
        if layout is not None and max(layout.columns) < width:
            return layout
    sample = [row for row in split if len(row) == width]
    numbers = np.array([[_number(part.replace(b",", b".") if style.decimal_comma else part) for part in row]
                        for row in sample])  # fmt: skip
    layout = layout_by_range(numbers, suffix)
    if header is not None:
        layout.notes.insert(0, "Its header does not name x, y and z; columns were told by their place.")
    return layout


def _number(part: bytes) -> float:
    try:
        return float(part.strip(b'"')) if part else float("nan")
    except ValueError:
        return float("nan")


def _write(cloud: PointCloud, offset: Float64Array) -> bytes:
    columns: list[NDArray[Any]] = [cloud.points + offset if offset.any() else cloud.points]
    if cloud.normals is not None:
        columns.append(cloud.normals)
    return rows(np.concatenate(columns, axis=1))


FORMATS = (
    Format(
        "XYZ", (".xyz",), read_text_cloud, None, _write, most_bytes=gates.MAX_STREAMED_BYTES,
        carries="points, normals, colours",
    ),
    Format(
        "text cloud", (".txt", ".csv", ".asc", ".pts"), read_text_cloud, most_bytes=gates.MAX_STREAMED_BYTES,
        carries="points, normals, colours",
    ),
)  # fmt: skip
