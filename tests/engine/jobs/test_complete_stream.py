"""With the shipped prior: previews come ever closer to the result; sparse extraction is the dense one's surface."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from engine.completion.complete import Completion, complete_canonical
from engine.completion.settings import CompletionSettings
from engine.geometry.clouds import PointCloud
from engine.geometry.files import load
from engine.geometry.sampling import sample_surface
from engine.jobs.base import JobArrays, JobCallbacks, JobResult, Preview
from engine.jobs.complete.request import CompleteRequest
from engine.jobs.request import Align
from engine.jobs.run import run_job
from engine.priors.file import load_prior
from engine.surfaces.marching import extract_dense, extract_sparse

EXAMPLES = Path(__file__).parents[3] / "examples"


Streamed = tuple[list[Preview], JobResult]


def complete(name: str, noise: float = 0.0, align: Align = "scale") -> Streamed:
    """An example through the job, with the previews that its events bring. noise: added, in the input's unit."""
    loaded = load(EXAMPLES / f"{name}.ply")
    points, normals, faces = loaded.points, loaded.normals, loaded.faces
    x, y, z = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))["viewpoint"]
    if noise > 0:
        points = points + noise * np.random.default_rng(0).normal(size=points.shape).astype(np.float32)
        normals = None
    previews: list[Preview] = []
    request = CompleteRequest(viewpoint=(x, y, z), resolution=128, align=align, device="cpu")
    return previews, run_job(request, JobArrays(points, normals, faces), JobCallbacks(on_preview=previews.append))


@pytest.fixture(scope="module")
def streamed() -> Streamed:
    return complete("chair_scan")


def test_every_preview_is_at_least_as_close_to_the_result_as_the_one_before(streamed: Streamed) -> None:
    they_come_closer(*streamed)


@pytest.mark.parametrize(
    ("name", "noise", "align"),
    [("table_scan", 0.0, "scale"), ("chair_scan", 0.005, "scale"), ("table_scan", 0.0, "similarity")],
)
def test_previews_come_closer_on_other_scans_too(name: str, noise: float, align: Align) -> None:
    they_come_closer(*complete(name, noise, align))


def they_come_closer(previews: list[Preview], result: JobResult) -> None:
    final = sample_surface(result.meshes[0], 20_000, np.random.default_rng(0))[0]
    size = result.report["alignment"]["scale"]
    chamfer = []
    for preview in previews:
        points = sample_surface(preview.mesh, 20_000, np.random.default_rng(0))[0]
        chamfer.append((cKDTree(final).query(points)[0].mean() + cKDTree(points).query(final)[0].mean()) / 2 / size)
    assert len(chamfer) >= 2
    # Two samples of one surface are 0.003 apart; less than a tenth of that is no difference.
    assert all(after <= before + 0.0003 for before, after in pairwise(chamfer)), chamfer
    assert chamfer[-1] < 0.01


def test_what_was_seen_lies_on_the_surface_and_the_result_is_closed(streamed: Streamed) -> None:
    _, result = streamed
    assert result.report["residual"]["relative"] <= 0.002
    assert result.report["hypotheses"][0]["watertight"] and result.report["hypotheses"][0]["loose_edges"] == 0
    assert result.report["warnings"] == []
    assert result.report["evidence"]["ground"] is None and result.report["evidence"]["strays"] < 30


@pytest.fixture(scope="module")
def chair(streamed: Streamed) -> Completion:
    """The example in its canonical frame, completed without optimisation: a field as trained, with its correction."""
    matrix = np.array(streamed[1].report["alignment"]["matrix"])
    points = load(EXAMPLES / "chair_scan.ply").points
    canonical = (np.c_[points, np.ones(len(points))] @ np.linalg.inv(matrix).T)[:, :3].astype(np.float32)
    return complete_canonical(load_prior("household"), PointCloud(canonical), CompletionSettings(steps=0))


def test_sparse_is_dense_on_a_trained_field(chair: Completion) -> None:
    dense = extract_dense(chair.signed_distance, 96, lipschitz=1.5).mesh
    sparse = extract_sparse(chair.signed_distance, 96, lipschitz=1.5).mesh
    assert len(sparse.faces) == len(dense.faces) > 5000
    order = [np.lexsort(mesh.vertices.T) for mesh in (dense, sparse)]
    assert np.allclose(dense.vertices[order[0]], sparse.vertices[order[1]], atol=1e-5)


def test_a_trained_field_at_256_costs_a_twentieth_of_dense(chair: Completion) -> None:
    extraction = extract_sparse(chair.signed_distance, 256, lipschitz=1.5)
    assert extraction.evaluations <= 0.05 * 257**3
