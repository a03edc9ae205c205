"""A package that is not installed: three sentences, status 2, and the command that installs it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from engine.cli import entry as cli
from engine.errors import InputError
from engine.extras import need
from engine.geometry.clouds import PointCloud
from engine.geometry.files import write_cloud
from engine.jobs.run import explain


def test_a_package_that_is_there_is_imported_and_one_that_is_not_is_told() -> None:
    assert need("json", "Nothing.").loads("1") == 1
    with pytest.raises(InputError) as caught:
        need("no_such_package_here", "Pictures cannot be drawn.")
    assert caught.value.what == "Pictures cannot be drawn." and "no_such_package_here" in caught.value.why
    assert caught.value.remedy.startswith(f'Run: "{sys.executable}" -m pip install no_such_package_here;')


def test_whatever_import_fails_is_told_with_its_name_in_the_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        import no_such_package.inner  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        told = explain(error)
    assert isinstance(told, InputError) and "pip install no_such_package;" in told.remedy
    assert not isinstance(explain(ModuleNotFoundError("x", name="engine.nothing")), InputError)  # our own fault
    points = np.random.default_rng(0).normal(size=(300, 3))
    scan = tmp_path / "scan.ply"
    write_cloud(scan, PointCloud((points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)))
    monkeypatch.setattr("engine.jobs.fit.run.run_fit", lambda *_: __import__("no_such_package"))
    assert cli.main(["fit", str(scan), "-o", str(tmp_path / "out.ply"), "--device", "cpu"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-3:]
    assert "pip install no_such_package" in said[-1]
