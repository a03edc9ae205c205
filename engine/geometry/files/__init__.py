"""Files of shapes: one module a format or library, behind one registry and one set of gates.

    load(path) -> Loaded           checked, with notes, offset, colours, materials
    read_shape(path)               its Mesh or PointCloud
    write_mesh, write_cloud        by the suffix; whole or not at all
    Format, register               a format of one's own

Frames: a shape comes back as Blender's importer shows the file at its defaults, z up. OBJ and glTF have y up, and so
may USD: such a file is turned when read, and turned again when written. What lies far from the origin comes back about
`Loaded.offset`.
"""

from .axes import axis_in_scene
from .loaded import Loaded, Raw
from .registry import (
    Format,
    format_of,
    formats,
    load,
    read_shape,
    readable,
    register,
    unregister,
    writable,
    write_cloud,
    write_mesh,
)

__all__ = [
    "Format", "Loaded", "Raw", "axis_in_scene", "format_of", "formats", "load", "read_shape", "readable",
    "register", "unregister", "writable", "write_cloud", "write_mesh",
]  # fmt: skip
