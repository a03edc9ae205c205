"""The arrays of a request and the meshes of a result, as NPZ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry.checks import check_cloud, check_mesh
from ..geometry.clouds import FloatArray
from ..geometry.meshes import IntArray, Material, Mesh, vertex_normals
from ..jobs.base import JobArrays, ShapeCode
from ..jobs.kinds import Kind
from .npz import (
    CODE,
    MAX_NAMES,
    MAX_ROWS,
    POSE,
    Member,
    corners,
    exactly,
    malformed,
    one_each,
    read_npz,
    rows,
    write_npz,
)

MAX_SHAPES = 16  # in one request
MAX_SCANS = 10_000

_MATERIALS = {
    "face_materials": one_each("iu", 2 * MAX_ROWS), "material_names": one_each("U", MAX_NAMES),
    "material_colours": rows("f", MAX_NAMES),
}  # fmt: skip
_SHAPE_MEMBERS = {
    "points": rows("fiu"), "normals": rows("fiu"), "faces": rows("iu", 2 * MAX_ROWS), "colours": rows("f"),
    "code": CODE, "pose": POSE, **_MATERIALS,
}  # fmt: skip
_SUFFIXES = ["", *(f"_{n}" for n in range(2, MAX_SHAPES + 1))]
_INPUT_MEMBERS: dict[str, Member] = {
    f"{name}{suffix}": member for suffix in _SUFFIXES for name, member in _SHAPE_MEMBERS.items()
}
_OF_ALL: dict[str, Member] = {"kept": rows("fiu"), "kept_normals": rows("fiu"), "offset": exactly("f", 3),
                           "viewpoints": rows("f", MAX_SCANS), "scans": one_each("iu")}  # fmt: skip
_MESH_MEMBERS = {
    "vertices": rows("f"), "faces": rows("iu", 2 * MAX_ROWS), "normals": rows("f"), "colours": rows("f"),
    "seen": one_each("iu"), "uvs": corners("f"), "own_frame": POSE, "code": CODE, "pose": POSE, **_MATERIALS,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ requests


def unpack_arrays(source: Path | bytes) -> JobArrays:
    """NPZ -> JobArrays: points (N, 3); normals, faces, colours, materials where they came; code and pose; the same of a
    second shape in points_2, code_2 ..., and so on; kept, kept_normals; viewpoints, scans; offset.

    Raises InputError 'arrays_invalid' or 'arrays_too_large' before anything of the declared size is allocated. Values
    (NaN, degenerate and so on) are `checked_arrays`'s matter.
    """
    members = read_npz(source, _INPUT_MEMBERS | _OF_ALL)
    if "points" not in members and "code" not in members:
        raise malformed("'points' is missing.")
    given = [suffix for suffix in _SUFFIXES if f"points{suffix}" in members or f"code{suffix}" in members]
    shapes = [_shape(members, suffix) for suffix in given]
    used = {f"{name}{suffix}" for suffix in _SUFFIXES[: len(shapes)] for name in _SHAPE_MEMBERS}
    if stray := set(members) - used - set(_OF_ALL):
        raise malformed(f"'{sorted(stray)[0]}' belongs to no shape: they are numbered without gaps.")
    first = shapes[0]
    first.others = shapes[1:]
    if "kept" in members:
        first.kept = _float32(members["kept"])
        if "kept_normals" in members:
            first.kept_normals = _float32(members["kept_normals"])
            if len(first.kept_normals) != len(first.kept):
                raise malformed(f"There are {len(first.kept)} kept points and {len(first.kept_normals)} kept normals.")
    if ("viewpoints" in members) != ("scans" in members):
        raise malformed("'viewpoints' and 'scans' come together.")
    if "scans" in members:
        first.viewpoints, first.scans = _float32(members["viewpoints"]), members["scans"].astype(np.int32)
    if "offset" in members:
        first.offset = np.asarray(members["offset"], np.float64)
        if not np.isfinite(first.offset).all():
            raise malformed("'offset' has numbers that are not finite.")
    return first


def pack_arrays(arrays: JobArrays) -> bytes:
    """JobArrays -> NPZ."""
    members: dict[str, NDArray[Any]] = {}
    for suffix, shape in zip(_SUFFIXES, [arrays, *arrays.others], strict=False):
        if len(shape.points) or shape.code is None:
            members[f"points{suffix}"] = np.asarray(shape.points, np.float32)
        members |= _present({
            f"normals{suffix}": (shape.normals, np.float32), f"faces{suffix}": (shape.faces, np.int32),
            f"colours{suffix}": (shape.colours, np.float32),
        })  # fmt: skip
        members |= _material_members(shape.materials, shape.face_materials, suffix)
        members |= _code_members(shape.code, suffix)
    if arrays.viewpoints is not None and arrays.scans is not None:
        members["viewpoints"] = np.asarray(arrays.viewpoints, np.float32)
        members["scans"] = np.asarray(arrays.scans, np.int32)
    members |= _present({
        "offset": (arrays.offset, np.float64), "kept": (arrays.kept, np.float32),
        "kept_normals": (arrays.kept_normals, np.float32),
    })  # fmt: skip
    return write_npz(members)


def checked_arrays(kind: Kind, arrays: JobArrays) -> JobArrays:
    """The arrays without the few rows that are not numbers, and notes of these. Raises InputError for what a `kind` job
    has no use for, and for points that show no shape (engine.geometry.checks)."""
    if not kind.codes and (arrays.code is not None or any(shape.code is not None for shape in arrays.others)):
        raise malformed(f"A '{kind.name}' job takes no 'code'.")
    if not kind.several and arrays.others:
        raise malformed(f"A '{kind.name}' job takes one shape.")
    if not kind.kept and arrays.kept is not None:
        raise malformed(f"A '{kind.name}' job takes no 'kept' points.")
    answer = _checked_shape(arrays)
    answer.others = [_checked_shape(shape) for shape in arrays.others]
    for number, shape in enumerate(answer.others, start=2):
        answer.notes += [f"Shape {number}: {note}" for note in shape.notes]
    answer.offset = arrays.offset
    if arrays.kept is not None:
        good = np.isfinite(arrays.kept).all(1)
        if not good.any():
            raise malformed("'kept' holds no point.")
        if lost := int((~good).sum()):
            answer.notes.append(f"{lost:,} of the {len(good):,} kept points are not numbers and are left out.")
        answer.kept = arrays.kept[good]
        if arrays.kept_normals is not None:
            answer.kept_normals = arrays.kept_normals[good]
    return answer


def _checked_shape(shape: JobArrays) -> JobArrays:
    if shape.code is not None and len(shape.points) == 0:
        return shape
    notes: list[str] = []
    if shape.faces is not None and len(shape.faces):
        mesh = check_mesh(
            shape.points, shape.faces, shape.normals, colours=shape.colours, materials=shape.materials,
            face_materials=shape.face_materials, notes=notes,
        )  # fmt: skip
        return JobArrays(
            mesh.vertices, mesh.normals, mesh.faces, shape.code, colours=mesh.colours, materials=mesh.materials,
            face_materials=mesh.face_materials, notes=notes,
        )  # fmt: skip
    cloud = check_cloud(
        shape.points, shape.normals, shape.viewpoints, colours=shape.colours, scans=shape.scans, notes=notes
    )
    several = cloud.scans is not None
    return JobArrays(
        cloud.points, cloud.normals, None, shape.code, colours=cloud.colours,
        viewpoints=cloud.viewpoint if several else shape.viewpoints,
        scans=cloud.scans if several or shape.scans is None else np.zeros(len(cloud.points), np.int32), notes=notes,
    )  # fmt: skip


def _shape(members: dict[str, NDArray[Any]], suffix: str) -> JobArrays:
    """One shape of a request: its points, its code, or both."""
    points = _float32(members.get(f"points{suffix}", np.zeros((0, 3), np.float32)))
    normals = _float32(members[f"normals{suffix}"]) if f"normals{suffix}" in members else None
    if normals is not None and len(normals) != len(points):
        raise malformed(f"There are {len(points)} points and {len(normals)} normals.")
    faces = _faces(members[f"faces{suffix}"], len(points)) if f"faces{suffix}" in members else None
    materials, face_materials = _materials(members, 0 if faces is None else len(faces), suffix)
    return JobArrays(
        points, normals, faces, _code(members, suffix), colours=_colours(members, f"colours{suffix}", len(points)),
        materials=materials, face_materials=face_materials,
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- meshes


def pack_mesh(mesh: Mesh, code: ShapeCode | None = None) -> bytes:
    """Mesh -> NPZ with vertices (V, 3) float32, faces (F, 3) int32, normals (V, 3) float32 (made where absent), and,
    where the mesh has them, colours (V, 3) float32, seen (V,) uint8, uvs (F, 3, 2) float32, own_frame (4, 4) float64,
    face_materials (F,) int32 with material_names (M,) and material_colours (M, 3) float32, NaN for unknown, code
    float32 and pose (4, 4) float64."""
    vertices = np.asarray(mesh.vertices, np.float32)
    faces = np.asarray(mesh.faces, np.int32)
    normals = mesh.normals if mesh.normals is not None else vertex_normals(Mesh(vertices, faces))
    members = {"vertices": vertices, "faces": faces, "normals": np.asarray(normals, np.float32)}
    members |= _present({
        "colours": (mesh.colours, np.float32), "uvs": (mesh.uvs, np.float32), "own_frame": (mesh.own_frame, np.float64),
        "seen": (mesh.seen, np.uint8),
    })  # fmt: skip
    return write_npz(members | _material_members(mesh.materials, mesh.face_materials) | _code_members(code))


def unpack_mesh(source: Path | bytes) -> tuple[Mesh, ShapeCode | None]:
    """NPZ -> Mesh and code, checked as `unpack_arrays` does."""
    members = read_npz(source, _MESH_MEMBERS, frozenset({"vertices", "faces"}))
    vertices = _float32(members["vertices"])
    normals = _float32(members["normals"]) if "normals" in members else None
    if normals is not None and len(normals) != len(vertices):
        raise malformed(f"There are {len(vertices)} vertices and {len(normals)} normals.")
    colours, faces = _colours(members, "colours", len(vertices)), _faces(members["faces"], len(vertices))
    seen = members["seen"].astype(bool) if "seen" in members else None
    if seen is not None and len(seen) != len(vertices):
        raise malformed(f"There are {len(vertices)} vertices and 'seen' has {len(seen)} rows.")
    uvs = members.get("uvs")
    if uvs is not None and (len(uvs) != len(faces) or not ((uvs >= 0) & (uvs <= 1)).all()):
        raise malformed(f"There are {len(faces)} faces, and 'uvs' has {len(uvs)} rows or numbers outside 0 to 1.")
    uvs = None if uvs is None else np.ascontiguousarray(uvs, np.float32)
    own = None if "own_frame" not in members else np.asarray(members["own_frame"], np.float64)
    if own is not None and not np.isfinite(own).all():
        raise malformed("'own_frame' has numbers that are not finite.")
    return Mesh(vertices, faces, normals, colours, seen, *_materials(members, len(faces)), uvs, own), _code(members)


# --------------------------------------------------------------------------------------------------------------- parts


def _float32(array: NDArray[Any]) -> FloatArray:
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, which the checks refuse by name
        return np.ascontiguousarray(array, np.float32)


def _faces(array: NDArray[Any], count: int) -> IntArray:
    if len(array) and (int(array.min()) < 0 or int(array.max()) >= count):
        raise malformed(f"'faces' refers to points outside 0 to {count - 1}.")
    return np.ascontiguousarray(array, np.int32)


def _colours(members: dict[str, NDArray[Any]], name: str, count: int) -> FloatArray | None:
    if name not in members:
        return None
    colours = _float32(members[name])
    if len(colours) != count:
        raise malformed(f"There are {count} points and {len(colours)} colours.")
    if not ((colours >= 0) & (colours <= 1)).all():  # false for NaN too
        raise malformed(f"'{name}' has numbers outside 0 to 1.")
    return colours


def _materials(
    members: dict[str, NDArray[Any]], faces: int, suffix: str = ""
) -> tuple[tuple[Material, ...], IntArray | None]:
    """The materials that were sent and (F,) each face's; none where none were."""
    numbers, names, colours = (members.get(f"{name}{suffix}") for name in _MATERIALS)
    if numbers is None:
        if names is not None or colours is not None:
            raise malformed(f"'material_names{suffix}' or 'material_colours{suffix}' come without 'face_materials'.")
        return (), None
    if len(numbers) != faces:
        raise malformed(f"There are {faces} faces and 'face_materials{suffix}' has {len(numbers)} rows.")
    if names is None or (colours is not None and len(colours) != len(names)):
        raise malformed(f"'face_materials{suffix}' needs 'material_names', and of colours as many or none.")
    if len(numbers) and (int(numbers.min()) < -1 or int(numbers.max()) >= len(names)):
        raise malformed(f"'face_materials{suffix}' refers to materials outside -1 to {len(names) - 1}.")
    rows = np.full((len(names), 3), np.nan) if colours is None else colours.astype(np.float64)
    known = [bool(np.isfinite(row).all()) for row in rows]
    materials = tuple(
        Material(str(name), tuple(row.clip(0, 1).tolist()) if known_ else None)
        for name, row, known_ in zip(names, rows, known, strict=True)
    )
    return materials, numbers.astype(np.int32)


def _present(members: dict[str, tuple[NDArray[Any] | None, type]]) -> dict[str, NDArray[Any]]:
    """Those that there are, of the types that travel."""
    return {name: np.asarray(values, kind) for name, (values, kind) in members.items() if values is not None}


def _material_members(
    materials: tuple[Material, ...], face_materials: IntArray | None, suffix: str = ""
) -> dict[str, NDArray[Any]]:
    if face_materials is None:
        return {}
    shown = materials[:MAX_NAMES]
    colours = [(np.nan,) * 3 if material.colour is None else material.colour for material in shown]
    return {
        f"face_materials{suffix}": np.where(face_materials < len(shown), face_materials, -1).astype(np.int32),
        f"material_names{suffix}": np.array([material.name[:200] for material in shown], np.str_),
        f"material_colours{suffix}": np.array(colours, np.float32).reshape(-1, 3),
    }


def _code(members: dict[str, NDArray[Any]], suffix: str = "") -> ShapeCode | None:
    if f"code{suffix}" not in members:
        if f"pose{suffix}" in members:
            raise malformed(f"'pose{suffix}' comes without 'code{suffix}'.")
        return None
    code, pose = _float32(members[f"code{suffix}"]), np.eye(4)
    if f"pose{suffix}" in members:
        pose = np.asarray(members[f"pose{suffix}"], np.float64)
    if not np.isfinite(code).all() or not np.isfinite(pose).all():
        raise malformed(f"'code{suffix}' or its pose has numbers that are not finite.")
    return ShapeCode(code, pose)


def _code_members(code: ShapeCode | None, suffix: str = "") -> dict[str, NDArray[Any]]:
    if code is None:
        return {}
    return {f"code{suffix}": np.asarray(code.code, np.float32), f"pose{suffix}": np.asarray(code.pose, np.float64)}
