"""Priors imported, exported and removed: what a person does with them as files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.cli import entry as cli
from engine.errors import InputError
from engine.priors.exchange import export_prior, import_prior, remove_prior
from engine.priors.file import load_prior, save_prior
from engine.priors.registry import find, list_priors, read_card, sha256
from tests.engine.priors.test_prior_file import CARD, damaged, field, rewritten


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of priors; it does not exist yet."""
    folder = tmp_path / "priors ščž 形"
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(folder))
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A prior's file as it came by mail."""
    path = tmp_path / "elsewhere" / "attachment 1.safetensors"
    save_prior(path, field(), CARD)
    return path


def test_an_imported_prior_is_listed_and_used_under_its_own_name(mine: Path, file: Path) -> None:
    info = import_prior(file)
    assert info.name == "test" and info.path == mine / "test.safetensors" and info.sha256 == sha256(file)
    assert "test" in [prior.name for prior in list_priors()] and load_prior("test").classes == CARD["classes"]
    assert [path.name for path in mine.iterdir()] == ["test.safetensors"], "nothing else is left there"
    assert import_prior(file).name == "test", "the same file again is no fault"


def test_a_name_of_ones_own_and_a_taken_one(mine: Path, file: Path, tmp_path: Path) -> None:
    assert import_prior(file, "tins").name == "tins"
    other = rewritten(file, tmp_path / "other.safetensors", note="another one")
    for name in ("tins", "TINS", "household"):
        with pytest.raises(InputError) as caught:
            import_prior(other, name)
        assert caught.value.code == "prior_exists"
    assert read_card("tins")["note"] == CARD["note"]
    assert import_prior(other, "tins", replace=True).sha256 == sha256(other)
    for name in ("../tins", "a/b", " ", "tins.", "x" * 200):
        with pytest.raises(InputError) as caught:
            import_prior(other, name)
        assert caught.value.code == "prior_name"


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "foreign safetensors", "pickle", "torch file",
                                  "huge header", "card without classes"])  # fmt: skip
def test_what_is_no_prior_is_refused_and_leaves_nothing(kind: str, mine: Path, file: Path, tmp_path: Path) -> None:
    path = damaged(kind, file, tmp_path / "bad.safetensors")
    with pytest.raises(InputError) as caught:
        import_prior(path)
    assert caught.value.code == "prior_damaged" and caught.value.why and caught.value.remedy
    assert not list(mine.rglob("*.safetensors")) and not list(tmp_path.rglob("*.executed"))


def changed(how: str, source: Path, target: Path) -> Path:
    if how == "numbers that are none":
        return rewritten(source, target, {"field.m3.bias": np.full(1, np.nan, np.float16)})
    if how == "weights of another network":
        return rewritten(source, target, {"field.m3.weight": np.zeros((1, 99), np.float16)})
    wrong: dict[str, dict[str, Any]] = {
        "another architecture": {"architecture": "transformer"},
        "classes that are a number": {"classes": 5},
        "classes that are numbers": {"classes": [1, 2]},
        "an architecture that is a list": {"architecture": ["grid"]},
        "no name": {"name": ""},
    }
    return rewritten(source, target, **wrong[how])


@pytest.mark.parametrize("how", ["numbers that are none", "weights of another network", "another architecture",
                                 "classes that are a number", "classes that are numbers",
                                 "an architecture that is a list", "no name"])  # fmt: skip
def test_a_wrong_card_or_wrong_weights_are_refused(how: str, mine: Path, file: Path, tmp_path: Path) -> None:
    path = changed(how, file, tmp_path / "wrong.safetensors")
    with pytest.raises(InputError) as caught:
        import_prior(path)
    assert caught.value.code in ("prior_damaged", "prior_architecture") and caught.value.why
    mine.mkdir(exist_ok=True)
    shutil.copy(path, mine / "wrong.safetensors")
    assert "household" in [info.name for info in list_priors()], "one strange file does not hide the others"


def test_tensors_that_overlap_are_refused(mine: Path, file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    names = [name for name in header if name != "__metadata__" and header[name]["shape"] == [8]]
    header[names[1]]["data_offsets"] = header[names[0]]["data_offsets"]
    again = json.dumps(header).encode()
    path = tmp_path / "overlap.safetensors"
    path.write_bytes(len(again).to_bytes(8, "little") + again + content[8 + length :])
    with pytest.raises(InputError) as caught:
        import_prior(path)
    assert caught.value.code == "prior_damaged"


def test_a_file_that_is_not_there(mine: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.safetensors"):
        with pytest.raises(InputError) as caught:
            import_prior(path)
        assert caught.value.code == "prior_not_found"


def test_exporting_gives_the_same_file_and_overwrites_nothing(mine: Path, file: Path, tmp_path: Path) -> None:
    import_prior(file, "tins")
    assert export_prior("tins", tmp_path).read_bytes() == file.read_bytes()
    written = export_prior("tins", tmp_path / "copy")
    assert written == tmp_path / "copy.safetensors"
    with pytest.raises(InputError) as caught:
        export_prior("tins", written)
    assert caught.value.code == "output_exists"
    assert export_prior("tins", written, replace=True) == written
    with pytest.raises(InputError) as caught:
        export_prior("tins", find("tins"), replace=True)
    assert caught.value.code == "output_exists" and find("tins").is_file()
    with pytest.raises(InputError) as caught:
        export_prior("tins", tmp_path / "no folder" / "x.safetensors")
    assert caught.value.code == "output_unwritable"
    assert not list(tmp_path.glob("*.part"))


def test_only_ones_own_priors_are_removed(mine: Path, file: Path) -> None:
    import_prior(file, "tins")
    remove_prior("tins")
    assert "tins" not in [prior.name for prior in list_priors()]
    for name, code in (("tins", "prior_not_found"), ("household", "prior_not_removed"), ("../x", "prior_not_found")):
        with pytest.raises(InputError) as caught:
            remove_prior(name)
        assert caught.value.code == code
    with pytest.raises(InputError):
        remove_prior(str(file))
    assert file.is_file()


def test_the_list_says_what_a_person_wants_to_know(mine: Path, tmp_path: Path) -> None:
    facts = {
        "class_counts": {"cup": 3}, "licence": "free", "quality": {"completed": 0.7},
        "data": {"folder": {"shapes": 3, "licences": {"CC0": 3}, "creators": ["somebody"]}},
        "training": {"steps": 7, "seconds": 60, "settings": {"batch": 4}},
    }  # fmt: skip
    save_prior(tmp_path / "x.safetensors", field(), {**CARD, **facts})
    info = import_prior(tmp_path / "x.safetensors")
    assert info.about == {
        **facts,
        "data": {"folder": {"shapes": 3, "licences": {"CC0": 3}}},
        "training": {"steps": 7, "seconds": 60},
    }
    assert not info.shipped
    save_file({"a": np.zeros(1, np.float32)}, mine / "odd.safetensors", {"shapewright": json.dumps(
        {**CARD, "format": 1, "architecture": "grid", "arguments": {}, "data": [1], "training": "long"})})  # fmt: skip
    assert next(info for info in list_priors() if info.name == "odd").about == {}


def test_from_the_command_line(mine: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        status = cli.main([*map(str, arguments), "--json"])
        return status, json.loads(capsys.readouterr().out)

    status, answer = run("priors", "import", file, "--name", "tins")
    assert status == 0 and answer["prior"]["name"] == "tins"
    status, answer = run("priors", "export", "tins", tmp_path / "out.safetensors")
    assert status == 0 and Path(answer["output"]).read_bytes() == file.read_bytes()
    assert run("priors", "export", "tins", tmp_path / "out.safetensors")[0] == 2
    status, answer = run("priors", "import", __file__)
    assert status == 2 and answer["error"]["code"] == "prior_damaged"
    status, answer = run("priors", "remove", "tins")
    assert status == 0 and not Path(answer["removed"]).exists()
    assert run("priors", "remove", "tins")[0] == 2
