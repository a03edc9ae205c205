"""Small shapes, and a prior small enough to complete with in a second. Nothing here depends on the shipped priors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from engine.fields.families.deepsdf import DeepSDF
from engine.fields.families.grid import GridField
from engine.fields.pose import PoseNet
from engine.frames import BOUND
from engine.geometry.meshes import Mesh
from engine.priors.file import save_prior

SMALL_FIELD: dict[str, Any] = {"code_channels": 4, "width": 4, "hidden": 16, "resolution": 8}


def _primitives() -> dict[str, trimesh.Trimesh]:
    """Longest side 1, centred: canonical already."""
    make = trimesh.creation
    return {
        "ball": make.icosphere(subdivisions=2, radius=0.5),
        "box": make.box(extents=(1.0, 0.6, 0.8)),
        "post": make.box(extents=(0.4, 0.4, 1.0)),
        "ring": make.torus(0.38, 0.12, major_sections=24, minor_sections=12),
        "drum": make.cylinder(radius=0.3, height=1.0, sections=24),
        "disc": make.cylinder(radius=0.5, height=0.4, sections=24),
    }


@pytest.fixture(scope="session")
def primitives() -> dict[str, Mesh]:
    """Canonical meshes by name."""
    return {
        name: Mesh(np.asarray(solid.vertices, np.float32), np.asarray(solid.faces, np.int32))
        for name, solid in _primitives().items()
    }


@pytest.fixture(scope="session")
def records(primitives: dict[str, Mesh]) -> np.ndarray:
    """Supervision records of the primitives, in their order."""
    from engine.training.supervision import supervise

    return np.stack([supervise(mesh, seed) for seed, mesh in enumerate(primitives.values())])


@pytest.fixture(scope="session")
def library_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain library of a dozen meshes in two classes, in a folder whose name is not everybody's."""
    folder = tmp_path_factory.mktemp("shapes") / "ščž 形 library"
    rng = np.random.default_rng(0)
    for class_name, names in {"round": ("ball", "disc", "drum"), "square": ("box", "post")}.items():
        (folder / class_name).mkdir(parents=True)
        for name in names:
            for k in range(3):
                solid = _primitives()[name].copy()
                solid.apply_scale(rng.uniform(0.6, 1.0, 3) * 4)
                solid.export(folder / class_name / f"{name}_{k}.ply")
    return folder


def small_field() -> GridField:
    """A decoder that knows ellipsoids, whose half axes are the code's first channels. The encoder knows nothing."""
    torch.manual_seed(0)
    field = GridField(**SMALL_FIELD)
    optimiser = torch.optim.Adam(field.parameters(), lr=0.01)
    losses = []
    for _ in range(120):
        points = (torch.rand(8, 256, 3) * 2 - 1) * BOUND
        code = torch.randn(8, field.code_shape[0], 1, 1, 1)
        axes = 0.35 + 0.1 * code[:, None, :3, 0, 0, 0].clamp(-1.5, 1.5)
        scaled = (points / axes).norm(dim=-1)
        distance = (scaled - 1) * scaled / (points / axes**2).norm(dim=-1).clamp(min=1e-3)  # to first order
        predicted = field.decode(code.expand(8, *field.code_shape)).values(points)
        loss = (predicted - distance.clamp(-0.15, 0.15)).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-20:]) < 0.03, losses[-1]
    torch.nn.init.zeros_(field.to_code.weight)  # a ball, give or take, whatever was seen
    for skip in (field.d4s, field.d5s):
        for parameter in skip.parameters():
            torch.nn.init.zeros_(parameter)
    return field.eval()


@pytest.fixture(scope="session")
def small_prior_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    field = small_field()
    torch.manual_seed(1)
    pose = PoseNet(classes=2, width=2)
    with torch.no_grad():  # nearly 'the whole is what was seen', a little different for every input
        pose.head[-1].weight.mul_(0.3)
        pose.head[-1].bias[4] = 9.0  # and what is given as up is up
    path = tmp_path_factory.mktemp("priors") / "small.safetensors"
    save_prior(path, field, {"name": "small", "version": "1", "classes": ["ball", "box"]}, pose.eval())
    return path


@pytest.fixture(scope="session")
def generative_prior_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generative_prior(tmp_path_factory.mktemp("priors") / "generative.safetensors")


def write_generative_prior(path: Path) -> Path:
    """A prior of ellipsoids with a latent distribution over their half axes: 'ball' (alike) and 'plate' (low).

    The extension's tests use it too, from a process of its own.
    """
    from engine.training.latent import fit_latent

    field = small_field()
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(80) % 2
    axes = 0.6 * torch.randn(80, 3, generator=generator)
    axes[labels == 1, 2] = axes[labels == 1, 2] * 0.3 - 1.1
    codes = torch.zeros(80, *field.code_shape)
    codes[:, :3] = axes[:, :, None, None, None]
    names = [f"ellipsoid {k}" for k in range(80)]
    latent = fit_latent(
        codes.view(1, 80, -1), labels, names, ["ball", "plate"], field.code_shape, size=3, diffusion_steps=0
    )
    save_prior(path, field, {"name": "generative", "version": "1", "classes": ["ball", "plate"]}, None, latent)
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in one order: what bitwise equality needs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def balls_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior of architecture `deepsdf`: the code (2 numbers) is a ball whose radius grows with the first, from 0.18 at
    -1.2 to 0.47 at 1.7."""
    torch.manual_seed(0)
    network = DeepSDF(code=2, hidden=64, layers=4, dropout=0.0)
    network.code_log_variance.fill_(0.0)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    for step in range(500):
        optimiser.param_groups[0]["lr"] = 5e-3 * (1 - step / 500)
        radius = 0.18 + 0.29 * torch.rand(16, 1)
        codes = torch.cat([(radius - 0.3) / 0.1, torch.zeros(16, 1)], 1)
        points = torch.rand(16, 128, 3) - 0.5
        wanted = (points.norm(dim=-1) - radius).clamp(-0.1, 0.1)
        loss = (network.decode(codes).values(points) - wanted).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    path = tmp_path_factory.mktemp("priors") / "balls.safetensors"
    save_prior(path, network.eval(), {"name": "balls", "version": "1", "classes": ["ball"]})
    return path
