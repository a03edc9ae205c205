"""Areas, volumes and normals of meshes with known ones."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from engine.geometry.meshes import (
    Mesh,
    compacted,
    enclosed_volume,
    face_areas,
    face_normals,
    surface_area,
    vertex_normals,
)


def box(*sides: float) -> Mesh:
    shape = trimesh.creation.box(sides)
    return Mesh(np.asarray(shape.vertices, np.float32) + 5, np.asarray(shape.faces, np.int32))


def test_a_box() -> None:
    mesh = box(1, 2, 4)
    assert surface_area(mesh) == pytest.approx(28)
    assert enclosed_volume(mesh) == pytest.approx(8)
    assert enclosed_volume(Mesh(mesh.vertices, mesh.faces[:, ::-1])) == pytest.approx(-8)
    assert sorted(np.round(face_areas(mesh), 4)) == [1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4]
    outwards = mesh.vertices[mesh.faces].mean(axis=1) - 5
    assert ((face_normals(mesh) * outwards).sum(axis=1) > 0).all()
    assert np.allclose(np.sort(np.abs(face_normals(mesh)), axis=1), [0, 0, 1])


def test_vertex_normals_of_a_sphere_are_its_radii() -> None:
    sphere = trimesh.creation.icosphere(4)
    mesh = Mesh(np.asarray(sphere.vertices, np.float32), np.asarray(sphere.faces, np.int32))
    assert (vertex_normals(mesh) * mesh.vertices).sum(axis=1).min() > 0.999


def test_what_has_no_area_has_no_normal() -> None:
    mesh = Mesh(np.float32([[0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 9, 9]]), np.int32([[0, 1, 2]]))
    assert surface_area(mesh) == 0.0
    assert not face_normals(mesh).any() and not vertex_normals(mesh).any()
    empty = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert surface_area(empty) == enclosed_volume(empty) == 0.0
    assert vertex_normals(empty).shape == face_normals(empty).shape == (0, 3)


def test_compacting_drops_only_unused_vertices() -> None:
    mesh = box(1, 1, 1)
    mesh.normals = vertex_normals(mesh)
    assert compacted(mesh) is mesh
    part = compacted(Mesh(mesh.vertices, mesh.faces[:2], mesh.normals))
    assert len(part.vertices) == len(np.unique(mesh.faces[:2])) < len(mesh.vertices)
    assert np.array_equal(part.vertices[part.faces], mesh.vertices[mesh.faces[:2]])
    assert part.normals is not None and np.array_equal(part.normals[part.faces], mesh.normals[mesh.faces[:2]])
    assert part.faces.dtype == np.int32
