"""NPZ files from strangers: every size, type and shape is checked before anything of it is allocated.

NPZ is a zip of NPY files. A file from a stranger can cost at most `MAX_BYTES` of memory and execute nothing: the
headers are read by NumPy's own literal parser, the members with allow_pickle=False.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..npy import read_header

_npy: Any = np.lib.format  # its functions carry no type hints

MAX_BYTES = 512 * 2**20
MAX_ROWS = 20_000_000
MAX_COMPRESSION = 200  # deflate reaches 1000 on zeros; coordinates never come near
MAX_CODE = 2**20  # numbers of a code
MAX_TEXT = 4096  # bytes
MAX_NAMES = 1024
MAX_NAMES_BYTES = 2**20

Extents = tuple[int, ...]


@dataclass(frozen=True)
class Member:
    """What an array may be.  kinds: NumPy's letters, such as 'f' or 'iu'.  check: of its shape, raises InputError for
    one that it may not have; called with the member's name and shape.  most_text: bytes of one that holds text."""

    kinds: str
    check: Callable[[str, Extents], None]
    most_text: int = MAX_TEXT


def rows(kinds: str, most: int = MAX_ROWS) -> Member:
    """(n, 3), n at most `most`."""

    def check(name: str, shape: Extents) -> None:
        if len(shape) != 2 or shape[1] != 3:
            raise malformed(f"'{name}' has the shape {shape}; (n, 3) is expected.")
        if shape[0] > most:
            raise too_large(f"'{name}' declares {shape[0]:,} rows.")

    return Member(kinds, check)


def one_each(kinds: str, most: int = MAX_ROWS) -> Member:
    """(n,), n at most `most`."""

    def check(name: str, shape: Extents) -> None:
        if len(shape) != 1:
            raise malformed(f"'{name}' has the shape {shape}; (n,) is expected.")
        if shape[0] > most:
            raise too_large(f"'{name}' declares {shape[0]:,} rows.")

    return Member(kinds, check, MAX_NAMES_BYTES)


def corners(kinds: str, most: int = 2 * MAX_ROWS) -> Member:
    """(n, 3, 2), n at most `most`: two numbers for each corner of a triangle."""

    def check(name: str, shape: Extents) -> None:
        if len(shape) != 3 or shape[1:] != (3, 2):
            raise malformed(f"'{name}' has the shape {shape}; (n, 3, 2) is expected.")
        if shape[0] > most:
            raise too_large(f"'{name}' declares {shape[0]:,} rows.")

    return Member(kinds, check)


def exactly(kinds: str, *expected: int) -> Member:
    """One shape and no other."""

    def check(name: str, shape: Extents) -> None:
        if shape != expected:
            raise malformed(f"'{name}' has the shape {shape}; {expected} is expected.")

    return Member(kinds, check)


def _check_code(name: str, shape: Extents) -> None:
    if not 1 <= len(shape) <= 5 or not 1 <= math.prod(shape) <= MAX_CODE:
        raise malformed(f"'{name}' has the shape {shape}; a code has at most {MAX_CODE:,} numbers.")


CODE = Member("f", _check_code)
"""A latent code: any small shape."""
POSE = exactly("f", 4, 4)
TEXT = exactly("U")


def malformed(why: str) -> InputError:
    return InputError(
        "arrays_invalid",
        "The arrays cannot be read.",
        why,
        "Send an NPZ file with 'points' (N x 3 numbers) and, where known, 'normals' (N x 3) and 'faces' (F x 3).",
    )


def too_large(why: str) -> InputError:
    return InputError(
        "arrays_too_large",
        "The input is too large.",
        why,
        f"Reduce it to at most {MAX_ROWS:,} points and {MAX_BYTES // 2**20} MB.",
    )


def read_npz(
    source: Path | bytes, allowed: Mapping[str, Member], required: frozenset[str] = frozenset()
) -> dict[str, NDArray[Any]]:
    """The members of an NPZ file that are among `allowed`, read after all were checked.

    Raises InputError 'arrays_invalid' or 'arrays_too_large'.
    """
    stream: IO[bytes] = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with stream:
        archive, members = _directory(stream)
        _check_directory(members, allowed, required)
        for member in members:  # every header first: a bad last member costs nothing
            _check_header(archive, member, allowed[_name(member)])
        return {_name(member): _read(archive, member) for member in members}


def names(source: Path | bytes) -> set[str]:
    """Of the members of an NPZ file, without reading any. Raises InputError 'arrays_invalid'."""
    stream: IO[bytes] = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with stream:
        return {_name(member) for member in _directory(stream)[1]}


def write_npz(members: Mapping[str, NDArray[Any]]) -> bytes:
    # Not np.savez: stored members with plain headers are all that a small client needs to read.
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _npy.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return out.getvalue()


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _directory(stream: IO[bytes]) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    try:
        archive = zipfile.ZipFile(stream)
        return archive, archive.infolist()
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError) as error:
        raise malformed(f"It is not an NPZ file: {error}.") from None


def _check_directory(members: list[zipfile.ZipInfo], allowed: Mapping[str, Member], required: frozenset[str]) -> None:
    if len(members) > len(allowed):
        raise malformed(f"It has {len(members)} members; at most {', '.join(allowed)} are expected.")
    total = 0
    seen: set[str] = set()
    for member in members:
        name = _name(member)
        if name not in allowed or name in seen or member.flag_bits & 1:
            raise malformed(f"The member '{member.filename[:80]}' is not expected.")
        seen.add(name)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise malformed(f"'{name}' is compressed in a way that is not supported.")
        total += member.file_size
        if total > MAX_BYTES:
            raise too_large(f"Unpacked it would need more than {MAX_BYTES // 2**20} MB.")
        if member.file_size > 2**20 and member.file_size > MAX_COMPRESSION * max(member.compress_size, 1):
            raise malformed(f"'{name}' is compressed {member.file_size // max(member.compress_size, 1)} times.")
    missing = required - seen
    if missing:
        raise malformed(f"'{sorted(missing)[0]}' is missing.")


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, may_be: Member) -> None:
    name = _name(member)
    with _open(archive, member) as stream:
        try:
            header = read_header(stream)
        except Exception as error:  # of zipfile and zlib too, on hostile bytes
            raise malformed(f"'{member.filename}' is not an NPY array: {error}.") from None
    numbers = header.dtype.itemsize in (1, 2, 4, 8)
    if header.dtype.kind not in may_be.kinds or not (numbers or "U" in may_be.kinds):
        raise malformed(f"'{name}' has the type {header.dtype}; {_expected(may_be)} expected.")
    if "U" in may_be.kinds and header.nbytes > may_be.most_text:
        raise malformed(f"'{name}' is a text of {header.nbytes} bytes; at most {may_be.most_text} are read.")
    may_be.check(name, header.shape)
    held = member.file_size - header.length
    if header.nbytes != held:
        raise malformed(f"'{name}' declares {header.nbytes} bytes and holds {held}.")


def _expected(may_be: Member) -> str:
    return "a text is" if "U" in may_be.kinds else "numbers are"


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with _open(archive, member) as stream:
        try:
            array: NDArray[Any] = _npy.read_array(stream, allow_pickle=False)
        except Exception as error:  # of zipfile, zlib and NumPy, on hostile bytes
            raise malformed(f"'{member.filename}' is damaged: {error}.") from None
    return array


def _open(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return archive.open(member)
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError) as error:
        raise malformed(f"'{member.filename[:80]}' is damaged: {error}.") from None
