"""What stands before every reader: limits, what is declared against what is there, and the errors in three parts.

A file may come from anywhere. What a header declares is compared with what the file holds before anything of that size
is allocated, nothing is ever unpickled, and whatever is wrong ends in an InputError with a stable code:

    file_missing, file_is_folder, file_unreadable, file_empty, file_too_large, format_unknown
    file_damaged      not the format that its name says, or cut short
    file_unsupported  a part of its format that is not read here (compressed glTF, binary OFF, splats)
    file_ambiguous    a table of numbers that can be read in two ways
    file_pickled      NumPy data that would have to be executed to be read
    package_missing   a format that an optional package reads, which is not installed
    output_unwritable
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...extras import how_to_install
from ..checks import MAX_FACES, MAX_POINTS

MAX_TEXT_BYTES = 1 << 30
MAX_BYTES = 1 << 32
MAX_STREAMED_BYTES = 1 << 38
"""Of formats that are read piece by piece, so that size costs time and not memory."""

MAX_UNPACKED_BYTES = MAX_BYTES
MAX_COMPRESSION = 300
"""A member of an archive of more than 64 MB that shrank more than this is no scan: it is made to fill the memory."""

MAX_LINE = 1 << 16
CHUNK_ROWS = 1 << 18

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]


class Damaged(Exception):
    """A reader's own complaint, one sentence; becomes InputError 'file_damaged'."""


def too_large(name: str, why: str, remedy: str = "") -> InputError:
    remedy = remedy or f"Reduce it to at most {MAX_POINTS:,} points."
    return InputError("file_too_large", f"{name} is too large.", why, remedy)


def unsupported(name: str, why: str, remedy: str) -> InputError:
    return InputError("file_unsupported", f"{name} cannot be read.", why, remedy)


def ambiguous(name: str, why: str, remedy: str) -> InputError:
    return InputError("file_ambiguous", f"{name} can be read in two ways.", why, remedy)


def unreadable(path: Path, error: Exception) -> InputError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return InputError(
        "file_unreadable",
        f"{path.name} cannot be read.",
        f"The system says: {reason}.",
        "Check the file's permissions and that its disk is connected.",
    )


def format_unknown(path: Path, known: Sequence[str]) -> InputError:
    suffix = path.suffix
    return InputError(
        "format_unknown",
        f"{path.name} has a format that is not known.",
        f"'{suffix}' is not one of {', '.join(known)}." if suffix else "Its name has no ending that says what it is.",
        "Use one of these formats, PLY where in doubt.",
    )


def package_missing(path: Path, format_name: str, packages: Sequence[str]) -> InputError:
    listed = " and ".join(packages)
    return InputError(
        "package_missing",
        f"{path.name} cannot be read here yet.",
        f"{format_name} is read by {listed}, which {'is' if len(packages) == 1 else 'are'} not installed.",
        how_to_install(packages),
    )


def check_counts(name: str, points: int, faces: int = 0) -> None:
    """Raises 'file_too_large' where more is declared than is ever read at once."""
    if points < 0 or faces < 0:
        raise Damaged("It declares a negative count.")
    if points > MAX_POINTS or faces > MAX_FACES:
        raise too_large(name, f"It declares {points:,} points and {faces:,} faces.")


def short(declared: str, needed: int, there: int) -> Damaged:
    return Damaged(f"It declares {declared}, which take at least {needed:,} bytes, but only {there:,} follow.")


def check_compression(name: str, member: zipfile.ZipInfo) -> None:
    """Raises Damaged for a member of an archive that is made to fill the memory."""
    times = member.file_size // max(member.compress_size, 1)
    if member.file_size > 1 << 26 and times > MAX_COMPRESSION:
        raise Damaged(f"'{name[:80]}' is compressed {times} times.")


def table(lines: Iterable[bytes | str], what: str, columns: Sequence[int] | None = None) -> Float64Array:
    """Rows of numbers -> (N, C) float64. All rows have as many columns, or at least those asked for."""
    rows: Any = lines if isinstance(lines, list) else list(lines)
    if not rows:
        return np.zeros((0, 3 if columns is None else len(columns)))
    try:
        wanted: Any = columns
        found: Float64Array = np.loadtxt(
            rows, dtype=np.float64, ndmin=2, comments=None, encoding="latin1", usecols=wanted
        )
        return found
    except ValueError as error:
        raise Damaged(f"Its {what} are not rows of numbers ({str(error)[:120]}).") from None


def text_lines(path: Path) -> Iterator[bytes]:
    """The lines of a text file, without their ends, whatever its encoding and line ends.

    A byte-order mark is taken off and UTF-16 becomes UTF-8. A line longer than 64 kB is no line of a table.
    """
    with path.open("rb") as stream:
        head = stream.read(4)
        stream.seek(0)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            yield from _utf16_lines(path)
            return
        if head[:3] == b"\xef\xbb\xbf":
            stream.seek(3)
        elif b"\0" in head:
            raise Damaged("It is not text.")
        for line in _lines(stream):
            if b"\0" in line:
                raise Damaged("It is not text.")
            yield line


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(1 << 20):
        parts = (rest + block).splitlines(keepends=True)
        rest = parts.pop() if parts else b""
        if len(rest) > MAX_LINE:
            raise Damaged("It has a line longer than 64 kB, so it is no table.")
        for part in parts:
            yield part.rstrip(b"\r\n")
    if rest:
        yield rest.rstrip(b"\r\n")


def _utf16_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open(encoding="utf-16", newline=None) as stream:
            while line := stream.readline(MAX_LINE):
                yield line.rstrip("\r\n").encode()
    except UnicodeError:
        raise Damaged("It begins as UTF-16 text and goes on as something else.") from None


def whole_text(path: Path) -> bytes:
    """All of a text file, as UTF-8 without byte-order mark."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16").encode()
        except UnicodeError:
            raise Damaged("It begins as UTF-16 text and goes on as something else.") from None
    return data.removeprefix(b"\xef\xbb\xbf")


def beside(path: Path, name: str, most: int = MAX_BYTES) -> bytes:
    """The content of a file that `path` names: only one in the same folder or below it, and of a bounded size."""
    folder = path.parent.resolve()
    file = (folder / name).resolve()
    if not file.is_relative_to(folder) or not file.is_file():
        raise Damaged(f"The file {name[:80]}, which it names, is not beside it.")
    if file.stat().st_size > most:
        raise too_large(path.name, f"{file.name}, which it names, has more than {most / 2**20:,.0f} MB.")
    return file.read_bytes()


class Beside:
    """trimesh's notion of where the files are that a file names, narrowed by `beside`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str) -> bytes:
        return beside(self._path, name, 1 << 28)

    __getitem__ = get


def unit_colours(values: NDArray[Any]) -> NDArray[np.float32]:
    """(N, 3+) colours of any number type -> (N, 3) float32 in 0..1. Integers by their type's range; floats above 1 are
    taken for 0..255, above 255 for 0..65535."""
    first = values[:, :3]
    if first.dtype.kind in "iu":
        return (first / float(np.iinfo(first.dtype).max)).astype(np.float32).clip(0, 1)
    with np.errstate(invalid="ignore"):
        largest = float(np.nanmax(first)) if first.size and not bool(np.isnan(first).all()) else 0.0
    scale = 1.0 if largest <= 1.0 else 255.0 if largest <= 255.0 else 65535.0
    return np.nan_to_num(first / scale, nan=1.0).astype(np.float32).clip(0, 1)
