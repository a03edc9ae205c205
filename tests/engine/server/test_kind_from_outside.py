"""A job kind in a test's own file works like those of the engine, with no line of the engine or the add-on changed.

The kind is in tests/engine/jobs/kind_from_outside.py; SHAPEWRIGHT_PLUGINS names it. Command line, server and worker are
real processes, and the client is the add-on's.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.geometry.clouds import PointCloud
from engine.geometry.files import read_shape, write_cloud
from engine.geometry.meshes import Mesh
from tests.engine.server.conftest import ROOT, Client, environment, real_command, server

PLUGIN = "tests.engine.jobs.kind_from_outside"
POINTS = np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def engine_with_plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("engine with a plugin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPEWRIGHT_PLUGINS", PLUGIN)
        with server(folder, real_command(folder)) as client:
            yield client


@pytest.fixture(scope="module")
def link() -> types.SimpleNamespace:
    """The add-on's side of the wire, which needs no Blender."""
    package = types.ModuleType("addon_of_this_test")
    package.__path__ = [str(ROOT / "addon")]
    sys.modules[package.__name__] = package
    names = ("client", "job_thread", "problem")
    return types.SimpleNamespace(**{name: importlib.import_module(f"{package.__name__}.link.{name}") for name in names})


def updates_of(thread: Any) -> list[Any]:
    assert thread.join(120)
    found = []
    while not thread.updates.empty():
        found.append(thread.updates.get())
    return found


def test_over_the_wire_with_the_addons_client(engine_with_plugin: Client, link: types.SimpleNamespace) -> None:
    client = link.client.EngineClient(engine_with_plugin.port, engine_with_plugin.token)
    assert "crate" in client.info()["kinds"]
    request = {"kind": "crate", "margin": 0.5, "name": "Kiste"}
    thread = link.job_thread.JobThread(client, request, lambda: {"points": POINTS})
    thread.start()
    last = updates_of(thread)[-1]
    assert last.state == "done", last.problem
    assert last.report["volume"] == pytest.approx(float(np.prod(np.ptp(POINTS, axis=0) + 1)), rel=1e-4)
    (_, mesh), = last.meshes
    np.testing.assert_allclose(mesh.vertices.min(0), POINTS.min(0) - 0.5, rtol=1e-5)
    np.testing.assert_array_equal(mesh.code, [0.5])
    assert len(mesh.faces) == 12
    shown = engine_with_plugin.job(thread.job_id)
    assert shown["kind"] == "crate" and shown["name"] == "Kiste" and shown["request"]["margin"] == 0.5


def test_its_refusals_have_three_parts_too(engine_with_plugin: Client, link: types.SimpleNamespace) -> None:
    client = link.client.EngineClient(engine_with_plugin.port, engine_with_plugin.token)
    for request, code, why in (
        ({"margin": 2}, "request_invalid", "a number from 0 to 1"),
        ({"colour": 1}, "request_field_unknown", "kind, device, name, margin"),
        ({}, "form_invalid", "'crate' job needs it"),
    ):
        arrays = {"points": POINTS} if request else None
        with pytest.raises(link.problem.EngineProblem) as refused:
            client.submit({"kind": "crate", **request}, arrays)
        assert refused.value.code == code and why in refused.value.why and refused.value.remedy
    thread = link.job_thread.JobThread(client, {"kind": "crate", "name": "refuse"}, lambda: {"points": POINTS})
    thread.start()
    assert updates_of(thread)[-1].problem.code == "too_heavy"


def test_from_the_command_line(tmp_path: Path) -> None:
    scan, out = tmp_path / "scan.ply", tmp_path / "crates"
    write_cloud(scan, PointCloud(POINTS))

    def shapewright(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "engine", "run", "--json", "crate", *map(str, arguments)]
        told = environment() | {"SHAPEWRIGHT_PLUGINS": PLUGIN}
        return subprocess.run(command, env=told, capture_output=True, text=True)

    done = shapewright(scan, "-o", out, "--margin", "0.25")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (path,) = report["outputs"]
    made = read_shape(Path(path))
    assert isinstance(made, Mesh) and len(made.faces) == 12
    np.testing.assert_allclose(made.vertices.max(0), POINTS.max(0) + 0.25, rtol=1e-5)
    assert report["request"]["margin"] == 0.25 and report["volume"] > 0
    refused = shapewright(scan, "-o", out, "--margin", "3")
    assert refused.returncode == 2
    assert "a number from 0 to 1" in json.loads(refused.stdout)["error"]["why"]


def test_it_is_described_like_the_others(engine_with_plugin: Client) -> None:
    about = engine_with_plugin.http.get("/v1/kinds").json()["kinds"]["crate"]
    assert about["arrays"] is True and about["schema"]["properties"]["margin"]["maximum"] == 1
    assert "CrateRequest" in engine_with_plugin.http.get("/openapi.json").json()["components"]["schemas"]
