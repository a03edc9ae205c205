"""What the add-on's tests do again and again in a scene."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


def engine_python() -> str:
    """The Python that has the engine: the one of this checkout, else this one."""
    usual = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    chosen = os.environ.get("SHAPEWRIGHT_ENGINE_PYTHON") or str(usual)
    return chosen if Path(chosen).is_file() else sys.executable


def step_until(running: Any, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Steps the session as its timer would, until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        running.step()
        time.sleep(0.005)


def add_points(points: Any, name: str = "Scan", normals: Any = None) -> Any:
    """A mesh object of vertices only, active and selected."""
    import bpy  # not before conftest.py has chosen its folder

    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([tuple(map(float, p)) for p in points], [], [])
    if normals is not None:
        attribute = mesh.attributes.new("normal", "FLOAT_VECTOR", "POINT")
        attribute.data.foreach_set("vector", [float(v) for n in normals for v in n])
    return add_object(mesh, name)


def add_object(data: Any, name: str) -> Any:
    import bpy

    obj = bpy.data.objects.new(name, data)
    bpy.context.collection.objects.link(obj)
    activate(obj)
    return obj


def activate(obj: Any) -> None:
    import bpy

    for other in bpy.context.view_layer.objects:
        other.select_set(False)
    obj.select_set(True)
    bpy.context.view_layer.objects.active = obj
    bpy.context.view_layer.update()
