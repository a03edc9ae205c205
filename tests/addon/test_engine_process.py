"""Finding, starting, watching and stopping an engine's process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stage import HERE, ROOT


def await_state(engine: Any, *states: str, timeout_s: float = 60.0) -> str:
    deadline = time.monotonic() + timeout_s
    while engine.poll() not in states:
        assert time.monotonic() < deadline, f"still {engine.state}: {engine.problem}"
        time.sleep(0.01)
    return engine.state


@pytest.fixture
def make(addon: SimpleNamespace, tmp_path: Path):
    made = []

    def start(*argv: str, **options: Any) -> Any:
        command = addon.engine_command.EngineCommand(list(argv), ROOT, "a test")
        engine = addon.local.EngineProcess(tmp_path / "an engine's folder ščž 形", command=command, **options)
        made.append(engine)
        return engine

    yield start
    for engine in made:
        engine.stop(wait=True)


@pytest.fixture
def emulated_command() -> tuple[str, str]:
    return sys.executable, str(HERE / "emulated_engine.py")


def test_it_starts_in_the_background_and_says_when_it_is_ready(make, emulated_command, monkeypatch):
    monkeypatch.setenv("EMULATED_ENGINE", '{"start_s": 0.3}')
    engine = make(*emulated_command)
    engine.start()
    assert engine.state == "starting"  # it would be ready, had the call waited
    await_state(engine, "ready")
    assert engine.info["version"] == "9.9.9" and engine.client.info()
    assert not [p for p in engine.folder.iterdir() if p.name.startswith(("token", "announce"))]


def test_stopping_ends_the_process(make, emulated_command):
    engine = make(*emulated_command)
    engine.start()
    await_state(engine, "ready")
    process = engine._process
    engine.stop(wait=True)
    assert process.poll() is not None and engine.state == "stopped" and engine.client is None


def test_stopping_while_it_starts_ends_the_process_too(make, emulated_command, monkeypatch):
    monkeypatch.setenv("EMULATED_ENGINE", '{"start_s": 0.5}')
    engine = make(*emulated_command)
    engine.start()
    while engine._process is None:
        time.sleep(0.01)
    process = engine._process
    engine.stop(wait=True)
    assert process.wait(5) is not None
    time.sleep(0.2)
    assert engine.state == "stopped" and engine.problem is None


def test_a_process_that_dies_is_noticed_and_its_last_words_are_kept(make, emulated_command):
    engine = make(*emulated_command)
    engine.start()
    await_state(engine, "ready")
    engine._process.kill()
    await_state(engine, "failed")
    assert engine.problem.code == "engine_died" and str(engine.log_path) in engine.problem.remedy
    engine.start()
    assert await_state(engine, "ready") == "ready"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_kill_is_named(make, emulated_command):
    engine = make(*emulated_command)
    engine.start()
    await_state(engine, "ready")
    os.kill(engine.pid, signal.SIGKILL)
    await_state(engine, "failed")
    assert "signal 9" in engine.problem.why


def test_a_python_without_the_engine_is_explained(make):
    engine = make(sys.executable, "-c", "import no_such_engine")
    engine.start()
    await_state(engine, "failed")
    assert engine.problem.code == "engine_start_failed"
    assert "no_such_engine" in engine.problem.why and engine.problem.remedy


def test_a_file_that_is_no_program_is_explained(make, tmp_path):
    (tmp_path / "python").write_text("not a program")
    engine = make(str(tmp_path / "python"))
    engine.start()
    await_state(engine, "failed")
    assert engine.problem.code == "engine_start_failed" and engine.problem.remedy


def test_a_process_that_never_announces_itself_is_given_up(make):
    engine = make(sys.executable, "-c", "import time; time.sleep(60)", start_timeout_s=0.5)
    engine.start()
    await_state(engine, "failed")
    assert engine.problem.code == "engine_start_failed"
    assert engine._process is None


def test_another_protocol_is_refused_at_the_start(make, emulated_command, monkeypatch):
    monkeypatch.setenv("EMULATED_ENGINE", '{"protocol": "2.0"}')
    engine = make(*emulated_command)
    engine.start()
    await_state(engine, "failed")
    assert engine.problem.code == "protocol_mismatch"


# ------------------------------------------------------------------------------------------------------- find_engine


def fake_environment(folder: Path) -> Path:
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    python.parent.mkdir(parents=True)
    python.write_text("")
    return python


def test_the_preference_comes_before_the_variable(addon, tmp_path):
    mine, other = fake_environment(tmp_path / "mine"), fake_environment(tmp_path / "other")
    environment = {addon.engine_command.PYTHON_VARIABLE: str(other), "PATH": ""}
    assert addon.engine_command.find_engine(str(mine), environment).argv == [str(mine), "-m", "engine"]
    assert addon.engine_command.find_engine("", environment).argv == [str(other), "-m", "engine"]


def test_a_virtual_environments_folder_will_do(addon, tmp_path):
    python = fake_environment(tmp_path / "with blank")
    assert addon.engine_command.find_engine(str(tmp_path / "with blank"), {"PATH": ""}).argv[0] == str(python)


def test_a_path_that_does_not_exist_is_an_error_not_skipped(addon, tmp_path):
    environment = {addon.engine_command.PYTHON_VARIABLE: str(tmp_path / "gone"), "PATH": os.environ["PATH"]}
    with pytest.raises(addon.problem.EngineProblem) as caught:
        addon.engine_command.find_engine("", environment)
    assert str(tmp_path / "gone") in caught.value.why


def test_without_any_engine_it_says_how_to_install_one(addon):
    with pytest.raises(addon.problem.EngineProblem) as caught:
        addon.engine_command.find_engine("", {"PATH": ""})
    assert caught.value.code == "engine_not_found" and "pip install" in caught.value.remedy


def test_an_environment_inside_a_checkout_runs_from_it(addon, tmp_path):
    python = fake_environment(tmp_path / ".venv")
    (tmp_path / "engine" / "server").mkdir(parents=True)
    (tmp_path / "engine" / "__main__.py").write_text("")
    assert addon.engine_command.find_engine(str(python), {"PATH": ""}).cwd == tmp_path


@pytest.mark.skipif(os.name == "nt", reason="a command of POSIX")
def test_an_installed_command_is_found_on_the_path(addon, tmp_path):
    command = tmp_path / "shapewright"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    found = addon.engine_command.find_engine("", {"PATH": str(tmp_path)})
    assert found.argv == [str(command)] and found.cwd is None
