"""The evaluation's --as-clicked is what the panel asks for before anything is set."""

from __future__ import annotations

import ast
import json
from pathlib import Path


def as_clicked() -> dict[str, object]:
    """Read from the engine's source: Blender's Python has no torch to import it with."""
    source = Path(__file__).resolve().parents[2] / "engine" / "evaluation" / "completers.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "AS_CLICKED" and node.value:
            return ast.literal_eval(node.value)
    raise AssertionError("engine/evaluation/completers.py has no AS_CLICKED")


def test_as_clicked_is_what_the_panel_asks_for(emulated) -> None:
    import bpy

    emulated()
    mesh = bpy.data.meshes.new("Scan")
    mesh.from_pydata([(x * 0.1, y * 0.1, 0.0) for x in range(5) for y in range(5)], [], [])
    scan = bpy.data.objects.new("Scan", mesh)
    bpy.context.scene.collection.objects.link(scan)
    bpy.context.view_layer.objects.active = scan
    scan.select_set(True)
    assert bpy.ops.shapewright.complete_shape("EXEC_DEFAULT") == {"FINISHED"}
    told = json.loads(bpy.data.objects["Scan Complete"]["shapewright_settings"])
    asked = as_clicked()
    assert {name: told[name] for name in ("align", "front", "resolution", "hypotheses")} == {
        name: asked[name] for name in ("align", "front", "resolution", "hypotheses")
    }
    assert asked["viewpoint_told"] is False and told["viewpoint"] is None
