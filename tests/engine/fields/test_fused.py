"""The compiled roads give the numbers of the plain one, everywhere, and step aside where gradients are asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from engine.completion.lattices import Residual
from engine.fields import fused, machine_code
from engine.fields.families.grid import GridField, _Conv3d
from engine.fields.observations.evidence import interpolate
from engine.frames import BOUND

needs_numba = pytest.mark.skipif(fused._kernels() is None, reason="numba is not installed")


def field_of(width: int = 16, hidden: int = 32, resolution: int = 8) -> GridField:
    torch.manual_seed(1)
    field = GridField(4, width, hidden, resolution).eval().requires_grad_(False)
    torch.nn.init.normal_(field.m3.weight)
    torch.nn.init.normal_(field.m1.bias)
    return field


def points_everywhere(batch: int, count: int) -> Tensor:
    """Within the box, on its sides and edges, exactly on cell centres, and outside."""
    points = (torch.rand(batch, count, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1) * 1.3 * BOUND
    special = torch.tensor([-BOUND, BOUND, 0.0, -BOUND * (1 - 1 / 8), BOUND * (1 - 1 / 8), 2.0])
    edges = torch.cartesian_prod(special, special, special)[:count]
    points[:, : len(edges)] = edges
    return points


def plainly(field: GridField, features: Tensor, points: Tensor) -> Tensor:
    """The definition, in double precision."""
    double = GridField(**field.arguments).double()
    double.load_state_dict(field.state_dict())
    with torch.no_grad():
        return double.query(features.double(), points.double())


@needs_numba
@pytest.mark.parametrize(("width", "hidden", "side", "batch"), [(16, 32, 8, 1), (5, 13, 12, 2), (1, 1, 2, 3)])
def test_the_compiled_decoder_gives_the_same_numbers(width: int, hidden: int, side: int, batch: int) -> None:
    field = field_of(width, hidden)
    features = 2 * torch.randn(batch, width, side, side, side, generator=torch.Generator().manual_seed(0))
    points = points_everywhere(batch, 5003)
    expected = plainly(field, features, points)
    with torch.no_grad():
        assert fused.applies(features, points)
        plain = field.query(features, points)
        other_layout = field.query(features.contiguous(memory_format=torch.channels_last_3d), points)
    assert plain.shape == (batch, 5003) and plain.dtype == torch.float32
    torch.testing.assert_close(plain.double(), expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(plain, other_layout, atol=0, rtol=0)


@needs_numba
@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 200), scale=st.sampled_from([1e-3, 1.0, 30.0]), seed=st.integers(0, 99))
def test_any_number_of_points_and_any_size_of_features(count: int, scale: float, seed: int) -> None:
    """Blocks that are not full, and activations far beyond where the exponential ends."""
    field = field_of()
    draw = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(1, 16, 8, 8, 8, generator=draw)
    points = torch.rand(1, count, 3, generator=draw) - 0.5
    with torch.no_grad():
        got = field.query(features, points)
    expected = plainly(field, features, points)
    torch.testing.assert_close(got.double(), expected, atol=1e-5 * max(1.0, scale), rtol=1e-5)


@needs_numba
def test_threads_divide_the_points_and_may_meet() -> None:
    field, features, points = field_of(), torch.randn(1, 16, 8, 8, 8), points_everywhere(1, 40_000)
    before = torch.get_num_threads()
    answers: list[Tensor] = []

    def ask() -> None:
        with torch.no_grad():
            answers.append(field.query(features, points))

    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            ask()
        callers = [threading.Thread(target=ask) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    finally:
        torch.set_num_threads(before)
    assert len(answers) == 6
    for answer in answers[1:]:
        assert torch.equal(answer, answers[0])


@needs_numba
def test_numbers_that_are_none_stay_visible() -> None:
    field, features = field_of(), torch.randn(1, 16, 8, 8, 8)
    points = points_everywhere(1, 300)
    points[0, 7] = torch.nan
    points[0, 11, 1] = torch.inf
    with torch.no_grad():
        values = field.query(features, points)
        broken = field.query(features * torch.nan, points)
    assert not bool(torch.isfinite(values[0, 7])) and bool(torch.isfinite(values[0, 12:]).all())
    assert not bool(torch.isfinite(broken).any())


def test_gradients_are_left_to_torch() -> None:
    field, features = field_of(), torch.randn(1, 16, 8, 8, 8)
    points = (0.9 * (torch.rand(1, 50, 3) - 0.5)).requires_grad_(True)
    assert not fused.applies(features, points)
    (gradient,) = torch.autograd.grad(field.query(features, points).sum(), points)
    assert float(gradient.abs().max()) > 0
    with torch.no_grad():
        assert not fused.applies(features.double(), points)
        assert not fused.applies(features[:0], points)
        many = torch.func.vmap(lambda code: field.query(code, points))(features[None].expand(3, -1, -1, -1, -1, -1))
        torch.testing.assert_close(many[2], field.query(features, points), atol=1e-5, rtol=1e-5)


@needs_numba
def test_lattices_of_the_refinement() -> None:
    lattices = [torch.randn(1, 1, side, side, side) for side in (4, 9, 32)]
    points = points_everywhere(1, 9001)[0]
    expected = sum(interpolate(lattice.double(), points[None].double())[0, :, 0] for lattice in lattices)
    with torch.no_grad():
        assert fused.applies(points, *lattices)
        got = Residual(lattices)(points)
    torch.testing.assert_close(got.double(), expected, atol=2e-5, rtol=1e-5)
    with torch.enable_grad():
        torch.testing.assert_close(Residual(lattices)(points), got, atol=2e-5, rtol=1e-5)


def test_without_numba_torch_does_it_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    field, features, points = field_of(), torch.randn(1, 16, 8, 8, 8), points_everywhere(1, 500)
    expected = plainly(field, features, points)
    fused._loaded.cache_clear()
    monkeypatch.setattr(machine_code, "_folders", lambda: [tmp_path])  # nothing is kept there
    monkeypatch.setitem(__import__("sys").modules, "engine.fields._numba_kernels", None)
    monkeypatch.delattr("engine.fields._numba_kernels", raising=False)
    try:
        with torch.no_grad(), caplog.at_level("WARNING"):
            for _ in range(3):
                got = field.query(features, points)
        assert sum("numba" in record.message for record in caplog.records) == 1
        assert "torch" in fused.describe()
        torch.testing.assert_close(got.double(), expected, atol=2e-5, rtol=1e-5)
    finally:
        fused._loaded.cache_clear()


def devices() -> list[str]:
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", devices())
def test_mixed_precision_is_exact_near_the_surface_and_right_about_the_rest(device: str) -> None:
    field = field_of(resolution=32).to(device)
    features = torch.randn(2, 16, 32, 32, 32, generator=torch.Generator().manual_seed(5)).to(device)
    points = points_everywhere(2, 4000).to(device)
    with torch.no_grad():
        exact = field.query(features, points)
        scale = float(exact.abs().quantile(0.5))
        near = 0.3 * scale
        mixed = fused.mixed_values(field._query, features, points, near)
        assert field.query(features, points).dtype == torch.float32
    close = exact.abs() < 0.5 * near
    assert 0.02 < float(close.float().mean()) < 0.9
    torch.testing.assert_close(mixed[close], exact[close], atol=1e-6 * scale, rtol=1e-6)
    assert bool(((mixed < 0) == (exact < 0)).all())
    off = (mixed - exact).abs()
    assert 0 < float(off.max()) < 0.3 * scale  # it is another precision, and one good enough


def test_mixed_precision_extracts_the_same_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a field that is a distance, what lies beyond the band is beyond a cell too."""
    from engine.surfaces.marching import extract_sparse

    monkeypatch.setenv("SHAPEWRIGHT_PRECISION", "mixed")
    mixed = GridField(4, 16, 8, 32).eval().requires_grad_(False)
    assert mixed.mixed
    monkeypatch.delenv("SHAPEWRIGHT_PRECISION")
    plain = GridField(4, 16, 8, 32).eval().requires_grad_(False)
    assert not plain.mixed
    axis = (torch.arange(32) + 0.5) / 32 * 2 * BOUND - BOUND
    xyz = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    # Positive and negative part of a ball's distance, through two units that are nearly linear there.
    distance = 10 * (xyz.norm(dim=0) - 0.33)
    features = torch.zeros(1, 16, 32, 32, 32)
    features[0, 0] = distance
    for field in (mixed, plain):
        for parameter in field.parameters():
            parameter.zero_()
        field.m1.weight[0, 0], field.m1.weight[1, 0] = 1.0, -1.0
        field.m2.weight[0, 0], field.m2.weight[1, 1] = 1.0, 1.0
        field.m3.weight[0, 0], field.m3.weight[0, 1] = 1.5, -1.5
    meshes = [
        extract_sparse(lambda x, f=field: f.query(features, x[None])[0], 64, lipschitz=1.5).mesh
        for field in (mixed, plain)
    ]
    assert len(meshes[0].faces) > 1000
    assert (meshes[0].faces == meshes[1].faces).all()
    assert abs(meshes[0].vertices - meshes[1].vertices).max() < 1e-6


# --- the convolution with frozen weights -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"), [(3, 1, 1, 8), (3, 2, 1, 8), (3, 2, 1, 7), (1, 1, 0, 6)]
)
def test_a_frozen_convolution_has_the_derivatives_of_the_plain_one(
    kernel: int, stride: int, padding: int, size: int
) -> None:
    torch.manual_seed(0)
    layer = _Conv3d(5, 7, kernel, stride=stride, padding=padding).requires_grad_(False)
    weight, bias = layer.weight.double(), layer.bias.double()
    x = torch.randn(1, 5, size, size, size, requires_grad=True)

    def plain(value: Tensor) -> Tensor:
        return F.conv3d(value, weight, bias, stride, padding)

    out, expected = layer(x), plain(x.double())
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)
    towards = torch.randn_like(out)
    (gradient,) = torch.autograd.grad((out.square() * towards).sum(), x, create_graph=True)
    (wanted,) = torch.autograd.grad((expected.square() * towards).sum(), x, create_graph=True)
    torch.testing.assert_close(gradient, wanted, atol=1e-4, rtol=1e-4)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    (wanted,) = torch.autograd.grad(wanted.square().sum(), x)
    torch.testing.assert_close(second, wanted, atol=1e-3, rtol=1e-4)

    several = torch.randn(2, 1, 5, size, size, size)
    torch.testing.assert_close(torch.func.vmap(layer)(several), torch.stack([layer(one) for one in several]))
    slopes = torch.func.vmap(torch.func.grad(lambda value: (layer(value) * towards).sum()))(several)
    (wanted,) = torch.autograd.grad(plain(x.double()), x, towards.double())
    torch.testing.assert_close(slopes[1], wanted, atol=1e-4, rtol=1e-4)  # linear: the same everywhere


def test_weights_that_learn_still_do() -> None:
    layer = _Conv3d(3, 4, 3, padding=1)
    x = torch.randn(1, 3, 5, 5, 5)
    layer(x).sum().backward()
    assert layer.weight.grad is not None and layer.bias is not None and layer.bias.grad is not None
    torch.testing.assert_close(layer.bias.grad, torch.full((4,), 125.0))


FRESH = """
import sys
import torch
from engine.fields import fused
generator = torch.Generator().manual_seed(1)
features = torch.randn(1, 20, 8, 8, 8, generator=generator)
points = torch.rand(1, 500, 3, generator=generator) - 0.5
shapes = ((32, 23), (32,), (32, 32), (32,), (1, 32), (1,))
with torch.no_grad():
    values = fused.grid_values(features, points, [torch.randn(*s, generator=generator) for s in shapes], 1.0)
sys.stdout.buffer.write(values.numpy().tobytes())
"""


@needs_numba
def test_the_process_that_compiles_gives_the_bytes_of_those_that_load(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    only_here = (
        "from pathlib import Path\nfrom engine.fields import machine_code\n"
        f"machine_code._folders = lambda: [Path({str(tmp_path)!r})]\n"
    )
    printed = []
    for last in ("assert 'numba' in sys.modules", "assert 'numba' not in sys.modules"):
        source = only_here + FRESH + last
        printed.append(
            subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, check=True).stdout
        )
    assert len(printed[0]) == 4 * 500 and printed[0] == printed[1]
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"PK" + bytes(100)):  # a process that was killed, say
        kept.write_bytes(damaged)
        assert machine_code._read(kept) is None
    assert machine_code._read(tmp_path / "nothing.npz") is None


@needs_numba
def test_where_nothing_can_be_kept_the_kernels_work(tmp_path: Path) -> None:
    blocker = tmp_path / "a file"
    blocker.write_bytes(b"")
    kept = machine_code._read(next(f / f"kernels-{machine_code._key()}.npz" for f in machine_code._folders()))
    assert kept is not None
    assert not machine_code._write(blocker / "kernels.npz", kept)
    assert machine_code._write(tmp_path / "new" / "kernels.npz", kept)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["kernels.npz"]
