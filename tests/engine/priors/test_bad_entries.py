"""A prior that is refused is not installed, and whatever lies in the priors' folder hides no other prior."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.numpy import save_file
from safetensors.torch import safe_open

from engine.cli import entry as cli
from engine.errors import InputError
from engine.plain_json import sendable
from engine.priors.exchange import import_prior
from engine.priors.file import load_prior, save_prior
from engine.priors.registry import find, list_priors, verify
from engine.server.priors import PriorList
from tests.engine.priors.test_prior_file import CARD, field

posix = pytest.mark.skipif(sys.platform == "win32", reason="such entries cannot be made there")

BAD_CARDS = {
    "half a surrogate pair": {"quality": '{"note": "\\ud800"}'},
    "half a surrogate pair as a key": {"quality": '{"\\udfff": 1}'},
    "half a surrogate pair in a class": {"classes": '["cup", "\\udc80"]'},
    "half a surrogate pair that is not listed": {"anything": '"\\ud800"'},
    "half a surrogate pair in its name": {"name": '"\\ud800"'},
    "half a surrogate pair as its architecture": {"architecture": '"\\ud800"'},
    "half a surrogate pair as its format": {"format": '"\\ud800"'},
    "300 objects deep": {"quality": '{"a":' * 300 + "1" + "}" * 300},
    "300 lists deep where nothing is listed": {"anything": "[" * 300 + "]" * 300},
    "100000 lists deep": {"quality": "[" * 100_000 + "]" * 100_000},
    "a version 100 lists deep": {"version": "[" * 100 + "]" * 100},
    "a listing of megabytes": {"class_counts": json.dumps({f"class {k}": k for k in range(200_000)})},
    "a number of 9000 digits": {"quality": "9" * 9000},
}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "priors ščž 形"
    folder.mkdir()
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(folder))
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "good.safetensors"
    save_prior(path, field(), CARD)
    return path


def with_card(source: Path, target: Path, **texts: str) -> Path:
    """A copy whose card has the given JSON texts as values, whatever they are."""
    with safe_open(source, "numpy") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        card = json.loads(stored.metadata()["shapewright"])
    written = json.dumps({**card, **dict.fromkeys(texts)})
    for key, text in texts.items():
        written = written.replace(f'"{key}": null', f'"{key}": {text}')
    save_file(tensors, target, {"shapewright": written})
    return target


def listed() -> list[str]:
    """The names that /v1/info tells, from the bytes that it sends."""
    answer = PriorList().read()
    assert answer["priors_error"] is None
    return [prior["name"] for prior in json.loads(sendable(answer))["priors"]]


@pytest.mark.parametrize("kind", BAD_CARDS)
def test_a_card_that_cannot_be_passed_on_is_refused_and_not_installed(
    kind: str, mine: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = with_card(file, tmp_path / "bad.safetensors", **BAD_CARDS[kind])
    for name in ("", "tins"):
        with pytest.raises(InputError) as caught:
            import_prior(bad, name)
        assert caught.value.code == "prior_damaged"
        sendable(caught.value.as_dict())  # the refusal itself can be sent
    assert not [path for path in mine.rglob("*") if path.is_file()] and listed() == ["household"]
    shutil.copy(bad, mine / "bad.safetensors")  # put there by hand it hides no other
    shutil.copy(file, mine / "good.safetensors")
    assert listed() == ["good", "household"]
    assert cli.main(["priors", "list", "--json"]) == 0
    assert [prior["name"] for prior in json.loads(capsys.readouterr().out)["priors"]] == ["good", "household"]
    if kind != "a listing of megabytes":  # which can be used by its name, but not listed
        with pytest.raises(InputError) as caught:
            load_prior("bad")
        assert caught.value.code == "prior_damaged"


def test_entries_whose_numbers_are_none_hide_no_other(mine: Path, file: Path) -> None:
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    tensor = next(name for name in header if name != "__metadata__")
    for number, changes in enumerate((
        {"data_offsets": ["a", "b"]}, {"data_offsets": [None, None]}, {"data_offsets": [0, 1e999]}, {"data_offsets": 5},
        {"shape": ["a"]}, {"shape": [-1, -1]}, {"shape": [1.5]}, {"shape": [[1]]}, {"dtype": []}, {"dtype": "F8"},
        {"shape": ["a", 10**12]},
    )):  # fmt: skip
        damaged = json.dumps({**header, tensor: {**header[tensor], **changes}}).encode()
        path = mine / f"{number}.safetensors"
        path.write_bytes(len(damaged).to_bytes(8, "little") + damaged + content[8 + length :])
        with pytest.raises(InputError) as caught:
            import_prior(path, "tins")
        assert caught.value.code == "prior_damaged"
    for number, text in enumerate((b"[]", b"5", b'"x"', b"[" * 100_000, b"{}", b'{"__metadata__": 5}'), 100):
        (mine / f"{number}.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    assert listed() == ["household"]


@posix
def test_entries_that_are_no_files_hide_no_other_and_block_nothing(
    mine: Path, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(mine / "pipe.safetensors")
    (mine / "folder.safetensors").mkdir()
    (mine / "dangling.safetensors").symlink_to(mine / "nothing")
    (mine / "circle.safetensors").symlink_to(mine / "circle.safetensors")
    (mine / "linked.safetensors").symlink_to(file)
    shutil.copy(file, mine / ".safetensors")
    if sys.platform != "darwin":  # whose file systems refuse it
        shutil.copy(file, os.fsencode(mine) + b"/caf\xe9.safetensors")
    for name in ("pipe", "folder", "dangling"):
        with pytest.raises(InputError):
            find(name)
        with pytest.raises(InputError):
            verify(mine / f"{name}.safetensors")
    assert {"linked", "household"} <= set(listed()) <= {"linked", "household", ".safetensors"}
    for name in ("pipe", "folder", "dangling"):
        with pytest.raises(InputError) as caught:
            import_prior(file, name)
        assert caught.value.code == "prior_exists", "nothing is overwritten unasked, whatever it is"
    assert import_prior(file, "dangling", replace=True).name == "dangling" and not (mine / "nothing").exists()
    assert {"dangling", "linked", "household"} <= set(listed())
    assert caplog.text.count("'pipe.safetensors' is left out") <= 1  # told once, not at every look


def test_a_damaged_file_does_not_hide_the_shipped_prior_of_its_name(mine: Path) -> None:
    (mine / "household.safetensors").write_bytes(b"cut short")
    assert [info.shipped for info in list_priors()] == [True]
    assert find("household").parent != mine, "what is used is what is listed"


def test_a_refusal_after_every_check_leaves_what_was_there(mine: Path, file: Path) -> None:
    import_prior(file, "tins")
    before = (mine / "tins.safetensors").read_bytes()
    bad = with_card(file, mine.parent / "bad.safetensors", **BAD_CARDS["300 objects deep"])
    with pytest.raises(InputError):
        import_prior(bad, "tins", replace=True)
    assert (mine / "tins.safetensors").read_bytes() == before and listed() == ["tins", "household"]


def test_what_is_returned_is_what_is_listed(mine: Path, file: Path) -> None:
    info = import_prior(file, "tins")
    assert info == next(one for one in list_priors() if one.name == "tins")
    numbers = with_card(file, mine.parent / "numbers.safetensors", quality='{"f_score": NaN, "cd": 1e999}')
    assert import_prior(numbers, "numbers").as_json()["about"]["quality"] == {"f_score": None, "cd": None}
    assert listed() == ["numbers", "tins", "household"]
