"""A result laid flat for painting: UVs by xatlas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..extras import need
from ..geometry.meshes import Mesh


def unwrapped(mesh: Mesh) -> Mesh:
    """The mesh with UVs for the corners of its faces, in one square: charts of little distortion that do not overlap,
    some of them mirrored.

    Takes about 0.1 s for 1,000 triangles, more for each of more (0.4 s for 5,000, 18 s for 50,000 on one core): a
    budget of faces helps. Raises InputError 'package_missing' without xatlas.
    """
    xatlas = need("xatlas", "The mesh cannot be unwrapped.")
    vertices, corners, uvs = xatlas.parametrize(mesh.vertices, mesh.faces.astype(np.uint32))
    assert (vertices[corners] == mesh.faces).all()  # in their order
    return replace(mesh, uvs=np.ascontiguousarray(uvs[corners], np.float32).clip(0.0, 1.0))
