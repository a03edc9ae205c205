"""Results remeshed in quads by Blender's QuadriFlow."""

from __future__ import annotations

from typing import Any

import bpy
import pytest
from mathutils import Vector
from stage import activate, add_object


@pytest.fixture(autouse=True)
def _scene(empty_scene: None) -> None:
    pass


def ball(name: str = "Ball") -> Any:
    import bmesh

    made = bmesh.new()
    bmesh.ops.create_icosphere(made, subdivisions=4, radius=1.0)
    mesh = bpy.data.meshes.new(name)
    made.to_mesh(mesh)
    made.free()
    return add_object(mesh, name)


def test_selected_objects_become_quads_in_their_place(addon: Any) -> None:
    obj = ball()
    obj.location = (1.0, 2.0, 3.0)
    wood = bpy.data.materials.new("Wood")
    obj.data.materials.append(wood)
    activate(obj)
    assert bpy.ops.shapewright.make_quads(faces=400) == {"FINISHED"}
    mesh = obj.data
    assert 200 < len(mesh.polygons) < 800 and mesh.name == "Ball" and obj.name == "Ball"
    assert all(len(face.vertices) == 4 for face in mesh.polygons)
    assert list(mesh.materials) == [wood] and tuple(obj.location) == (1.0, 2.0, 3.0)
    away = [abs(vertex.co.length - 1.0) for vertex in mesh.vertices]
    assert max(away) < 0.05
    assert [one.name for one in bpy.data.meshes] == ["Ball"]


def test_what_quadriflow_refuses_stays_as_it_was_and_it_is_said_why(addon: Any) -> None:
    obj = ball()
    near, far = obj.data.edges[7].vertices
    obj.data.vertices[near].co = obj.data.vertices[far].co + Vector((5e-5, 0.0, 0.0))
    before = obj.data
    faces = len(before.polygons)
    with pytest.raises(addon.problem.EngineProblem) as refused:
        addon.quads.make_quads(obj, 400)
    assert refused.value.code == "quads_refused" and "1 of its edges" in refused.value.why
    assert obj.data == before and len(before.polygons) == faces and len(bpy.data.meshes) == 1


def test_edges_of_three_faces_are_told(addon: Any) -> None:
    mesh = bpy.data.meshes.new("Fins")
    mesh.from_pydata([(0, 0, 0), (0, 0, 1), (1, 0, 0), (-1, 1, 0), (-1, -1, 0)], [], [(0, 1, 2), (0, 1, 3), (0, 1, 4)])
    obj = add_object(mesh, "Fins")
    with pytest.raises(addon.problem.EngineProblem, match="more than two faces"):
        addon.quads.make_quads(obj, 400)
