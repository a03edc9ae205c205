"""Triangle meshes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .clouds import FloatArray

IntArray = NDArray[np.int32]


@dataclass(frozen=True)
class Material:
    """name: as its file has it.  colour: its base colour, sRGB in 0..1; None where it is not known."""

    name: str
    colour: tuple[float, float, float] | None = None


@dataclass
class Mesh:
    """Triangles, counter-clockwise seen from outside.

    vertices: (V, 3) float32.  faces: (F, 3) int32 into vertices.
    normals: (V, 3) float32 unit vertex normals, or None.  colours: (V, 3) float32, sRGB in 0..1, or None.
    seen: (V,) bool, whether a vertex's look was observed, else it is a guess; None: nobody asked.
    materials, face_materials: (F,) int32 into them, -1 for a face without one; None where no face has any.
    uvs: (F, 3, 2) float32 in 0..1, of the corners of the faces, v upwards; None for a mesh that is not unwrapped.
    own_frame: (4, 4) float64, rigid, from the object's own frame (origin in the middle of its base, z up, front -y) to
    that of the vertices; None where nobody knows. The vertices are not in it: a scene gives the object this matrix.
    """

    vertices: FloatArray
    faces: IntArray
    normals: FloatArray | None = None
    colours: FloatArray | None = None
    seen: NDArray[np.bool_] | None = None
    materials: tuple[Material, ...] = ()
    face_materials: IntArray | None = None
    uvs: FloatArray | None = None
    own_frame: NDArray[np.float64] | None = None


def material_colours(mesh: Mesh) -> FloatArray | None:
    """(V, 3) sRGB: the base colour of the material that a vertex's faces have (of several the last), white where that
    is not known; None where none is."""
    if mesh.face_materials is None or all(material.colour is None for material in mesh.materials):
        return None
    colours = np.ones((len(mesh.vertices), 3), np.float32)
    for number, material in enumerate(mesh.materials):
        if material.colour is not None:
            colours[np.unique(mesh.faces[mesh.face_materials == number])] = material.colour
    return colours


def face_areas(mesh: Mesh) -> NDArray[np.float64]:
    """(F,) areas, in the square of the mesh's unit."""
    return np.asarray(0.5 * np.linalg.norm(_face_vectors(mesh), axis=1), np.float64)


def face_normals(mesh: Mesh) -> FloatArray:
    """(F, 3) unit normals by the winding; the zero vector for a triangle without area."""
    return _unit(_face_vectors(mesh))


def vertex_normals(mesh: Mesh) -> FloatArray:
    """(V, 3) unit normals: the faces' normals weighed by area; the zero vector where no face has any."""
    total = np.zeros((len(mesh.vertices), 3))
    vectors = _face_vectors(mesh)
    for corner in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(mesh.faces[:, corner], weights=vectors[:, axis], minlength=len(total))
    return _unit(total)


def surface_area(mesh: Mesh) -> float:
    return float(face_areas(mesh).sum())


def enclosed_volume(mesh: Mesh) -> float:
    """Signed volume of a closed mesh, positive where the faces look outwards (divergence theorem)."""
    if len(mesh.vertices) == 0:
        return 0.0
    vertices = mesh.vertices.astype(np.float64)
    a, b, c = (vertices - vertices.mean(axis=0))[mesh.faces.T]
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)


def compacted(mesh: Mesh) -> Mesh:
    """The same triangles without the vertices that none of them uses."""
    used = np.zeros(len(mesh.vertices), bool)
    used[mesh.faces] = True
    if bool(used.all()):
        return mesh
    number = (np.cumsum(used) - 1).astype(np.int32)
    return replace(
        mesh,
        vertices=mesh.vertices[used],
        faces=number[mesh.faces],
        normals=None if mesh.normals is None else mesh.normals[used],
        colours=None if mesh.colours is None else mesh.colours[used],
        seen=None if mesh.seen is None else mesh.seen[used],
    )


def with_faces(mesh: Mesh, faces: IntArray, kept: NDArray[np.int64] | NDArray[np.bool_]) -> Mesh:
    """A mesh of these (F', 3) triangles over the same vertices; those that none uses go. kept: which of the mesh's own
    faces they were, as indices or a mask, for what belongs to a face."""
    own = None if mesh.face_materials is None else mesh.face_materials[kept]
    uvs = None if mesh.uvs is None else mesh.uvs[kept]
    return compacted(replace(mesh, faces=faces, face_materials=own, uvs=uvs))


def cut_at_seams(mesh: Mesh) -> tuple[Mesh, FloatArray]:
    """An unwrapped mesh whose vertices are doubled where UVs meet, and (V, 2) the UVs of these vertices: for what knows
    no corners."""
    assert mesh.uvs is not None
    corners = np.column_stack([mesh.faces.reshape(-1).astype(np.float64), mesh.uvs.reshape(-1, 2)])
    _, first, number = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    of = mesh.faces.reshape(-1)[first]
    cut = replace(
        mesh,
        vertices=mesh.vertices[of],
        faces=number.reshape(-1, 3).astype(np.int32),
        normals=None if mesh.normals is None else mesh.normals[of],
        colours=None if mesh.colours is None else mesh.colours[of],
        seen=None if mesh.seen is None else mesh.seen[of],
    )
    return cut, mesh.uvs.reshape(-1, 2)[first]


def _face_vectors(mesh: Mesh) -> NDArray[np.float64]:
    """(F, 3) normals of length twice the area."""
    a, b, c = mesh.vertices.astype(np.float64)[mesh.faces.T]
    return np.asarray(np.cross(b - a, c - a), np.float64)


def _unit(vectors: NDArray[np.float64]) -> FloatArray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0).astype(np.float32)
