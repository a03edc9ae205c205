"""The prior file: round trip, and a reason for every file that is none."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from engine.errors import InputError
from engine.fields.families.grid import GridField
from engine.fields.pose import YAW_BINS, PoseNet
from engine.priors.file import load_prior, save_prior
from engine.priors.registry import find, list_priors, read_card, sha256, user_folder, verify

CARD = {"name": "test", "version": "3", "classes": ["cup", "tin"], "note": "ščž 形"}


def field() -> GridField:
    torch.manual_seed(0)
    return GridField(code_channels=4, width=4, hidden=8, resolution=8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of priors, with a space and letters of elsewhere in its name."""
    mine = tmp_path / "my priors 形"
    mine.mkdir()
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(mine))
    return mine


@pytest.fixture
def prior_file(folder: Path) -> Path:
    path = folder / "test.safetensors"
    save_prior(path, field(), CARD, PoseNet(2, width=2))
    return path


def test_round_trip(prior_file: Path) -> None:
    original = field().state_dict()
    prior = load_prior("test")
    assert prior.name == "test" and prior.classes == ["cup", "tin"] and prior.card["note"] == CARD["note"]
    assert prior.sha256 == sha256(prior_file) == verify("test").sha256
    assert not prior.field.training and not any(p.requires_grad for p in prior.field.parameters())
    for name, value in prior.field.state_dict().items():
        assert torch.allclose(value, original[name], rtol=1e-3, atol=1e-4), name  # half precision
    assert prior.pose is not None and prior.pose.arguments == {"classes": 2, "width": 2, "bins": YAW_BINS}


def test_a_file_beside_a_prior_completes_its_card_and_changes_nothing_of_it(prior_file: Path) -> None:
    beside, digest = prior_file.with_name("test.card.json"), sha256(prior_file)
    beside.write_text(json.dumps({"words": {"cup": {"width": "Bore"}}, "name": "other", "classes": []}), "utf-8")
    card = read_card("test")
    assert card["words"] == {"cup": {"width": "Bore"}} and card["name"] == "test" and card["classes"] == ["cup", "tin"]
    assert load_prior(str(prior_file)).card["words"] == card["words"] and sha256(prior_file) == digest
    for damaged in (b"{", b"[1]", b'{"words": NaN}', b"[" * 100_000, b"\xff\xfe"):
        beside.write_bytes(damaged)
        assert "words" not in read_card("test")


def test_a_prior_without_pose_network(folder: Path) -> None:
    save_prior(folder / "bare.safetensors", field(), CARD)
    assert load_prior("bare").pose is None


def test_saving_the_same_gives_the_same_file(folder: Path) -> None:
    first = save_prior(folder / "a.safetensors", field(), CARD)
    second = save_prior(folder / "b.safetensors", field(), CARD)
    assert first == second
    assert [path.name for path in sorted(folder.iterdir())] == ["a.safetensors", "b.safetensors"]  # no left-overs


def test_replacing_a_prior_is_seen(prior_file: Path) -> None:
    before = load_prior("test")
    changed = field()
    with torch.no_grad():
        changed.m3.bias.add_(1.0)
    save_prior(prior_file, changed, CARD)
    after = load_prior("test")
    assert after.sha256 != before.sha256 and float(after.field.m3.bias) > float(before.field.m3.bias)


def test_listing_finds_the_users_priors_first(prior_file: Path, folder: Path) -> None:
    assert user_folder() == folder
    names = [info.name for info in list_priors()]
    assert names[0] == "test" and len(set(names)) == len(names)
    info = list_priors()[0]
    assert info.path == prior_file and info.version == "3" and info.architecture == "grid"
    assert info.classes == CARD["classes"] and info.bytes == prior_file.stat().st_size
    # A user's prior takes the place of a shipped one of its name.
    for other in [i for i in list_priors() if i.path.parent != folder]:
        shutil.copy(prior_file, folder / f"{other.name}.safetensors")
        assert find(other.name).parent == folder
        assert [i.path.parent for i in list_priors() if i.name == other.name] == [folder]


def test_listing_leaves_damaged_files_out(prior_file: Path, folder: Path) -> None:
    (folder / "broken.safetensors").write_bytes(b"nothing of the sort")
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "notes.txt").write_text("hello", encoding="utf-8")
    mine = [info.name for info in list_priors() if info.path.parent == folder]
    assert mine == ["test"]


def test_a_missing_prior_is_named_with_those_there_are(prior_file: Path) -> None:
    for name in ("nowhere", "", "../test", "nowhere.safetensors", "a\\b"):
        with pytest.raises(InputError) as caught:
            load_prior(name)
        assert caught.value.code == "prior_not_found" and "test" in caught.value.why


def rewritten(source: Path, target: Path, tensors: dict[str, Any] | None = None, **card: Any) -> Path:
    """A copy with some of its tensors or of its card replaced."""
    from safetensors import safe_open

    with safe_open(source, "numpy") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = json.loads(file.metadata()["shapewright"])
    save_file({**kept, **(tensors or {})}, target, {"shapewright": json.dumps({**metadata, **card})})
    return target


def damaged(kind: str, source: Path, target: Path) -> Path:
    content = source.read_bytes()
    if kind == "truncated":
        target.write_bytes(content[:-1000])
    elif kind == "only a header":
        target.write_bytes(content[:8])
    elif kind == "empty":
        target.write_bytes(b"")
    elif kind == "text":
        target.write_text("This is a text, not a prior. " * 20, encoding="utf-8")
    elif kind == "foreign safetensors":
        save_file({"weight": np.zeros((3, 3), np.float32)}, target)
    elif kind == "foreign metadata":
        save_file({"weight": np.zeros((3, 3), np.float32)}, target, {"format": "pt"})
    elif kind == "pickle":
        target.write_bytes(pickle.dumps(Trap(target.with_suffix(".executed"))))
    elif kind == "torch file":
        torch.save({"weight": torch.zeros(3)}, target)
    elif kind == "huge header":
        target.write_bytes((2**40).to_bytes(8, "little") + content[8:])
    elif kind == "newer format":
        rewritten(source, target, format=99)
    elif kind == "card without classes":
        card = read_card(source)
        del card["classes"]
        save_file({"a": np.zeros(1, np.float32)}, target, {"shapewright": json.dumps(card)})
    elif kind == "card not a table":
        save_file({"a": np.zeros(1, np.float32)}, target, {"shapewright": "[1, 2]"})
    return target


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize(
    "kind",
    [
        "truncated", "only a header", "empty", "text", "foreign safetensors", "foreign metadata", "pickle",
        "torch file", "huge header", "newer format", "card without classes", "card not a table",
    ],
)
def test_what_is_no_prior_is_refused_everywhere(kind: str, prior_file: Path, tmp_path: Path) -> None:
    path = damaged(kind, prior_file, tmp_path / "bad.safetensors")
    for use in (verify, read_card, load_prior):
        with pytest.raises(InputError) as caught:
            use(str(path))
        assert caught.value.code == "prior_damaged"
        assert "bad.safetensors" in caught.value.what and caught.value.why and caught.value.remedy
    assert not path.with_suffix(".executed").exists()


def test_another_architecture_is_refused_by_name(prior_file: Path, tmp_path: Path) -> None:
    path = rewritten(prior_file, tmp_path / "other.safetensors", architecture="transformer")
    with pytest.raises(InputError) as caught:
        load_prior(str(path))
    assert caught.value.code == "prior_architecture" and "transformer" in caught.value.why


def test_weights_that_do_not_fit_are_refused(prior_file: Path, tmp_path: Path) -> None:
    path = rewritten(prior_file, tmp_path / "narrow.safetensors", {"field.m3.weight": np.zeros((1, 99), np.float16)})
    with pytest.raises(InputError) as caught:
        load_prior(str(path))
    assert caught.value.code == "prior_damaged" and "m3.weight" in caught.value.why


@pytest.mark.parametrize("arguments", [{"width": -3}, {"depth": 4}, {"width": "wide"}, {"width": 10**9}, [1, 2]])
def test_arguments_that_make_no_network_are_refused(arguments: Any, prior_file: Path, tmp_path: Path) -> None:
    path = rewritten(prior_file, tmp_path / "strange.safetensors", arguments=arguments)
    with pytest.raises(InputError) as caught:
        load_prior(str(path))
    assert caught.value.code == "prior_damaged"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_verify_reads_every_number(value: float, prior_file: Path, tmp_path: Path) -> None:
    path = rewritten(prior_file, tmp_path / "nan.safetensors", {"field.m3.bias": np.full(1, value, np.float16)})
    with pytest.raises(InputError) as caught:
        verify(path)
    assert caught.value.code == "prior_damaged" and "m3.bias" in caught.value.why
