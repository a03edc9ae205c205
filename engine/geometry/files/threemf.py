"""3MF, by trimesh and lxml: the meshes of a print job, millimetres as they are. Its parts are zipped; a part that
unpacks to more than 4 GB, or shrank as no mesh does, is refused before it is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from . import gates
from .gates import Damaged, check_counts, too_large
from .loaded import Raw
from .registry import Format


def read_3mf(path: Path) -> Raw:
    import trimesh

    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > gates.MAX_TEXT_BYTES:
                raise too_large(path.name, "Unpacked it would need more than 1 GB.")
            for member in members:
                gates.check_compression(member.filename, member)
    except zipfile.BadZipFile as error:
        raise Damaged(f"It is not a sound archive ({error}).") from None
    scene = trimesh.load_scene(str(path), file_type="3mf", process=False)
    parts, count = [], 0
    for name in scene.graph.nodes_geometry:
        matrix, geometry = scene.graph[name]
        mesh = scene.geometry[geometry]
        if not hasattr(mesh, "faces"):
            continue
        faces = np.asarray(mesh.faces, np.int64)
        if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= len(mesh.vertices)):
            raise Damaged("A triangle refers to a vertex that is not there.")
        points = np.asarray(mesh.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        parts.append((points, (faces[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else faces) + count))
        count += len(points)
        check_counts(path.name, count, sum(len(triangles) for _, triangles in parts))
    if not parts:
        raise Damaged("It holds no mesh.")
    return Raw(np.concatenate([points for points, _ in parts]), None, np.concatenate([f for _, f in parts]))


FORMATS = (
    Format("3MF", (".3mf",), read_3mf, packages=(("lxml", "lxml"),), by="trimesh, lxml", carries="points, faces"),
)
