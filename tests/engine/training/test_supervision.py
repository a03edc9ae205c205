"""Supervision of any mesh, and the cache that is filled in parallel, resumed and cancelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from engine.errors import Cancelled, InputError
from engine.geometry.meshes import Mesh
from engine.training.library import load_library
from engine.training.supervision import (
    MIDDLE,
    NEAR,
    QUERIES,
    RECORD,
    SURFACE,
    UNITS,
    VIEWS,
    build_supervision,
    random_viewpoints,
    supervise,
)


def torus(major: int, minor: int, ring: float = 0.35, tube: float = 0.15) -> Mesh:
    """2 * major * minor triangles."""
    u, v = np.meshgrid(np.arange(major) / major * 2 * np.pi, np.arange(minor) / minor * 2 * np.pi, indexing="ij")
    radius = ring + tube * np.cos(v)
    vertices = np.stack([radius * np.cos(u), radius * np.sin(u), tube * np.sin(v)], -1).reshape(-1, 3)
    a = np.arange(major * minor).reshape(major, minor)
    b, d = np.roll(a, -1, 0), np.roll(a, -1, 1)
    c = np.roll(b, -1, 1)
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


def torus_distance(points: np.ndarray, ring: float = 0.35, tube: float = 0.15) -> np.ndarray:
    return np.hypot(np.hypot(points[..., 0], points[..., 1]) - ring, points[..., 2]) - tube


def check_torus(record: np.ndarray) -> None:
    points, queries = record["surface"] / UNITS, record["query"] / UNITS
    assert record["done"] == 1
    assert np.abs(torus_distance(points)).max() < 0.003
    truth = torus_distance(queries)
    assert np.abs(record["distance"] / UNITS - truth).max() < 0.003
    normals = record["normal"] / 127
    inner = torus_distance(points - 0.02 * normals)
    assert np.allclose(inner, -0.02, atol=0.004)


def test_a_watertight_mesh() -> None:
    record = supervise(torus(64, 32), seed=1)
    check_torus(record)
    assert float(record["agreement"]) > 0.97
    near = np.abs(record["distance"][:NEAR] / UNITS)
    middle = np.abs(record["distance"][NEAR : NEAR + MIDDLE] / UNITS)
    everywhere = record["query"][NEAR + MIDDLE :] / UNITS
    assert np.median(near) < 0.012 < np.median(middle) < 0.05
    assert np.abs(everywhere).max() <= 0.55 and np.abs(everywhere.mean(0)).max() < 0.03
    inside = record["distance"] < 0
    assert 0.2 < inside[:NEAR].mean() < 0.8


def test_same_seed_same_record() -> None:
    mesh = torus(24, 12)
    assert supervise(mesh, 3).tobytes() == supervise(mesh, 3).tobytes()
    assert supervise(mesh, 3).tobytes() != supervise(mesh, 4).tobytes()


@pytest.mark.parametrize("defect", ["inside out", "soup", "turned anyhow", "holes", "doubled"])
def test_defects_that_do_not_change_the_shape(defect: str) -> None:
    mesh = torus(96, 48)
    vertices, faces = mesh.vertices, mesh.faces.copy()
    rng = np.random.default_rng(0)
    if defect == "inside out":
        faces = faces[:, ::-1]
    elif defect == "soup":
        vertices, faces = vertices[faces].reshape(-1, 3), np.arange(faces.size, dtype=np.int32).reshape(-1, 3)
        faces = faces[rng.permutation(len(faces))]
    elif defect == "turned anyhow":
        turn = rng.random(len(faces)) < 0.5
        faces[turn] = faces[turn, ::-1]
    elif defect == "holes":
        faces = faces[rng.random(len(faces)) > 0.004]
    elif defect == "doubled":
        faces = np.concatenate([faces, faces[:, ::-1]])
    record = supervise(Mesh(vertices, np.ascontiguousarray(faces)), seed=0)
    queries = record["query"] / UNITS
    truth, value = torus_distance(queries), record["distance"] / UNITS
    assert np.abs(np.abs(value) - np.abs(truth)).max() < (0.02 if defect == "holes" else 0.003)
    clear = np.abs(truth) > 0.005
    assert ((value < 0) == (truth < 0))[clear].mean() > (0.98 if defect == "holes" else 0.999)
    assert (float(record["agreement"]) > 0.95) == (defect in ("soup", "holes"))


@pytest.mark.parametrize("kind", ["empty", "no area", "not finite"])
def test_what_has_no_surface_is_refused(kind: str) -> None:
    corners = np.zeros((3, 3), np.float32)
    faces = np.array([[0, 1, 2]], np.int32)
    if kind == "empty":
        corners, faces = corners[:0], faces[:0]
    elif kind == "no area":
        corners[1:, 0] = 0.5, 1.0
    else:
        corners[:] = np.inf
    with pytest.raises(InputError) as caught:
        supervise(Mesh(corners, faces), seed=0)
    assert caught.value.code == "mesh_without_area" and caught.value.remedy


@pytest.mark.slow
def test_three_million_faces() -> None:
    """Half a minute and less than 2 GB; the answer is the torus's."""
    mesh = torus(1225, 1225)
    assert len(mesh.faces) > 3_000_000
    check_torus(supervise(mesh, seed=0))


def test_three_hundred_thousand_faces() -> None:
    mesh = torus(390, 390)
    assert len(mesh.faces) > 300_000
    check_torus(supervise(mesh, seed=0))


def test_viewpoints_are_where_people_stand() -> None:
    viewpoints = random_viewpoints(2000, np.random.default_rng(0))
    distance = np.linalg.norm(viewpoints, axis=1)
    assert distance.min() >= 1.29 and distance.max() <= 2.61
    elevation = np.rad2deg(np.arcsin(viewpoints[:, 2] / distance))
    assert elevation.min() > 4.9 and elevation.max() < 50.1
    assert 0.6 < (viewpoints[:, 1] < 0).mean() < 0.9


# ------------------------------------------------------------------------------------------------------------ the cache


def test_build_resume_refuse(library_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPEWRIGHT_CACHE", str(tmp_path / "twins"))
    cache = tmp_path / "cache ž" / "supervision.npy"
    library = load_library(library_folder)

    told: list[tuple[int, int, float]] = []
    with pytest.raises(Cancelled):
        build_supervision(
            library_folder, cache, 1, lambda *state: told.append(state), should_stop=lambda: len(told) >= 3
        )
    half = np.load(cache, mmap_mode="r")
    done_before = np.flatnonzero(half["done"] == 1)
    assert 3 <= len(done_before) < len(library)
    kept = half[done_before[0]].tobytes()
    del half

    told.clear()
    records = build_supervision(library_folder, cache, 2, lambda *state: told.append(state))
    assert records.dtype == RECORD and len(records) == len(library) and (records["done"] == 1).all()
    assert [state[0] for state in told] == list(range(len(done_before) + 1, len(library) + 1))  # not redone
    assert told[-1][1] == len(library) and told[-1][2] == 0
    assert records[done_before[0]].tobytes() == kept
    for k, shape in enumerate(library.shapes):  # each record is its own shape's
        if "ball" in shape.name:
            extent = np.ptp(records[k]["surface"] / UNITS, axis=0)
            mesh = library.mesh(k).vertices
            expected = np.ptp(mesh, axis=0) / np.ptp(mesh, axis=0).max()
            assert np.allclose(extent, expected, atol=0.02)

    told.clear()
    build_supervision(library_folder, cache, 2, lambda *state: told.append(state))
    assert told == []

    wrong = tmp_path / "wrong.npy"
    np.save(wrong, np.zeros(3, RECORD))
    with pytest.raises(InputError) as caught:
        build_supervision(library_folder, wrong, 1)
    assert caught.value.code == "supervision_mismatch"


def test_one_bad_mesh_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SHAPEWRIGHT_CACHE", str(tmp_path / "twins"))
    folder = tmp_path / "shapes" / "thing"
    folder.mkdir(parents=True)
    trimesh.creation.box().export(folder / "good.ply")
    flat = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]], process=False)
    flat.export(folder / "line.ply")
    (folder / "damaged.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 1000\nend_header\n")
    records = build_supervision(folder.parent, tmp_path / "supervision.npy", 1)
    names = [shape.name for shape in load_library(folder.parent).shapes]
    assert {name: int(done) for name, done in zip(names, records["done"], strict=True)} == {
        "good": 1, "line": 2, "damaged": 2,
    }
    assert "line" in caplog.text and "damaged" in caplog.text


def test_a_record_is_compact() -> None:
    assert RECORD.itemsize < 210_000 and QUERIES + SURFACE == 18_288 and VIEWS <= 16
