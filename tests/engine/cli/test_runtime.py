"""Every kind of job with its default options where nothing is installed but what running is declared to need.

The interpreter is that of the development environment; packages that `pip install .` would not bring are refused.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from packaging.requirements import Requirement

from engine.fields import fused
from engine.geometry.clouds import PointCloud
from engine.geometry.files import write_cloud

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
CHAIR = ROOT / "examples" / "chair_scan.ply"

RUNNER = """
import importlib.abc, io, json, sys
from contextlib import redirect_stderr, redirect_stdout

refused, commands = json.load(sys.stdin)

class Without(importlib.abc.MetaPathFinder):
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in refused else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) if hasattr(finder, "find_spec") else finder for finder in sys.meta_path]
from engine.cli import main

answers = []
for command in commands:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([*command, "--json"])
    answers.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _runtime() -> set[str]:
    """Names of the distributions that the project's base requirements bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pending = [(Requirement(text), "") for text in project["dependencies"]]
    found: set[tuple[str, str]] = set()
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in requirement.extras or {""}:
            key = (_normal(requirement.name), wanted)
            if key not in found:
                found.add(key)
                pending += [(Requirement(text), wanted) for text in importlib.metadata.requires(key[0]) or []]
    return {name for name, _ in found}


def _refused() -> set[str]:
    """Modules that are here and would not be there."""
    there = _runtime() | {"shapewright", "setuptools"}  # setuptools: torch looks whether it is there
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not {_normal(owner) for owner in owners} & there
    }


def _run(*commands: list[Any]) -> Iterator[tuple[list[Any], int, dict[str, Any], str]]:
    given = json.dumps([sorted(_refused()), [[str(one) for one in command] for command in commands]])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", RUNNER], input=given, env=environment, capture_output=True, encoding="utf-8"
    )
    assert answer.returncode == 0, answer.stderr
    for command, (status, out, err) in zip(commands, json.loads(answer.stdout.splitlines()[-1]), strict=True):
        yield command, status, json.loads(out), err


def _succeed(*commands: list[Any]) -> None:
    failures = [f"{' '.join(map(str, c))}: {status}\n{err}" for c, status, _, err in _run(*commands) if status != 0]
    assert not failures, "\n\n".join(failures)


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> None:
    fused.warm()


@pytest.fixture(scope="module")
def torus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    solid = trimesh.creation.torus(1.0, 0.35, major_sections=64, minor_sections=32)
    points, faces = trimesh.sample.sample_surface(solid, 2000, seed=1)
    path = tmp_path_factory.mktemp("clouds") / "torus.ply"
    write_cloud(path, PointCloud(np.float32(points), np.float32(solid.face_normals[faces])))
    return path


SMALL = ["--resolution", "24", "--device", "cpu"]


def test_what_training_alone_needs_is_refused() -> None:
    refused = _refused()
    assert {"pytest", "igl", "warp", "matplotlib", "pymeshlab", "mypy"} <= refused
    assert not refused & {"torch", "numpy", "scipy", "pydantic", "fastapi", "trimesh", "numba"}


def test_completions(tmp_path: Path) -> None:
    def complete(out: str, *options: str) -> list[Any]:
        return ["complete", CHAIR, "-o", tmp_path / out, *SMALL, *options]

    _succeed(
        complete("a.ply"),
        complete("b.obj", "--faces", "300"),
        complete("c.glb", "--align", "similarity", "--hypotheses", "2"),
        complete("d.stl", "--align", "scale", "--front", "evident", "--ground", "keep"),
        complete("e.off", "--pose-matrix", "1,0,0,1.2,0,1,0,-0.4,0,0,1,0.4,0,0,0,1", "--class", "chair"),
        ["complete", tmp_path / "b.obj", "-o", tmp_path / "f.ply", "--noise", "0.01", *SMALL],
    )


def test_fits(torus: Path, tmp_path: Path) -> None:
    from engine.jobs.fit.request import FIT_METHODS

    inside = ("sdf", "occupancy")  # which learn from the inside of a closed mesh, as training does
    _succeed(
        *(
            ["fit", torus, "-o", tmp_path / f"{method}.ply", "--method", method, "--iterations", "2", *SMALL]
            for method in FIT_METHODS
            if method not in inside
        ),
        ["fit", torus, "-o", tmp_path / "open.ply", "--open", "--normals", "none", *SMALL],
        ["fit", tmp_path / "auto.ply", "-o", tmp_path / "again.ply", "--smoothness", "1", *SMALL],
    )
    closed = tmp_path / "auto.ply"
    for _, status, answer, _ in _run(*(["fit", closed, "-o", tmp_path / "no.ply", "--method", one] for one in inside)):
        assert status == 2 and answer["error"]["code"] == "package_missing"
        assert "shapewright[train]" in answer["error"]["remedy"]


def test_new_shapes(tmp_path: Path) -> None:
    codes = [tmp_path / "a" / f"shape_00{k}.npz" for k in range(3)]
    first = tmp_path / "a" / "shape_000.ply"
    _succeed(
        ["generate", "-o", tmp_path / "a", "-n", 3, "--class", "chair", *SMALL],
        *(
            ["generate", "-o", tmp_path / name, "--distribution", name, *SMALL]
            for name in ("gaussian", "mixture", "diffusion")
        ),
        ["vary", codes[0], "-o", tmp_path / "b", "-n", 1, "--keep", first, *SMALL],
        ["vary", first, "-o", tmp_path / "c", "-n", 1, *SMALL],
        ["vary", CHAIR, "-o", tmp_path / "d", "-n", 1, *SMALL],
        *(
            ["blend", *codes[:2], "-o", tmp_path / f"e {way}", "--steps", 1, "--path", way, *SMALL]
            for way in ("plausible", "spherical", "straight")
        ),
        ["blend", codes[0], codes[0], "-o", tmp_path / "f", "--steps", 1, "--one-mesh", "--device", "cpu"],
        ["arithmetic", *codes, "-o", tmp_path / "g.ply", *SMALL],
        ["run", "directions", codes[0], "--device", "cpu"],
        ["run", "slide", codes[0], "--values=1,-1", "-o", tmp_path / "h", *SMALL],
    )


def test_gradient_fields(torus: Path, tmp_path: Path) -> None:
    few = ["--points", "200", *SMALL]
    _succeed(
        *(
            ["gradient", mode, torus, "-o", tmp_path / f"{mode}_{kind}.ply", "--as", kind, *few]
            for mode in ("densify", "reconstruct")
            for kind in ("points", "mesh")
        ),
        *(
            ["gradient", "generate", "-o", tmp_path / latent, "--latent", latent, *few]
            for latent in ("gan", "gaussian", "mixture", "diffusion")
        ),
    )


def test_the_rest_works_and_training_says_what_it_needs(library_folder: Path, tmp_path: Path) -> None:
    _succeed(
        ["run", "selftest", *SMALL], ["priors", "list"], ["priors", "verify", "household"],
        ["doctor", "--device", "cpu"],
    )
    output = tmp_path / "x.safetensors"
    train = ["train", library_folder, "--name", "x", "--runs", tmp_path, "--output", output, "--set", "steps=1"]
    ((_, status, answer, _),) = _run(train)
    assert status == 2 and answer["error"]["code"] == "package_missing", answer
    assert "shapewright[train]" in answer["error"]["remedy"]
