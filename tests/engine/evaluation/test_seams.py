"""Seams: a step in the field where observed and imagined parts meet is found there and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.evaluation.seams import ZONES, measure_seam, mesh_edges, zones_of
from engine.geometry.clouds import PointCloud
from engine.geometry.meshes import Mesh
from engine.surfaces.marching import extract_sparse

CELLS = 48


def ball(points: Tensor) -> Tensor:
    return points.norm(dim=1) - 0.4


def pressed(depth: float, width: float, points: Tensor) -> Tensor:
    """The ball with its left half moved outward by `depth`, over a band of `width` about x = 0."""
    return ball(points) - depth * torch.sigmoid(-points[:, 0] / (0.25 * width))


def seen_half() -> PointCloud:
    direction = np.random.default_rng(0).normal(size=(20_000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    seen = (0.41 * direction[direction[:, 0] < 0]).astype(np.float32)
    return PointCloud(seen, None, np.array([-2.0, 0, 0], np.float32))


@pytest.mark.parametrize(("width", "seam"), [(0.02, True), (0.5, False)])
def test_a_step_is_a_seam_and_a_slope_is_none(width: float, seam: bool) -> None:
    def corrected(points: Tensor) -> Tensor:
        return pressed(0.012, width, points)

    mesh = extract_sparse(corrected, CELLS).mesh
    figures = measure_seam(mesh, seen_half(), corrected, ball, 0.55 / CELLS)
    assert sum(figures[zone]["edges"] for zone in ZONES) == len(mesh_edges(mesh.faces))
    assert all(figures[zone]["edges"] > 300 for zone in ZONES)
    assert figures["observed"]["creased"] < 0.001 and figures["imagined"]["creased"] < 0.001
    assert (figures["border"]["creased"] > 0.02) == seam and (figures["border"]["creased"] == 0) != seam
    assert (figures["border"]["turn"] > 1.2 * figures["border"]["turn_before"]) == seam


def test_without_correction_nothing_is_creased() -> None:
    mesh = extract_sparse(ball, CELLS).mesh
    figures = measure_seam(mesh, seen_half(), ball, ball, 0.55 / CELLS)
    for zone in ZONES:
        assert figures[zone]["creased"] == 0 and figures[zone]["turn"] == figures[zone]["turn_before"]


def test_the_border_is_a_band_of_rings() -> None:
    """Of a strip of squares, those within two edges of where seen meets unseen."""
    count = 20
    faces = [(2 * k, 2 * k + 2, 2 * k + 1) for k in range(count)]
    faces += [(2 * k + 1, 2 * k + 2, 2 * k + 3) for k in range(count)]
    edges = mesh_edges(np.array(faces))
    assert len(edges) == 4 * count + 1 and (edges[:, 0] < edges[:, 1]).all()
    column = np.arange(2 * count + 2) // 2
    zone = zones_of(edges, column < 10, rings=2)
    middle = column[edges].mean(axis=1)
    assert set(zone[middle < 7]) == {0} and set(zone[middle > 12]) == {2}
    assert set(zone[(middle > 8.4) & (middle < 10.6)]) == {1}


def test_a_mesh_seen_wholly_has_no_border() -> None:
    mesh: Mesh = extract_sparse(ball, CELLS).mesh
    everything = PointCloud(mesh.vertices)
    figures = measure_seam(mesh, everything, ball, ball, 0.01)
    assert figures["border"]["edges"] == figures["imagined"]["edges"] == 0 < figures["observed"]["edges"]
