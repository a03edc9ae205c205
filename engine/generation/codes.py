"""Shapes as codes: the prior that a code belongs to, a whole surface's code, and the field that a code stands for.

A code here is that of a whole shape, (C, R, R, R), and decodes without any evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..completion.alignment import network_pose
from ..errors import InputError, JobFailed
from ..fields.base import Clouds, require
from ..fields.shapes import Implicit, Shape
from ..frames import up_rotation
from ..geometry.clouds import FloatArray, PointCloud
from ..geometry.connected import vertex_components
from ..geometry.meshes import IntArray, Mesh
from ..geometry.sampling import sample_surface, subsample
from ..geometry.transforms import Similarity, yaw_rotation
from ..priors.file import Prior, load_prior
from ..priors.latent import LatentModel
from ..priors.registry import list_priors
from ..surfaces.marching import Field
from ..surfaces.of import of, signed_distance

WHOLE_POINTS = 4096
"""Surface points that a whole shape is encoded from."""
CRUMBS = 0.03
"""Share of the surface below which a loose piece is left out: what was drawn from noise may leave some about."""


def prior_of(name: str, digest: str, device: str) -> Prior:
    """The prior called `name`; where `digest` (sha256) is given, the installed prior with it, whatever its name.

    Raises InputError 'prior_missing' where none has that hash, naming both.
    """
    if not digest:
        return load_prior(name, device)
    try:
        prior = load_prior(name, device)
        if prior.sha256 == digest:
            return prior
        why = f"The installed prior {name} is another version ({prior.sha256[:12]})."
    except InputError:
        why = f"No prior called {name} is installed."
    installed = list_priors()
    for info in installed:
        if info.sha256 == digest:
            return load_prior(str(info.path), device)
    others = ", ".join(f"{info.name} ({info.sha256[:12]})" for info in installed) or "none"
    raise InputError(
        "prior_missing",
        f"The prior {name} ({digest[:12]}) that the shape's code belongs to is not installed.",
        f"{why} Installed are: {others}.",
        "Import that prior's file, or encode the shape's mesh again with a prior that is installed.",
    )


def latent_of(prior: Prior) -> LatentModel:
    """The prior's latent distribution. Raises InputError 'prior_cannot_generate' where it has none."""
    if prior.latent is None:
        raise InputError(
            "prior_cannot_generate",
            f"The prior {prior.name} cannot make new shapes.",
            "Its file has no latent distribution: it was trained by an older version, or as an architecture without.",
            "Choose another prior, or train this one again.",
        )
    return prior.latent


def code_tensor(prior: Prior, code: FloatArray) -> Tensor:
    """A code as it travels -> (C, R, R, R) on the prior's device. Raises InputError 'code_mismatch'."""
    if tuple(code.shape) != tuple(prior.field.code_shape):
        raise InputError(
            "code_mismatch",
            f"The shape's code does not fit the prior {prior.name}.",
            f"It has the shape {tuple(code.shape)}; the prior's codes are {tuple(prior.field.code_shape)}.",
            "Use the prior that the shape was made with, or encode its mesh again.",
        )
    return torch.as_tensor(code, dtype=torch.float32, device=prior.device)


@dataclass
class DecodedShape:
    """A code (*code_shape) and what it was decoded to, a batch of one."""

    prior: Prior
    code: Tensor
    shape: Shape

    def signed_distance(self, points: Tensor) -> Tensor:
        """(N, 3) canonical -> (N,) signed distance, negative inside, of a shape of any kind. No gradients are kept."""
        return self._field(points) - self.prior.field.thicken

    @cached_property
    def _field(self) -> Field:
        return signed_distance(self.shape)

    @property
    def whole(self) -> Shape:
        """The shape, thickened as its family says."""
        if not isinstance(self.shape, Implicit) or not self.prior.field.thicken:
            return self.shape
        return implicit(self.signed_distance, self.code, self.shape.lipschitz)


def implicit(field: Field, code: Tensor, lipschitz: float = 1.5) -> Implicit:
    """A field (N, 3) -> (N,) on its own as a shape; code: of what it was made from, for the device."""
    return Implicit(lambda _, points: field(points[0])[None], code[None], lipschitz=lipschitz)


def decode(prior: Prior, code: Tensor) -> DecodedShape:
    """code: (*code_shape)."""
    with torch.no_grad():
        return DecodedShape(prior, code, prior.field.decode(code[None]))


_PIECES_AT = 80


def largest_piece(shape: DecodedShape) -> float:
    """Share of the shape's surface that is in its largest piece, 0 (nothing there) to 1 (it holds together), at a
    resolution of its own, so that it does not depend on that of a request. The walls of hollows are no pieces."""
    try:
        mesh = of(shape.whole, _PIECES_AT, device=shape.code.device).mesh
    except JobFailed:
        return 0.0
    piece = vertex_components(mesh)[mesh.faces[:, 0]]
    a, b, c = mesh.vertices.astype(np.float64)[mesh.faces.T]
    area = np.bincount(piece, weights=np.linalg.norm(np.cross(b - a, c - a), axis=1))
    volume = np.bincount(piece, weights=np.einsum("ij,ij->i", a, np.cross(b, c)))
    area = area[volume > 0]
    return float(area.max() / area.sum()) if len(area) else 0.0


def encode_points(prior: Prior, points: FloatArray) -> Tensor:
    """Evenly spread points (N, 3) of a whole surface, canonical frame -> its code (C, R, R, R).

    Raises InputError 'prior_cannot_encode' for architectures without an encoder.
    """
    require(prior.field, "encode", prior.name)
    at = torch.as_tensor(points, dtype=torch.float32, device=prior.device)
    with torch.no_grad():
        return prior.field.encode(prior.field.observe(Clouds.of_wholes(at[None]))).mean[0]


def surface_points(mesh: Mesh, rng: np.random.Generator, count: int = WHOLE_POINTS) -> FloatArray:
    """(count, 3) points evenly spread over the mesh's surface."""
    points, _ = sample_surface(mesh, 4 * count, rng)
    return subsample(PointCloud(points), count, rng).points


def encode_mesh(prior: Prior, mesh: Mesh, seed: int = 0) -> Tensor:
    """A whole surface in the canonical frame -> its code (C, R, R, R)."""
    return encode_points(prior, surface_points(mesh, np.random.default_rng([seed, 11])))


def encode_whole(
    prior: Prior, points: FloatArray, faces: IntArray | None, *, align: str, up: str, seed: int
) -> tuple[Tensor, Similarity]:
    """A whole surface in the scene -> its code (C, R, R, R) and its pose, canonical frame -> scene: the box of what is
    there is the canonical one.

    points: (N, 3), evenly spread over the surface where there are no faces (F, 3).  align, up: as in CompleteRequest.
    """
    centre = np.zeros(3) if align == "none" else points.astype(np.float64).mean(0)
    local = Similarity(translation=-centre)
    rng = np.random.default_rng([seed, 11])
    near = local.apply(points)
    if faces is not None and len(faces):
        samples = surface_points(Mesh(near, faces), rng)
        corners = near[np.unique(faces)]
    else:
        samples, corners = subsample(PointCloud(near), WHOLE_POINTS, rng).points, near
    upright = Similarity(rotation=up_rotation(up))
    if align == "similarity" and prior.pose is not None:
        pose = network_pose(prior, PointCloud(upright.apply(samples)), turned=True).to_scene.rotation
        upright = Similarity(rotation=yaw_rotation(-float(np.arctan2(pose[1, 0], pose[0, 0])))).after(upright)
    to_canonical = upright.after(local)
    if align != "none":
        standing = upright.apply(corners).astype(np.float64)
        low, high = standing.min(0), standing.max(0)
        size = float((high - low).max())
        box = Similarity(1.0 / size, np.eye(3), -(low + high) / (2 * size))
        to_canonical = box.after(to_canonical)
        samples = box.apply(upright.apply(samples))
    else:
        samples = upright.apply(samples)
    return encode_points(prior, samples), to_canonical.inverse()


def similarity_of(matrix: NDArray[np.float64]) -> Similarity:
    """(4, 4) matrix -> Similarity. Raises InputError 'pose_invalid' for one that shears, mirrors or stretches."""
    linear = np.asarray(matrix, np.float64)[:3, :3]
    scale = float(np.cbrt(max(np.linalg.det(linear), 0.0)))
    rotation = linear / scale if scale > 0 else np.zeros((3, 3))
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise InputError(
            "pose_invalid",
            "The shape's pose cannot be used.",
            "Its matrix is not a uniform scale, a rotation and a translation.",
            "Send the pose that came with the shape's code, or leave it out.",
        )
    u, _, v = np.linalg.svd(rotation)
    return Similarity(scale, u @ v, np.asarray(matrix, np.float64)[:3, 3].copy())


def blended_field(
    first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], weight: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """x -> (1 - w) first + w second: signed distances, so the blend's surface is each one's where w is 0 or 1."""

    def field(points: Tensor) -> Tensor:
        w = weight(points)
        return (1 - w) * first(points) + w * second(points)

    return field
