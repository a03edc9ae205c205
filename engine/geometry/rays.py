"""What rays meet: Embree where there is a wheel of it (not on arm64), else warp's bounding volume hierarchy.

Both are exact up to rounding; rays along an edge may meet either of its faces.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..extras import need
from .clouds import FloatArray
from .meshes import Mesh

Backend = Literal["embree", "warp"]
FAR = 1e6
"""How far a ray of warp's reaches, in units of its direction."""


class RayCaster:
    """Rays against one mesh. Build once, cast often.  backend: None = Embree where it is installed.

    Raises InputError 'package_missing' where neither is.
    """

    def __init__(self, mesh: Mesh, backend: Backend | None = None) -> None:
        self.mesh = mesh
        corners = np.asarray(mesh.vertices, np.float64)[mesh.faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.face_normals = (cross / np.maximum(np.linalg.norm(cross, axis=1), 1e-30)[:, None]).astype(np.float32)
        vertices = np.ascontiguousarray(mesh.vertices, np.float32)
        faces = np.ascontiguousarray(mesh.faces, np.int32)
        self.backend = backend or ("embree" if importlib.util.find_spec("embreex") is not None else "warp")
        what = "Rays cannot be cast."
        if self.backend == "embree":
            self._scene = need("embreex.rtcore_scene", what).EmbreeScene()
            self._triangles = need("embreex.mesh_construction", what).TriangleMesh(self._scene, vertices, faces)
        else:
            self._warp = warp_mesh(vertices, faces)

    def first_hits(self, origins: FloatArray, directions: FloatArray) -> tuple[NDArray[np.int32], FloatArray]:
        """Rays (N, 3) + t (N, 3) -> the face met first (N,), -1 where none, and its t (N,), inf where none."""
        start, along = _rays(origins, directions)
        if self.backend == "embree":
            out: dict[str, Any] = self._scene.run(start, along, query="INTERSECT", output=1)
            face, t = np.asarray(out["primID"], np.int32), np.asarray(out["tfar"], np.float32)
        else:
            face, t = self._by_warp(start, along)
        return face, np.where(face >= 0, t, np.inf).astype(np.float32)

    def occluded(self, origins: FloatArray, directions: FloatArray) -> NDArray[np.bool_]:
        """(N,) whether the ray from each origin (N, 3) along its direction (N, 3) hits the mesh."""
        start, along = _rays(origins, directions)
        if self.backend == "embree":
            return np.asarray(np.asarray(self._scene.run(start, along, query="OCCLUDED")) == 0, np.bool_)
        return np.asarray(self._by_warp(start, along)[0] >= 0, np.bool_)

    def _by_warp(self, start: FloatArray, along: FloatArray) -> tuple[NDArray[np.int32], FloatArray]:
        import warp

        from ._warp_kernels import first_hit

        face: Any = warp.empty(len(start), dtype=warp.int32, device="cpu")
        t: Any = warp.empty(len(start), dtype=warp.float32, device="cpu")
        inputs = [self._warp.id, *(warp.array(rays, dtype=warp.vec3, device="cpu") for rays in (start, along)), FAR]
        warp.launch(first_hit, len(start), inputs=inputs, outputs=[face, t], device="cpu")
        return np.asarray(face.numpy(), np.int32), np.asarray(t.numpy(), np.float32)


def warp_mesh(vertices: FloatArray, faces: NDArray[np.int32]) -> Any:
    """A mesh (N, 3), (F, 3) as warp's queries take it, on the CPU. Raises InputError 'package_missing'."""
    warp = need("warp", "Distances to meshes and rays cannot be computed.")
    if hasattr(warp.config, "log_level"):
        warp.config.log_level = 30  # warnings; releases before 1.10 or so know only `quiet`
    else:
        warp.config.quiet = True
    warp.init()
    return warp.Mesh(
        points=warp.array(vertices, dtype=warp.vec3, device="cpu"),
        indices=warp.array(faces.ravel(), dtype=warp.int32, device="cpu"),
    )


def _rays(origins: FloatArray, directions: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(directions, np.float32)
