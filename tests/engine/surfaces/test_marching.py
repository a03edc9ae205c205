"""Marching cubes: known surfaces, sparse against dense, closedness whatever the field, and what comes afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Cancelled, EngineError
from engine.geometry.connected import is_watertight, loose_edges
from engine.geometry.meshes import Mesh, enclosed_volume, face_normals, surface_area, vertex_normals
from engine.surfaces.cleanup import clean_mesh
from engine.surfaces.marching import Field, extract_dense, extract_sparse, field_normals


def sphere(radius: float = 0.4, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Field:
    return lambda p: (p - torch.tensor(centre)).norm(dim=1) - radius


def torus(ring: float = 0.3, tube: float = 0.1) -> Field:
    return lambda p: torch.hypot(torch.hypot(p[:, 0], p[:, 1]) - ring, p[:, 2]) - tube


def capsule(a: torch.Tensor, b: torch.Tensor, radius: float) -> Field:
    def field(p: torch.Tensor) -> torch.Tensor:
        along = ((p - a) @ (b - a) / (b - a).square().sum().clamp_min(1e-9)).clamp(0, 1)
        return (p - a - along[:, None] * (b - a)).norm(dim=1) - radius

    return field


def union(*fields: Field) -> Field:
    return lambda p: torch.stack([f(p) for f in fields]).amin(dim=0)


def random_shape(seed: int) -> Field:
    """A union of spheres, capsules and a torus, exact outside, some of it running out of the box."""
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=g) - 0.5

    parts: list[Field] = [torus(0.2 + 0.2 * float(uniform()), 0.05 + 0.06 * float(uniform()))]
    for _ in range(3):
        parts.append(sphere(0.05 + 0.1 * float(uniform() + 0.5), tuple(uniform(3).tolist())))
        parts.append(capsule(uniform(3), uniform(3), 0.02 + 0.05 * float(uniform() + 0.5)))
    return union(*parts)


def triangle_set(mesh: Mesh) -> set[bytes]:
    """Each triangle as its three corners, begun at the smallest: the same for the same oriented triangle."""
    corners = mesh.vertices[mesh.faces]
    out = set()
    for triangle in corners:
        rows = [row.tobytes() for row in triangle]
        first = rows.index(min(rows))
        out.add(b"".join(rows[first:] + rows[:first]))
    return out


def euler_characteristic(mesh: Mesh) -> int:
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    return len(mesh.vertices) - len(np.unique(edges, axis=0)) + len(mesh.faces)


def assert_sound(mesh: Mesh) -> None:
    assert is_watertight(mesh)
    assert mesh.vertices.dtype == np.float32 and mesh.faces.dtype == np.int32
    assert len(np.unique(mesh.vertices, axis=0)) == len(mesh.vertices)
    assert len(np.unique(mesh.faces)) == len(mesh.vertices)


@pytest.mark.parametrize("extract", [extract_dense, extract_sparse])
def test_a_sphere_has_its_area_volume_topology_and_looks_outwards(extract: Callable[..., object]) -> None:
    mesh = extract(sphere(0.4), 64).mesh  # type: ignore[attr-defined]
    assert_sound(mesh)
    assert euler_characteristic(mesh) == 2
    assert surface_area(mesh) == pytest.approx(4 * math.pi * 0.4**2, rel=0.005)
    assert enclosed_volume(mesh) == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.005)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.4).max() < 0.05 * 1.1 / 64
    centroids = mesh.vertices[mesh.faces].mean(axis=1)
    sized = np.linalg.norm(np.cross(*np.moveaxis(np.diff(mesh.vertices[mesh.faces], axis=1), 1, 0)), axis=1) > 1e-9
    assert ((face_normals(mesh) * centroids).sum(axis=1)[sized] > 0).all()


@pytest.mark.parametrize("extract", [extract_dense, extract_sparse])
def test_a_torus_has_its_area_volume_and_hole(extract: Callable[..., object]) -> None:
    mesh = extract(torus(0.3, 0.1), 64).mesh  # type: ignore[attr-defined]
    assert_sound(mesh)
    assert euler_characteristic(mesh) == 0
    assert surface_area(mesh) == pytest.approx(4 * math.pi**2 * 0.3 * 0.1, rel=0.01)
    assert enclosed_volume(mesh) == pytest.approx(2 * math.pi**2 * 0.3 * 0.1**2, rel=0.02)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("resolution", [64, 100, 97])
def test_sparse_gives_the_triangles_of_dense(seed: int, resolution: int) -> None:
    field = random_shape(seed)
    dense, sparse = extract_dense(field, resolution), extract_sparse(field, resolution)
    assert_sound(sparse.mesh)
    assert triangle_set(sparse.mesh) == triangle_set(dense.mesh)
    assert sum(level.followed_cells for level in sparse.levels) == 0
    assert sparse.evaluations < dense.evaluations == (resolution + 1) ** 3


@pytest.mark.parametrize("scale", [0.01, 0.3, 3.0])
def test_scaled_fields_need_their_lipschitz_constant_and_then_agree(scale: float) -> None:
    shape = random_shape(11)

    def field(p: torch.Tensor) -> torch.Tensor:
        return scale * shape(p)

    sparse = extract_sparse(field, 128, lipschitz=scale)
    assert triangle_set(sparse.mesh) == triangle_set(extract_dense(field, 128, lipschitz=scale).mesh)
    unscaled = extract_sparse(shape, 128)
    assert sparse.evaluations == pytest.approx(unscaled.evaluations, rel=0.01)


def test_a_field_steeper_than_promised_is_followed_and_closed() -> None:
    def field(p: torch.Tensor) -> torch.Tensor:
        return 6.0 * torus(0.35, 0.02)(p)

    extraction = extract_sparse(field, 128)
    assert sum(level.followed_cells for level in extraction.levels) > 0
    assert triangle_set(extraction.mesh) == triangle_set(extract_dense(field, 128).mesh)


@pytest.mark.parametrize("coarse", [16, 24, 32])
@pytest.mark.parametrize("resolution", [33, 48, 50, 130])
def test_any_resolution_from_any_coarse_grid(coarse: int, resolution: int) -> None:
    field = random_shape(3)
    levels: list[tuple[int, Mesh]] = []
    extraction = extract_sparse(
        field, resolution, coarse=coarse, on_level=lambda mesh, level: levels.append((level, mesh))
    )
    assert triangle_set(extraction.mesh) == triangle_set(extract_dense(field, resolution).mesh)
    assert [level.resolution for level in extraction.levels] == [level for level, _ in levels]
    assert levels[-1][0] == resolution and levels[0][0] <= coarse
    for fine, rough in zip(levels[1:], levels[:-1], strict=True):
        assert rough[0] == math.ceil(fine[0] / 2)
        assert_sound(rough[1])


def test_every_lattice_point_is_asked_at_most_once() -> None:
    asked: list[torch.Tensor] = []

    def field(p: torch.Tensor) -> torch.Tensor:
        asked.append(p.clone())
        return torus()(p)

    extraction = extract_sparse(field, 128, chunk=5000)
    points = torch.cat(asked)
    assert max(map(len, asked)) <= 5000
    assert len(points) == extraction.evaluations == sum(level.evaluations for level in extraction.levels)
    assert len(torch.unique(points, dim=0)) == len(points)


def test_sparse_needs_a_twentieth_of_dense_at_256() -> None:
    seat = capsule(torch.tensor([-0.25, -0.2, 0.0]), torch.tensor([0.25, -0.2, 0.0]), 0.08)
    legs = [
        capsule(torch.tensor([x, y, -0.1]), torch.tensor([x, y, -0.45]), 0.03)
        for x in (-0.25, 0.25)
        for y in (-0.25, 0.25)
    ]
    chair = union(seat, sphere(0.25, (0.0, 0.0, 0.2)), *legs)
    extraction = extract_sparse(chair, 256)
    assert_sound(extraction.mesh)
    assert extraction.evaluations <= 0.05 * 257**3


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 14), st.sampled_from([1.0, 0.1, 1e-6]))
def test_noise_on_every_lattice_point_still_gives_a_closed_surface(seed: int, cells: int, scale: float) -> None:
    """Random signs everywhere meet all 256 cases and every pairing of ambiguous faces."""
    values = torch.randn((cells + 1) ** 3, generator=torch.Generator().manual_seed(seed)) * scale
    values[(cells // 2) * ((cells + 1) ** 2 + cells + 2)] = -scale  # some inside point away from the border

    def field(p: torch.Tensor) -> torch.Tensor:
        i = ((p + 0.55) / 1.1 * cells).round().long()
        return values[(i[:, 0] * (cells + 1) + i[:, 1]) * (cells + 1) + i[:, 2]]

    mesh = extract_dense(field, cells).mesh
    assert_sound(mesh)
    assert enclosed_volume(mesh) > 0


def test_zeros_exactly_on_lattice_points_do_no_harm() -> None:
    octahedron = extract_sparse(lambda p: p.abs().sum(dim=1) - 0.55 * 8 / 16, 16).mesh  # vertices fall on the lattice
    assert_sound(octahedron)
    assert euler_characteristic(octahedron) == 2
    assert enclosed_volume(octahedron) == pytest.approx(4 / 3 * 0.275**3, rel=0.01)


def test_a_shape_that_runs_out_of_the_box_is_closed_within_it() -> None:
    everything = extract_sparse(lambda p: torch.full((len(p),), -1.0), 40).mesh
    assert_sound(everything)
    assert enclosed_volume(everything) == pytest.approx((1.1 - 1.1 / 40) ** 3, rel=1e-3)
    half = extract_sparse(lambda p: p[:, 2] - 0.1, 40).mesh
    assert_sound(half)
    assert np.abs(half.vertices).max() < 0.55
    assert half.vertices[:, 2].max() == pytest.approx(0.1, abs=1e-5)


def test_normals_are_the_gradient_and_agree_with_the_winding() -> None:
    extraction = extract_sparse(sphere(0.4), 64, with_normals=True)
    plain = extract_sparse(sphere(0.4), 64)
    normals = extraction.mesh.normals
    assert normals is not None and plain.mesh.normals is None
    assert np.allclose(normals, extraction.mesh.vertices / 0.4, atol=0.01)
    assert (vertex_normals(extraction.mesh) * normals).sum(axis=1).min() > 0.9
    assert extraction.evaluations == plain.evaluations + 6 * len(normals)
    boxed = extract_sparse(lambda p: p[:, 0] - 0.6, 32, with_normals=True).mesh
    assert np.allclose(boxed.normals, [1, 0, 0], atol=1e-4)  # probes beyond the box are moved, not wrong


def test_the_same_field_gives_the_same_bytes() -> None:
    a, b = (extract_sparse(random_shape(5), 96, chunk=chunk).mesh for chunk in (1000, 77_777))
    assert a.vertices.tobytes() == b.vertices.tobytes() and a.faces.tobytes() == b.faces.tobytes()


@pytest.mark.parametrize("extract", [extract_dense, extract_sparse])
def test_an_empty_surface_says_so(extract: Callable[..., object]) -> None:
    with pytest.raises(EngineError) as caught:
        extract(lambda p: p.norm(dim=1) + 0.1, 64)
    assert caught.value.code == "empty_surface"
    assert caught.value.what and caught.value.why and caught.value.remedy


def test_a_field_that_is_not_finite_says_so() -> None:
    def field(p: torch.Tensor) -> torch.Tensor:
        return torch.where(p[:, 0] > 0.4, torch.nan, sphere()(p))

    with pytest.raises(EngineError) as caught:
        extract_sparse(field, 64)
    assert caught.value.code == "field_not_finite"


def test_a_field_of_the_wrong_shape_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="expected one each"):
        extract_sparse(lambda p: p[:, :1], 32)


def test_stopping_takes_effect_before_the_next_chunk() -> None:
    calls = 0

    def field(p: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return sphere()(p)

    with pytest.raises(Cancelled):
        extract_sparse(field, 256, chunk=1000, should_stop=lambda: calls >= 5)
    assert calls == 5


def test_levels_without_a_surface_are_skipped_not_fatal() -> None:
    seen = []
    tiny = sphere(0.008, (0.011, 0.013, 0.017))
    mesh = extract_sparse(tiny, 256, on_level=lambda mesh, level: seen.append(level)).mesh
    assert_sound(mesh)
    assert 256 in seen and 32 not in seen


# --- afterwards -----------------------------------------------------------------------------------------------------


def test_cleaning_removes_crumbs_and_keeps_the_rest() -> None:
    crumbs = union(sphere(0.3), sphere(0.02, (0.45, 0.45, 0.45)), sphere(0.15, (-0.4, -0.4, -0.4)))
    extraction = extract_sparse(crumbs, 64, with_normals=True)
    cleaned = clean_mesh(extraction.mesh, 0.01)
    assert_sound(cleaned)
    assert euler_characteristic(extraction.mesh) == 6 and euler_characteristic(cleaned) == 4
    assert cleaned.normals is not None and len(cleaned.normals) == len(cleaned.vertices)
    assert cleaned.vertices.max() < 0.4
    assert euler_characteristic(clean_mesh(extraction.mesh, 2.0)) == 2  # never the largest
    assert euler_characteristic(clean_mesh(extraction.mesh, 0.0)) == 6


def test_watertight_notices_holes_flips_and_doubles() -> None:
    mesh = extract_sparse(sphere(), 16).mesh
    flipped = mesh.faces.copy()
    flipped[3] = flipped[3, ::-1]
    assert is_watertight(mesh)
    assert not is_watertight(Mesh(mesh.vertices, mesh.faces[1:]))
    assert not is_watertight(Mesh(mesh.vertices, flipped))
    assert not is_watertight(Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:1]])))
    assert not is_watertight(Mesh(mesh.vertices, mesh.faces[:0]))


def test_loose_edges_are_those_not_between_two_triangles() -> None:
    mesh = extract_sparse(sphere(), 16).mesh
    assert loose_edges(mesh) == 0
    assert loose_edges(Mesh(mesh.vertices, mesh.faces[1:])) == 3
    assert loose_edges(Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:1]]))) == 3


def test_a_small_part_that_was_seen_is_no_crumb() -> None:
    parts = union(sphere(0.3), sphere(0.03, (0.4, 0.4, 0.4)), sphere(0.03, (-0.4, -0.4, -0.4)))
    mesh = extract_sparse(parts, 64).mesh
    assert euler_characteristic(clean_mesh(mesh)) == 2
    direction = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    on_it = (0.03 * direction[:40] + 0.4).numpy()
    observed = np.concatenate([(0.3 * direction).numpy(), on_it])
    assert euler_characteristic(clean_mesh(mesh, observed=observed)) == 4
    assert euler_characteristic(clean_mesh(mesh, observed=observed[:503])) == 2  # three points are not a part


def test_normals_of_any_points_are_the_gradient_there() -> None:
    points = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=1) * 0.4
    assert np.allclose(field_normals(sphere(0.4), points.numpy(), 0.004), points.numpy() / 0.4, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_cpus_surface() -> None:
    extraction = extract_sparse(torus(), 128, device="cuda", with_normals=True)
    reference = extract_sparse(torus(), 128).mesh
    assert_sound(extraction.mesh)
    assert euler_characteristic(extraction.mesh) == 0
    assert extraction.peak_bytes is not None and extraction.peak_bytes > 0
    assert enclosed_volume(extraction.mesh) == pytest.approx(enclosed_volume(reference), rel=1e-5)
