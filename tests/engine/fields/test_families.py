"""Families by name, and what may be asked of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import InputError
from engine.fields.arguments import Range, arguments_of
from engine.fields.base import Clouds, Evidence, Family, Posterior, Schedule, create
from engine.fields.registry import family, names, register
from engine.priors.file import load_prior, save_prior


def test_every_family_tells_of_itself() -> None:
    assert {"grid", "deepsdf"} <= set(names())
    for name in names():
        kind = family(name)
        assert kind.name == name and isinstance(kind.schedule, Schedule)
        for argument in arguments_of(kind).values():
            assert argument.fault(argument.default) is None


def test_a_family_that_is_not_there() -> None:
    for name in ("transformer", "base", "", "../grid", "os.path"):
        with pytest.raises(InputError) as refused:
            family(name)
        assert refused.value.code == "unknown_architecture" and "grid" in refused.value.why


def test_arguments_have_ranges() -> None:
    @register
    class Ranged(Family):
        name = "test-ranged"
        schedule = Schedule(1, 0.1)

        def __init__(
            self, width: Annotated[int, Range(2, 8, 2)] = 4, drop: Annotated[float, Range(0, 1)] = 0.5
        ) -> None:
            super().__init__()
            self.width = width

    made = create(Ranged, {"width": 6, "drop": 1})
    assert isinstance(made, Ranged) and made.width == 6
    nan, inf = float("nan"), float("inf")
    for wrong in ({"width": 9}, {"width": 10**30}, {"width": 3}, {"width": True}, {"width": "4"}, {"drop": nan},
                  {"drop": inf}, {"depth": 1}):  # fmt: skip
        with pytest.raises(ValueError):
            create(Ranged, wrong)

    class Endless(Family):
        name = "test-endless"
        schedule = Schedule(1, 0.1)

        def __init__(self, width: int = 4) -> None:
            super().__init__()

    with pytest.raises(TypeError, match="width"):
        register(Endless)

    class Double(Family):
        name = "grid"
        schedule = Schedule(1, 0.1)

    names()
    with pytest.raises(ValueError, match="two families called grid"):
        register(Double)


@pytest.mark.parametrize("change", [{"width": 4096}, {"resolution": 100_000}, {"hidden": "16"}, {"depth": 3}])
def test_a_card_out_of_range_is_refused_before_anything_is_made(
    small_prior_file: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    card = {**load_prior(str(small_prior_file)).card}
    card["arguments"] = {**card["arguments"], **change}
    path = tmp_path / "greedy.safetensors"
    save_file(load_file(small_prior_file), path, {"shapewright": json.dumps(card)})
    with pytest.raises(InputError) as refused:
        load_prior(str(path))
    assert refused.value.code == "prior_damaged" and next(iter(change)) in refused.value.why


def test_a_prior_file_brings_its_family(small_prior_file: Path, balls_file: Path, tmp_path: Path) -> None:
    for path in (small_prior_file, balls_file):
        prior = load_prior(str(path))
        save_prior(tmp_path / "again.safetensors", prior.field, {"name": "again", "version": "1", "classes": []})
        again = load_prior(str(tmp_path / "again.safetensors"))
        assert type(again.field) is type(prior.field) is family(str(prior.card["architecture"]))
        code = torch.zeros(1, *prior.field.code_shape)
        points = torch.rand(1, 50, 3) - 0.5
        torch.testing.assert_close(again.field.decode(code).values(points), prior.field.decode(code).values(points))


def test_evidence_in_batches() -> None:
    one, two = (Evidence((torch.full((1, 2), float(k)), torch.full((1, 1, 3), float(k)))) for k in (1, 2))
    both = Evidence.batch([one, two])
    assert torch.equal(both.at(1).parts[1], two.parts[1])
    kept = both.masked(torch.tensor([0.0, 1.0]))
    assert float(kept.parts[0][0].abs().max()) == 0 and torch.equal(kept.parts[1][1:], two.parts[1])
    posterior = Posterior.batch([Posterior(torch.zeros(1, 4), torch.zeros(1, 4), one),
                                 Posterior(torch.ones(1, 4), torch.zeros(1, 4), two)])  # fmt: skip
    second = posterior.at(1)
    assert float(second.mean[0, 0]) == 1 and second.evidence is not None
    assert torch.equal(second.evidence.parts[0], two.parts[0])


def test_more_points_are_no_stronger_evidence() -> None:
    points = torch.rand(10_000, 3) - 0.5
    assert float(Clouds.seen(points, None).weights.sum()) == pytest.approx(2048, rel=1e-3)
    assert float(Clouds.seen(points[:100], None).weights.sum()) == 100
    whole = Clouds.of_wholes(points[None])
    assert whole.whole is not None and bool(whole.whole.all()) and float(whole.rays.abs().max()) == 0
