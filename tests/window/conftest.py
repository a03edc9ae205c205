"""Each file of tests here judges one story, which its `STORY` names; rig.py tells it once a session."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import rig  # noqa: E402


class Told(dict[str, Any]):
    """What was written down; short words where the story ended before."""

    def __missing__(self, name: str) -> Any:
        pytest.fail(f"The story ended before '{name}'; see test_the_story_is_told_to_its_end", pytrace=False)


@pytest.fixture(scope="module")
def output(request: pytest.FixtureRequest) -> Path:
    return rig.output_of(request.module.STORY)


@pytest.fixture(scope="module")
def log(request: pytest.FixtureRequest) -> dict[str, Any]:
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():  # it takes minutes: say what goes on
        print()
        try:
            return rig.run(request.module.STORY)
        except rig.Impossible as impossible:
            pytest.exit("\n".join(impossible.args), returncode=2)


@pytest.fixture
def facts(log: dict[str, Any]) -> Told:
    return Told({name: Told(told) if isinstance(told, dict) else told for name, told in log["facts"].items()})
