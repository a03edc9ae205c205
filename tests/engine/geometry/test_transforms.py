"""Similarity transforms there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.geometry.transforms import Similarity


def random_similarity(rng: np.random.Generator) -> Similarity:
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    return Similarity(float(np.exp(rng.normal())), rotation, rng.normal(size=3) * 10)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_inverse_composition_and_matrix_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = random_similarity(rng), random_similarity(rng)
    points = rng.normal(size=(30, 3)).astype(np.float32)
    assert np.allclose(first.inverse().apply(first.apply(points)), points, atol=1e-4)
    assert np.allclose(second.after(first).apply(points), second.apply(first.apply(points)), rtol=1e-4, atol=1e-4)
    assert np.allclose(second.after(first).matrix(), second.matrix() @ first.matrix())
    assert np.allclose(first.inverse().matrix(), np.linalg.inv(first.matrix()))
    homogeneous = np.concatenate([points, np.ones((30, 1))], axis=1) @ first.matrix().T
    assert np.allclose(first.apply(points), homogeneous[:, :3], rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_directions_keep_their_length_and_angles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    similarity = random_similarity(rng)
    directions = rng.normal(size=(20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    turned = similarity.apply_to_directions(directions)
    assert np.allclose(turned @ turned.T, directions @ directions.T, atol=1e-5)
    points = rng.normal(size=(20, 3))
    moved = similarity.apply(points + directions).astype(np.float64) - similarity.apply(points)
    assert np.allclose(moved, similarity.scale * turned, atol=1e-4 * max(1.0, similarity.scale))


def test_a_small_thing_kilometres_away_comes_back() -> None:
    points = np.random.default_rng(0).normal(size=(100, 3))
    to_canonical = Similarity(0.5, np.eye(3), np.array([-2500.0, 1000.0, 0.0]))
    far = points + np.array([5000.0, -2000.0, 0.0])
    assert np.allclose(to_canonical.apply(far), 0.5 * points, atol=1e-6)
    assert np.allclose(to_canonical.inverse().apply(to_canonical.apply(far)), far, atol=2e-3)


def test_the_default_changes_nothing() -> None:
    points = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    assert np.array_equal(Similarity().apply(points), points)
    assert Similarity().apply(points).dtype == np.float32
    assert Similarity(2.0).matrix()[0, 0] == pytest.approx(2.0)
