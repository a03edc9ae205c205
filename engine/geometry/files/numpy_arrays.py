"""NPY and NPZ: plain arrays, never pickles. (1, N, 3), an image of points (H, W, 3) and (3, N) are clouds too."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...npy import read_header
from ..checks import MAX_FACES
from ..clouds import PointCloud
from . import gates
from .columns import layout_by_range, raw_of
from .gates import Damaged, Float64Array, too_large
from .loaded import Raw
from .registry import Format


def read_npy(path: Path) -> Raw:
    with path.open("rb") as stream:
        return _from_columns(_array(path, stream, path.stat().st_size, path.name))


def _from_columns(values: NDArray[Any]) -> Raw:
    """Points, with more columns told as in a text cloud."""
    notes = []
    shape = values.shape
    if values.ndim == 3 and shape[2] in (3, 4, 6, 7):
        values = values.reshape(-1, shape[2])
        if shape[0] > 1:
            notes.append(f"Its shape is {shape}: an image of {shape[0]} x {shape[1]} points.")
    elif values.ndim == 3 and shape[0] == 1 and shape[1] == 3:
        values = values[0].T
        notes.append(f"Its shape is {shape}: taken for {shape[2]:,} points side by side.")
    elif values.ndim == 2 and shape[0] in (3, 6) and shape[1] not in (3, 6) and shape[1] >= 10:
        values = values.T
        notes.append(f"Its shape is {shape}: taken for {shape[1]:,} points side by side.")
    if values.ndim != 2 or values.shape[1] < 3 or values.shape[1] > 32:
        raise Damaged(f"Its shape is {shape}; rows of 3 numbers (points) and more (normals, colours) are expected.")
    if values.shape[1] == 3:
        return Raw(values, notes=notes)
    layout = layout_by_range(values[:2000].astype(np.float64))
    return raw_of(values[:, layout.columns], layout, notes)


def _array(path: Path, stream: IO[bytes], size: int, name: str) -> NDArray[Any]:
    try:
        header = read_header(stream)
    except ValueError as error:
        raise Damaged(f"'{name}' does not begin as NumPy data do: {error}.") from None
    shape, dtype, needed = header.shape, header.dtype, header.nbytes
    if dtype.hasobject:
        raise InputError(
            "file_pickled",
            f"{path.name} cannot be read.",
            f"'{name}' holds Python objects, and reading those would run code from the file.",
            "Save it as plain numbers: numpy.save(name, numpy.asarray(points, dtype=numpy.float32)).",
        )
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise Damaged(f"'{name}' has the type {dtype}; numbers are expected.")
    if needed > size - header.length:
        raise gates.short(f"'{name}' {shape}", needed, max(size - header.length, 0))
    if (shape and max(shape) > MAX_FACES) or needed > gates.MAX_BYTES:
        raise too_large(path.name, f"'{name}' declares {max(shape):,} rows.")
    content = stream.read(needed)
    if len(content) != needed:
        raise Damaged(f"'{name}' ends in the middle.")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if header.fortran else "C")


def read_npz(path: Path) -> Raw:
    known = ("points", "vertices", "normals", "colours", "colors", "faces", "viewpoint", "scans")
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
            wanted = {name: m for name, m in members.items() if name in known}
            if not {"points", "vertices"} & wanted.keys():
                if len(members) != 1:
                    raise Damaged(f"It has none of the arrays 'points' and 'vertices', but {sorted(members)[:8]}.")
                wanted = members
            if sum(m.file_size for m in wanted.values()) > gates.MAX_UNPACKED_BYTES:
                raise too_large(path.name, "Unpacked it would need more than 4 GB.")
            for name, member in wanted.items():
                gates.check_compression(name, member)
                with archive.open(member) as stream:
                    arrays[name] = _array(path, stream, member.file_size, name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise Damaged(f"It is not a sound NPZ file ({error}).") from None
    except zlib.error as error:
        raise Damaged(f"Its compressed data are damaged ({error}).") from None
    if len(arrays) == 1 and not {"points", "vertices"} & arrays.keys():
        return _from_columns(next(iter(arrays.values())))
    raw = _from_columns(arrays["points"] if "points" in arrays else arrays["vertices"])
    raw.normals = arrays.get("normals", raw.normals)
    if raw.normals is not None and raw.normals.ndim == 3:
        raw.normals = raw.normals.reshape(-1, raw.normals.shape[2])
    raw.faces, raw.viewpoint, raw.scans = arrays.get("faces"), arrays.get("viewpoint"), arrays.get("scans")
    if raw.scans is not None and (raw.scans.dtype.kind not in "iu" or raw.scans.shape != (len(raw.points),)):
        raise Damaged("'scans' is not one whole number a point.")
    colours = arrays.get("colours", arrays.get("colors"))
    if colours is not None and colours.ndim == 2 and colours.shape[1] in (3, 4) and len(colours) == len(raw.points):
        raw.colours = gates.unit_colours(colours)
    return raw


def _write_npy(cloud: PointCloud, offset: Float64Array) -> bytes:
    """(N, 3), or (N, 6) with normals."""
    points = cloud.points + offset if offset.any() else cloud.points
    stream = io.BytesIO()
    np.save(stream, points if cloud.normals is None else np.concatenate([points, cloud.normals], axis=1),
            allow_pickle=False)  # fmt: skip
    return stream.getvalue()


def _write_npz(cloud: PointCloud, offset: Float64Array) -> bytes:
    far = bool(offset.any())
    viewpoint = cloud.viewpoint
    arrays = {
        "points": cloud.points + offset if far else cloud.points,
        "normals": cloud.normals,
        "viewpoint": viewpoint + offset if far and viewpoint is not None else viewpoint,
        "colours": cloud.colours,
        "scans": cloud.scans,
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: array for name, array in arrays.items() if array is not None})
    return stream.getvalue()


FORMATS = (
    Format("NumPy array", (".npy",), read_npy, None, _write_npy, by="numpy", carries="points, normals, colours"),
    Format(
        "NumPy archive", (".npz",), read_npz, None, _write_npz, by="numpy",
        carries="points, faces, normals, colours, viewpoint",
    ),
)  # fmt: skip
