"""What counts as too short, in the scene's unit and in the shape's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.finish.slivers import shortest_edge, without_slivers
from engine.frames import BOUND
from engine.surfaces.marching import extract_sparse
from tests.engine.finish.shapes import edge_lengths


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 3.0])
def test_edges_are_seen_in_the_scenes_unit(scale: float) -> None:
    """Blender wants them to differ by 1e-4 along some axis, wherever they point."""
    assert scale * shortest_edge(128, scale) > np.sqrt(3) * 1e-4


def test_small_things_keep_their_form_and_large_ones_lose_none() -> None:
    for resolution in (64, 128, 256):
        cell = 2 * BOUND / resolution
        assert shortest_edge(resolution, 0.001) < 0.5 * cell
        assert shortest_edge(resolution, 1000.0) < 0.1 * cell
        assert shortest_edge(resolution, 0.1) <= shortest_edge(resolution, 0.05)


def test_a_small_thing_is_cleaned_of_more() -> None:
    ring = extract_sparse(lambda p: torch.hypot(torch.hypot(p[:, 0], p[:, 1]) - 0.3, p[:, 2]) - 0.1, 64).mesh
    large, small = (without_slivers(ring, 64, scale) for scale in (10.0, 0.05))
    assert edge_lengths(large).min() >= shortest_edge(64, 10.0) and len(large.faces) < len(ring.faces)
    assert edge_lengths(small).min() >= shortest_edge(64, 0.05) and len(small.faces) < 0.95 * len(large.faces)
