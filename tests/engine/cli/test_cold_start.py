"""What a command and the worker load: nothing that their work does not use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from engine.fields import fused
from engine.geometry.clouds import PointCloud
from engine.geometry.files import write_cloud

ROOT = Path(__file__).parents[3]
CHAIR = ROOT / "examples" / "chair_scan.ply"

COMMAND = """
import sys
from engine.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as left:
    status = left.code
print("LOADED", *(name for name in sys.modules))
sys.exit(status)
"""

WORKER = """
import json, sys, tempfile
from pathlib import Path
from engine.geometry.files import load
from engine.jobs.base import JobArrays
from engine.wire.arrays import pack_arrays
from engine.server.worker import Worker

loaded = load(Path(sys.argv[1]))
points, normals, faces = loaded.points, loaded.normals, loaded.faces
folder = Path(sys.argv[2])
request = {"kind": "complete", "resolution": 32, "device": "cpu"}
(folder / "request.json").write_text(json.dumps(request))
(folder / "arrays.npz").write_bytes(pack_arrays(JobArrays(points, normals, faces)))
worker = Worker(sys.stdin.buffer, open(folder / "sent", "wb"))
sent = []
worker.send = sent.append
worker._warm()
worker._run_job("a", folder)
assert sent[-1]["type"] == "done", sent[-1]
print("LOADED", *(name for name in sys.modules))
"""

NEVER = (
    "torch._dynamo", "torch._inductor", "sympy", "numba", "matplotlib", "PIL", "igl", "warp", "pymeshlab", "pytest"
)  # fmt: skip
"""Not of any job: compiling, algebra, pictures, and what only training and tests use."""

NOT_OF_A_COMMAND = ("fastapi", "uvicorn", "starlette")


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> None:
    """The first process on a machine compiles them, with numba; what is asked here is what all later ones load."""
    fused.warm()


def _loaded(source: str, *arguments: object, status: int = 0) -> set[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)], env=environment, capture_output=True, encoding="utf-8"
    )
    assert answer.returncode == status, answer.stderr
    lines = [line for line in answer.stdout.splitlines() if line.startswith("LOADED ")]
    return set(lines[-1].split()[1:])


@pytest.fixture(scope="module")
def torus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    solid = trimesh.creation.torus(1.0, 0.35, major_sections=64, minor_sections=32)
    points, faces = trimesh.sample.sample_surface(solid, 3000, seed=1)
    path = tmp_path_factory.mktemp("clouds") / "torus.ply"
    write_cloud(path, PointCloud(np.float32(points), np.float32(solid.face_normals[faces])))
    return path


def test_a_completion_loads_no_compiler_and_no_algebra(tmp_path: Path) -> None:
    loaded = _loaded(COMMAND, "complete", CHAIR, "-o", tmp_path / "a.ply", "--resolution", 32, "--device", "cpu")
    assert "torch" in loaded and not loaded & {*NEVER, *NOT_OF_A_COMMAND}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["complete", "--help"], ["fit", "--help"], ["priors", "list"], ["run"]]
)
def test_what_only_talks_loads_no_torch(arguments: list[str]) -> None:
    loaded = _loaded(COMMAND, *arguments)
    assert "engine.cli.terminal" in loaded
    assert not loaded & {*NEVER, *NOT_OF_A_COMMAND, "torch", "scipy", "numba", "skimage", "trimesh"}


@pytest.mark.parametrize("method", [(), ("--method", "siren", "--iterations", "2")])
def test_a_fit_does_not(torus: Path, tmp_path: Path, method: tuple[str, ...]) -> None:
    loaded = _loaded(COMMAND, "fit", torus, "-o", tmp_path / "a.ply", "--resolution", 16, "--device", "cpu", *method)
    assert "torch" in loaded and not loaded & {*NEVER, *NOT_OF_A_COMMAND}


def test_new_shapes_do_not(tmp_path: Path) -> None:
    common = ("--resolution", 32, "--device", "cpu")
    loaded = _loaded(COMMAND, "generate", "--class", "chair", "-o", tmp_path, *common)
    assert "torch" in loaded and not loaded & {*NEVER, *NOT_OF_A_COMMAND}
    (code,) = tmp_path.glob("*.npz")
    loaded = _loaded(COMMAND, "blend", code, code, "--steps", 1, "-o", tmp_path / "b", *common)
    assert "torch" in loaded and not loaded & {*NEVER, *NOT_OF_A_COMMAND}


def test_the_worker_does_not(tmp_path: Path) -> None:
    loaded = _loaded(WORKER, CHAIR, tmp_path)
    assert "torch" in loaded and not loaded & {*NEVER, *NOT_OF_A_COMMAND}
    assert not Path(tmp_path / "sent").read_bytes()
