"""The auto-decoder: codes and weights learnt together, a code found for points it never saw, its own prior file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from engine.completion.complete import complete_canonical
from engine.completion.settings import CompletionSettings
from engine.fields.families.deepsdf import DeepSDF
from engine.geometry.clouds import PointCloud
from engine.geometry.meshes import Mesh
from engine.priors.file import Prior, load_prior, save_prior
from engine.training.run import Run
from engine.training.settings import TrainingSettings
from engine.training.supervision import supervise
from engine.training.train import train

HEIGHTS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)


def slab(height: float) -> Mesh:
    mesh = trimesh.creation.box((1.0, 1.0, height))
    return Mesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    records = np.stack([supervise(slab(height), seed=k) for k, height in enumerate(HEIGHTS)])
    settings = TrainingSettings(
        architecture="deepsdf",
        arguments={"code": 4, "hidden": 48, "layers": 4, "dropout": 0.0},
        steps=250,
        batch=6,
        queries=512,
        learning_rate=8e-3,
        kl=1e-4,
        precision="float32",
        average=0.98,
    )
    folder = tmp_path_factory.mktemp("runs") / "slabs"
    run = train(
        records, np.arange(len(records)), np.ones(len(records)), folder, settings, device=torch.device("cpu")
    )
    return run, folder


def test_it_finds_the_height_of_a_slab_it_never_saw(trained: tuple[Run, Path], tmp_path: Path) -> None:
    run, _ = trained
    field = run.averaged_field()
    assert isinstance(field, DeepSDF)
    save_prior(tmp_path / "slabs.safetensors", field, {"name": "slabs", "version": "1", "classes": ["slab"]})
    prior = load_prior(str(tmp_path / "slabs.safetensors"))
    assert isinstance(prior, Prior) and prior.card["architecture"] == "deepsdf"

    rng = np.random.default_rng(0)
    for height in (0.47,):
        top = rng.uniform(-0.5, 0.5, (600, 3)).astype(np.float32)
        top[:, 2] = height / 2
        settings = CompletionSettings(steps=100, refine=False)
        whole = complete_canonical(prior, PointCloud(top, None, None), settings)
        # The bottom was not seen: only the code can know where it is.
        bottom = torch.as_tensor(top * np.array([0.8, 0.8, -1.0], np.float32))
        assert float(whole.signed_distance(bottom).abs().mean()) < 0.03
        mean_code = complete_canonical(prior, PointCloud(top, None, None), CompletionSettings(steps=0, refine=False))
        assert whole.data < 0.5 * mean_code.data


def test_a_run_resumes_with_its_codes(trained: tuple[Run, Path]) -> None:
    run, folder = trained
    again = Run(folder, run.settings, torch.device("cpu"), len(HEIGHTS))
    again.load()
    assert again.step == run.step
    for name, value in run.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[name]), name
