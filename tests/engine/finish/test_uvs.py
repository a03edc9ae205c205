"""Unwrapped results: charts beside one another, and what the files and the wire make of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from engine.errors import InputError
from engine.finish.finishing import Finish, finished
from engine.geometry.files import write_mesh
from engine.geometry.meshes import Material, Mesh, cut_at_seams
from engine.surfaces.marching import extract_sparse
from engine.wire.arrays import pack_mesh, unpack_mesh


@pytest.fixture(scope="module")
def flat() -> Mesh:
    pytest.importorskip("xatlas")
    ring = extract_sparse(
        lambda p: torch.hypot(torch.hypot(p[:, 0], p[:, 1]) - 0.3, p[:, 2]) - 0.1, 48, with_normals=True
    ).mesh
    return finished(ring, Finish(max_faces=1000, uvs=True), 48, 1.0)


def test_charts_lie_beside_one_another_and_are_hardly_stretched(flat: Mesh) -> None:
    assert flat.uvs is not None and flat.uvs.shape == (1000, 3, 2) and flat.uvs.min() >= 0 and flat.uvs.max() <= 1
    a, b = flat.uvs[:, 1] - flat.uvs[:, 0], flat.uvs[:, 2] - flat.uvs[:, 0]
    area = 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    assert 0.3 < np.abs(area).sum() < 1
    # No place of the square belongs to two faces.
    place = np.random.default_rng(0).random((2000, 2))
    weights = np.stack(
        [
            (flat.uvs[:, (k + 1) % 3, 0, None] - place[:, 0]) * (flat.uvs[:, (k + 2) % 3, 1, None] - place[:, 1])
            - (flat.uvs[:, (k + 1) % 3, 1, None] - place[:, 1]) * (flat.uvs[:, (k + 2) % 3, 0, None] - place[:, 0])
            for k in range(3)
        ]
    )
    inside = (weights > 1e-9).all(0) | (weights < -1e-9).all(0)
    assert inside.sum(0).max() == 1
    corners = flat.vertices[flat.faces]
    there = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    stretch = np.abs(area) / there
    assert np.quantile(stretch, 0.9) < 4 * np.quantile(stretch, 0.1)


def test_seams_cut_nothing_but_the_numbering(flat: Mesh) -> None:
    cut, uvs = cut_at_seams(replace(flat, seen=flat.vertices[:, 0] > 0))
    assert len(cut.vertices) > len(flat.vertices) and len(uvs) == len(cut.vertices)
    assert (cut.vertices[cut.faces] == flat.vertices[flat.faces]).all()
    assert (uvs[cut.faces] == flat.uvs).all()
    assert cut.seen is not None and (cut.seen == (cut.vertices[:, 0] > 0)).all()


@pytest.mark.parametrize(("suffix", "coloured"), [(".obj", False), (".obj", True), (".glb", True)])
def test_files_hold_them(flat: Mesh, tmp_path: Path, suffix: str, coloured: bool) -> None:
    mesh = flat
    if coloured:
        mesh = replace(mesh, materials=(Material("a", (1.0, 0.0, 0.0)), Material("b")),
                       face_materials=np.arange(1000, dtype=np.int32) % 2)  # fmt: skip
    write_mesh(tmp_path / f"flat{suffix}", mesh)
    read = trimesh.load(tmp_path / f"flat{suffix}", process=False)
    parts = list(read.geometry.values()) if isinstance(read, trimesh.Scene) else [read]
    assert sum(len(part.faces) for part in parts) == 1000
    found = np.concatenate([np.asarray(part.visual.uv)[part.faces].reshape(-1, 6) for part in parts])
    assert mesh.uvs is not None
    away, _ = cKDTree(found).query(np.concatenate([np.roll(mesh.uvs, k, 1).reshape(-1, 6) for k in range(3)]))
    assert away.reshape(3, 1000).min(0).max() < 1e-5  # each face's, whichever its first corner


def test_the_wire_holds_them(flat: Mesh) -> None:
    back, _ = unpack_mesh(pack_mesh(flat))
    assert flat.uvs is not None and back.uvs is not None and (back.uvs == flat.uvs).all()
    with pytest.raises(InputError, match="arrays"):
        unpack_mesh(pack_mesh(replace(flat, uvs=flat.uvs[:-1])))


def test_without_the_package_it_is_named(flat: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xatlas", None)
    with pytest.raises(InputError) as refused:
        finished(flat, Finish(uvs=True), 48, 1.0)
    assert refused.value.code == "package_missing" and refused.value.remedy.endswith("pip install xatlas.")
