"""Requests, arrays and meshes as they travel: JSON and NPZ, checked before anything is allocated. No torch here.

The arrays' format is NumPy's NPZ (a zip of NPY files), read with allow_pickle=False after the header of every member
was checked: a file from a stranger can cost at most `MAX_BYTES` of memory and execute nothing.
"""

from __future__ import annotations

import dataclasses
import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..device import DEVICES
from ..errors import InputError
from ..frames import UP_AXES
from ..geometry.checks import check_arrays
from ..geometry.clouds import FloatArray
from ..geometry.meshes import IntArray, Mesh, vertex_normals
from ..plain_json import plain as plain
from .base import (
    FIT_METHODS,
    ArithmeticRequest,
    BlendRequest,
    CompleteRequest,
    DirectionsRequest,
    FitRequest,
    GenerateRequest,
    GradientRequest,
    JobArrays,
    Request,
    SelftestRequest,
    ShapeCode,
    SlideRequest,
    TrainRequest,
    TrainShape,
    VaryRequest,
)

_npy: Any = np.lib.format  # its functions carry no type hints

MAX_POINTS = 20_000_000
MAX_BYTES = 512 * 2**20
MAX_COMPRESSION = 200  # deflate reaches 1000 on zeros; coordinates never come near
MAX_SHAPES = 16  # in one request
MAX_TRAINING_SHAPES = 20_000
MAX_CODE = 2**20  # numbers of a code
NEEDS_ARRAYS: dict[str, bool | None] = {
    "complete": True, "fit": True, "selftest": False, "generate": False, "vary": True, "blend": True,
    "arithmetic": True, "directions": None, "slide": True, "train": None, "gradient": None,
}  # fmt: skip
"""Kind of job -> whether it comes with arrays; None: with or without."""
TAKES_CODES = ("vary", "blend", "arithmetic", "directions", "slide")
"""Kinds whose arrays may be codes in place of points."""


def needs_arrays(request: Request) -> bool | None:
    """Whether the request comes with arrays, None: with or without. A fit that reuses a kept field has its input there.
    """
    if isinstance(request, FitRequest) and request.reuse:
        return False
    return NEEDS_ARRAYS[request.kind]


# ---------------------------------------------------------------------------------------------------------- requests


def _bad(field: str, value: Any, expected: str) -> InputError:
    shown = repr(value)
    return InputError(
        "request_invalid",
        f"The request's field '{field}' is not valid.",
        f"It is {shown if len(shown) <= 80 else shown[:77] + '...'}; expected {expected}.",
        f"Change '{field}' and try again.",
    )


def _integer(low: int, high: int) -> Callable[[str, Any], int]:
    def check(field: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _bad(field, value, f"a whole number from {low} to {high}")
        return value

    return check


def _number(low: float, high: float) -> Callable[[str, Any], float]:
    def check(field: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise _bad(field, value, f"a number from {low:g} to {high:g}")
        return float(value)

    return check


def _choice(*options: str) -> Callable[[str, Any], str]:
    def check(field: str, value: Any) -> str:
        if not isinstance(value, str) or value not in options:
            raise _bad(field, value, "one of " + ", ".join(options))
        return value

    return check


def _text(longest: int, empty: bool) -> Callable[[str, Any], str]:
    def check(field: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest or "\0" in value or not (value or empty):
            raise _bad(field, value, f"a text of {0 if empty else 1} to {longest} characters")
        return value

    return check


def _boolean(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _bad(field, value, "true or false")
    return value


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda field, value: None if value is None else check(field, value)


def _faces_wanted(field: str, value: Any) -> int:
    """0 = no limit; a limit below 100 triangles would leave nothing to recognise."""
    if value == 0 and not isinstance(value, bool | float):
        return 0
    return _integer(100, 100_000_000)(field, value)


def _field_id(field: str, value: Any) -> str:
    if not isinstance(value, str) or not (value == "" or (len(value) == 32 and set(value) <= set("0123456789abcdef"))):
        raise _bad(field, value, "the 32 digits and letters of a report's field_id, or an empty text")
    return value


def _viewpoint(field: str, value: Any) -> tuple[float, float, float] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list | tuple)
        or len(value) != 3
        or any(isinstance(v, bool) or not isinstance(v, int | float) for v in value)
        or not all(abs(v) < 1e12 for v in value)  # false for NaN too
    ):
        raise _bad(field, value, "three finite numbers (x, y, z), or null")
    x, y, z = (float(v) for v in value)
    return x, y, z


def _sha256(field: str, value: Any) -> str:
    if not isinstance(value, str) or (value and (len(value) != 64 or set(value) - set("0123456789abcdef"))):
        raise _bad(field, value, "the 64 hexadecimal digits of a prior's sha256, or an empty text")
    return value


def _numbers(most: int, low: float, high: float) -> Callable[[str, Any], tuple[float, ...]]:
    number = _number(low, high)

    def check(field: str, value: Any) -> tuple[float, ...]:
        if not isinstance(value, list | tuple) or len(value) > most:
            raise _bad(field, value, f"a list of at most {most} numbers")
        return tuple(number(field, item) for item in value)

    return check


_COMMON: dict[str, Callable[[str, Any], Any]] = {
    "resolution": _integer(8, 512),
    "seed": _integer(0, 2**32 - 1),
    "device": _choice(*DEVICES),
    "name": _text(256, empty=True),
}
_OF_SHAPES: dict[str, Callable[[str, Any], Any]] = {
    "prior": _text(1024, empty=False),
    "prior_sha256": _sha256,
    "input_is": _choice("auto", "whole", "partial"),
    "align": _choice("none", "scale", "similarity"),
    "up": _choice(*UP_AXES),
}
def _pose(field: str, value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    expected = "16 numbers, row by row, of a matrix of translation, rotation and one positive scale, or null"
    flat = value
    if isinstance(value, list | tuple) and len(value) == 4 and all(isinstance(row, list | tuple) for row in value):
        flat = [v for row in value for v in row]
    if (
        not isinstance(flat, list | tuple)
        or len(flat) != 16
        or any(isinstance(v, bool) or not isinstance(v, int | float) for v in flat)
        or not all(abs(v) < 1e12 for v in flat)  # false for NaN too
    ):
        raise _bad(field, value, expected)
    matrix = np.array(flat, np.float64).reshape(4, 4)
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    if (
        not 1e-9 < scale < 1e9
        or np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6
        or np.abs(matrix[:3, :3] @ matrix[:3, :3].T / scale**2 - np.eye(3)).max() > 1e-3
    ):
        raise _bad(field, value, expected)
    return tuple(float(v) for v in flat)


def _training_shapes(field: str, value: Any) -> tuple[TrainShape, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_TRAINING_SHAPES:
        raise _bad(field, value, f"a list of at most {MAX_TRAINING_SHAPES} shapes")
    text, count = _text(256, empty=False), _integer(1, MAX_POINTS)
    shapes = []
    for row in value:
        if not isinstance(row, dict) or set(row) != {"name", "class_name", "vertices"}:
            raise _bad(field, row, "objects with name, class_name, vertices")
        name, category = text(field, row["name"]), text(field, row["class_name"])
        shapes.append(TrainShape(name, category, count(field, row["vertices"])))
    return tuple(shapes)


def _settings(field: str, value: Any) -> dict[str, Any]:
    """Of a training, by name; what each may be is engine.training.prior_training.parse_overrides's matter."""
    if not isinstance(value, dict) or len(value) > 64:
        raise _bad(field, value, "an object of settings")
    return value


_FIELDS: dict[str, dict[str, Callable[[str, Any], Any]]] = {
    "complete": {
        "kind": _choice("complete"),
        "prior": _text(1024, empty=False),
        "align": _choice("none", "scale", "similarity"),
        "front": _choice("given", "evident"),
        "up": _choice(*UP_AXES),
        "viewpoint": _viewpoint,
        "pose": _pose,
        "hypotheses": _integer(1, 16),
        "resolution": _integer(8, 512),
        "class_name": _text(64, empty=True),
        "noise": _or_none(_number(0, 1e9)),
        "ground": _choice("auto", "keep"),
        "max_faces": _faces_wanted,
        "seed": _integer(0, 2**32 - 1),
        "device": _choice(*DEVICES),
        "name": _text(256, empty=True),
    },
    "fit": {
        "kind": _choice("fit"),
        "method": _choice(*FIT_METHODS),
        "resolution": _integer(16, 512),
        "smoothness": _number(0, 1),
        "normals": _choice("auto", "given", "none"),
        "viewpoint": _viewpoint,
        "noise": _or_none(_number(0, 1e12)),
        "open_boundaries": _boolean,
        "iterations": _or_none(_integer(1, 1_000_000)),
        "reuse": _field_id,
        "seed": _integer(0, 2**32 - 1),
        "device": _choice(*DEVICES),
        "name": _text(256, empty=True),
    },
    "train": {
        "kind": _choice("train"),
        "name": _text(100, empty=False),
        "folder": _text(4096, empty=True),
        "shapes": _training_shapes,
        "preset": _choice("auto", "cpu", "gpu"),
        "minutes": _or_none(_number(0.01, 100_000)),
        "start_from": _text(1024, empty=True),
        "resume": _boolean,
        "pose_steps": _or_none(_integer(1, 1_000_000)),
        "settings": _settings,
        "device": _choice(*DEVICES),
    },
    "selftest": {
        "kind": _choice("selftest"),
        "resolution": _integer(8, 512),
        "steps": _integer(1, 10_000),
        "step_seconds": _number(0, 60),
        "device": _choice(*DEVICES),
        "name": _text(256, empty=True),
    },
    "generate": {
        "kind": _choice("generate"),
        "prior": _text(1024, empty=False),
        "class_name": _text(64, empty=True),
        "count": _integer(1, 1000),
        "first": _integer(0, 1_000_000),
        "temperature": _number(0, 2),
        "distribution": _choice("default", "gaussian", "mixture", "diffusion"),
        "avoid_duplicates": _boolean,
        "avoid_pieces": _boolean,
        **_COMMON,
    },
    "vary": {
        "kind": _choice("vary"),
        **_OF_SHAPES,
        "count": _integer(1, 1000),
        "first": _integer(0, 1_000_000),
        "strength": _number(0, 2),
        "avoid_pieces": _boolean,
        "viewpoint": _viewpoint,
        **_COMMON,
    },
    "blend": {
        "kind": _choice("blend"),
        **_OF_SHAPES,
        "steps": _integer(0, 256),
        "ends": _boolean,
        "one_mesh": _boolean,
        "path": _choice("plausible", "spherical", "straight"),
        **_COMMON,
    },
    "arithmetic": {"kind": _choice("arithmetic"), **_OF_SHAPES, "amount": _number(-4, 4), **_COMMON},
    "directions": {
        "kind": _choice("directions"),
        "prior": _text(1024, empty=False),
        "prior_sha256": _sha256,
        "class_name": _text(64, empty=True),
        "count": _integer(1, 64),
        "device": _choice(*DEVICES),
        "name": _text(256, empty=True),
    },
    "slide": {
        "kind": _choice("slide"),
        "prior": _text(1024, empty=False),
        "prior_sha256": _sha256,
        "class_name": _text(64, empty=True),
        "values": _numbers(64, -10, 10),
        "stream": _text(64, empty=True),
        "normals": _boolean,
        **_COMMON,
    },
}
_FIELDS["gradient"] = {
    "kind": _choice("gradient"),
    "field": _text(1024, empty=False),
    "mode": _choice("densify", "reconstruct", "generate"),
    "output": _choice("points", "mesh"),
    "points": _integer(8, 5_000_000),
    "class_name": _text(64, empty=True),
    "count": _integer(1, 1000),
    "latent": _choice("gan", "gaussian", "mixture", "diffusion"),
    "temperature": _number(0, 2),
    "align": _choice("none", "scale"),
    "up": _choice(*UP_AXES),
    **_COMMON,
}
_CLASSES: dict[str, type[Request]] = {
    "complete": CompleteRequest,
    "fit": FitRequest,
    "selftest": SelftestRequest,
    "generate": GenerateRequest,
    "vary": VaryRequest,
    "blend": BlendRequest,
    "arithmetic": ArithmeticRequest,
    "directions": DirectionsRequest,
    "slide": SlideRequest,
    "train": TrainRequest,
    "gradient": GradientRequest,
}


def parse_request(data: Any) -> Request:
    """JSON object -> request. Fields left out take their defaults; anything unknown or out of range raises InputError
    that names the field."""
    if not isinstance(data, dict):
        raise InputError(
            "request_invalid",
            "The request cannot be read.",
            f"It is a JSON {type(data).__name__}, not an object.",
            'Send an object such as {"kind": "complete", "resolution": 128}.',
        )
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise _bad("kind", kind, "one of " + ", ".join(_FIELDS))
    fields = _FIELDS[kind]
    values: dict[str, Any] = {}
    for field, value in data.items():
        if field not in fields:
            raise InputError(
                "request_field_unknown",
                f"The request has an unknown field '{str(field)[:80]}'.",
                f"A '{kind}' request has the fields {', '.join(fields)}.",
                "Remove the field, or use an engine of the version that the client was made for.",
            )
        values[field] = fields[field](field, value)
    return _CLASSES[kind](**values)


def request_to_json(request: Request) -> dict[str, Any]:
    return dataclasses.asdict(request)


# ------------------------------------------------------------------------------------------------------------ arrays


def _malformed(why: str) -> InputError:
    return InputError(
        "arrays_invalid",
        "The arrays cannot be read.",
        why,
        "Send an NPZ file with 'points' (N x 3 numbers) and, where known, 'normals' (N x 3) and 'faces' (F x 3).",
    )


def _too_large(why: str) -> InputError:
    return InputError(
        "arrays_too_large",
        "The input is too large.",
        why,
        f"Reduce it to at most {MAX_POINTS:,} points and {MAX_BYTES // 2**20} MB.",
    )


@dataclasses.dataclass
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nbytes: int


def _read_header(member: IO[bytes], name: str) -> tuple[_Header, int]:
    """The NPY header and its length in bytes, without touching the data."""
    try:
        version = _npy.read_magic(member)
        if version == (1, 0):
            length = int.from_bytes(member.read(2), "little")
            prefix = 10
        elif version in ((2, 0), (3, 0)):
            length = int.from_bytes(member.read(4), "little")
            prefix = 12
        else:
            raise ValueError(f"NPY version {version} is not known")
        if length > 4096:
            raise ValueError(f"its header declares {length} bytes")
        text = member.read(length)
        if len(text) != length:
            raise ValueError("its header is cut short")
        # NumPy's own parser (a literal, nothing is executed), fed a version 2 header made of the bytes just checked.
        again = io.BytesIO(length.to_bytes(4, "little") + text)
        shape, _, dtype = _npy.read_array_header_2_0(again)
        if any(int(n) < 0 for n in shape):
            raise ValueError(f"its shape is {shape}")
    except Exception as error:  # the parser meets hostile text: whatever it raises means the same
        raise _malformed(f"'{name}' is not an NPY array: {error}.") from None
    count = math.prod(int(n) for n in shape)  # Python integers: no overflow
    return _Header(tuple(int(n) for n in shape), dtype, count * dtype.itemsize), prefix + length


def _read_npz(source: Path | bytes, allowed: dict[str, str], required: set[str]) -> dict[str, NDArray[Any]]:
    """Members named in `allowed` (name -> NumPy kinds, 'f' or 'iu'), read after all were checked.

    Every one is (n, 3), but for 'code' (any small shape) and 'pose' (4, 4), with or without a number behind."""
    stream: IO[bytes] = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with stream:
        try:
            archive = zipfile.ZipFile(stream)
            members = archive.infolist()
        except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError) as error:
            raise _malformed(f"It is not an NPZ file: {error}.") from None
        if len(members) > len(allowed):
            raise _malformed(f"It has {len(members)} members; at most {', '.join(allowed)} are expected.")
        total = 0
        seen: set[str] = set()
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name not in allowed or name in seen or member.flag_bits & 1:
                raise _malformed(f"The member '{member.filename[:80]}' is not expected.")
            seen.add(name)
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _malformed(f"'{name}' is compressed in a way that is not supported.")
            total += member.file_size
            if total > MAX_BYTES:
                raise _too_large(f"Unpacked it would need more than {MAX_BYTES // 2**20} MB.")
            if member.file_size > 2**20 and member.file_size > MAX_COMPRESSION * max(member.compress_size, 1):
                raise _malformed(f"'{name}' is compressed {member.file_size // max(member.compress_size, 1)} times.")
        missing = required - seen
        if missing:
            raise _malformed(f"'{sorted(missing)[0]}' is missing.")
        arrays: dict[str, NDArray[Any]] = {}
        for member in members:  # every header first: a bad last member costs nothing
            with _open(archive, member) as stream_in:
                header, offset = _read_header(stream_in, member.filename)
            name = member.filename.removesuffix(".npy")
            if header.dtype.kind not in allowed[name] or header.dtype.itemsize not in (1, 2, 4, 8):
                raise _malformed(f"'{name}' has the type {header.dtype}; numbers are expected.")
            plural = name.rstrip("0123456789").rstrip("_")
            if plural == "code":
                if not 1 <= len(header.shape) <= 5 or not 1 <= math.prod(header.shape) <= MAX_CODE:
                    raise _malformed(f"'{name}' has the shape {header.shape}; a code has at most {MAX_CODE:,} numbers.")
            elif plural == "pose":
                if header.shape != (4, 4):
                    raise _malformed(f"'{name}' has the shape {header.shape}; (4, 4) is expected.")
            elif len(header.shape) != 2 or header.shape[1] != 3:
                raise _malformed(f"'{name}' has the shape {header.shape}; (n, 3) is expected.")
            elif header.shape[0] > MAX_POINTS * (2 if plural == "faces" else 1):
                raise _too_large(f"'{name}' declares {header.shape[0]:,} rows.")
            if offset + header.nbytes != member.file_size:
                raise _malformed(f"'{name}' declares {header.nbytes} bytes and holds {member.file_size - offset}.")
        for member in members:
            with _open(archive, member) as stream_in:
                try:
                    array = _npy.read_array(stream_in, allow_pickle=False)
                except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
                    raise _malformed(f"'{member.filename}' is damaged: {error}.") from None
                except Exception as error:  # zlib.error
                    raise _malformed(f"'{member.filename}' is damaged: {error}.") from None
            arrays[member.filename.removesuffix(".npy")] = array
        return arrays


def _open(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return archive.open(member)
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError) as error:
        raise _malformed(f"'{member.filename[:80]}' is damaged: {error}.") from None


def _float32(array: NDArray[Any]) -> FloatArray:
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which check_arrays refuses by name
        return np.ascontiguousarray(array, np.float32)


def _faces(array: NDArray[Any], count: int) -> IntArray:
    if len(array) and (int(array.min()) < 0 or int(array.max()) >= count):
        raise _malformed(f"'faces' refers to points outside 0 to {count - 1}.")
    return np.ascontiguousarray(array, np.int32)


def decode_arrays(source: Path | bytes) -> JobArrays:
    """NPZ -> JobArrays: points (N, 3), normals (N, 3) or None, faces (F, 3) or None; code and pose; kept,
    kept_normals; and the same of a second shape in points_2, code_2 ..., and so on.

    Raises InputError 'arrays_invalid' or 'arrays_too_large' before anything of the declared size is allocated. Values
    (NaN, degenerate and so on) are engine.geometry.checks.check_arrays's matter.
    """
    members = _read_npz(source, _INPUT_MEMBERS, set())
    if "points" not in members and "code" not in members:
        raise _malformed("'points' is missing.")
    given = [suffix for suffix in _SUFFIXES if f"points{suffix}" in members or f"code{suffix}" in members]
    shapes = [_shape(members, suffix) for suffix in given]
    used = {f"{name}{suffix}" for suffix in _SUFFIXES[: len(shapes)] for name in _SHAPE_MEMBERS}
    if stray := set(members) - used - {"kept", "kept_normals"}:
        raise _malformed(f"'{sorted(stray)[0]}' belongs to no shape: they are numbered without gaps.")
    first = shapes[0]
    first.others = shapes[1:]
    if "kept" in members:
        first.kept = _float32(members["kept"])
        if "kept_normals" in members:
            first.kept_normals = _float32(members["kept_normals"])
            if len(first.kept_normals) != len(first.kept):
                raise _malformed(f"There are {len(first.kept)} kept points and {len(first.kept_normals)} kept normals.")
    return first


def checked_arrays(kind: str, arrays: JobArrays) -> JobArrays:
    """The arrays without the few rows that are not numbers. Raises InputError for what a `kind` job has no use for, and
    for points that show no shape (engine.geometry.checks.check_arrays)."""
    if kind not in TAKES_CODES and (arrays.code is not None or any(shape.code is not None for shape in arrays.others)):
        raise _malformed(f"A '{kind}' job takes no 'code'.")
    if kind not in ("blend", "arithmetic") and arrays.others:
        raise _malformed(f"A '{kind}' job takes one shape.")
    if kind != "vary" and arrays.kept is not None:
        raise _malformed(f"A '{kind}' job takes no 'kept' points.")

    def checked(shape: JobArrays) -> JobArrays:
        if shape.code is not None and len(shape.points) == 0:
            return shape
        points, normals, faces, _ = check_arrays(shape.points, shape.normals, shape.faces)
        return JobArrays(points, normals, faces, shape.code)

    answer = checked(arrays)
    answer.others = [checked(shape) for shape in arrays.others]
    if arrays.kept is not None:
        good = np.isfinite(arrays.kept).all(1)
        if not good.any():
            raise _malformed("'kept' holds no point.")
        answer.kept = arrays.kept[good]
        if arrays.kept_normals is not None:
            answer.kept_normals = arrays.kept_normals[good]
    return answer


_SHAPE_MEMBERS = {"points": "fiu", "normals": "fiu", "faces": "iu", "code": "f", "pose": "f"}
_SUFFIXES = ["", *(f"_{n}" for n in range(2, MAX_SHAPES + 1))]
_INPUT_MEMBERS = {f"{name}{suffix}": kinds for suffix in _SUFFIXES for name, kinds in _SHAPE_MEMBERS.items()}
_INPUT_MEMBERS |= {"kept": "fiu", "kept_normals": "fiu"}


def _shape(members: dict[str, NDArray[Any]], suffix: str) -> JobArrays:
    """One shape of a request: its points, its code, or both."""
    points = _float32(members.get(f"points{suffix}", np.zeros((0, 3), np.float32)))
    normals = _float32(members[f"normals{suffix}"]) if f"normals{suffix}" in members else None
    if normals is not None and len(normals) != len(points):
        raise _malformed(f"There are {len(points)} points and {len(normals)} normals.")
    faces = _faces(members[f"faces{suffix}"], len(points)) if f"faces{suffix}" in members else None
    return JobArrays(points, normals, faces, _code(members, suffix))


def _code(members: dict[str, NDArray[Any]], suffix: str = "") -> ShapeCode | None:
    if f"code{suffix}" not in members:
        if f"pose{suffix}" in members:
            raise _malformed(f"'pose{suffix}' comes without 'code{suffix}'.")
        return None
    code, pose = _float32(members[f"code{suffix}"]), np.eye(4)
    if f"pose{suffix}" in members:
        pose = np.asarray(members[f"pose{suffix}"], np.float64)
    if not np.isfinite(code).all() or not np.isfinite(pose).all():
        raise _malformed(f"'code{suffix}' or its pose has numbers that are not finite.")
    return ShapeCode(code, pose)


def encode_arrays(arrays: JobArrays) -> bytes:
    """JobArrays -> NPZ."""
    members: dict[str, NDArray[Any]] = {}
    for suffix, shape in zip(_SUFFIXES, [arrays, *arrays.others], strict=False):
        if len(shape.points) or shape.code is None:
            members[f"points{suffix}"] = np.asarray(shape.points, np.float32)
        if shape.normals is not None:
            members[f"normals{suffix}"] = np.asarray(shape.normals, np.float32)
        if shape.faces is not None:
            members[f"faces{suffix}"] = np.asarray(shape.faces, np.int32)
        members |= _code_members(shape.code, suffix)
    if arrays.kept is not None:
        members["kept"] = np.asarray(arrays.kept, np.float32)
    if arrays.kept_normals is not None:
        members["kept_normals"] = np.asarray(arrays.kept_normals, np.float32)
    return _npz(members)


def _code_members(code: ShapeCode | None, suffix: str = "") -> dict[str, NDArray[Any]]:
    if code is None:
        return {}
    return {f"code{suffix}": np.asarray(code.code, np.float32), f"pose{suffix}": np.asarray(code.pose, np.float64)}


# ------------------------------------------------------------------------------------------------------------ meshes


def encode_mesh(mesh: Mesh, code: ShapeCode | None = None) -> bytes:
    """Mesh -> NPZ with vertices (V, 3) float32, faces (F, 3) int32, normals (V, 3) float32 (made where absent), and,
    where the shape has one, code float32 and pose (4, 4) float64."""
    vertices = np.asarray(mesh.vertices, np.float32)
    faces = np.asarray(mesh.faces, np.int32)
    normals = mesh.normals if mesh.normals is not None else vertex_normals(Mesh(vertices, faces))
    members = {"vertices": vertices, "faces": faces, "normals": np.asarray(normals, np.float32)}
    return _npz(members | _code_members(code))


def decode_mesh(source: Path | bytes) -> tuple[Mesh, ShapeCode | None]:
    """NPZ -> Mesh and code, checked as `decode_arrays` does."""
    allowed = {"vertices": "f", "faces": "iu", "normals": "f", "code": "f", "pose": "f"}
    arrays = _read_npz(source, allowed, {"vertices", "faces"})
    vertices = _float32(arrays["vertices"])
    normals = _float32(arrays["normals"]) if "normals" in arrays else None
    if normals is not None and len(normals) != len(vertices):
        raise _malformed(f"There are {len(vertices)} vertices and {len(normals)} normals.")
    return Mesh(vertices, _faces(arrays["faces"], len(vertices)), normals), _code(arrays)


def _npz(members: dict[str, NDArray[Any]]) -> bytes:
    # Not np.savez: stored members with plain headers are all that a small client needs to read.
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _npy.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return out.getvalue()
