"""What a family goes through with no line of the engine changed: it is trained, listed, completes, generates, is
varied and judged, all by the commands that a user gives."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from engine.cli import entry as cli
from engine.geometry.clouds import PointCloud
from engine.geometry.files import read_shape, write_cloud
from engine.geometry.meshes import Mesh
from engine.geometry.sampling import sample_surface
from engine.priors.file import Prior, load_prior

VIEWPOINT = (0.4, -2.0, 0.8)


@dataclass
class Life:
    """prior: as it was loaded again.  training, completion: reports.  whole: of half a box, in the box's frame.
    nearness: mean distance of the observed points from it.  drawn: new shapes.  varied: of the whole.  judged: the
    evaluation's row of the completer."""

    prior: Prior
    training: dict[str, Any]
    completion: dict[str, Any]
    whole: Mesh
    nearness: float
    varied: Mesh
    judged: dict[str, Any]
    drawn: list[Mesh] = field(default_factory=list)


def _live(
    name: str, settings: dict[str, Any], library: Path, folder: Path, patch: pytest.MonkeyPatch
) -> Life:  # fmt: skip
    """The family called `name`, learnt from `library` in `folder`."""
    patch.setenv("SHAPEWRIGHT_PRIORS", str(folder / "priors"))
    patch.setenv("SHAPEWRIGHT_CACHE", str(folder / "cache"))

    def say(*words: str) -> dict[str, Any]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert cli.main([*words, "--json"]) == 0, out.getvalue()
        answer: dict[str, Any] = json.loads(out.getvalue())
        return answer

    given = {"architecture": name, "precision": "float32", **settings}
    pairs = [word for key, value in given.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    training = say("train", str(library), "--name", name, "--device", "cpu", "--pose-steps", "1",
                   "--runs", str(library.parent / "runs"), *pairs)  # fmt: skip
    listed = next(row for row in say("priors", "list")["priors"] if row["name"] == name)
    assert listed["architecture"] == name and set(listed["classes"]) == {"round", "square"}
    assert say("priors", "verify", name)["ok"] is True

    # Half of a box is completed, its frame given: the pose network has learnt nothing.
    box = library / "square" / "square_1.ply"
    mesh = read_shape(box)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    mesh = Mesh((mesh.vertices - (low + high) / 2) / float((high - low).max()), mesh.faces)
    points, normals = sample_surface(mesh, 4000, np.random.default_rng(0))
    seen = points[((np.asarray(VIEWPOINT, np.float32) - points) * normals).sum(1) > 0]
    write_cloud(folder / "scan.ply", PointCloud(seen))
    completion = say(
        "complete", str(folder / "scan.ply"), "-o", str(folder / "whole.ply"), "--prior", name, "--resolution", "48",
        "--align", "none", "--viewpoint=" + ",".join(map(str, VIEWPOINT)),
    )  # fmt: skip
    whole = read_shape(folder / "whole.ply")
    on_it = sample_surface(whole, 20_000, np.random.default_rng(1))[0]
    nearness = float(cKDTree(on_it).query(seen)[0].mean())

    say("generate", "--prior", name, "--count", "2", "--resolution", "32", "-o", str(folder / "drawn"))
    drawn = [read_shape(path) for path in sorted((folder / "drawn").glob("*.ply"))]
    say(
        "vary", str(box), "--prior", name, "--count", "1", "--resolution", "32", "-o", str(folder / "varied"),
    )  # fmt: skip
    (varied,) = (read_shape(path) for path in sorted((folder / "varied").glob("*.ply")))
    judged = say(
        "evaluate", "completion", "--prior", name, "--dataset", str(library), "--split", "train", "--limit", "1",
        "--resolution", "32", "--points", "4000", "--baselines", "input", "--out", str(folder / "judged"),
    )  # fmt: skip
    (row,) = (entry["all"] for method, entry in judged["methods"].items() if method != "input")
    return Life(load_prior(name), training, completion, whole, nearness, varied, row, drawn)


@pytest.fixture(scope="session")
def boxes_and_balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of three shapes in each of two classes."""
    folder = tmp_path_factory.mktemp("few") / "shapes"
    for k, width in enumerate((0.5, 0.7, 0.9)):
        for class_name, solid in {
            "square": trimesh.creation.box(extents=(2.0, 2 * width, 1.6)),
            "round": trimesh.creation.icosphere(subdivisions=2, radius=1.0),
        }.items():
            if class_name == "round":
                solid.apply_scale((1.0, 1.0, width))
            (folder / class_name).mkdir(parents=True, exist_ok=True)
            solid.export(folder / class_name / f"{class_name}_{k}.ply")
    return folder


@pytest.fixture(scope="session")
def live() -> Callable[..., Life]:
    return _live
