"""Meshes on the wire and ready for Blender: NPZ is read and written here and nowhere else. No bpy."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .problem import bad_answer


@dataclass
class MeshArrays:
    """A triangle mesh made ready for Blender off the main thread: setting it there is copying memory.

    vertices: (V, 3) float32.  faces: (F, 3) int32.  normals: (V, 3) float32 or None, as the engine sent them.
    edges: (E, 2) int32, each undirected edge once.  corner_edges: (3F,) int32, the edge that leaves each face corner.
    code: what the prior knows the shape by, float32 of any shape, and pose: (4, 4) float64, canonical frame -> the
    vertices' frame; both None for a mesh without a code.
    colours: (V, 3) float32, sRGB in 0..1.  seen: (V,) bool, whether that was observed.  face_materials: (F,) int32,
    number of a material among those that were sent, -1 for none.  uvs: (F, 3, 2) float32, of the faces' corners.
    own_frame: (4, 4) float64, rigid, from the object's own frame (origin in the middle of its base, front -y) to the
    vertices'. Each None where the engine sent none.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray | None
    edges: np.ndarray
    corner_edges: np.ndarray
    code: np.ndarray | None = None
    pose: np.ndarray | None = None
    colours: np.ndarray | None = None
    seen: np.ndarray | None = None
    face_materials: np.ndarray | None = None
    uvs: np.ndarray | None = None
    own_frame: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        vertices: np.ndarray,
        faces: np.ndarray,
        normals: np.ndarray | None = None,
        colours: np.ndarray | None = None,
        seen: np.ndarray | None = None,
        face_materials: np.ndarray | None = None,
        uvs: np.ndarray | None = None,
    ) -> MeshArrays:
        """Checks what the engine sent and finds the edges. Raises EngineProblem('bad_answer') for a damaged mesh."""
        vertices = np.ascontiguousarray(vertices, np.float32)
        faces = np.ascontiguousarray(faces, np.int32)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
            raise bad_answer(
                f"A mesh came with vertices {vertices.shape} and faces {faces.shape} instead of (V, 3) and (F, 3)."
            )
        if not np.isfinite(vertices).all():
            raise bad_answer("A mesh came with coordinates that are not finite numbers.")
        if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise bad_answer("A mesh came with faces that name vertices it does not have.")
        # Blender takes neither a face that names a vertex twice nor the same triangle twice (Mesh.validate drops them).
        distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        if face_materials is not None:
            face_materials = np.ascontiguousarray(face_materials, np.int32)
            if face_materials.shape != (len(faces),):
                raise bad_answer(f"A mesh came with {len(faces)} faces and materials {face_materials.shape}.")
        if uvs is not None:
            uvs = np.ascontiguousarray(uvs, np.float32)
            if uvs.shape != (len(faces), 3, 2) or not np.isfinite(uvs).all():
                raise bad_answer(f"A mesh came with {len(faces)} faces and UVs {uvs.shape} that are not two a corner.")
        if not distinct.all():
            faces = faces[distinct]
            face_materials = None if face_materials is None else face_materials[distinct]
            uvs = None if uvs is None else uvs[distinct]
        kept = _without_twins(faces)
        if kept is not None:
            faces = np.ascontiguousarray(faces[kept])
            face_materials = None if face_materials is None else face_materials[kept]
            uvs = None if uvs is None else uvs[kept]
        if normals is not None:
            normals = np.ascontiguousarray(normals, np.float32)
            if normals.shape != vertices.shape:
                raise bad_answer(f"A mesh came with normals {normals.shape} for vertices {vertices.shape}.")
        if colours is not None:
            colours = np.ascontiguousarray(colours, np.float32)
            if colours.shape != vertices.shape or not (colours >= 0).all() or not (colours <= 1).all():
                raise bad_answer(f"A mesh came with colours {colours.shape} that are not one in 0 to 1 a vertex.")
        if seen is not None and np.shape(seen) != (len(vertices),):
            raise bad_answer(f"A mesh came with {len(vertices)} vertices and 'seen' {np.shape(seen)}.")
        corners = faces.reshape(-1)
        following = np.roll(faces, -1, axis=1).reshape(-1)
        low = np.minimum(corners, following).astype(np.int64)
        high = np.maximum(corners, following)
        keys, corner_edges = np.unique(low * max(len(vertices), 1) + high, return_inverse=True)
        edges = np.stack([keys // max(len(vertices), 1), keys % max(len(vertices), 1)], axis=1).astype(np.int32)
        return cls(
            vertices,
            faces,
            normals,
            edges,
            corner_edges.reshape(-1).astype(np.int32),
            colours=colours,
            seen=None if seen is None else np.asarray(seen, bool),
            face_materials=face_materials,
            uvs=uvs,
        )


def _without_twins(faces: np.ndarray) -> np.ndarray | None:
    """Which triangles stay when every further one over the same three vertices goes; None: all. Hardly any mesh has
    one: hashes tell first."""
    ordered = np.sort(faces, axis=1).astype(np.uint64)
    keys = (ordered[:, 0] * np.uint64(0x9E3779B97F4A7C15)) ^ (ordered[:, 1] << np.uint64(32)) ^ ordered[:, 2]
    if len(np.unique(keys)) == len(keys):
        return None
    _, first = np.unique(ordered, axis=0, return_index=True)
    return np.sort(first)


def encode_arrays(arrays: Mapping[str, np.ndarray | None]) -> bytes:
    """NPZ bytes of the arrays that are not None, in the types of the wire: float32, int32 for faces, float64 for poses.

    A name may end in the number of a shape ('faces_2').
    """
    types = {"faces": np.int32, "face_materials": np.int32, "scans": np.int32, "pose": np.float64}
    types["material_names"] = np.str_
    kept = {
        name: np.ascontiguousarray(value, types.get(name.rstrip("0123456789").rstrip("_"), np.float32))
        for name, value in arrays.items()
        if value is not None
    }
    buffer = io.BytesIO()
    np.savez(buffer, **kept)
    return buffer.getvalue()


def decode_mesh(data: bytes) -> MeshArrays:
    """NPZ bytes -> MeshArrays. Never unpickles. Raises EngineProblem('bad_answer') where the bytes are not a mesh."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            looks = ("colours", "seen", "face_materials", "uvs")
            wanted = ("vertices", "faces", "normals", "code", "pose", "own_frame", *looks)
            arrays = {name: archive[name] for name in wanted if name in archive.files}
        vertices, faces = arrays["vertices"], arrays["faces"]
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise bad_answer(f"A mesh could not be read ({type(error).__name__}: {error}).") from error
    if vertices.dtype.kind not in "fiu" or faces.dtype.kind not in "iu":
        raise bad_answer(f"A mesh came with vertices of type {vertices.dtype} and faces of type {faces.dtype}.")
    normals = arrays.get("normals")
    if normals is not None and (normals.dtype.kind != "f" or normals.size == 0):
        normals = None
    look = [arrays.get(name) for name in looks]
    if any(array is not None and array.dtype.kind not in "fiub" for array in look):
        raise bad_answer("A mesh came with colours or materials that are not numbers.")
    mesh = MeshArrays.of(vertices, faces, normals, *look)
    own = arrays.get("own_frame")
    if own is not None:
        if own.dtype.kind != "f" or own.shape != (4, 4) or not np.isfinite(own).all():
            raise bad_answer("A mesh came with a frame of its own that is no matrix.")
        mesh.own_frame = np.array(own, np.float64)
    code, pose = arrays.get("code"), arrays.get("pose")
    if code is not None:
        if code.dtype.kind != "f" or not np.isfinite(code).all():
            raise bad_answer("A code came that does not consist of finite numbers.")
        if pose is None or pose.dtype.kind != "f" or pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise bad_answer("A code came without the pose that belongs to it.")
        mesh.code, mesh.pose = np.ascontiguousarray(code, np.float32), np.array(pose, np.float64)
    return mesh
