"""The extension as a whole: what its zip holds, what it imports, its operators and what its panels draw."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
import tomllib
import zipfile
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest
from stage import ROOT, add_object, add_points, step_until

BOX = np.array([[0, 0, 0], [1, 2, 3], [0.5, 1, 1]], np.float64)


# ------------------------------------------------------------------------------------------------------------ the zip


def test_blenders_own_validator_accepts_the_zip(extension_zip):
    found = runpy.run_path(str(ROOT / "scripts" / "build_extension"))["find_validator"]()
    assert found, "the bpy module carries the validator"
    python, tool = found
    checked = subprocess.run([str(python), str(tool), "validate", str(extension_zip)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_zip_holds_the_manifest_beside_the_code_and_nothing_else(extension_zip):
    with zipfile.ZipFile(extension_zip) as archive:
        names = archive.namelist()
    assert {"blender_manifest.toml", "__init__.py", "features/complete/operator.py"} <= set(names)
    assert not [name for name in names if not name.endswith((".py", ".toml", "LICENSE"))]


def test_the_same_sources_give_the_same_zip(extension_zip, tmp_path):
    again = runpy.run_path(str(ROOT / "scripts" / "build_extension"))["build"](tmp_path / "other folder")
    assert again.read_bytes() == extension_zip.read_bytes()


def test_the_versions_of_extension_and_engine_agree():
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text("utf-8"))
    engine = (ROOT / "engine" / "__init__.py").read_text("utf-8")
    assert f'__version__ = "{manifest["version"]}"' in engine


def test_the_addon_and_the_engine_speak_one_protocol(addon):
    tree = ast.parse((ROOT / "engine" / "__init__.py").read_text("utf-8"))
    values = {node.targets[0].id: node.value.value for node in tree.body if isinstance(node, ast.Assign)}
    assert values["PROTOCOL_VERSION"] == addon.problem.PROTOCOL_VERSION


BLENDERS = {"bpy", "bmesh", "mathutils", "gpu", "gpu_extras", "bpy_extras", "blf", "bl_math", "idprop", "imbuf", "aud"}


@pytest.mark.parametrize("path", sorted((ROOT / "addon").rglob("*.py")), ids=lambda path: path.name)
def test_it_imports_only_blender_numpy_and_the_standard_library(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in names:
            top = name.split(".")[0]
            assert top in BLENDERS | {"numpy"} | set(sys.stdlib_module_names), f"{path.name} imports {name}"


LINK = sorted(path.relative_to(ROOT / "addon") for path in (ROOT / "addon" / "link").rglob("*.py"))


@pytest.mark.parametrize("name", LINK, ids=str)
def test_the_engines_side_does_without_blender(name):
    imported = set()
    for node in ast.walk(ast.parse((ROOT / "addon" / name).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & BLENDERS


# ------------------------------------------------------------------------------------------------------ the operators


def test_complete_shape_blocks_without_a_window_and_leaves_the_result(emulated):
    emulated()
    add_points(BOX, "Chair")
    assert bpy.ops.shapewright.complete_shape(resolution=64, seed=3) == {"FINISHED"}
    result = bpy.data.objects["Chair Complete"]
    settings = json.loads(result["shapewright_settings"])
    assert settings["resolution"] == 64 and settings["seed"] == 3 and settings["align"] == "scale"


@pytest.mark.parametrize(
    ("turn", "align", "front"), [(0.0, "scale", "evident"), (0.3, "scale", "given"), (0.0, "none", "given")]
)
def test_where_it_faces_is_looked_for_only_where_nobody_turned_it(emulated, turn, align, front):
    emulated()
    points = add_points(BOX, "Chair")
    points.rotation_euler = (0.0, 0.0, turn)
    points.scale = (2.0, 2.0, 2.0)
    bpy.context.view_layer.update()
    bpy.ops.shapewright.complete_shape(align=align)
    assert json.loads(bpy.data.objects["Chair Complete"]["shapewright_settings"])["front"] == front


def test_a_class_and_a_face_budget_are_asked_for(emulated):
    emulated()
    add_points(BOX, "Chair")
    bpy.ops.shapewright.complete_shape(class_name="chair", max_faces=20)
    settings = json.loads(bpy.data.objects["Chair Complete"]["shapewright_settings"])
    assert settings["class_name"] == "chair" and settings["max_faces"] == 100, "the engine takes no fewer"


def test_a_failure_is_reported_with_its_three_parts(emulated):
    emulated(fail_at=0)
    add_points(BOX)
    with pytest.raises(RuntimeError) as caught:
        bpy.ops.shapewright.complete_shape()
    assert "It failed. It was told to. Tell it otherwise." in str(caught.value)
    assert set(bpy.data.objects.keys()) == {"Scan"}


def test_the_camera_as_viewpoint_and_its_absence(emulated):
    emulated()
    obj = add_points(BOX)
    obj.location = (1, 0, 0)
    with pytest.raises(RuntimeError, match="no active camera"):
        bpy.ops.shapewright.complete_shape(viewpoint="CAMERA")
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    bpy.context.collection.objects.link(camera)
    camera.location = (1, -5, 2)
    bpy.context.scene.camera = camera
    bpy.context.view_layer.update()
    bpy.ops.shapewright.complete_shape(viewpoint="CAMERA")
    settings = json.loads(bpy.data.objects["Scan Complete"]["shapewright_settings"])
    assert settings["viewpoint"] == pytest.approx([0, -5, 2], abs=1e-5)


def test_a_viewpoint_given_as_a_point(emulated):
    emulated()
    add_points(BOX)
    bpy.ops.shapewright.complete_shape(viewpoint="POINT", viewpoint_location=(4, 5, 6))
    settings = json.loads(bpy.data.objects["Scan Complete"]["shapewright_settings"])
    assert settings["viewpoint"] == pytest.approx([4, 5, 6])


def test_what_cannot_be_completed_is_refused_before_anything_starts(emulated):
    running = emulated()
    with pytest.raises(RuntimeError, match=r"Select the object"):
        bpy.ops.shapewright.complete_shape()
    add_object(bpy.data.lights.new("Lamp", "POINT"), "Lamp")
    with pytest.raises(RuntimeError, match=r"neither a mesh"):
        bpy.ops.shapewright.complete_shape()
    assert running.engine.state == "stopped" and not running.jobs


def test_an_empty_mesh_is_refused_before_anything_starts(emulated):
    running = emulated()
    add_object(bpy.data.meshes.new("Empty"), "Empty")
    with pytest.raises(RuntimeError, match="has no points"):
        bpy.ops.shapewright.complete_shape()
    assert running.engine.state == "stopped" and not running.jobs


def test_engine_start_test_and_stop(emulated):
    running = emulated()
    assert bpy.ops.shapewright.engine_start() == {"FINISHED"}
    assert running.engine.state == "ready"
    with pytest.raises(RuntimeError, match="runs already"):
        bpy.ops.shapewright.engine_start()
    assert bpy.ops.shapewright.engine_test() == {"FINISHED"}
    assert bpy.ops.shapewright.engine_stop() == {"FINISHED"}
    assert running.engine.state == "stopped"
    with pytest.raises(RuntimeError, match="does not run"):
        bpy.ops.shapewright.engine_stop()


def test_an_engine_that_cannot_start_is_reported(addon, empty_scene, tmp_path):
    preferences = bpy.context.preferences.addons[addon.package].preferences
    preferences.engine_python = str(tmp_path / "no python here")
    try:
        with pytest.raises(RuntimeError, match="no python here"):
            bpy.ops.shapewright.engine_start()
    finally:
        preferences.engine_python = ""


def test_cancel_takes_the_job_named_and_dismisses_it_when_it_is_over(addon, emulated):
    running = emulated(hang_at=0)
    obj = add_points(BOX)
    scan = addon.read.read_scan(obj, bpy.context.evaluated_depsgraph_get())
    jobs = [running.submit(addon.session.Job(name, {"kind": "complete"}, scan)) for name in ("A", "B")]
    bpy.ops.shapewright.cancel_job(job_id=jobs[1].id)
    step_until(running, lambda: jobs[1].finished)
    assert not jobs[0].finished
    bpy.ops.shapewright.cancel_job(job_id=jobs[1].id)
    assert running.jobs == [jobs[0]]
    bpy.ops.shapewright.cancel_job()
    step_until(running, lambda: jobs[0].finished)
    assert jobs[0].state == "cancelled"


def test_the_priors_are_the_engines_and_a_choice_keeps_its_meaning(addon, emulated):
    running = emulated()
    settings = bpy.context.scene.shapewright
    assert settings.prior == "household", "the default is there before any engine"
    bpy.ops.shapewright.engine_start()
    settings.prior = "pets"
    running.engine.info["priors"] = [{"name": name} for name in ("aardvark", "household", "pets", "zebra")]
    assert settings.prior == "pets", "although the list has changed"
    running.engine.stop(wait=True)
    running.step()
    assert settings.prior == "pets", "although the engine is gone"


# ---------------------------------------------------------------------------------------------------------- the panels


class RecordingLayout:
    """A stand-in for UILayout that refuses what the real one would: unknown functions, arguments, icons, properties and
    operators. `said`: every text; `operators`: (idname, its properties)."""

    def __init__(self, root: RecordingLayout | None = None) -> None:
        object.__setattr__(self, "root", root or self)
        if root is None:
            object.__setattr__(self, "said", [])
            object.__setattr__(self, "operators", [])
            object.__setattr__(self, "bars", [])

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in bpy.types.UILayout.bl_rna.properties, f"UILayout has no {name}"

    def __getattr__(self, name: str) -> Any:
        function = bpy.types.UILayout.bl_rna.functions[name]
        parameters = function.parameters

        def call(*args: Any, **kwargs: Any) -> Any:
            for key, value in kwargs.items():
                assert key in parameters, f"{name} has no {key}"
                if key == "icon" or (key == "type" and name == "progress"):
                    assert value in parameters[key].enum_items, f"{name}: no {key} {value}"
            if "text" in kwargs:
                self.root.said.append(kwargs["text"])
            if name == "prop":
                data, prop = args
                assert hasattr(data, prop), f"{data} has no {prop}"
            elif name == "progress":
                self.root.bars.append((kwargs["factor"], kwargs["text"]))
            elif name == "operator":
                group, operator = args[0].split(".")
                rna = getattr(getattr(bpy.ops, group), operator).get_rna_type()
                properties = SimpleNamespace()
                self.root.operators.append((args[0], rna, properties))
                return properties
            return RecordingLayout(self.root)

        return call


def draw(cls: Any, self: Any = None) -> RecordingLayout:
    layout = RecordingLayout()
    cls.draw(SimpleNamespace(layout=layout, **(self or {})), bpy.context)
    for idname, rna, properties in layout.operators:
        assert set(vars(properties)) <= set(rna.properties.keys()), f"{idname} has no such property"
    return layout


def operators_of(layout: RecordingLayout) -> list[str]:
    return [idname for idname, _, _ in layout.operators]


def test_the_panel_offers_its_operator_and_explains_itself(addon, emulated):
    emulated()
    layout = draw(bpy.types.SHAPEWRIGHT_PT_complete)
    assert "shapewright.complete_shape" in operators_of(layout)
    assert "Engine is stopped" in layout.said and "Select the object to complete" in layout.said
    assert bpy.types.SHAPEWRIGHT_PT_complete.bl_category == "Shapewright"
    add_points(BOX)
    assert "Select the object to complete" not in draw(bpy.types.SHAPEWRIGHT_PT_complete).said


def test_the_panel_shows_every_job_with_bar_time_left_and_cancel(addon, emulated):
    running = emulated(steps=100, step_s=0.1, preview_at=[])
    obj = add_points(BOX)
    scan = addon.read.read_scan(obj, bpy.context.evaluated_depsgraph_get())
    jobs = [running.submit(addon.session.Job(name, {"kind": "complete"}, scan)) for name in ("First", "Second")]
    step_until(running, lambda: jobs[0].fraction > 0 and jobs[1].state == "queued")
    layout = draw(bpy.types.SHAPEWRIGHT_PT_complete)
    assert {"First", "Second"} <= set(layout.said)
    (factor, text), (_, waiting) = layout.bars
    assert factor == jobs[0].fraction and "Working" in text and "left" in text
    assert "Waiting" in waiting or "Sending" in waiting
    cancels = [properties.job_id for idname, _, properties in layout.operators if idname == "shapewright.cancel_job"]
    assert cancels == [job.id for job in jobs]


def test_the_panel_shows_a_failure_whole_in_three_parts(addon, emulated):
    running = emulated(fail_at=0)
    with pytest.raises(RuntimeError):
        add_points(BOX)
        bpy.ops.shapewright.complete_shape()
    layout = draw(bpy.types.SHAPEWRIGHT_PT_complete)
    assert {"It failed.", "It was told to.", "Tell it otherwise."} <= set(layout.said)
    assert not layout.bars
    running.dismiss(running.jobs[0])
    assert "It failed." not in draw(bpy.types.SHAPEWRIGHT_PT_complete).said


def test_the_panel_says_what_was_left_out_of_the_scan(addon, emulated):
    emulated(report={"notes": ["12 of its 8 points are not numbers.", "A floor was left out."]})
    add_points(BOX)
    bpy.ops.shapewright.complete_shape()
    said = " ".join(draw(bpy.types.SHAPEWRIGHT_PT_complete).said)
    assert "12 of its 8 points are not numbers." in said and "A floor was left out." in said


def test_the_preferences_offer_start_stop_test_and_the_log(addon, emulated):
    running = emulated()
    preferences = bpy.context.preferences.addons[addon.package].preferences
    chosen = {name: getattr(preferences, name) for name in ("engine_python", "device", "connection")}
    layout = draw(addon.preferences.ShapewrightPreferences, chosen)
    offered = operators_of(layout)
    for name in ("engine_start", "engine_stop", "engine_test"):
        assert f"shapewright.{name}" in offered
    assert [p.filepath for idname, _, p in layout.operators if idname == "wm.path_open"] == [
        str(running.engine.log_path)
    ]
    bpy.ops.shapewright.engine_start()
    layout = draw(addon.preferences.ShapewrightPreferences, chosen)
    assert any("9.9.9" in text and "ready" in text for text in layout.said)


def test_drawing_never_waits_for_the_engine(addon, emulated, monkeypatch):
    running = emulated(start_s=5.0, answer_s=5.0)
    running.engine.start()
    monkeypatch.setattr(addon.client.EngineClient, "_connect", lambda *_: pytest.fail("a draw asked the engine"))
    draw(bpy.types.SHAPEWRIGHT_PT_complete)


def test_enabling_again_works_after_disabling(addon, emulated):
    import addon_utils

    emulated()
    for _ in range(2):
        addon_utils.disable(addon.package)
        assert not hasattr(bpy.types, "SHAPEWRIGHT_PT_complete")
        addon_utils.enable(addon.package)
    assert hasattr(bpy.types, "SHAPEWRIGHT_PT_complete")
    handlers = [h for h in bpy.app.handlers.undo_post if getattr(h, "__module__", "").startswith(addon.package)]
    assert len(handlers) == 1
