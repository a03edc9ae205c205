"""Files damaged at random, read by a process of bounded memory: read, or refused in three sentences, and soon.

A few; `scripts/mutate_files` makes thousands of them (docs/files.md has its last result).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from engine.geometry.files import Format, Raw, formats, isolated, load, register, unregister

ROOT = Path(__file__).resolve().parents[4]
HERE = ",".join(suffix[1:] for one in formats() if not one.isolated for suffix in one.suffixes)
APART = ",".join(suffix[1:] for one in formats() if one.isolated for suffix in one.suffixes)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be waited for there")
@pytest.mark.parametrize("count, which, memory", [(320, HERE, 1024), (8, APART, 2048)])
def test_damaged_files_are_read_or_refused(count: int, which: str, memory: int) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "mutate_files"), "--count", str(count), "--json"]
    command += ["--formats", which, "--memory", str(memory), "--seconds", "60"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    summary = json.loads(done.stdout) if done.stdout else {}
    assert done.returncode == 0, (summary.get("wrong"), done.stderr[-2000:])
    assert summary["mutants"] == count and not summary["wrong"]
    outcomes = [sum(kinds.get(how, 0) for kinds in summary["formats"].values()) for how in ("read", "refused")]
    assert min(outcomes) > 0 and sum(outcomes) == count


@pytest.mark.parametrize("suffix", [".las", ".e57"])
def test_what_a_child_process_says_of_a_damaged_file(tmp_path: Path, suffix: str) -> None:
    one = next(one for one in formats() if suffix in one.suffixes)
    if one.packages:
        pytest.importorskip(one.packages[0][0])
    (tmp_path / f"a{suffix}").write_bytes(b"LASF" + bytes(500))
    with pytest.raises(InputError) as caught:
        load(tmp_path / f"a{suffix}")
    assert caught.value.code == "file_damaged"


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Python is a shell script")
def test_a_child_that_dies_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dies = tmp_path / "python"
    dies.write_text("#!/bin/sh\nkill -ABRT $$\n")
    dies.chmod(0o755)
    monkeypatch.setattr(isolated.sys, "executable", str(dies))
    ours = Format("dies", (".dies",), lambda path: Raw(np.zeros((0, 3))), isolated=True)
    register(ours)
    try:
        (tmp_path / "a.dies").write_bytes(b"x")
        with pytest.raises(InputError) as caught:
            load(tmp_path / "a.dies")
    finally:
        unregister(ours)
    assert caught.value.code == "file_damaged" and "broke down" in caught.value.why
