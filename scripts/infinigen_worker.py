"""Runs inside .venv-infinigen (Python 3.11 with bpy and infinigen), started by scripts/build_dataset: not by hand.

Reads one JSON object a line from standard input, {"module", "factory", "seed", "output"}, builds that shape and writes
its triangles to `output` (an npz with `vertices` (V, 3) float32 in metres, front +x, z up, and `faces` (F, 3) int32),
or the reason to `output` + ".failed". Files appear whole. Whatever the generator prints is nobody's concern.
"""

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

import bpy
import numpy as np
from infinigen.core.util.math import FixedSeed


def clear_scene():
    """An empty scene, so that neither memory nor names grow from shape to shape."""
    bpy.ops.wm.read_factory_settings(use_empty=True)


def build(module, factory, seed):
    """The evaluated triangles of one seeded asset and all its children, in world space."""
    clear_scene()
    with FixedSeed(seed):
        maker = getattr(importlib.import_module("infinigen.assets.objects." + module), factory)(seed)
        asset = maker.spawn_asset(i=seed)
        maker.finalize_assets([asset])
    bpy.context.view_layer.update()
    graph = bpy.context.evaluated_depsgraph_get()
    vertices, faces, start = [], [], 0
    for thing in [asset, *asset.children_recursive]:
        if thing.type not in {"MESH", "CURVE", "SURFACE", "META", "FONT"}:
            continue
        evaluated = thing.evaluated_get(graph)
        mesh = evaluated.to_mesh()
        mesh.calc_loop_triangles()
        points = np.empty(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get("co", points)
        triangles = np.empty(3 * len(mesh.loop_triangles), np.int32)
        mesh.loop_triangles.foreach_get("vertices", triangles)
        matrix = np.array(evaluated.matrix_world)
        moved = points.reshape(-1, 3).astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        triangles = triangles.reshape(-1, 3)
        if np.linalg.det(matrix[:3, :3]) < 0:
            triangles = triangles[:, ::-1]
        vertices.append(moved)
        faces.append(triangles + start)
        start += len(moved)
        evaluated.to_mesh_clear()
    if not faces or not sum(len(part) for part in faces):
        raise ValueError("the factory made no faces")
    return np.concatenate(vertices).astype(np.float32), np.concatenate(faces).astype(np.int32)


def main():
    ready = Path(sys.argv[1])
    ready.touch()
    for line in sys.stdin:
        job = json.loads(line)
        output = Path(job["output"])
        partial = output.with_name(output.name + ".part")
        try:
            vertices, faces = build(job["module"], job["factory"], job["seed"])
            with partial.open("wb") as file:
                np.savez(file, vertices=vertices, faces=faces)
            os.replace(partial, output)
        except Exception:
            partial.write_text(traceback.format_exc(), encoding="utf-8")
            os.replace(partial, output.with_name(output.name + ".failed"))


if __name__ == "__main__":
    main()
