"""Rays by Embree and by warp meet the same faces."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from engine.errors import InputError
from engine.geometry.meshes import Mesh
from engine.geometry.rays import RayCaster

pytest.importorskip("warp")
BACKENDS = ["warp", "embree"] if importlib.util.find_spec("embreex") else ["warp"]  # no wheel of it for arm64


def sphere(rows: int = 24) -> Mesh:
    """Of radius 1, outward."""
    around, down = np.meshgrid(np.linspace(0, 2 * np.pi, 2 * rows + 1), np.linspace(0, np.pi, rows + 1))
    vertices = np.stack([np.cos(around) * np.sin(down), np.sin(around) * np.sin(down), np.cos(down)], -1).reshape(-1, 3)
    a = (np.arange(rows)[:, None] * (2 * rows + 1) + np.arange(2 * rows)[None]).ravel()
    b = a + 2 * rows + 1
    faces = np.concatenate([np.stack([a, b, a + 1], 1), np.stack([a + 1, b, b + 1], 1)])
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_ray_meets_the_nearest_side_and_tells_how_far(backend: str) -> None:
    rng = np.random.default_rng(0)
    origins = rng.normal(size=(2000, 3))
    origins *= 3 / np.linalg.norm(origins, axis=1, keepdims=True)
    aims = rng.normal(size=(2000, 3)) * 0.8
    directions = aims - origins
    caster = RayCaster(sphere(64), backend)  # type: ignore[arg-type]
    face, t = caster.first_hits(origins.astype(np.float32), directions.astype(np.float32))
    # where a line passes a ball: |o + t d| = 1
    a, b, c = (directions**2).sum(1), (origins * directions).sum(1), (origins**2).sum(1) - 1
    inside = b**2 - a * c
    clear = np.abs(inside) > 0.02 * a
    assert np.array_equal((face >= 0)[clear], (inside > 0)[clear])
    hit = clear & (face >= 0)
    assert np.abs(t[hit] - (-b[hit] - np.sqrt(inside[hit])) / a[hit]).max() < 0.02
    assert np.isinf(t[face < 0]).all()
    assert np.array_equal(caster.occluded(origins.astype(np.float32), directions.astype(np.float32)), face >= 0)
    at = origins[hit] + t[hit, None] * directions[hit]
    assert ((caster.face_normals[face[hit]] * at).sum(1) ** 2 > 0.98).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rays_that_look_away_or_start_behind_meet_nothing(backend: str) -> None:
    caster = RayCaster(sphere(), backend)  # type: ignore[arg-type]
    ray = np.float32([[0, 0, 3]])
    assert caster.first_hits(ray, np.float32([[0.01, 0.02, 1]]))[0].tolist() == [-1]
    assert caster.occluded(np.float32([[0.01, 0.02, 0]]), np.float32([[1, 0, 0.1]])).tolist() == [True]  # from within


@pytest.mark.skipif(len(BACKENDS) < 2, reason="no Embree here")
def test_both_agree() -> None:
    rng = np.random.default_rng(1)
    origins = rng.uniform(-2, 2, (20_000, 3)).astype(np.float32)
    directions = rng.normal(size=(20_000, 3)).astype(np.float32)
    mesh = sphere()
    (one, t), (other, s) = (RayCaster(mesh, name).first_hits(origins, directions) for name in ("embree", "warp"))
    assert ((one >= 0) == (other >= 0)).mean() > 0.9995
    both = (one >= 0) & (other >= 0)
    assert (np.abs(t[both] - s[both]) < 1e-4).mean() > 0.9995


def test_without_either_the_pip_command_is_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "warp", None)
    with pytest.raises(InputError) as caught:
        RayCaster(sphere(), "warp")
    assert caught.value.code == "package_missing"
    assert "warp-lang" in caught.value.why and "-m pip install warp-lang" in caught.value.remedy
