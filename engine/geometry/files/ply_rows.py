"""PLY's header and its rows: what an element declares, and its numbers out of the body, as columns and lists."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .gates import CHUNK_ROWS, Damaged, Int64Array, short, table
from .thinning import Thinner

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8", "long": "i8", "int64": "i8", "ulong": "u8", "uint64": "u8",
}  # fmt: skip

Columns = dict[str, NDArray[Any]]


@dataclass
class Property:
    name: str
    type: str
    count_type: str | None = None  # of a list


@dataclass
class Element:
    name: str
    count: int
    properties: list[Property]

    def least_bytes(self, binary: bool) -> int:
        """What its rows take at the least: empty lists; in text one digit and one separator a number."""
        if not binary:
            return self.count * 2 * max(len(self.properties), 1)
        return self.count * sum(np.dtype(p.count_type or p.type).itemsize for p in self.properties)

    @property
    def lists(self) -> list[Property]:
        return [p for p in self.properties if p.count_type]


@dataclass
class Header:
    """encoding: 'ascii', 'binary_little_endian' or 'binary_big_endian'.  comments: the free text of each."""

    encoding: str
    elements: list[Element]
    comments: list[str] = field(default_factory=list)

    @property
    def order(self) -> str:
        return ">" if "big" in self.encoding else "<"


def read_header(stream: IO[bytes]) -> Header:
    if stream.readline(16).strip() != b"ply":
        raise Damaged("It does not begin with 'ply'.")
    encoding = ""
    elements: list[Element] = []
    comments: list[str] = []
    for _ in range(10_000):
        line = stream.readline(4096)
        words = line.decode("latin1").split()
        if not line:
            break
        match words:
            case ["end_header", *_]:
                if encoding not in ("ascii", "binary_little_endian", "binary_big_endian"):
                    raise Damaged("Its header does not say how the numbers are stored.")
                return Header(encoding, elements, comments)
            case ["comment", *rest] | ["obj_info", *rest]:
                comments.append(" ".join(rest))
            case ["format", encoding, *_]:
                pass
            case ["element", name, count]:
                if int(count) < 0:
                    raise Damaged("It declares a negative count.")
                elements.append(Element(name, int(count), []))
            case ["property", "list", count_type, item_type, name] if elements:
                elements[-1].properties.append(Property(name, _type(item_type), _type(count_type)))
            case ["property", item_type, name] if elements:
                elements[-1].properties.append(Property(name, _type(item_type)))
            case [word, *_] if not elements and word not in ("element", "property", "format"):
                pass  # some programs write free text without calling it a comment
            case _:
                raise Damaged(f"Its header has a line that makes no sense: {' '.join(words)[:80]}")
    raise Damaged("Its header does not end.")


def _type(name: str) -> str:
    if name not in _TYPES:
        raise Damaged(f"Its header names an unknown number type: {name[:40]}")
    return _TYPES[name]


# --- rows of equal length, piece by piece ----------------------------------------------------------------------------


def binary_columns(stream: IO[bytes], element: Element, order: str, wanted: Sequence[str], thinner: Thinner) -> None:
    """The wanted columns of an element without lists into the thinner, which must not exist twice for one element."""
    row = np.dtype([(p.name, order + p.type) for p in element.properties])
    left = element.count
    while left:
        rows = np.frombuffer(stream.read(min(left, CHUNK_ROWS) * row.itemsize), row)
        if len(rows) < min(left, CHUNK_ROWS):
            raise short(f"{element.count:,} {element.name} rows", element.count * row.itemsize, 0)
        left -= len(rows)
        mask = thinner.keep(len(rows))
        thinner.add(*(rows[name] if mask is None else rows[name][mask] for name in wanted))


def text_columns(lines: Iterator[bytes], element: Element, wanted: Sequence[str], thinner: Thinner) -> None:
    """As binary_columns, of text; lists among the properties are skipped."""
    numbers = [p.name for p in element.properties]
    left = element.count
    while left:
        chunk = list(itertools.islice(lines, min(left, CHUNK_ROWS)))
        if not chunk:
            raise Damaged(f"It declares {element.count:,} {element.name} rows and has {element.count - left:,}.")
        left -= len(chunk)
        mask = thinner.keep(len(chunk))
        if mask is not None:
            chunk = list(itertools.compress(chunk, mask.tolist()))
        if element.lists:
            chunk = [_without_lists(line, element) for line in chunk]
            numbers = [p.name for p in element.properties if not p.count_type]
        values = table(chunk, "vertices")
        if len(values) and values.shape[1] < len(numbers):
            raise Damaged(f"Its vertices have {values.shape[1]} columns; the header says {len(numbers)}.")
        thinner.add(*(values[:, numbers.index(name)] for name in wanted))


def _without_lists(line: bytes, element: Element) -> bytes:
    words, kept, at = line.split(), [], 0
    for p in element.properties:
        if p.count_type:
            if at == len(words):
                break  # declared, and left out of every row: what stands before it is there
            count = int(words[at])
            if count < 0:
                raise Damaged("A list declares a negative number of entries.")
            at += 1 + count
        else:
            kept.append(words[at])
            at += 1
    return b" ".join(kept)


# --- rows with lists -------------------------------------------------------------------------------------------------


@dataclass
class Rows:
    """columns: of the scalar properties.  lists: name -> (counts (N,), the entries one after the other)."""

    columns: Columns
    lists: dict[str, tuple[Int64Array, NDArray[Any]]]


def binary_rows(element: Element, body: bytes, offset: int, order: str) -> tuple[Rows, int]:
    """An element with lists out of the body from `offset`, and where it ends."""
    if element.count == 0:
        nothing = np.zeros(0, np.int64)
        return Rows({p.name: np.zeros(0) for p in element.properties if not p.count_type},
                    {p.name: (nothing, nothing) for p in element.lists}), offset  # fmt: skip
    equal = _equal_rows(element, body, offset, order)
    return equal if equal is not None else _ragged_rows(element, body, offset, order)


def _equal_rows(element: Element, body: bytes, offset: int, order: str) -> tuple[Rows, int] | None:
    """Rows whose lists are all as long as in the first row, as nearly all files have them: read in one go."""
    at, parts, lengths = offset, [], {}
    for number, p in enumerate(element.properties):
        length = 1
        if p.count_type:
            parts.append((f"count {number}", order + p.count_type))
            length = int(_number(body, at, order + p.count_type))
            at += np.dtype(p.count_type).itemsize
            if not 0 <= length <= len(body):
                raise Damaged(f"A list declares {length} entries.")
            lengths[number] = length
            parts.append((f"value {number}", order + p.type, (length,)))  # type: ignore[arg-type]
        else:
            parts.append((f"value {number}", order + p.type))
        at += length * np.dtype(p.type).itemsize
    row = np.dtype(parts)
    if offset + element.count * row.itemsize > len(body):
        return None
    rows = np.frombuffer(body, row, element.count, offset)
    if not all(bool((rows[f"count {number}"] == length).all()) for number, length in lengths.items()):
        return None
    columns: Columns = {}
    lists: dict[str, tuple[Int64Array, NDArray[Any]]] = {}
    for number, p in enumerate(element.properties):
        if p.count_type:
            counts = np.full(element.count, lengths[number], np.int64)
            lists[p.name] = counts, np.ascontiguousarray(rows[f"value {number}"]).ravel()
        else:
            columns[p.name] = rows[f"value {number}"]
    return Rows(columns, lists), offset + element.count * row.itemsize


def _ragged_rows(element: Element, body: bytes, offset: int, order: str) -> tuple[Rows, int]:
    """Where each row begins can only be found row by row; the numbers are then gathered all at once."""
    endian = "big" if order == ">" else "little"
    # A row: runs of scalars of known size, and lists. Where each property begins, (rows, properties).
    sizes = [np.dtype(p.type).itemsize for p in element.properties]
    heads = [np.dtype(p.count_type).itemsize if p.count_type else 0 for p in element.properties]
    begins = np.empty((element.count, len(element.properties)), np.int64)
    counts = np.ones_like(begins)
    at, end = offset, len(body)
    signed = [p.count_type is not None and p.count_type[0] == "i" for p in element.properties]
    if any(p.count_type and p.count_type[0] == "f" for p in element.properties):
        raise Damaged("The length of a list is not a whole number.")
    for i in range(element.count):
        for j, (head, size) in enumerate(zip(heads, sizes, strict=True)):
            length = 1
            if head:
                length = int.from_bytes(body[at : at + head], endian, signed=signed[j])  # type: ignore[arg-type]
                at += head
                counts[i, j] = length
            begins[i, j] = at
            at += length * size
            if length < 0 or at > end:
                raise Damaged(f"It ends within its {element.name} rows.")
    data = np.frombuffer(body, np.uint8)
    columns: Columns = {}
    lists: dict[str, tuple[Int64Array, NDArray[Any]]] = {}
    for j, p in enumerate(element.properties):
        places = begins[:, j]
        if p.count_type:
            lengths = counts[:, j]
            within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            places = np.repeat(places, lengths) + within * sizes[j]
        gathered = data[places[:, None] + np.arange(sizes[j])] if len(places) else np.zeros((0, sizes[j]), np.uint8)
        values = gathered.reshape(-1).view(order + p.type)
        if p.count_type:
            lists[p.name] = counts[:, j].copy(), values
        else:
            columns[p.name] = values
    return Rows(columns, lists), at


def _number(body: bytes, offset: int, kind: str) -> Any:
    if offset + np.dtype(kind).itemsize > len(body):
        raise Damaged("It ends within a list.")
    return np.frombuffer(body, kind, 1, offset)[0]


def text_list(lines: Sequence[bytes], element: Element, wanted: str) -> tuple[Int64Array, Int64Array]:
    """(counts, entries) of one list property of a text element."""
    which = next(i for i, p in enumerate(element.properties) if p.name == wanted)
    if which == 0:
        return polygon_lines(lines)
    cut = []  # numbers or lists before the corners: cut them off
    for line in lines:
        words = line.split()
        at = 0
        for p in element.properties[:which]:
            at += 1 + (int(words[at]) if p.count_type else 0)
        cut.append(b" ".join(words[at:]))
    return polygon_lines(cut)


def polygon_lines(lines: Sequence[bytes]) -> tuple[Int64Array, Int64Array]:
    """Lines 'n i j k ... anything' -> (counts, corners one after the other)."""
    if not lines:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    try:
        rows = np.loadtxt(list(lines), dtype=np.float64, ndmin=2, comments=None, encoding="latin1")
        count = int(rows[0, 0])
        if bool((rows[:, 0] == count).all()) and 3 <= count < rows.shape[1]:
            return np.full(len(rows), count, np.int64), rows[:, 1 : count + 1].astype(np.int64).ravel()
    except ValueError:
        pass  # rows of different length: polygons of different sizes
    counts, flat = [], []
    for line in lines:
        words = line.split()
        count = int(words[0])
        if not 0 <= count < len(words):
            raise Damaged(f"A face declares {count} corners and has {len(words) - 1}.")
        counts.append(count)
        flat += words[1 : count + 1]
    return np.array(counts, np.int64), np.array([int(word) for word in flat], np.int64)
