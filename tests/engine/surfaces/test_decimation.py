"""Fewer triangles: exactly so many, of the same topology, near the surface."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.finish.topology import topology, welded
from engine.geometry.connected import is_watertight
from engine.geometry.meshes import Material, Mesh, enclosed_volume, face_normals, surface_area
from engine.geometry.metrics import distances_to_surface
from engine.surfaces.decimation import decimate
from engine.surfaces.marching import Field, extract_sparse
from engine.surfaces.short_edges import without_short_edges
from tests.engine.finish.shapes import box, edge_lengths, joined, slatted_back


def ring(p: torch.Tensor) -> torch.Tensor:
    return torch.hypot(torch.hypot(p[:, 0], p[:, 1]) - 0.3, p[:, 2]) - 0.1


@pytest.fixture(scope="module")
def torus() -> Mesh:
    return extract_sparse(ring, 64, with_normals=True).mesh


@settings(max_examples=8, deadline=None)
@given(st.integers(100, 11_000))
def test_exactly_so_many_triangles(torus: Mesh, faces: int) -> None:
    small = decimate(torus, faces)
    assert len(small.faces) == faces - faces % 2
    told = topology(small)
    assert told.watertight and (told.parts, told.handles, told.crumbs) == (1, 1, 0)


def test_the_surface_stays_where_it_was(torus: Mesh) -> None:
    small = decimate(torus, 3000)
    assert enclosed_volume(small) == pytest.approx(enclosed_volume(torus), rel=0.01)
    assert distances_to_surface(small, torus.vertices).max() < 0.004
    assert decimate(small, 10_000) is small
    assert small.normals is not None
    there = np.array([np.flatnonzero((torus.vertices == place).all(1))[0] for place in small.vertices])
    assert torus.normals is not None and (small.normals == torus.normals[there]).all()
    inward = np.einsum("ij,ij->i", face_normals(small), small.normals[small.faces].mean(1))
    assert inward.min() > 0  # no face turned over
    with pytest.raises(ValueError):
        decimate(torus, 3)


def test_no_edge_becomes_too_short(torus: Mesh) -> None:
    shortest = 0.05 * 1.1 / 64
    clean = without_short_edges(torus, shortest)
    for faces in (8000, 1000):
        assert edge_lengths(decimate(clean, faces, shortest)).min() >= shortest


def test_thin_parts_stay_whole() -> None:
    """Rods and a sheet two cells thick, cut down until they are but a few triangles; a chair's back of 16 slats."""
    rods: list[Field] = [
        lambda p, x=x, z=z: torch.maximum(torch.hypot(p[:, 0] - x, p[:, 2] - z) - 0.012, p[:, 1].abs() - 0.4)
        for x in (-0.3, -0.1, 0.1, 0.3)
        for z in (-0.2, 0.1)
    ]
    sheet: Field = lambda p: torch.maximum(p[:, 2].abs() - 0.01, p[:, :2].abs().amax(dim=1) - 0.35)  # noqa: E731
    thin = extract_sparse(lambda p: torch.stack([f(p) for f in (sheet, *rods)]).amin(dim=0), 96).mesh
    for mesh in (thin, welded(slatted_back())):
        before = topology(mesh)
        for faces in (3000, 700):
            if faces >= len(mesh.faces):
                continue
            small = decimate(mesh, faces)
            told = topology(small)
            assert len(small.faces) in (faces, faces - 1) and is_watertight(small)
            assert (told.parts, told.handles) == (before.parts, before.handles)


def test_what_belongs_to_faces_and_vertices_stays_with_them(torus: Mesh) -> None:
    inner = np.linalg.norm(torus.vertices[:, :2], axis=1) < 0.3
    mesh = replace(
        torus, colours=np.repeat(inner[:, None], 3, 1).astype(np.float32), seen=inner,
        materials=(Material("out"), Material("in")), face_materials=inner[torus.faces].any(1).astype(np.int32),
    )  # fmt: skip
    for small in (decimate(mesh, 4000), without_short_edges(mesh, 0.3 * 1.1 / 64)):
        there = np.linalg.norm(small.vertices[:, :2], axis=1) < 0.3
        assert len(small.faces) < len(mesh.faces) and small.materials == mesh.materials
        assert small.seen is not None and small.colours is not None and small.face_materials is not None
        assert (small.seen != there).mean() < 0.01 and (small.colours[:, 0] != there).mean() < 0.01
        assert (small.face_materials != there[small.faces].any(1)).mean() < 0.1


def test_where_the_topology_needs_more_there_are_more() -> None:
    many = welded(joined(*(box((k, 0, 0), (k + 0.5, 1, 1), cells=1) for k in range(40))))
    small = decimate(many, 100)
    assert len(small.faces) >= 4 * 40 and topology(small).parts == topology(many).parts


def test_a_flat_sheet_keeps_its_outline() -> None:
    n = 30
    grid = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1).reshape(-1, 2)
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.stack([np.c_[corner, corner + n, corner + n + 1], np.c_[corner, corner + n + 1, corner + 1]], 1)
    sheet = Mesh(np.c_[grid, 0 * grid[:, 0]].astype(np.float32), faces.reshape(-1, 3).astype(np.int32))
    small = decimate(sheet, 50)
    assert len(small.faces) in (50, 49)
    assert surface_area(small) == pytest.approx((n - 1) ** 2, rel=0.03)
