"""The extension as a person has it: built to a zip, installed into a throwaway Blender and enabled there."""

from __future__ import annotations

import importlib
import importlib.util
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from stage import ROOT, engine_python  # noqa: E402

if importlib.util.find_spec("bpy") is None:  # Blender as a module exists for some Python versions only
    collect_ignore_glob = ["test_*.py"]
else:
    # Before bpy is imported: it reads this once. Blanks and letters that no code page has all of, on purpose.
    RESOURCES = Path(tempfile.mkdtemp(prefix="shapewright tests ščž 形 "))
    os.environ["BLENDER_USER_RESOURCES"] = str(RESOURCES)
    import bpy


_outcome = 0


def pytest_sessionfinish(exitstatus: int) -> None:
    global _outcome
    _outcome = int(exitstatus)
    if "RESOURCES" in globals():
        shutil.rmtree(RESOURCES, ignore_errors=True)


def pytest_unconfigure() -> None:
    """Blender 4.2 as a module frees its panel types after Python has ended, which asks Python for a thread state and
    crashes: leave with pytest's own outcome before that."""
    if "RESOURCES" in globals() and bpy.app.version < (4, 3):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_outcome)


@pytest.fixture(scope="session")
def extension_zip() -> Path:
    build = runpy.run_path(str(ROOT / "scripts" / "build_extension"))
    path: Path = build["build"](RESOURCES / "dist")
    return path


@pytest.fixture(scope="session")
def addon(extension_zip: Path) -> SimpleNamespace:
    """The installed extension's modules, by their names."""
    result = bpy.ops.extensions.package_install_files(
        repo="user_default", filepath=str(extension_zip), enable_on_install=True
    )
    assert result == {"FINISHED"}
    package = "bl_ext.user_default.shapewright"
    assert package in bpy.context.preferences.addons
    places = {
        "link": ("client", "connections", "engine_command", "job_thread", "mesh_arrays", "multipart", "problem"),
        "link.connections": ("local",),
        "scene": ("read", "reference", "viewpoint", "write", "quads"),
        "carried": ("code", "pose"),
        "writers": ("in_place", "side_by_side"),
        "session": ("blender",),
        "features.slide": ("driving", "values"),
        "": ("features", "preferences", "session"),
    }
    paths = {name: f"{package}.{room}.{name}".replace("..", ".") for room, names in places.items() for name in names}
    modules = {name: importlib.import_module(path) for name, path in paths.items()}
    return SimpleNamespace(package=package, **modules)


@pytest.fixture
def empty_scene(addon: SimpleNamespace) -> Iterator[None]:
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    yield
    running = addon.blender._session
    if running is not None:
        for job in running.active:
            running.cancel(job)
        running.engine.stop(wait=True)
        addon.blender._session = None


@pytest.fixture
def emulated(addon: SimpleNamespace, empty_scene: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """emulated(fail_at=2, ...) -> the session, its engine an emulated process that behaves so."""
    import json

    def start(**behaviour: Any) -> Any:
        monkeypatch.setenv("EMULATED_ENGINE", json.dumps(behaviour))
        running = addon.session.current()
        running.engine.command = addon.engine_command.EngineCommand(
            [sys.executable, str(HERE / "emulated_engine.py")], None, "a test"
        )
        return running

    return start


@pytest.fixture
def real_engine(addon: SimpleNamespace, empty_scene: None) -> Any:
    """The session, its engine the real one of this checkout."""
    running = addon.session.current()
    running.engine.command = addon.engine_command.EngineCommand([engine_python(), "-m", "engine"], ROOT, "a test")
    return running
