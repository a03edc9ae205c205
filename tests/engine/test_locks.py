"""The locks: what running needs is in both, with hashes and without addresses, and scripts/setup reads them."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
HASHED = r"\S+==\S+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n?)+"


def _pins(name: str) -> dict[str, str]:
    setup = runpy.run_path(str(ROOT / "scripts" / "setup"), run_name="setup")
    return dict(setup["pins_of"](ROOT / name))


def test_the_runtime_is_what_the_base_requirements_bring() -> None:
    everything, runtime = _pins("requirements.lock"), _pins("requirements-runtime.lock")
    assert runtime.items() <= everything.items()
    lock = runpy.run_path(str(ROOT / "scripts" / "lock"), run_name="lock")
    assert {lock["normal"](name) for name in runtime} == lock["closure"]() & set(everything)
    assert {"torch", "numpy", "pydantic", "llvmlite", "trimesh"} <= runtime.keys()
    assert not {"pytest", "bpy", "libigl", "warp-lang", "matplotlib"} & runtime.keys()


def test_every_pin_has_hashes_and_none_an_address() -> None:
    for name in ("requirements.lock", "requirements-runtime.lock"):
        text = (ROOT / name).read_text("utf-8")
        assert "://" not in text
        for one in re.split(r"\n(?=\S)", text):
            assert one.startswith("#") or re.fullmatch(HASHED, one), one
