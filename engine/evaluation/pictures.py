"""Small pictures of shapes for reports: ray-cast meshes, splatted clouds, contact sheets. No window, no GPU.

All pictures of one row are made with one `Camera`, so that they can be compared by eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry.clouds import FloatArray
from ..geometry.meshes import Mesh
from ..geometry.rays import RayCaster
from ..geometry.sampling import estimate_normals

Picture = NDArray[np.uint8]
Colour = tuple[float, float, float]

CLAY: Colour = (0.80, 0.78, 0.75)
OBSERVED: Colour = (0.90, 0.45, 0.20)
COMPLETED: Colour = (0.45, 0.62, 0.82)
PAPER = 255
"""Grey level of the background."""

_EMPTY = np.zeros((0, 3), np.float32)


@dataclass
class Camera:
    """A pinhole camera that looks at `target` (3,) from `eye` (3,), both in the frame of what is drawn, z up.

    size: pixels of the square picture.  half_angle: half of the field of view, radians.
    """

    eye: FloatArray
    target: FloatArray
    size: int = 220
    half_angle: float = 0.32

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Right, up and forward unit vectors (3,)."""
        forward = np.asarray(self.target, np.float64) - self.eye
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right = np.array([1.0, 0.0, 0.0]) if np.linalg.norm(right) < 1e-6 else right / np.linalg.norm(right)
        return right, np.cross(right, forward), forward

    def rays(self, oversampling: int = 1) -> FloatArray:
        """(n * n, 3) unit directions, n = size * oversampling, rows from top to bottom."""
        right, up, forward = self.axes()
        n = self.size * oversampling
        at = ((np.arange(n) + 0.5) / n * 2.0 - 1.0) * np.tan(self.half_angle)
        directions = forward + at[None, :, None] * right - at[:, None, None] * up
        directions /= np.linalg.norm(directions, axis=2, keepdims=True)
        flat: FloatArray = directions.reshape(-1, 3).astype(np.float32)
        return flat


def camera_for(points: FloatArray, azimuth: float = -60.0, elevation: float = 22.0, size: int = 220) -> Camera:
    """A camera at `azimuth` (degrees from +x towards +y; -90 is the front) and `elevation`, framing points (N, 3)."""
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    centre, radius = (low + high) / 2, max(float(np.linalg.norm(high - low)) / 2, 1e-9)
    a, e = np.deg2rad(azimuth), np.deg2rad(elevation)
    toward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    camera = Camera((centre + 3.4 * radius * toward).astype(np.float32), centre.astype(np.float32), size)
    right, up, forward = camera.axes()
    offset = points.astype(np.float64) - camera.eye
    depth = offset @ forward
    reach = max(float(np.abs(offset @ right / depth).max()), float(np.abs(offset @ up / depth).max()))
    camera.half_angle = float(np.arctan(1.06 * reach))
    return camera


def draw_mesh(
    mesh: Mesh, camera: Camera, colour: Colour = CLAY, *, ground: float | None = None, oversampling: int = 2
) -> Picture:
    """(size, size, 3) picture: two lights, ambient occlusion, and a soft shadow on the plane z = `ground` if given.

    Faces are shaded alike from both sides (what is judged is the surface, not its winding); vertex normals, where the
    mesh has them, smooth the shading. A mesh without faces leaves the paper empty.
    """
    n = camera.size * oversampling
    rays = camera.rays(oversampling)
    light = np.full(len(rays), 1.0)
    tint = np.zeros(len(rays), bool)
    caster = RayCaster(mesh) if len(mesh.faces) else None
    if caster is None:
        face, distance = np.full(len(rays), -1), np.full(len(rays), np.inf)
    else:
        face, distance = caster.first_hits(np.broadcast_to(camera.eye, rays.shape), rays)
    size = float(np.linalg.norm(np.asarray(camera.target) - camera.eye)) / 3.4
    hit = np.flatnonzero(face >= 0)
    if len(hit) and caster is not None:
        points = camera.eye + rays[hit] * distance[hit, None]
        flat = caster.face_normals[face[hit]]
        normals = flat if mesh.normals is None else _interpolated(mesh, face[hit], points)
        flat = np.where((flat * rays[hit]).sum(1, keepdims=True) > 0, -flat, flat)
        normals = np.where((normals * flat).sum(1, keepdims=True) < 0, -normals, normals)
        right, up, forward = camera.axes()
        key = -0.75 * forward + 0.55 * up - 0.45 * right
        fill = -0.5 * forward + 0.1 * up + 0.9 * right
        open_sky = _openness(caster, points + 1e-3 * size * flat, flat, 0.8 * size)
        shade = 0.34 + 0.56 * (normals @ (key / np.linalg.norm(key))).clip(0) + 0.16 * (
            normals @ (fill / np.linalg.norm(fill))
        ).clip(0)  # fmt: skip
        light[hit] = shade * (0.45 + 0.55 * open_sky)
        tint[hit] = True
    if ground is not None and caster is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            to_ground = (ground - camera.eye[2]) / rays[:, 2]
        floor = np.flatnonzero((face < 0) & (to_ground > 0) & np.isfinite(to_ground) & (to_ground < 12 * size))
        spots = (camera.eye + rays[floor] * to_ground[floor, None]).astype(np.float32)
        near = np.linalg.norm(spots[:, :2] - np.asarray(camera.target)[:2], axis=1) < 1.6 * size
        floor, spots = floor[near], spots[near]
        above = np.tile(np.array([0.0, 0.0, 1.0], np.float32), (len(spots), 1))
        light[floor] = 0.55 + 0.45 * _openness(caster, spots + 1e-3 * size * above, above, 0.9 * size)
    picture = np.where(tint[:, None], light[:, None] * np.array(colour) * 255.0, light[:, None] * PAPER)
    blocks = picture.clip(0, 255).reshape(camera.size, oversampling, camera.size, oversampling, 3).mean((1, 3))
    assert n == camera.size * oversampling
    return _bytes(blocks)


def draw_cloud(
    points: FloatArray, camera: Camera, colour: Colour = OBSERVED, *, viewpoint: FloatArray | None = None
) -> Picture:
    """(size, size, 3) picture of points (N, 3) as shaded discs, the nearest in front."""
    n = camera.size * 2
    picture = np.full((n, n, 3), float(PAPER))
    right, up, forward = camera.axes()
    offset = points.astype(np.float64) - camera.eye
    depth = offset @ forward
    ahead = depth > 1e-6
    offset, depth = offset[ahead], depth[ahead]
    if len(depth) == 0:
        return _bytes(picture.reshape(camera.size, 2, camera.size, 2, 3).mean((1, 3)))
    if len(depth) >= 3:
        normals = estimate_normals(points[ahead], 12, viewpoint)
        key = -0.75 * forward + 0.55 * up - 0.45 * right
        shade = 0.45 + 0.55 * np.abs(normals @ (key / np.linalg.norm(key)))
    else:
        shade = np.ones(len(depth))
    scale = n / 2 / np.tan(camera.half_angle)
    x = offset @ right / depth * scale + n / 2
    y = n / 2 - offset @ up / depth * scale
    radius = max(n / 2 * 0.011, 1.5)
    reach = int(np.ceil(radius))
    disc = [
        (dx, dy) for dx in range(-reach, reach + 1) for dy in range(-reach, reach + 1) if dx**2 + dy**2 <= radius**2
    ]
    nearest = np.full((n, n), np.inf)
    for paint in (False, True):  # first the depth of the nearest disc at every pixel, then its colour
        for dx, dy in disc:
            column, row = np.floor(x + dx).astype(int), np.floor(y + dy).astype(int)
            inside = (column >= 0) & (column < n) & (row >= 0) & (row < n)
            column, row, far = column[inside], row[inside], depth[inside]
            if paint:
                front = far <= nearest[row, column]
                picture[row[front], column[front]] = shade[inside][front, None] * np.array(colour) * 255.0
            else:
                np.minimum.at(nearest, (row, column), far)
    return _bytes(picture.reshape(camera.size, 2, camera.size, 2, 3).mean((1, 3)))


def contact_sheet(
    rows: Sequence[Sequence[Picture]], headers: Sequence[str], captions: Sequence[str], *, blocks: int = 1
) -> Picture:
    """Rows of equally large pictures side by side, `headers` above the columns and a caption under each row; laid out
    in `blocks` columns of rows."""
    from PIL import Image, ImageDraw, ImageFont

    size = rows[0][0].shape[0]
    wide, high, head = len(headers) * size + 16, size + 20, 26
    per_block = -(-len(rows) // blocks)
    sheet = Image.new("RGB", (wide * blocks, head + high * per_block), (PAPER,) * 3)
    pen = ImageDraw.Draw(sheet)
    font: Any = ImageFont.load_default(13)
    for block in range(blocks):
        for column, header in enumerate(headers):
            pen.text((block * wide + column * size + size // 2, 6), header, fill=(60, 60, 60), font=font, anchor="ma")
    for number, (row, caption) in enumerate(zip(rows, captions, strict=True)):
        left, top = number // per_block * wide, head + number % per_block * high
        for column, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (left + column * size, top))
        pen.text((left + 6, top + size), caption, fill=(110, 110, 110), font=font)
    whole: Picture = np.asarray(sheet)
    return whole


def save_picture(path: Path, picture: Picture) -> None:
    """PNG; the folder is made, an existing file is replaced whole."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    Image.fromarray(picture).save(partial, format="PNG", optimize=True)
    partial.replace(path)


def _bytes(picture: NDArray[np.float64]) -> Picture:
    eight_bit: Picture = np.rint(picture).clip(0, 255).astype(np.uint8)
    return eight_bit


def _interpolated(mesh: Mesh, face: NDArray[Any], points: NDArray[Any]) -> NDArray[np.float64]:
    """Vertex normals interpolated at points (N, 3) on faces (N,)."""
    assert mesh.normals is not None
    a, b, c = (np.asarray(mesh.vertices, np.float64)[mesh.faces[face, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    square = np.maximum((cross * cross).sum(1), 1e-30)
    u = (np.cross(c - b, points - b) * cross).sum(1) / square
    v = (np.cross(a - c, points - c) * cross).sum(1) / square
    na, nb, nc = (np.asarray(mesh.normals, np.float64)[mesh.faces[face, k]] for k in range(3))
    normals = u[:, None] * na + v[:, None] * nb + (1 - u - v)[:, None] * nc
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    unit: NDArray[np.float64] = normals / np.maximum(length, 1e-12)
    return unit


def _openness(
    caster: RayCaster, points: NDArray[Any], normals: NDArray[Any], reach: float, rays: int = 12
) -> NDArray[np.float64]:
    """(N,) share of the cosine-weighted hemisphere about each normal in which nothing stands within `reach`."""
    if len(points) == 0:
        return np.zeros(0)
    rng = np.random.default_rng(0)
    free = np.zeros(len(points))
    for _ in range(rays):
        sphere = rng.standard_normal((len(points), 3))
        sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
        directions = normals + 0.999 * sphere
        directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
        _, distance = caster.first_hits(points.astype(np.float32), directions.astype(np.float32))
        free += (distance / reach).clip(0, 1)
    return free / rays
