"""Files of shapes: one module a format or library, behind one registry and one set of gates.

    load(path) -> Loaded           checked, with notes, offset, colours, materials
    read_shape(path)               its Mesh or PointCloud
    write_mesh, write_cloud        by the suffix; whole or not at all
    Format, register               a format of one's own

Frames: coordinates come back as the file has them, with two exceptions. glTF says that y is up, and so may USD; Blender
converts when it imports and exports, and so do we: such a file is z up once read, and y up again when written. And what
lies far from the origin comes back about `Loaded.offset`.
"""

from .loaded import Loaded, Raw
from .registry import (
    Format,
    formats,
    load,
    read_shape,
    readable,
    register,
    unregister,
    writable,
    write_atomically,
    write_cloud,
    write_mesh,
)

__all__ = [
    "Format", "Loaded", "Raw", "formats", "load", "read_shape", "readable", "register", "unregister", "writable",
    "write_atomically", "write_cloud", "write_mesh",
]  # fmt: skip
