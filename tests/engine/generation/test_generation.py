"""What is drawn, varied, blended and slid: properties of the codes, on a prior of ellipsoids."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.generation import directions, paths, sampling
from engine.generation.codes import DecodedShape, decode, implicit, largest_piece, prior_of, similarity_of
from engine.generation.variants import keep, kept_part
from engine.geometry.transforms import Similarity
from engine.priors.file import Prior, load_prior
from engine.priors.latent import LatentModel
from engine.priors.registry import read_card


@pytest.fixture(scope="module")
def prior(generative_prior_file: Path) -> Prior:
    return load_prior(str(generative_prior_file))


@pytest.fixture(scope="module")
def latent(prior: Prior) -> LatentModel:
    assert prior.latent is not None
    return prior.latent


def codes_of(latent: LatentModel, *rows: tuple[float, ...]) -> torch.Tensor:
    return latent.expand(torch.tensor(rows))


def test_a_shape_of_a_seed_does_not_depend_on_the_others(latent: LatentModel) -> None:
    together = sampling.draw(latent, 6, seed=3).shapes
    alone = sampling.draw(latent, 1, first=4, seed=3).shapes[0]
    assert alone.index == 4
    assert torch.equal(alone.coefficients, together[4].coefficients)
    other = sampling.draw(latent, 1, first=4, seed=4).shapes[0]
    assert not torch.equal(alone.coefficients, other.coefficients)
    later = sampling.draw(latent, 2, first=4, seed=3, earlier=together[:4]).shapes
    assert torch.equal(later[1].coefficients, together[5].coefficients)


def test_duplicates_are_drawn_again_and_counted(latent: LatentModel) -> None:
    drawn = sampling.draw(latent, 12, seed=0, temperature=0.3)
    kept = torch.stack([one.coefficients for one in drawn.shapes if not one.duplicate])
    apart = torch.cdist(kept, torch.cat([latent.training, kept])) / math.sqrt(latent.size)
    apart[:, len(latent.training) :].fill_diagonal_(math.inf)
    assert float(apart.min()) >= drawn.threshold > 0
    assert sum(one.redrawn_training + one.redrawn_each_other for one in drawn.shapes) > 0
    # Without variation there is but one shape: it is given, and said to be a duplicate.
    same = sampling.draw(latent, 2, class_name="ball", temperature=0.0).shapes
    assert same[1].duplicate and same[1].redrawn_each_other == sampling.ATTEMPTS - 1
    freely = sampling.draw(latent, 12, seed=0, temperature=0.3, avoid_duplicates=False).shapes
    assert not any(one.redrawn_training + one.redrawn_each_other for one in freely)


def test_draws_are_of_the_class_asked_for(latent: LatentModel) -> None:
    for name in ("ball", "plate"):
        drawn = sampling.draw(latent, 10, class_name=name).shapes
        assert all(one.class_name == name for one in drawn)
        found = [sampling.class_of(latent, one.coefficients) for one in drawn]
        assert found.count(name) >= 9
    with pytest.raises(InputError, match="no class called vase"):
        sampling.draw(latent, 1, class_name="vase")


def test_relatives_go_further_with_strength_and_stay_as_likely(latent: LatentModel) -> None:
    start = sampling.draw(latent, 40, seed=1, class_name="ball", avoid_duplicates=False).shapes
    codes = [latent.expand(one.coefficients[None])[0] for one in start]
    far, likely = [], []
    for strength in (0.0, 0.3, 1.0, 2.0):
        moved = torch.stack([
            sampling.relative(latent, code, strength, (7, k)) for k, code in enumerate(codes)
        ])
        far.append(float((latent.project(moved) - latent.project(torch.stack(codes))).norm(dim=1).mean()))
        likely.append(float(latent.log_density(latent.project(moved), "ball").mean()))
    assert far[0] < 1e-4
    assert far[0] < far[1] < far[2] < far[3]
    assert max(likely) - min(likely) < 0.8


def test_the_variation_of_a_shape_outside_the_subspace_is_kept_at_strength_zero(latent: LatentModel) -> None:
    code = codes_of(latent, (0.5, -0.3, 0.2))[0] + 0.01 * torch.randn(latent.code_shape)
    assert torch.allclose(sampling.relative(latent, code, 0.0, (0,)), code, atol=1e-5)


@pytest.mark.parametrize("path", ["straight", "spherical", "plausible"])
def test_paths_begin_and_end_at_the_shapes_and_go_on_in_even_steps(latent: LatentModel, path: str) -> None:
    a, b = codes_of(latent, (1.5, 0.2, -0.4), (-0.8, 1.1, 0.6)) + 0.01 * torch.randn(2, *latent.code_shape)
    way = paths.between(latent, a, b, torch.linspace(0, 1, 9), path)
    assert torch.allclose(way[0], a, atol=1e-4) and torch.allclose(way[-1], b, atol=1e-4)
    step = latent.project(way).diff(dim=0).norm(dim=1)
    assert float(step.max()) < 1.35 * float(step.min())


def test_spherical_keeps_the_length_that_the_straight_way_loses(latent: LatentModel) -> None:
    a, b = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])
    middle = paths.spherical(a, b, torch.tensor([0.5]))[0]
    assert float(middle.norm()) == pytest.approx(2.0, rel=1e-5)
    opposite = paths.spherical(a, -a, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.isfinite(opposite).all() and torch.equal(opposite[2], -a)


def test_the_plausible_way_is_at_no_place_much_less_likely_than_the_spherical(latent: LatentModel) -> None:
    t = torch.linspace(0, 1, 9)
    gain = []
    for k in range(6):
        a = latent.training[2 * k]  # a ball
        b = latent.training[2 * k + 1]  # a plate
        sphere = latent.log_density(paths.spherical(a, b, t))
        bent = latent.log_density(next(paths.plausible(latent, a, b, t)))
        gain.append(float(bent.min() - sphere.min()))
    assert np.mean(gain) > 0 and min(gain) > -0.3


def test_arithmetic_undoes_itself_and_stays_within_what_is_known(latent: LatentModel) -> None:
    a, b, c = codes_of(latent, (1.0, 0.2, -0.4), (-0.8, 1.1, 0.6), (2.0, 1.0, -1.5))
    assert torch.allclose(paths.arithmetic(latent, a, b, b, 1.0), a, atol=1e-5)
    assert torch.allclose(paths.arithmetic(latent, a, a, c, 1.0), c, atol=1e-5)
    far = latent.project(paths.arithmetic(latent, a, b, c, 4.0)[None])[0]
    assert float(far.norm()) == pytest.approx(float(latent.project(c[None])[0].norm()), rel=0.01)


def test_poses_between_are_similarities_that_begin_and_end_right() -> None:
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    first, second = Similarity(1.0, np.eye(3), np.zeros(3)), Similarity(4.0, turn, np.array([2.0, 0.0, 0.0]))
    found = paths.poses_between(first, second, np.array([0.0, 0.5, 1.0]))
    assert np.allclose(found[0].matrix(), first.matrix()) and np.allclose(found[2].matrix(), second.matrix())
    assert found[1].scale == pytest.approx(2.0)
    assert np.allclose(found[1].rotation @ [1, 0, 0], [math.sqrt(0.5), math.sqrt(0.5), 0])
    assert np.allclose(similarity_of(second.matrix()).matrix(), second.matrix())
    with pytest.raises(InputError, match="pose cannot be used"):
        similarity_of(np.diag([1.0, 2.0, 1.0, 1.0]))


def test_stations_count_every_pair() -> None:
    assert paths.stations(2, 2, True) == [(0, 1, 0.0), (0, 1, 1 / 3), (0, 1, 2 / 3), (0, 1, 1.0)]
    assert paths.stations(3, 1, True) == [(0, 1, 0.0), (0, 1, 0.5), (1, 2, 0.0), (1, 2, 0.5), (1, 2, 1.0)]
    assert paths.stations(3, 1, False) == [(0, 1, 0.5), (1, 2, 0.5)]


def test_sliders_do_what_they_are_called(
    prior: Prior, latent: LatentModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(directions, "user_cache_folder", lambda: tmp_path)
    monkeypatch.setattr(directions, "_REMEMBERED", {})
    found = directions.directions(prior, "ball")
    by_name = {one.name: k for k, one in enumerate(found)}
    assert {"Width", "Depth", "Height"} <= set(by_name)
    middle = latent.expand(latent.class_mean("ball")[None])[0]

    def measured(values: tuple[float, ...]) -> dict[str, float]:
        shape = decode(prior, directions.moved(latent, middle, found, values))
        at = directions._grid_points("cpu")
        grid = shape.signed_distance(at).view(28, 28, 28).numpy()
        return directions.measures_of(grid)

    for name, measure in (("Width", "width"), ("Depth", "depth"), ("Height", "height")):
        values = [0.0] * len(found)
        values[by_name[name]] = 1.5
        low, high = measured(tuple(-v for v in values)), measured(tuple(values))
        change = (high[measure] - low[measure]) / 3
        told = found[by_name[name]].effect[measure]
        assert change > 0.03 and change == pytest.approx(told, rel=0.5)
        others = [m for m in ("width", "depth", "height") if m != measure]
        assert all(abs(high[m] - low[m]) / 3 < 0.8 * change for m in others)
        moved = directions.moved(latent, middle, found, tuple(values))
        places = directions.place_along(latent, "ball", found, latent.project(moved[None])[0])
        assert places[by_name[name]] == pytest.approx(1.5, abs=0.02)
    # A second process finds them where the first put them.
    monkeypatch.setattr(directions, "_REMEMBERED", {})
    monkeypatch.setattr(directions, "find_directions", lambda *args: pytest.fail("looked for again"))
    assert directions.directions(prior, "ball") == found


def test_sliders_are_called_as_the_priors_card_has_it() -> None:
    said = {"words": {"ball": {"front_height": "Nose", "width": "x" * 41, "mass": "Weight", "depth": 7}}}
    called = directions.labels_for(said, "ball")
    assert called == directions.MEASURES | {"front_height": "Nose"}, "long words and other things are not used"
    for card in ({}, {"words": None}, {"words": {"ball": []}}, {"words": {"cube": {"width": "Breadth"}}}):
        assert directions.labels_for(card, "ball") == directions.MEASURES
    household = read_card("household")
    assert directions.labels_for(household, "chair")["front_height"] == "Seat height"
    assert directions.labels_for(household, "table") == directions.MEASURES


def test_a_kept_part_stays_while_the_rest_varies(prior: Prior, latent: LatentModel) -> None:
    first, other = codes_of(latent, (0.0, 0.0, 0.0), (-1.2, 1.0, 0.5))
    original, variant = decode(prior, first), decode(prior, other)
    rays = torch.nn.functional.normalize(torch.randn(400, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    low, high = torch.full((400,), 0.02), torch.full((400,), 0.54)
    for _ in range(30):
        middle = (low + high) / 2
        inside = original.signed_distance(rays * middle[:, None]) < 0
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    surface = rays * low[:, None]
    top, bottom = surface[surface[:, 2] > 0.15], surface[surface[:, 2] < -0.15]
    part = kept_part(original, top.numpy(), None, 0)
    assert float((part.normals * rays[surface[:, 2] > 0.15]).sum(1).min()) > 0.5
    shape, field = keep(variant, part, steps=6)
    assert float(field(top).abs().mean()) < 0.001
    assert torch.allclose(field(bottom), shape.signed_distance(bottom))
    assert float(field(bottom).abs().mean()) > 0.01


def test_a_prior_is_found_by_its_hash_and_named_where_it_is_missing(
    prior: Prior, generative_prior_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "renamed.safetensors").write_bytes(generative_prior_file.read_bytes())
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(tmp_path))
    assert prior_of("whatever it was called", prior.sha256, "cpu").sha256 == prior.sha256
    with pytest.raises(InputError) as caught:
        prior_of("renamed", "ab" * 32, "cpu")
    assert caught.value.code == "prior_missing"
    assert "renamed (abababababab)" in caught.value.what and prior.sha256[:12] in caught.value.why


@pytest.fixture(scope="module")
def diffusing() -> LatentModel:
    """Codes on a ring (8 numbers, one cell), with a diffusion model: between two of them lies the ring."""
    from engine.training.latent import fit_latent

    angle = torch.linspace(0, 2 * math.pi, 257)[:-1]
    flat = torch.zeros(256, 8)
    flat[:, 0], flat[:, 1] = 3 * angle.cos(), 3 * angle.sin()
    flat += 0.05 * torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    labels, names = (torch.arange(256) > 127).long(), [f"code {k}" for k in range(256)]
    return fit_latent(flat[None], labels, names, ["upper", "lower"], (8, 1, 1, 1), size=2, diffusion_steps=600)


def radius(codes: torch.Tensor) -> torch.Tensor:
    return codes.flatten(1)[:, :2].norm(dim=1)


def test_with_a_diffusion_model_relatives_stay_among_the_shapes(diffusing: LatentModel) -> None:
    codes = diffusing.expand(diffusing.training[::16])
    for strength in (0.3, 1.0):
        moved = torch.stack([sampling.relative(diffusing, code, strength, (3, k)) for k, code in enumerate(codes)])
        assert float((radius(moved) - 3).abs().mean()) < 0.35
    near = torch.stack([sampling.relative(diffusing, code, 0.1, (3, k)) for k, code in enumerate(codes)])
    assert float((near - codes).flatten(1).norm(dim=1).mean()) < float((moved - codes).flatten(1).norm(dim=1).mean())
    again = sampling.relative(diffusing, codes[0], 1.0, (3, 0))
    assert torch.equal(again, moved[0]) and not torch.equal(again, sampling.relative(diffusing, codes[0], 1.0, (4, 0)))


def test_with_a_diffusion_model_the_way_between_classes_leads_along_the_shapes(diffusing: LatentModel) -> None:
    a, b = diffusing.expand(diffusing.training[[20, 148]])  # opposite
    t = torch.linspace(0, 1, 9)
    way = paths.between(diffusing, a, b, t, "plausible")
    assert torch.allclose(way[0], a, atol=1e-3) and torch.allclose(way[-1], b, atol=1e-3)
    assert float(radius(paths.between(diffusing, a, b, t, "straight")).min()) < 1.0
    assert float((radius(way) - 3).abs().max()) < 0.6
    step = way.flatten(1).diff(dim=0).norm(dim=1)
    assert float(step.max()) < 1.3 * float(step.min())


def test_with_a_diffusion_model_a_moved_slider_stays_among_the_shapes(diffusing: LatentModel) -> None:
    here = diffusing.training[64]
    code = diffusing.expand(here[None])[0]
    tangent = torch.stack([-here[1], here[0]]) / here.norm()  # straight along it leads out of the ring
    aside = directions.Direction("Aside", None, tangent.tolist())
    straight = dataclasses.replace(diffusing, denoiser=None)
    assert directions.moved(diffusing, code, [aside], (0.0,), "upper") is code
    for value in (0.9, -0.9):
        told, plain = (directions.moved(model, code, [aside], (value,), "upper") for model in (diffusing, straight))
        went = float((diffusing.project(told[None])[0] - here) @ tangent)
        assert went * value > 0 and 0.5 < abs(went) < 1.3, "it moves where it was sent"
        off = [abs(float(radius(moved[None])) - 3) for moved in (told, plain)]
        assert off[0] < 0.6 * off[1]
    near = [directions.moved(diffusing, code, [aside], (value,), "upper") for value in (0.01, 0.02)]
    assert float((near[0] - code).norm()) < 0.2 and float((near[1] - near[0]).norm()) < 0.2, "no jump"


def test_of_the_plausible_ways_the_one_that_holds_together_is_taken(diffusing: LatentModel) -> None:
    a, b = diffusing.expand(diffusing.training[[20, 148]])
    t = torch.linspace(0, 1, 5)
    ways = [paths.between(diffusing, a, b, t, "plausible", lambda _code, h=h: h) for h in (1.0, 0.0)]
    assert torch.equal(ways[0], paths.between(diffusing, a, b, t, "plausible")), "the first one is good enough"
    asked: list[torch.Tensor] = []

    def second_only(code: torch.Tensor) -> float:
        asked.append(code)
        return 0.9 if 3 < len(asked) <= 6 else 0.5

    other = paths.between(diffusing, a, b, t, "plausible", second_only)
    assert len(asked) == 9 and torch.equal(other[2], asked[4])
    assert torch.allclose(other[0], a, atol=1e-3) and torch.allclose(other[-1], b, atol=1e-3)


def test_pieces_are_drawn_again(latent: LatentModel) -> None:
    asked: list[torch.Tensor] = []

    def largest_piece(coefficients: torch.Tensor) -> float:
        asked.append(coefficients)
        return 0.5 if len(asked) < 3 else 1.0

    one = sampling.draw(latent, 1, avoid_duplicates=False, largest_piece=largest_piece).shapes[0]
    assert one.redrawn_broken == 2 and torch.equal(one.coefficients, asked[2])
    best = sampling.draw(latent, 1, avoid_duplicates=False, largest_piece=lambda c: float(c[0].sigmoid()) / 2).shapes[0]
    tried = [latent.sample(1, None, 1.0, sampling.generator_for(0, 0, k, 0))[0] for k in range(4)]
    assert torch.equal(best.coefficients, max(tried, key=lambda c: float(c[0])))


def test_a_shape_in_pieces_is_known_and_a_hollow_is_none(prior: Prior) -> None:
    other = -1.0

    def two(points: torch.Tensor) -> torch.Tensor:
        far = points - torch.tensor([0.3, 0.0, 0.0])
        near = points + torch.tensor([0.2, 0.0, 0.0])
        shell = torch.maximum(near.norm(dim=1) - 0.2, 0.12 - near.norm(dim=1))
        return torch.minimum(shell, far.norm(dim=1) - other)

    code = torch.zeros(prior.field.code_shape)
    shape = DecodedShape(prior, code, implicit(lambda points: two(points) + prior.field.thicken, code))
    assert largest_piece(shape) == 1.0
    other = 0.1
    assert largest_piece(shape) == pytest.approx(0.8, abs=0.01)  # areas as 4 to 1; the hollow's wall does not count
