"""The papers' single-shape methods: what each paper says of it, on plane curves, and the recipes as methods."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from engine.errors import Cancelled, InputError
from engine.fields.implicit import Mlp, Siren
from engine.geometry.meshes import Mesh
from engine.jobs.fit.request import FIT_METHODS
from engine.surface_fit import methods, network_fit, samples
from engine.surface_fit.base import FitData, FitSettings, every_method, field_kinds, find_method
from engine.surface_fit.methods.digs import digs
from engine.surface_fit.methods.igr import igr
from engine.surface_fit.methods.occupancy import occupancy
from engine.surface_fit.methods.sal import sal
from engine.surface_fit.methods.sald import sald
from engine.surface_fit.methods.sdf import sdf
from engine.surface_fit.methods.siren import siren
from engine.surface_fit.network_fit import fit_recipe, unit_data
from engine.surface_fit.recipe import At, Recipe, Source
from engine.surface_fit.training import train

ROOT = Path(__file__).parents[3]
Array = NDArray[np.float32]


# --- plane curves -----------------------------------------------------------------------------------------------------


def arc(gap: float, count: int = 250) -> tuple[Array, Array]:
    """A circle of radius 0.7 with `gap` degrees missing about +x, and its normals."""
    angle = np.deg2rad(np.linspace(gap / 2, 360 - gap / 2, count))
    normals = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    return 0.7 * normals, normals


CORNERS = np.array([[-0.8, -0.8], [0.8, -0.8], [0.8, -0.2], [-0.2, -0.2], [-0.2, 0.8], [-0.8, 0.8]])


def l_shape(count: int = 400) -> tuple[Array, Array]:
    points, normals = [], []
    for a, b in zip(CORNERS, np.roll(CORNERS, -1, 0), strict=True):
        length = float(np.linalg.norm(b - a))
        along = (np.arange(round(count * length / 6.4)) + 0.5) / round(count * length / 6.4)
        points.append(a + (b - a) * along[:, None])
        normals.append(np.tile([(b - a)[1] / length, -(b - a)[0] / length], (len(along), 1)))
    return np.concatenate(points).astype(np.float32), np.concatenate(normals).astype(np.float32)


def small(recipe: Recipe) -> Recipe:
    """The recipe with a network and batches that suit a plane curve."""
    network = recipe.network(2)
    arguments = {**network.arguments, "hidden": 64, "layers": 4 if isinstance(network, Mlp) else 3}  # type: ignore[dict-item]
    kind = type(network)
    return replace(recipe, network=lambda d: kind(**arguments), batch=192)


def zero_level(network: nn.Module, bound: float = 1.25, cells: int = 200) -> Array:
    """Points (K, 2) where the lattice's edges cross zero, about as dense along the curve as the lattice."""
    axis = torch.linspace(-bound, bound, cells + 1)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    with torch.no_grad():
        value = network(grid.reshape(-1, 2)).reshape(cells + 1, cells + 1)
    found = []
    for a, b, p, q in (
        (value[:-1], value[1:], grid[:-1], grid[1:]),
        (value[:, :-1], value[:, 1:], grid[:, :-1], grid[:, 1:]),
    ):
        cut = (a < 0) != (b < 0)
        t = (a[cut] / (a[cut] - b[cut]))[:, None]
        found.append(p[cut] + t * (q[cut] - p[cut]))
    return torch.cat(found).numpy()


def curve_length(network: nn.Module, where: Callable[[torch.Tensor], torch.Tensor], cells: int = 400) -> float:
    """Length of the zero level where `where`: the gradient of the indicator, smoothed over a cell, integrated."""
    axis = torch.linspace(-1.25, 1.25, cells)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    at = At(network, grid)
    slope = at.gradient.detach().norm(dim=1).clamp(min=1e-6)
    width = 4 * float(axis[1] - axis[0])
    distance = at.value.detach() / slope
    density = (1 + torch.cos(torch.pi * (distance / width).clamp(-1, 1))) / (2 * width)
    return float((density * where(grid)).sum()) * float(axis[1] - axis[0]) ** 2


def signs_right(network: nn.Module, points: Array, normals: Array) -> float:
    """Mean cosine between the field's gradient at the data and the true outward normal."""
    at = At(network, torch.from_numpy(points))
    return float((F.normalize(at.gradient, dim=1) * torch.from_numpy(normals)).sum(1).mean().detach())


# --- what the papers say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [sal, sald])
def test_sal_and_sald_close_a_gap_with_nearly_minimal_length(make: Callable[[], Recipe]) -> None:
    points, normals = arc(gap=100.0)
    network, _ = train(Source(points), small(make()), iterations=400)
    half = np.deg2rad(50.0)
    chord = 2 * 0.7 * np.sin(half)
    in_gap = lambda p: torch.atan2(p[:, 1], p[:, 0]).abs() < half  # noqa: E731
    length = curve_length(network, in_gap)
    assert 0.9 * chord < length < 1.12 * chord
    elsewhere = curve_length(network, lambda p: ~in_gap(p))
    assert elsewhere == pytest.approx(0.7 * (2 * np.pi - 2 * half), rel=0.05)  # no phantom curves
    assert signs_right(network, points, normals) > 0.95


def test_sald_follows_corners_better_than_sal() -> None:
    points, normals = l_shape(2000)
    errors, overall = {}, {}
    for make in (sal, sald):
        network, _ = train(Source(points), small(make()), iterations=400)
        assert signs_right(network, points, normals) > 0.9
        curve = zero_level(network)
        errors[make] = np.linalg.norm(CORNERS[:, None] - curve, axis=2).min(1).mean()
        with torch.no_grad():
            overall[make] = float(network(torch.from_numpy(points)).abs().mean())
    assert errors[sald] < 0.9 * errors[sal]
    assert overall[sald] < 0.9 * overall[sal]


def test_eikonal_fields_have_gradients_of_length_one() -> None:
    points, normals = l_shape()
    for make, slack in ((igr, 0.08), (siren, 0.4)):
        network, _ = train(Source(points, normals), small(make()), iterations=300)
        rng = np.random.default_rng(0)
        near = points + 0.1 * rng.standard_normal(points.shape).astype(np.float32)
        length = At(network, torch.from_numpy(near)).gradient.detach().norm(dim=1)
        assert float((length - 1).abs().mean()) < slack
        assert float(length.mean()) == pytest.approx(1.0, abs=0.2)
        assert signs_right(network, points, normals) > 0.97
        with torch.no_grad():
            assert float(network(torch.from_numpy(points)).abs().mean()) < 0.005


def test_digs_orients_points_without_normals() -> None:
    points, normals = l_shape()
    network, _ = train(Source(points), small(digs()), iterations=400)
    assert signs_right(network, points, normals) > 0.95
    with torch.no_grad():
        assert float(network(torch.tensor([[-0.5, 0.3], [0.3, -0.5], [-0.5, -0.5]])).max()) < -0.05
        assert float(network(torch.tensor([[0.4, 0.4], [-1.1, 0.0], [0.0, -1.1], [1.1, -0.5]])).min()) > 0.05


def test_divergence_is_what_orients_them() -> None:
    """The same without the divergence term ends with wrong signs somewhere."""
    points, normals = l_shape()
    recipe = small(digs())
    spread = lambda d: Siren(d, 64, 3)  # noqa: E731
    without = replace(recipe, terms={k: v for k, v in recipe.terms.items() if k != "divergence"}, network=spread)
    network, _ = train(Source(points), without, iterations=200)
    assert signs_right(network, points, normals) < 0.8


# --- the methods ------------------------------------------------------------------------------------------------------


def ball(count: int = 600) -> tuple[Array, Array, Mesh]:
    """A ball of radius 0.3 off the origin: points, normals and a mesh."""
    k = np.arange(count) + 0.5
    z, angle = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    normals = np.stack([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z], 1)
    from scipy.spatial import ConvexHull

    faces = ConvexHull(normals).simplices.astype(np.int32)
    a, b, c = normals[faces].transpose(1, 0, 2)
    inward = np.einsum("ni,ni->n", np.cross(b - a, c - a), a) < 0
    faces[inward] = faces[inward][:, ::-1]
    points = (0.3 * normals + [1.0, 2.0, 3.0]).astype(np.float32)
    return points, normals.astype(np.float32), Mesh(points, faces)


@pytest.fixture(scope="module")
def data() -> FitData:
    points, normals, mesh = ball()
    return unit_data(points, normals, mesh)[0]


def quick(name: str) -> FitSettings:
    network = (lambda d: Siren(d, 32, 2, 10.0, "digs")) if name in ("siren", "digs") else lambda d: Mlp(d, 32, 3)
    return FitSettings(iterations=80, options={"batch": 128, "network": network, "rate": 2e-3})


@pytest.mark.parametrize("name", [name for name in FIT_METHODS if name != "auto"])
def test_every_method_fits_a_ball(name: str, data: FitData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "POOL", 6000)
    monkeypatch.setattr(network_fit, "MESH_SAMPLES", 3000)
    assert tuple(every_method()) == methods.names() == FIT_METHODS
    seen, stages = [], []
    fitted = find_method(name).fit(
        data,
        quick(name),
        torch.device("cpu"),
        lambda stage, fraction: stages.append(fraction),
        seen.append,
        lambda: False,
    )
    assert len(seen) == 2 and stages == sorted(stages) and stages[-1] == 1.0
    direction = F.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    value = {radius: fitted.signed_distance(radius * direction) for radius in (0.25, 0.65)}  # the radius is 0.45
    assert float((value[0.25] < 0).float().mean()) > 0.98 and float((value[0.65] > 0).float().mean()) > 0.98
    assert 1.0 <= fitted.lipschitz <= 20.0
    assert fitted.report["iterations"] == 80 and fitted.report["losses"]
    again = field_kinds()[fitted.kind](*fitted.to_state())
    assert torch.equal(again.signed_distance(0.5 * direction), fitted.signed_distance(0.5 * direction))
    assert again.lipschitz == fitted.lipschitz


def test_a_seed_gives_one_result(data: FitData) -> None:
    def values(seed: int) -> torch.Tensor:
        settings = replace(quick("igr"), seed=seed, iterations=5)
        fitted = fit_recipe(replace(igr(), batch=64), data, settings)
        return fitted.signed_distance(torch.linspace(-0.5, 0.5, 60).reshape(20, 3))

    torch.manual_seed(1)
    first = values(3)
    torch.manual_seed(2)
    assert torch.equal(first, values(3))
    assert not torch.equal(first, values(4))


def test_smoothness_weakens_the_data_term(data: FitData) -> None:
    def surface(smoothness: float) -> float:
        settings = FitSettings(iterations=60, smoothness=smoothness)
        recipe = replace(igr(), network=lambda d: Mlp(d, 32, 3), batch=128)
        return float(fit_recipe(recipe, data, settings).report["losses"]["surface"])

    assert surface(0.0) < surface(1.0)


def test_a_fit_can_be_cancelled(data: FitData) -> None:
    calls = iter([False, False, True])
    with pytest.raises(Cancelled):
        fit_recipe(igr(), data, quick("igr"), should_stop=lambda: next(calls))


def test_methods_say_what_they_lack(data: FitData) -> None:
    bare = FitData(data.points)
    for make, code in ((siren, "normals_missing"), (igr, "normals_missing"), (sdf, "no_inside")):
        with pytest.raises(InputError) as caught:
            fit_recipe(make(), bare, quick(make.__name__))
        assert caught.value.code == code
        assert caught.value.what and caught.value.why and caught.value.remedy
    x, y = np.meshgrid(np.linspace(-0.4, 0.4, 9), np.linspace(-0.4, 0.4, 9))
    vertices = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1).astype(np.float32)
    k = (np.arange(8)[:, None] * 9 + np.arange(8)).ravel()
    faces = np.concatenate([np.stack([k, k + 1, k + 9], 1), np.stack([k + 1, k + 10, k + 9], 1)]).astype(np.int32)
    sheet = FitData(vertices, mesh=Mesh(vertices, faces))
    with pytest.raises(InputError) as caught:
        fit_recipe(occupancy(), sheet, quick("occupancy"))
    assert caught.value.code == "no_inside"


def test_the_recipe_in_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "chair_scan.ply").write_bytes((ROOT / "examples" / "chair_scan.ply").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert "iterations=300" in snippet
    quicker = snippet.replace("iterations=300", "iterations=25").replace("fitted, 64", "fitted, 32")
    exec(compile(quicker, "docs/methods.md", "exec"), {})
    assert (tmp_path / "chair.ply").stat().st_size > 1000
