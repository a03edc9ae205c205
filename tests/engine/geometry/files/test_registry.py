"""A format of somebody's own, defined here, works wherever files are read and written, with nothing else changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.cli import main
from engine.errors import InputError
from engine.geometry.files import Format, Raw, formats, load, readable, register, unregister, writable, write_mesh
from engine.geometry.meshes import Mesh
from engine.jobs.base import JobArrays
from engine.wire.arrays import pack_arrays, unpack_arrays

DOCS = Path(__file__).resolve().parents[4] / "docs" / "files.md"


def read_upside_down(path: Path) -> Raw:
    """Text with the points upside down, after a line that says so."""
    first, *rows = path.read_text("utf-8").splitlines()
    if first != "UPSIDE DOWN":
        raise KeyError("no such thing")
    return Raw(np.array([row.split() for row in rows], np.float64) * [1, 1, -1], notes=["It stood on its head."])


def write_upside_down(mesh: Mesh, offset: np.ndarray) -> bytes:
    rows = (mesh.vertices + offset) * [1, 1, -1]
    return ("UPSIDE DOWN\n" + "".join(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in rows)).encode()


@pytest.fixture
def upside_down() -> Iterator[Format]:
    ours = Format("upside down", (".down",), read_upside_down, write_upside_down)
    register(ours)
    yield ours
    unregister(ours)


def half_ball() -> np.ndarray:
    directions = np.random.default_rng(0).normal(size=(1500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions[directions[:, 1] < 0.3] * 0.5 + [0, 0, 3]


def test_a_registered_format_completes_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], upside_down: Format
) -> None:
    points = half_ball()
    rows = "".join(f"{x:.6f} {y:.6f} {-z:.6f}\n" for x, y, z in points)
    (tmp_path / "a.down").write_text("UPSIDE DOWN\n" + rows)
    arguments = ["complete", str(tmp_path / "a.down"), "-o", str(tmp_path / "b.down"), "--resolution", "32",
                 "--device", "cpu", "--json"]  # fmt: skip
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["input_file"]["notes"] == ["It stood on its head."]
    back = load(tmp_path / "b.down")
    assert np.abs(back.points.mean(0) - [0, 0, 3]).max() < 0.3
    # What a client sends is arrays: the format has no part in the wire.
    sent = unpack_arrays(pack_arrays(JobArrays(back.points, back.normals, back.faces)))
    assert np.array_equal(sent.points, back.points)


def test_a_strange_readers_mistakes_are_the_files_fault(tmp_path: Path, upside_down: Format) -> None:
    (tmp_path / "a.down").write_text("RIGHT WAY UP\n")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "a.down")
    assert caught.value.code == "file_damaged" and ".down" in readable() and ".down" in writable()


def test_a_suffix_belongs_to_one_format(upside_down: Format) -> None:
    with pytest.raises(ValueError, match="PLY"):
        register(Format("mine", (".ply",)))
    with pytest.raises(ValueError, match="lower case"):
        register(Format("mine", (".Mine",)))
    unregister(upside_down)
    assert ".down" not in readable()
    register(upside_down)


def test_an_unknown_format_is_told_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.down").write_text("UPSIDE DOWN\n1 2 3\n")
    for call in (load, lambda path: write_mesh(path, Mesh(np.zeros((3, 3), np.float32), np.zeros((1, 3), np.int32)))):
        with pytest.raises(InputError) as caught:
            call(tmp_path / "a.down")  # type: ignore[operator]
        assert caught.value.code == "format_unknown" and ".ply" in caught.value.why


def test_the_documents_table_lists_what_there_is() -> None:
    text = DOCS.read_text("utf-8")
    for one in formats():
        row = next((line for line in text.splitlines() if line.startswith(f"| {one.name} |")), "")
        assert all(suffix in row for suffix in one.suffixes) and one.by in row and one.carries in row, one.name
