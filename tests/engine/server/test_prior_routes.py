"""A prior's file over the wire: brought, listed, fetched and removed, against a real server process."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from engine.fields.families.grid import GridField
from engine.priors.file import save_prior
from tests.engine.priors.test_bad_entries import BAD_CARDS, with_card
from tests.engine.server.conftest import Client, server, strange_command


@pytest.fixture(scope="module")
def priors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with a user's folder of priors of its own."""
    folder = tmp_path_factory.mktemp("with priors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPEWRIGHT_PRIORS", str(folder / "mine"))
        with server(folder, strange_command(folder)) as client:
            yield client


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("file") / "cups.safetensors"
    torch.manual_seed(0)
    field = GridField(code_channels=4, width=4, hidden=8, resolution=8)
    card = {"name": "cups", "version": "1", "classes": ["cup"], "class_counts": {"cup": 3}}
    save_prior(path, field, card | {"data": {"mine": {"shapes": 3, "creators": ["me"]}}})
    return path.read_bytes()


def bring(client: Client, content: bytes, file_name: str = "x.safetensors", **fields: str) -> httpx.Response:
    return client.http.post("/v1/priors", data=fields, files={"file": (file_name, content)})


def names(client: Client) -> list[str]:
    return [prior["name"] for prior in client.info()["priors"]]


def test_a_prior_comes_is_listed_at_once_and_goes(priors: Client, content: bytes) -> None:
    answer = bring(priors, content, name="my cups ščž")
    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == "my cups ščž" and answer.json()["about"]["class_counts"] == {"cup": 3}
    assert "my cups ščž" in names(priors)
    shown = priors.http.get("/v1/priors/my cups ščž").json()
    assert shown["card"]["data"]["mine"]["creators"] == ["me"] and shown["bytes"] == len(content)
    assert priors.http.get("/v1/priors/my cups ščž/file").content == content
    assert priors.http.delete("/v1/priors/my cups ščž").json()["state"] == "removed"
    assert "my cups ščž" not in names(priors)
    assert priors.http.get("/v1/priors/my cups ščž").status_code == 404


def test_a_name_that_is_taken_is_kept_unless_asked(priors: Client, content: bytes) -> None:
    answer = bring(priors, content, name="household")
    assert answer.status_code == 409 and answer.json()["error"]["code"] == "prior_exists"
    assert bring(priors, content, name="household", replace="true").status_code == 201
    assert priors.http.get("/v1/priors/household").json()["classes"] == ["cup"]
    assert priors.http.delete("/v1/priors/household").status_code == 200  # the shipped one comes back
    assert priors.http.get("/v1/priors/household").json()["shipped"] is True
    assert priors.http.delete("/v1/priors/household").json()["error"]["code"] == "prior_not_removed"


class Trap:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("kind", ["pickle", "truncated", "nothing"])
def test_what_is_no_prior_is_refused_with_a_reason(kind: str, priors: Client, content: bytes, tmp_path: Path) -> None:
    sent = {"pickle": pickle.dumps(Trap(tmp_path / "executed")), "truncated": content[:-99], "nothing": b""}[kind]
    answer = bring(priors, sent, file_name="../../strange name.bin")
    error = answer.json()["error"]
    assert answer.status_code == 422 and error["code"] == "prior_damaged" and all(error.values())
    assert not (tmp_path / "executed").exists() and names(priors) == ["household"]


def test_forms_and_names_that_cannot_be(priors: Client, content: bytes) -> None:
    assert bring(priors, content, name="../x").json()["error"]["code"] == "prior_name"
    assert bring(priors, content, replace="maybe").json()["error"]["code"] == "form_invalid"
    assert priors.http.post("/v1/priors", data={"name": "x"}).json()["error"]["code"] == "form_invalid"
    for path in ("x.safetensors", "..%2Fhousehold", "%2Fetc%2Fpasswd"):
        assert priors.http.get(f"/v1/priors/{path}").status_code == 404
        assert priors.http.get(f"/v1/priors/{path}/file").status_code == 404
    bare = httpx.get(f"http://127.0.0.1:{priors.port}/v1/priors/household/file", trust_env=False)
    assert bare.status_code == 401


def test_bad_priors_sent_and_bad_entries_in_the_folder_leave_the_list_whole(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    good = tmp_path / "good.safetensors"
    good.write_bytes(content)
    kinds = ("half a surrogate pair", "300 objects deep", "half a surrogate pair as its architecture")
    for number, kind in enumerate(kinds):
        with_card(good, mine / f"bad {number}.safetensors", **BAD_CARDS[kind])
    bad = [path.read_bytes() for path in sorted(mine.iterdir())]
    if os.name != "nt":
        os.mkfifo(mine / "pipe.safetensors")
        (mine / "dangling.safetensors").symlink_to(mine / "nothing")
    (mine / "folder.safetensors").mkdir()
    monkeypatch.setenv("SHAPEWRIGHT_PRIORS", str(mine))
    before = sorted(mine.iterdir())
    with server(tmp_path, strange_command(tmp_path)) as client:
        assert names(client) == ["household"]
        for sent in bad:
            answer = bring(client, sent, name="tins")
            assert answer.status_code == 422 and answer.json()["error"]["code"] == "prior_damaged", answer.text
            assert names(client) == ["household"] and client.info()["priors_error"] is None
        assert bring(client, content, name="tins").status_code == 201
        assert names(client) == ["tins", "household"]
        assert client.http.get("/v1/priors/tins").json()["card"]["name"] == "cups"
        assert client.http.get("/v1/priors/bad 0").status_code == 404
    assert sorted(mine.iterdir()) == sorted([*before, mine / "tins.safetensors"])
