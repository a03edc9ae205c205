"""What counts as too short, in the scene's unit and in the shape's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from engine.finish.finishing import standing
from engine.finish.slivers import shortest_edge, without_slivers
from engine.frames import BOUND
from engine.geometry.files import load, write_mesh
from engine.geometry.transforms import Similarity, yaw_rotation
from engine.jobs.base import mesh_to_scene
from engine.surfaces.marching import extract_sparse
from engine.wire.arrays import pack_mesh, unpack_mesh
from tests.engine.finish.shapes import box, edge_lengths


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


@pytest.mark.parametrize("suffix", [".glb", ".ply"])
def test_a_result_stands_on_its_base_wherever_it_is(tmp_path: Path, suffix: str) -> None:
    """glTF gets the frame as its node's, and no file moves the surface."""
    mesh = box((-0.3, -0.5, -0.2), (0.3, 0.1, 0.4), cells=2)
    to_scene = Similarity(2.0, yaw_rotation(0.7), np.array([10.0, -4.0, 1.0]))
    placed = mesh_to_scene(standing(mesh), to_scene)
    own = placed.own_frame
    assert own is not None and np.allclose(own[:3, :3], yaw_rotation(0.7))
    local = (placed.vertices - own[:3, 3]) @ own[:3, :3]
    assert np.allclose([local.min(0), local.max(0)], [[-0.6, -0.6, 0.0], [0.6, 0.6, 1.2]], atol=1e-5)
    offset = np.array([1e6, 0.0, 0.0])
    write_mesh(tmp_path / f"mesh{suffix}", placed, offset)
    read = load(tmp_path / f"mesh{suffix}")
    assert np.allclose(read.points + read.offset, placed.vertices + offset, atol=1e-5 if suffix == ".glb" else 0.1)
    if suffix == ".glb":
        (node,) = trimesh.load(tmp_path / "mesh.glb").geometry.values()
        assert np.allclose(node.vertices.min(0)[1], 0.0, atol=1e-5)  # y is up there
    back, _ = unpack_mesh(pack_mesh(placed))
    assert back.own_frame is not None and (back.own_frame == own).all()
