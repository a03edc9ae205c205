"""A mesh of a shape of any kind, and the distances that each kind answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.errors import JobFailed
from engine.fields.shapes import Implicit, Parts, Patches, Points
from engine.geometry.connected import is_watertight
from engine.geometry.meshes import Mesh, enclosed_volume, face_normals
from engine.geometry.metrics import distances_to_surface
from engine.geometry.sampling import sample_surface
from engine.geometry.signed_distance import winding_number
from engine.surfaces.of import of, part_meshes, signed_distance


def ball(features: Tensor, points: Tensor) -> Tensor:
    return points.norm(dim=-1) - features


def on_ball(count: int, radius: float = 0.4) -> Tensor:
    points = torch.randn(1, count, 3, generator=torch.Generator().manual_seed(0))
    return radius * points / points.norm(dim=-1, keepdim=True)


def test_an_implicit_shape_is_marched() -> None:
    surface = of(Implicit(ball, torch.tensor([[0.3]])), 48)
    assert is_watertight(surface.mesh) and surface.evaluations < 49**3
    assert np.allclose(np.linalg.norm(surface.mesh.vertices, axis=1), 0.3, atol=0.002)


def test_a_field_whose_steepness_nobody_knows_is_found_by_its_sign() -> None:
    """A logit changes fast: what relies on distances would drop the cells that it has its zero in."""
    steep = Implicit(lambda f, x: torch.tanh(40 * ball(f, x)), torch.tensor([[0.3]]), metric=False, lipschitz=0.0)
    mesh = of(steep, 96).mesh
    assert is_watertight(mesh)
    assert np.allclose(np.linalg.norm(mesh.vertices, axis=1), 0.3, atol=0.01)


def test_of_several_shapes_one_is_taken() -> None:
    two = Implicit(ball, torch.tensor([[0.2], [0.3]]))
    assert np.ptp(of(two.at(1), 32).mesh.vertices) == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize("count", [300, 3000])
def test_points_become_the_solid_that_they_are_the_surface_of(count: int) -> None:
    mesh = of(Points(on_ball(count)), 64).mesh
    assert is_watertight(mesh)
    assert enclosed_volume(mesh) == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.15)
    inside = signed_distance(Points(on_ball(count)))(torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]))
    assert float(inside[0]) < -0.1 and float(inside[1]) > 0.05


def test_a_sheet_of_points_gets_a_body() -> None:
    flat = torch.rand(1, 4000, 3, generator=torch.Generator().manual_seed(0)) * 0.8 - 0.4
    flat[..., 2] = 0.1
    mesh = of(Points(flat), 96).mesh
    assert is_watertight(mesh)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    assert 0.75 < high[0] - low[0] < 0.9 and 0.005 < high[2] - low[2] < 0.06
    assert (low[2] + high[2]) / 2 == pytest.approx(0.1, abs=0.01)


def test_another_mesher_may_be_given() -> None:
    tetrahedron = Mesh(np.eye(4, 3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
    assert of(Points(on_ball(10)), 32, mesher=lambda points, resolution: tetrahedron).mesh is tetrahedron


def test_distances_to_points() -> None:
    points = on_ball(500)
    asked = torch.rand(1, 70, 3) - 0.5
    expected = (asked[0][:, None] - points[0][None]).norm(dim=-1).amin(1)
    torch.testing.assert_close(Points(points).values(asked)[0], expected)


def folded(features: Tensor, uv: Tensor) -> Tensor:
    """Two square patches at the heights of the features."""
    flat = torch.cat([uv - 0.5, torch.zeros_like(uv[:, :1])], -1)
    lifted = torch.stack([flat, flat]) + torch.zeros(1, 2, 1, 3)
    lifted = lifted.expand(len(features), -1, -1, -1).clone()
    lifted[..., 2] += features[:, :, None]
    return lifted


def sphere(features: Tensor, uv: Tensor) -> Tensor:
    longitude, latitude = 2 * math.pi * uv[:, 0], math.pi * (uv[:, 1] - 0.5)
    x, y, z = latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()
    return features[:, :, None, None] * torch.stack([x, y, z], -1)[None, None]


def test_patches_keep_their_triangles_and_bring_uvs() -> None:
    sheets = Patches(folded, torch.tensor([[-0.2, 0.3]]))
    surface = of(sheets, 64)
    assert surface.uvs is not None and surface.uvs.shape == (*surface.mesh.faces.shape, 2)
    corners = surface.mesh.vertices[surface.mesh.faces]
    assert np.allclose(corners[..., :2] + 0.5, surface.uvs, atol=1e-6)
    assert np.allclose(np.unique(surface.mesh.vertices[:, 2]), [-0.2, 0.3])
    near = sheets.values(torch.tensor([[[0.0, 0.0, 0.0]]]))
    assert float(near) == pytest.approx(0.2, abs=0.03)


def test_a_closed_patch_is_a_closed_mesh_that_looks_outward() -> None:
    surface = of(Patches(sphere, torch.tensor([[0.4]]), closed=True), 96)
    assert is_watertight(surface.mesh) and surface.uvs is not None
    assert enclosed_volume(surface.mesh) == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.05)
    middle = surface.mesh.vertices[surface.mesh.faces].mean(1)
    assert bool(((face_normals(surface.mesh) * middle).sum(1) > 0).all())
    width = np.ptp(surface.uvs[..., 0], axis=1)
    assert float(width.max()) < 0.2  # no face goes back across the seam


def turned(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def two_parts(exponents: Tensor | None = None, existence: Tensor | None = None) -> Parts:
    sizes = torch.tensor([[[0.2, 0.1, 0.3], [0.1, 0.1, 0.1]]])
    turns = torch.stack([turned(0.5), turned(0.0)])[None]
    return Parts(sizes, turns, torch.tensor([[[-0.2, 0.0, 0.0], [0.3, 0.1, 0.0]]]), exponents, existence)


def test_boxes_are_their_distances_and_their_meshes() -> None:
    boxes = two_parts()
    meshes = part_meshes(boxes)
    assert len(meshes) == 2 and all(is_watertight(mesh) for mesh in meshes)
    assert [round(enclosed_volume(mesh), 4) for mesh in meshes] == [0.048, 0.008]
    for mesh in meshes:
        on_it = torch.as_tensor(sample_surface(mesh, 500, np.random.default_rng(0))[0])[None]
        assert float(boxes.values(on_it).abs().max()) < 1e-5
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (300, 3)).astype(np.float32)
    value = boxes.values(torch.as_tensor(points)[None])[0].numpy()
    exact = np.minimum(*(distances_to_surface(mesh, points) for mesh in meshes))
    assert np.allclose(value[value > 0], exact[value > 0], atol=1e-4) and 10 < (value < 0).sum() < 30
    assert bool(((winding_number(meshes[0], points) + winding_number(meshes[1], points) > 0.5) == (value < 0)).all())
    whole = of(boxes, 64).mesh
    assert is_watertight(whole) and enclosed_volume(whole) == pytest.approx(0.056, rel=1e-3)


def test_superquadrics_are_zero_on_their_meshes() -> None:
    shape = two_parts(torch.tensor([[[0.3, 0.4], [1.0, 1.0]]]))
    for k, mesh in enumerate(part_meshes(shape, detail=24)):
        assert is_watertight(mesh) and enclosed_volume(mesh) > 0
        assert float(shape.values(torch.as_tensor(mesh.vertices)[None]).max()) < 1e-3
        alone = Parts(shape.sizes[:, k : k + 1], shape.rotations[:, k : k + 1], shape.centres[:, k : k + 1],
                      shape.exponents[:, k : k + 1])  # type: ignore[index]  # fmt: skip
        assert float(alone.values(torch.as_tensor(mesh.vertices)[None]).abs().max()) < 1e-3
    round_one = part_meshes(shape, detail=24)[1]
    assert np.allclose(np.linalg.norm(round_one.vertices - [0.3, 0.1, 0.0], axis=1), 0.1, atol=1e-5)


def test_a_part_that_does_not_exist_is_not_there() -> None:
    one = two_parts(existence=torch.tensor([[0.9, 0.1]]))
    assert len(part_meshes(one)) == 1
    assert float(one.values(torch.tensor([[[0.3, 0.1, 0.0]]]))) > 0.1
    with pytest.raises(JobFailed) as nothing:
        of(two_parts(existence=torch.tensor([[0.1, 0.1]])), 32)
    assert nothing.value.code == "empty_surface"


def test_distances_are_differentiable_in_what_was_decoded() -> None:
    points = (torch.rand(1, 20, 3) - 0.5).requires_grad_(True)
    radius = torch.tensor([[0.3]], requires_grad=True)
    cloud = on_ball(50).requires_grad_(True)
    sizes = torch.full((1, 1, 3), 0.2, requires_grad=True)
    box = Parts(sizes, torch.eye(3)[None, None], torch.zeros(1, 1, 3))
    for shape, leaf in ((Implicit(ball, radius), radius), (Points(cloud), cloud), (box, sizes),
                        (Patches(sphere, radius), radius)):  # fmt: skip
        by_leaf, by_point = torch.autograd.grad(shape.values(points).square().sum(), [leaf, points])
        assert float(by_leaf.abs().max()) > 0 and bool(by_point.isfinite().all())
