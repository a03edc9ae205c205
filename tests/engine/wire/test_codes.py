"""A shape's code as a file: what was written comes back, what a stranger wrote is refused before it costs anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import InputError
from engine.jobs.base import ShapeCode
from engine.wire.codes import read_code, write_code

CODE = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
GOOD: dict[str, Any] = {
    "code": CODE, "pose": np.eye(4), "prior": np.array("häuser"), "prior_sha256": np.array("0" * 64)
}


def test_a_code_comes_back_with_its_prior(tmp_path: Path) -> None:
    path = tmp_path / "chair.npz"
    write_code(path, ShapeCode(CODE, np.diag([2.0, 2.0, 2.0, 1.0])), {"name": "häuser", "sha256": "a" * 64})
    found = read_code(path)
    assert found is not None and found[1:] == ("häuser", "a" * 64)
    np.testing.assert_array_equal(found[0].code, CODE)
    assert found[0].pose[0, 0] == 2.0


def test_any_other_file_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "cloud.npz", points=np.zeros((5, 3)))
    (tmp_path / "cloud.ply").write_bytes(b"ply\n")
    assert read_code(tmp_path / "cloud.npz") is None
    assert read_code(tmp_path / "cloud.ply") is None and read_code(tmp_path / "nothing.npz") is None


@pytest.mark.parametrize(
    "change",
    [
        {"pose": np.eye(3)}, {"pose": np.full((4, 4), np.nan)}, {"pose": None}, {"code": CODE.astype(np.int32)},
        {"code": np.full((1, 2, 2, 2), np.inf, np.float32)}, {"code": np.zeros(2**21, np.float32)},
        {"prior": np.array("x" * 5000)}, {"prior": np.array(["a", "b"])}, {"prior": np.array(3)}, {"prior": None},
        {"prior_sha256": np.array({"a": 1}, dtype=object)}, {"points": np.zeros((3, 3))},
    ],
)  # fmt: skip
def test_damaged_codes_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "code.npz"
    np.savez(path, **{name: value for name, value in (GOOD | change).items() if value is not None})
    with pytest.raises(InputError) as caught:
        read_code(path)
    assert caught.value.code == "code_damaged" and "code.npz" in caught.value.what


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.npz"
    path.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_code(path)
