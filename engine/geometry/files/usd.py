"""USD, by usd-core: the meshes (or, where there are none, the points) of a stage, in its world, z up once read.

A stage may name other files. Only those in its own folder are opened: layers elsewhere, on a network or behind a
plugin's address are left out.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import gates
from .gates import Damaged, Float64Array, Int64Array, check_counts
from .gltf_arrays import Z_UP
from .loaded import Raw
from .polygons import triangulated
from .registry import Format

log = logging.getLogger(__name__)

MAX_PRIMS = 1_000_000


def read_usd(path: Path) -> Raw:
    from pxr import Sdf, Tf, Usd, UsdGeom

    try:
        layer = Sdf.Layer.FindOrOpen(str(path.resolve()))
        if layer is None:
            raise Damaged("It cannot be opened as a USD stage.")
        stage = Usd.Stage.Open(layer, Sdf.Layer.CreateAnonymous(), Usd.Stage.LoadAll)
        _refuse_strangers(path, stage)
        up = Z_UP if UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y else np.eye(3)
        surface, loose = _collected(path, stage, up)
    except Tf.ErrorException as error:
        log.debug("%s", path.name, exc_info=True)
        raise Damaged("Its content makes no sense to USD.") from error
    if surface is not None:
        if loose is not None:
            surface.notes.append(f"It has meshes and {len(loose.points):,} loose points; the points are not used.")
        return surface
    if loose is not None:
        return loose
    raise Damaged("Its stage has no meshes and no points.")


def _refuse_strangers(path: Path, stage: Any) -> None:
    folder = path.parent.resolve()
    for layer in stage.GetUsedLayers():
        real = layer.realPath
        if real and not Path(real.partition("[")[0]).resolve().is_relative_to(folder):
            raise gates.unsupported(
                path.name, f"It refers to {Path(real).name[:80]}, which is not beside it.",
                "Put all its files into one folder, or export it as one file (USDZ or flattened).",
            )  # fmt: skip


def _collected(path: Path, stage: Any, up: Float64Array) -> tuple[Raw | None, Raw | None]:
    from pxr import Usd, UsdGeom

    cache = UsdGeom.XformCache(Usd.TimeCode.EarliestTime())
    meshes: list[tuple[Float64Array, Int64Array, NDArray[np.float32] | None]] = []
    clouds: list[tuple[Float64Array, NDArray[np.float32] | None]] = []
    total = faces = 0
    for number, prim in enumerate(stage.Traverse(Usd.TraverseInstanceProxies())):
        if number > MAX_PRIMS:
            raise gates.too_large(path.name, f"It has more than {MAX_PRIMS:,} objects.")
        mesh = prim.IsA(UsdGeom.Mesh)
        if not mesh and not prim.IsA(UsdGeom.Points):
            continue
        shape = UsdGeom.Mesh(prim) if mesh else UsdGeom.Points(prim)
        if UsdGeom.Imageable(prim).ComputeVisibility() == UsdGeom.Tokens.invisible:
            continue
        local = np.asarray(shape.GetPointsAttr().Get(Usd.TimeCode.EarliestTime()) or [], np.float64).reshape(-1, 3)
        if len(local) == 0:
            continue
        matrix = np.asarray(cache.GetLocalToWorldTransform(prim), np.float64)  # of rows (x, y, z, 1)
        points = (local @ matrix[:3, :3] + matrix[3, :3]) @ up.T
        colours = _colours(shape, len(points))
        total += len(points)
        check_counts(path.name, total, faces)
        if not mesh:
            clouds.append((points, colours))
            continue
        triangles = _faces(shape, points, bool(np.linalg.det(matrix[:3, :3]) < 0))
        faces += len(triangles)
        check_counts(path.name, total, faces)
        meshes.append((points, triangles, colours))
    return _joined_meshes(meshes), _joined_clouds(clouds)


def _faces(shape: Any, points: Float64Array, mirrored: bool) -> Int64Array:
    from pxr import Usd, UsdGeom

    first = Usd.TimeCode.EarliestTime()
    counts = np.asarray(shape.GetFaceVertexCountsAttr().Get(first) or [], np.int64)
    flat = np.asarray(shape.GetFaceVertexIndicesAttr().Get(first) or [], np.int64)
    if len(counts) and (int(counts.min()) < 0 or int(counts.sum()) > len(flat)):
        raise Damaged("The faces of a mesh have more corners than it lists.")
    triangles, _ = triangulated(counts, flat[: int(counts.sum())], points)
    if len(triangles) and (int(triangles.min()) < 0 or int(triangles.max()) >= len(points)):
        raise Damaged("A face refers to a vertex that is not there.")
    left_handed = shape.GetOrientationAttr().Get() == UsdGeom.Tokens.leftHanded
    return triangles[:, ::-1] if left_handed != mirrored else triangles


def _colours(shape: Any, count: int) -> NDArray[np.float32] | None:
    """(N, 3) of the display colours, one for all or one a point; linear by the standard, so made sRGB."""
    from trimesh.visual.color import linear_to_srgb

    given = shape.GetDisplayColorPrimvar().ComputeFlattened()
    if given is None:
        return None
    values = np.asarray(given, np.float64).reshape(-1, 3)
    if len(values) == 1:
        values = np.tile(values, (count, 1))
    if len(values) != count:
        return None
    return np.asarray(linear_to_srgb(np.nan_to_num(values).clip(0, 1)), np.float32)


def _joined_meshes(parts: list[tuple[Float64Array, Int64Array, NDArray[np.float32] | None]]) -> Raw | None:
    if not parts:
        return None
    starts = np.cumsum([0, *(len(points) for points, _, _ in parts)])
    faces = np.concatenate([triangles + start for (_, triangles, _), start in zip(parts, starts, strict=False)])
    points = np.concatenate([points for points, _, _ in parts])
    return Raw(points, None, faces, None, _joined_colours([(p, c) for p, _, c in parts]))


def _joined_clouds(parts: list[tuple[Float64Array, NDArray[np.float32] | None]]) -> Raw | None:
    if not parts:
        return None
    return Raw(np.concatenate([points for points, _ in parts]), None, None, None, _joined_colours(parts))


def _joined_colours(parts: list[tuple[Float64Array, NDArray[np.float32] | None]]) -> NDArray[np.float32] | None:
    if all(colours is None for _, colours in parts):
        return None
    filled = [np.ones((len(points), 3), np.float32) if colours is None else colours for points, colours in parts]
    return np.concatenate(filled)


FORMATS = (
    Format(
        "USD", (".usd", ".usda", ".usdc", ".usdz"), read_usd, packages=(("pxr", "usd-core"),),
        isolated=True, by="usd-core",
        carries="points, faces, colours",
    ),
)  # fmt: skip
