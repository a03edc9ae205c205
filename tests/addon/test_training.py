"""Train Prior: a collection as a library, the job and its previews; priors brought, fetched and removed; their card."""

from __future__ import annotations

import importlib
import json
from typing import Any

import bpy
import numpy as np
import pytest
from stage import add_object, add_points, step_until
from test_extension import draw, operators_of
from test_fit import cube
from test_session import census


@pytest.fixture
def library(addon: Any) -> Any:
    return importlib.import_module(f"{addon.package}.features.train.library")


@pytest.fixture
def training(addon: Any) -> Any:
    return importlib.import_module(f"{addon.package}.features.train.writer")


@pytest.fixture
def priors(addon: Any) -> Any:
    return importlib.import_module(f"{addon.package}.features.priors.card")


def collection(name: str, *objects: Any, under: Any = None) -> Any:
    """A collection that holds the objects and nothing else does."""
    made = bpy.data.collections.new(name)
    (under or bpy.context.scene.collection).children.link(made)
    for obj in objects:
        for old in list(obj.users_collection):
            old.objects.unlink(obj)
        made.objects.link(obj)
    return made


@pytest.fixture
def shelf(empty_scene: None) -> Any:
    """Two classes of cubes in subcollections, one cube beside them, and what is no shape."""
    top = collection("Shelf", cube("Odd one", (50, 0, 0)))
    collection("Stools", cube("Stool 1", (9, 0, 0)), cube("Stool 2"), under=top)
    lamp = add_object(bpy.data.lights.new("Sun", "POINT"), "Sun")
    lamps = collection("Lamps", cube("Lamp 1"), lamp, add_points(np.eye(3), "Scan"), under=top)
    collection("Old lamps", cube("Lamp 2"), under=lamps)
    bpy.context.view_layer.update()
    return top


def read(library: Any, chosen: Any) -> tuple[Any, dict[str, Any]]:
    shapes = library.read_shapes(chosen, bpy.context.evaluated_depsgraph_get())
    return shapes, shapes.arrays()


# ------------------------------------------------------------------------------------------------------ the library


def test_subcollections_are_classes(library, shelf):
    shapes, arrays = read(library, shelf)
    assert shapes.classes == {"Lamps": 2, "Shelf": 1, "Stools": 2}
    assert [row["name"] for row in shapes.rows] == ["Lamp 1", "Lamp 2", "Odd one", "Stool 1", "Stool 2"]
    assert sorted(shapes.skipped) == ["Scan", "Sun"]
    assert [row["vertices"] for row in shapes.rows] == [8] * 5 and len(arrays["faces"]) == 60
    points = arrays["points"].reshape(5, 8, 3)
    np.testing.assert_allclose(np.abs(points), 0.5, atol=1e-6)  # each at the origin and of size 1
    assert (arrays["faces"].reshape(5, 36) // 8 == np.arange(5)[:, None]).all()


def test_what_hangs_together_is_one_shape_as_it_stands_in_the_world(library, empty_scene):
    seat, back = cube("Seat"), cube("Back", (0, 0, 2))
    back.parent = seat
    seat.scale, seat.location = (2, 1, 1), (100, 0, 0)
    collection("Chairs", seat, back)
    bpy.context.view_layer.update()
    shapes, arrays = read(library, bpy.data.collections["Chairs"])
    assert [row["name"] for row in shapes.rows] == ["Seat"] and shapes.rows[0]["vertices"] == 16
    sides = np.ptp(arrays["points"], axis=0)
    np.testing.assert_allclose(sides, np.array([4, 2, 4]) / 4, atol=1e-6)


def test_modifiers_count_loose_vertices_do_not_and_mirrored_faces_look_outward(library, empty_scene):
    obj = cube("Cube")
    obj.scale = (-1, 1, 1)
    obj.modifiers.new("Finer", "SUBSURF").levels = 1
    obj.data.vertices.add(1)
    obj.data.vertices[-1].co = (9, 9, 9)
    obj.data.update()
    collection("Things", obj)
    bpy.context.view_layer.update()
    shapes, arrays = read(library, bpy.data.collections["Things"])
    assert shapes.rows[0]["vertices"] == 26 and np.abs(arrays["points"]).max() <= 0.5 + 1e-6
    a, b, c = (arrays["points"][arrays["faces"][:, k]] for k in range(3))
    assert ((np.cross(b - a, c - a) * (a + b + c)).sum(1) > 0).all()


def test_a_collection_without_meshes_is_refused(addon, library, empty_scene):
    collection("Points", add_points(np.eye(3)))
    with pytest.raises(addon.problem.EngineProblem, match="no mesh with faces"):
        read(library, bpy.data.collections["Points"])


def test_what_is_sent_is_what_the_engine_takes(library, shelf):
    """The engine's own reader of requests and arrays, on the add-on's bytes."""
    pytest.importorskip("scipy", reason="the engine is not installed in this Python")
    from engine.jobs.kinds import find, parse_request
    from engine.jobs.train.run import _shapes
    from engine.wire.arrays import checked_arrays, unpack_arrays

    shapes, arrays = read(library, shelf)
    mesh_arrays = importlib.import_module("bl_ext.user_default.shapewright.link.mesh_arrays")
    received = checked_arrays(find("train"), unpack_arrays(mesh_arrays.encode_arrays(arrays)))
    found = _shapes(parse_request({"kind": "train", "name": "x", "shapes": shapes.rows}), received)
    assert [(shape.class_name, shape.name) for shape in found][:2] == [("Lamps", "Lamp 1"), ("Lamps", "Lamp 2")]
    assert all(len(shape.mesh.vertices) == 8 and shape.mesh.faces.max() == 7 for shape in found)


# ---------------------------------------------------------------------------------------------------------- the job


def test_a_training_shows_previews_beside_its_shapes_and_leaves_nothing(addon, training, shelf, emulated):
    running = emulated(steps=30, step_s=0.03, preview_at=list(range(30)))
    before = census()
    writer = training.TrainingWriter("new", *training.beside(shelf))
    request = {"kind": "train", "name": "new"}
    job = running.submit(addon.session.Job("Train new", request, undo=False, writer=writer))
    step_until(running, lambda: job.previews_shown >= 1)
    preview = writer.preview.find(bpy.data.objects)
    assert preview.matrix_world.translation.x > 51 and preview.scale.x == pytest.approx(2)
    running.cancel(job)
    assert census() == before
    step_until(running, lambda: job.finished)
    assert job.state == "cancelled" and census() == before


def test_another_file_does_not_end_a_training(addon, training, empty_scene, emulated):
    running = emulated(steps=40, step_s=0.03, preview_at=list(range(40)))
    writer = training.TrainingWriter("new", (0, 0, 0), 1)
    job = running.submit(addon.session.Job("Train", {"kind": "train", "name": "new"}, undo=False, writer=writer))
    step_until(running, lambda: job.previews_shown >= 1)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    assert not job.finished
    running.wait(job, 60)
    assert job.state == "done" and not bpy.data.objects, "and its preview has left"


def test_the_operator_sends_the_collection_and_the_new_prior_is_listed(addon, shelf, emulated):
    running = emulated()
    before = census()
    assert bpy.ops.shapewright.train_prior(name="shelf", collection="Shelf", minutes=5, steps=7) == {"FINISHED"}
    request = running.jobs[-1].request
    assert request["minutes"] == 5 and request["settings"] == {"steps": 7} and request["start_from"] == ""
    assert [row["class_name"] for row in request["shapes"]] == ["Lamps", "Lamps", "Shelf", "Stools", "Stools"]
    assert census() == before
    assert "shelf" in [prior["name"] for prior in running.engine.info["priors"]], "the list was fetched anew"
    bpy.context.scene.shapewright.prior = "shelf"
    assert bpy.ops.shapewright.train_prior(name="more", collection="Shelf", start_from="shelf") == {"FINISHED"}
    assert running.jobs[-1].request["start_from"] == "shelf"


def test_the_operator_names_a_folder(emulated, tmp_path):
    running = emulated()
    assert bpy.ops.shapewright.train_prior(name="x", learn_from="FOLDER", folder=str(tmp_path)) == {"FINISHED"}
    assert running.jobs[-1].request["folder"] == str(tmp_path) and "shapes" not in running.jobs[-1].request
    for folder, said in (("", "No folder was chosen"), (str(tmp_path / "nowhere"), "no folder")):
        with pytest.raises(RuntimeError, match=said):
            bpy.ops.shapewright.train_prior(name="x", learn_from="FOLDER", folder=folder)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": " "}, "no name"),
        ({"collection": "Nowhere"}, "no collection 'Nowhere'"),
        ({"settings_json": "[1]"}, "cannot be read"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_starts(emulated, settings, said):
    running = emulated()
    with pytest.raises(RuntimeError, match=said):
        bpy.ops.shapewright.train_prior(**{"name": "x", **settings})
    assert running.engine.state == "stopped" and not running.jobs


def test_the_panel_counts_the_shapes_and_offers_to_resume(addon, shelf, emulated):
    running = emulated(fail_at=1)
    settings = bpy.context.scene.shapewright_train
    settings.collection = shelf
    panel = bpy.types.SHAPEWRIGHT_PT_train
    layout = draw(panel)
    assert any("7 shapes of 3 classes" in text for text in layout.said)
    assert operators_of(layout) == ["shapewright.train_prior"]
    with pytest.raises(RuntimeError, match="It failed"):
        bpy.ops.shapewright.train_prior(name="shelf", collection="Shelf")
    layout = draw(panel)
    offered = [made for idname, _, made in layout.operators if idname == "shapewright.train_prior"]
    assert offered[1].resume is True and offered[1].name == "shelf" and running.jobs[-1].title in layout.said
    settings.learn_from = "FOLDER"
    draw(panel)


# -------------------------------------------------------------------------------------------------- priors as files


def test_a_prior_is_imported_exported_and_removed(addon, priors, emulated, tmp_path):
    running = emulated()
    path = tmp_path / "given ščž 形.safetensors"
    path.write_bytes(b"weights")
    assert bpy.ops.shapewright.import_prior(filepath=str(path), name="gift ž") == {"FINISHED"}
    assert running.prior("gift ž")["bytes"] == 7 and running.calls.newest.message == "Imported the prior 'gift ž'"
    bpy.context.scene.shapewright.prior = "gift ž"
    target = tmp_path / "copy"
    assert bpy.ops.shapewright.export_prior(filepath=str(target)) == {"FINISHED"}
    assert (tmp_path / "copy.safetensors").read_bytes() == b"weights"
    assert bpy.ops.shapewright.remove_prior() == {"FINISHED"}
    assert not running.prior("gift ž") and bpy.context.scene.shapewright.prior == "household"
    assert running.engine.state == "ready"


def test_a_refusal_comes_with_its_reason(addon, priors, emulated, tmp_path):
    emulated()
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"damaged")
    with pytest.raises(RuntimeError, match=r"What: prior_damaged\. Why\. Remedy\."):
        bpy.ops.shapewright.import_prior(filepath=str(path))
    layout = draw(bpy.types.SHAPEWRIGHT_PT_priors)
    assert {"What: prior_damaged.", "Why.", "Remedy."} <= set(layout.said)
    with pytest.raises(RuntimeError, match="No such file"):
        bpy.ops.shapewright.import_prior(filepath=str(tmp_path / "nothing.safetensors"))
    with pytest.raises(RuntimeError, match="No such file"):
        bpy.ops.shapewright.export_prior(prior="household", filepath=str(tmp_path / "no folder" / "x.safetensors"))
    with pytest.raises(RuntimeError, match="No file was chosen"):
        bpy.ops.shapewright.export_prior(prior="household")
    bpy.context.scene.shapewright.prior = "household"
    with pytest.raises(RuntimeError, match="comes with the engine"):
        bpy.ops.shapewright.remove_prior()


def test_without_an_engine_the_reason_is_told(addon, priors, empty_scene, monkeypatch):
    monkeypatch.delenv("SHAPEWRIGHT_ENGINE_PYTHON", raising=False)
    monkeypatch.setenv("PATH", "")
    running = addon.session.current()
    with pytest.raises(RuntimeError, match="No engine is installed"):
        bpy.ops.shapewright.import_prior(filepath=__file__)
    assert running.calls.newest.problem.code == "engine_not_found"


CARD = {
    "name": "household", "bytes": 5 << 20, "version": "1", "classes": ["chair", "mug"],
    "about": {
        "class_counts": {"mug": 3, "chair": 70}, "licence": "GPL",
        "data": {"attic": {"shapes": 73, "licences": {"CC0-1.0": 70, "": 3}}},
        "training": {"steps": 900, "seconds": 120, "device": "cpu", "date": "2026-01-02",
                     "started_from": {"prior": "other"}},
        "quality": {"protocol": "one view", "held_out": {"shapes": 4, "f_score": 0.70612}, "by_class": {"mug": {}}},
    },
}  # fmt: skip


def test_the_card_says_what_the_prior_knows_and_where_from(addon, priors, emulated):
    running = emulated()
    panel = bpy.types.SHAPEWRIGHT_PT_priors
    assert "The engine tells more once it runs" in draw(panel).said
    running.known_priors = [CARD]
    lines = priors.card_lines(CARD)
    assert lines == [
        ("Classes", "chair 70, mug 3"),
        ("Data", "attic: 73 shapes; CC0-1.0 (70), unknown (3)"),
        ("Training", "900 steps in 2.0 min on cpu, 2026-01-02"),
        ("Started from", "other"),
        ("Quality", "one view"),
        ("", "Held out: shapes 4, f score 0.706"),
        ("Licence", "GPL"),
        ("File", "5.0 MB, version 1"),
    ]
    layout = draw(panel)
    assert {"Classes", "chair 70, mug 3", "Training"} <= set(layout.said)
    assert {"shapewright.import_prior", "shapewright.export_prior", "shapewright.remove_prior"} <= set(
        operators_of(layout)
    )


@pytest.mark.parametrize(
    "strange",
    [
        {}, {"about": 3}, {"about": {"class_counts": {"a": "many"}}}, {"about": {"data": {"x": 1}}},
        {"about": {"training": {"seconds": "long"}}}, {"about": {"quality": {"a": {"b": "c"}}}}, {"classes": ["a"]},
        {"about": {"data": {"x": {"licences": None}}}},
    ],
)  # fmt: skip
def test_a_card_of_another_make_is_no_fault(priors, addon, strange):
    assert all(isinstance(text, str) for line in priors.card_lines(strange) for text in line)


def test_the_real_engines_card_of_the_default_prior(priors, addon):
    """What the engine lists is what the panel reads."""
    from engine.plain_json import plain
    from engine.priors.registry import list_priors

    info = next(plain(vars(info)) for info in list_priors() if info.name == "household")
    lines = dict(priors.card_lines(json.loads(json.dumps(info))))
    assert "chair " in lines["Classes"] and "CC-BY-3.0" in lines["Data"] and "steps" in lines["Training"]
    assert "F-score" in lines["Quality"]

