"""How the pictures that the scripts render look: materials, lamps, and points drawn as small spheres. Needs bpy."""

from __future__ import annotations

import bpy
from mathutils import Vector

Colour = tuple[float, float, float, float]


def material(name: str, colour: Colour, roughness: float) -> bpy.types.Material:
    made = bpy.data.materials.new(name)
    if made.node_tree is None:  # Blender before 5.0
        made.use_nodes = True
    surface = next(node for node in made.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    surface.inputs["Base Color"].default_value = colour
    surface.inputs["Roughness"].default_value = roughness
    return made


def white_world(scene: bpy.types.Scene, strength: float) -> None:
    """Soft light from everywhere."""
    world = bpy.data.worlds.new("White")
    scene.world = world
    if world.node_tree is None:
        world.use_nodes = True
    background = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    background.inputs["Strength"].default_value = strength


def looking(name: str, data: bpy.types.ID, place: tuple[float, float, float], aim: Vector) -> bpy.types.Object:
    """A camera or lamp at `place` that looks at `aim`; not linked to a scene yet."""
    obj = bpy.data.objects.new(name, data)
    obj.location = place
    obj.rotation_euler = (aim - obj.location).to_track_quat("-Z", "Y").to_euler()
    return obj


def show_points(obj: bpy.types.Object, radius: float, look: bpy.types.Material) -> None:
    """Lets geometry nodes draw an object's vertices as spheres. radius: in the object's own units."""
    tree = bpy.data.node_groups.new("Show points", "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    points, paint = tree.nodes.new("GeometryNodeMeshToPoints"), tree.nodes.new("GeometryNodeSetMaterial")
    points.inputs["Radius"].default_value = radius
    paint.inputs["Material"].default_value = look
    tree.links.new(tree.nodes.new("NodeGroupInput").outputs[0], points.inputs["Mesh"])
    tree.links.new(points.outputs[0], paint.inputs["Geometry"])
    tree.links.new(paint.outputs[0], tree.nodes.new("NodeGroupOutput").inputs[0])
    obj.modifiers.new("Show points", "NODES").node_group = tree


def use_cycles(scene: bpy.types.Scene, width: int, height: int, samples: int, denoise: bool) -> None:
    """PNG pictures by the renderer that needs neither display nor graphics card. Raises TypeError or AttributeError
    in a Blender that was built without it."""
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples, scene.cycles.max_bounces = "CPU", samples, 4
    scene.cycles.use_denoising = denoise
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
