"""What registers itself: a feature and a connection in folders of the tests work with no line of the add-on changed."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import addon_utils
import bpy
import pytest
from emulated_engine import Behaviour, EmulatedEngine
from stage import HERE, ROOT, add_points
from test_extension import BOX, draw, operators_of

OWN = HERE / "own"
ADDON = ROOT / "addon"


def beside(addon: SimpleNamespace, package: ModuleType, folder: str) -> Iterator[None]:
    """The modules of a folder of the tests lie beside those of the package while the add-on is enabled anew."""
    known = set(sys.modules)
    addon_utils.disable(addon.package)
    package.__path__.append(str(OWN / folder))
    try:
        addon_utils.enable(addon.package)
        yield
    finally:
        addon_utils.disable(addon.package)
        package.__path__.remove(str(OWN / folder))
        for name in set(sys.modules) - known:
            if name.startswith(package.__name__):
                del sys.modules[name]
        addon_utils.enable(addon.package)


@pytest.fixture
def sphere(addon: Any, empty_scene: None) -> Iterator[None]:
    yield from beside(addon, addon.features, "features")


@pytest.fixture
def elsewhere(addon: Any, empty_scene: None) -> Iterator[EmulatedEngine]:
    """The connection `elsewhere`, and an engine to reach by it."""
    engine = EmulatedEngine(Behaviour())
    yield from (engine for _ in beside(addon, addon.connections, "connections"))
    engine.stop()


def test_a_feature_of_a_test_runs_a_job_from_its_button_to_its_object(addon, sphere, emulated):
    running = emulated()
    settings = bpy.context.scene.shapewright_sphere
    assert settings.steps == 2, "its settings lie with the scene"
    layout = draw(bpy.types.SHAPEWRIGHT_PT_sphere)
    assert operators_of(layout) == ["shapewright.check_sphere"]
    assert bpy.ops.shapewright.check_sphere(steps=3) == {"FINISHED"}
    (job,) = running.jobs
    assert job.request["steps"] == 3 and job.state == "done"
    (made,) = bpy.data.objects
    assert made.name == "Sphere 1" and made.users_collection[0].name == "Spheres" and len(made.data.polygons) == 12
    assert json.loads(made["shapewright_settings"])["kind"] == "selftest"
    assert "Check Sphere" in draw(bpy.types.SHAPEWRIGHT_PT_sphere).said, "its job is drawn with it"


def test_the_real_engine_does_the_job_of_a_feature_of_a_test(sphere, real_engine):
    assert bpy.ops.shapewright.check_sphere() == {"FINISHED"}
    (made,) = bpy.data.objects
    assert made.name == "Sphere 1" and len(made.data.polygons) > 100
    made.data.validate(verbose=False)


def test_a_feature_stands_where_its_number_says(addon, sphere):
    order = [name for name in addon.features.found() if name in ("complete", "fit", "sphere", "generate")]
    assert order == ["complete", "fit", "sphere", "generate"]
    shown = [getattr(bpy.types, f"SHAPEWRIGHT_PT_{name}").bl_order for name in order]
    assert shown == sorted(set(shown))


def test_a_feature_that_is_gone_leaves_nothing(addon, empty_scene):
    for _ in beside(addon, addon.features, "features"):
        assert hasattr(bpy.types, "SHAPEWRIGHT_PT_sphere")
    assert not hasattr(bpy.types, "SHAPEWRIGHT_PT_sphere") and not hasattr(bpy.types.Scene, "shapewright_sphere")
    assert hasattr(bpy.types, "SHAPEWRIGHT_PT_complete")


def test_a_feature_that_cannot_be_registered_leaves_nothing_half_done(addon, empty_scene, monkeypatch):
    found = addon.features.found()
    broken = addon.features.Feature(order=99, operators=(SimpleNamespace,))
    monkeypatch.setattr(addon.features, "found", lambda: {**found, "broken": broken})
    addon.features.unregister()
    try:
        with pytest.raises((ValueError, RuntimeError, TypeError)):
            addon.features.register()
        assert not hasattr(bpy.types, "SHAPEWRIGHT_PT_complete") and not hasattr(bpy.types.Scene, "shapewright")
    finally:
        monkeypatch.undo()
        addon.features.register()
    assert hasattr(bpy.types, "SHAPEWRIGHT_PT_complete")


def test_two_settings_of_one_name_in_a_group_are_refused(addon):
    one = addon.features.Feature(order=1, settings={"shapewright_x": (lambda: {"steps": 1},)})
    other = addon.features.Feature(order=2, settings={"shapewright_x": (lambda: {"steps": 2},)})
    with pytest.raises(ValueError, match="'b' has a setting 'steps'"):
        addon.features.groups_of({"a": one, "b": other})


def test_a_connection_of_a_test_is_chosen_in_the_preferences_and_carries_a_job(addon, elsewhere):
    preferences = bpy.context.preferences.addons[addon.package].preferences
    names = ("engine_python", "device", "connection", "elsewhere_port", "elsewhere_token")
    preferences.connection = "elsewhere"
    preferences.elsewhere_port, preferences.elsewhere_token = elsewhere.port, elsewhere.token
    try:
        add_points(BOX, "Chair")
        assert bpy.ops.shapewright.complete_shape() == {"FINISHED"}
        assert "Chair Complete" in bpy.data.objects and len(elsewhere.jobs) == 1
        drawn = draw(addon.preferences.ShapewrightPreferences, {name: getattr(preferences, name) for name in names})
        assert f"Port {elsewhere.port}" in drawn.said
        preferences.elsewhere_token = "another"
        bpy.ops.shapewright.engine_stop()
        with pytest.raises(RuntimeError):
            bpy.ops.shapewright.complete_shape()
        preferences.connection = "local"
        running = addon.session.current()
        addon.preferences.configure(bpy.context)
        assert isinstance(running.engine, addon.local.EngineProcess) and not running.active
    finally:
        preferences.connection = "local"


def test_with_one_connection_there_is_nothing_to_choose(addon, emulated):
    emulated()
    preferences = bpy.context.preferences.addons[addon.package].preferences
    assert list(addon.connections.kinds()) == ["local"] and preferences.connection == "local"


# ----------------------------------------------------------------------------------------------------------- the rooms

ROOMS = ("registry", "link", "scene", "carried", "writers", "session", "ui", "preferences", "features")
"""Each uses those before it and none after."""


def imports_of(path: Path) -> Iterator[str]:
    """The modules of the add-on that a module imports, as dotted paths within it."""
    package = path.relative_to(ADDON).parent.parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + tuple(
                (node.module or "").split(".") if node.module else ()
            )
            yield from (".".join((*base, alias.name)) for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_uses_only_rooms_before_it(room):
    paths = [ADDON / f"{room}.py"] if (ADDON / f"{room}.py").is_file() else sorted((ADDON / room).rglob("*.py"))
    assert paths
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for path in paths:
        found = {module for module in imports_of(path) if module.split(".")[0] not in allowed}
        assert not found, f"{path.relative_to(ADDON)} imports {found}"


def test_a_feature_can_be_taken_out_alone():
    """No feature imports another, so that a folder can go and come."""
    for folder in sorted(path for path in (ADDON / "features").iterdir() if path.is_dir() and path.name[0] != "_"):
        for path in folder.rglob("*.py"):
            rooms = {module.split(".")[1] for module in imports_of(path) if module.startswith("features.")}
            others = {other.name for other in (ADDON / "features").iterdir() if other.is_dir()} - {folder.name}
            assert not rooms & others, f"{path.relative_to(ADDON)} imports {rooms & others}"


def test_no_file_is_two():
    for path in ADDON.rglob("*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 450, f"{path.name}: two rooms share a door"


# ------------------------------------------------------------------------------------------------- files made before

IDENTIFIERS = {
    "shapewright": "prior resolution seed hypotheses viewpoint viewpoint_location align max_faces class_name "
    "show_settings",
    "shapewright_fit": "method resolution smoothness noise normals open_boundaries viewpoint viewpoint_location "
    "iterations seed becomes",
    "shapewright_train": "name learn_from folder minutes steps start_from collection",
    "shapewright_generation": "prior resolution seed class_name count temperature size avoid_duplicates variants "
    "strength keep steps path layout hold points output",
}
"""What people's files call the settings: a feature may add to these, and takes none away."""


@pytest.mark.parametrize("group", IDENTIFIERS)
def test_settings_keep_the_names_that_files_know_them_by(addon, group):
    properties = bpy.types.Scene.bl_rna.properties[group].fixed_type.properties
    assert set(IDENTIFIERS[group].split()) <= set(properties.keys())


def test_settings_come_back_from_a_file(addon, empty_scene, tmp_path):
    scene = bpy.context.scene
    scene.shapewright.hypotheses, scene.shapewright_fit.smoothness = 3, 0.25
    scene.shapewright_generation.variants, scene.shapewright_generation.hold = 7, 9
    scene.shapewright_train.minutes = 4.0
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "settings.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert bpy.context.scene.shapewright.hypotheses == 1
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "settings.blend"))
    scene = bpy.context.scene
    assert scene.shapewright.hypotheses == 3 and scene.shapewright_fit.smoothness == 0.25
    assert scene.shapewright_generation.variants == 7 and scene.shapewright_generation.hold == 9
    assert scene.shapewright_train.minutes == 4.0
