"""What an object's surface looks like, read from Blender and given to a result: colour attribute and materials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from ..link.mesh_arrays import MeshArrays
from .reference import Reference

SEEN = "seen"
"""Attribute of a result's vertices: whether their colour was observed; elsewhere it is that of the nearest place."""
COLOUR_TYPES = ("FLOAT_COLOR", "BYTE_COLOR")


@dataclass
class Appearance:
    """What of a source's look is no array. colour_name: of its colour attribute, '' where it has none.  materials: of
    its slots, None for an empty one.  has_faces: that wear them."""

    colour_name: str = ""
    materials: list[Reference | None] = field(default_factory=list)
    has_faces: bool = False

    def names(self) -> np.ndarray:
        """The materials' names, for the engine and the files that it may write."""
        return np.array([material.name if material else "" for material in self.materials], np.str_)


def read_look(shown: bpy.types.Object, data: Any) -> Appearance:
    """shown: an evaluated object.  data: what it shows, as modifiers have made it."""
    slots = [slot.material if slot.link == "OBJECT" else None for slot in shown.material_slots]
    own = list(data.materials)
    materials = [of_object or (own[i] if i < len(own) else None) for i, of_object in enumerate(slots)]
    materials += own[len(slots) :]
    attribute = colour_attribute(data)
    return Appearance(
        attribute.name if attribute is not None else "",
        [None if material is None else Reference.of(material.original) for material in materials],
        isinstance(data, bpy.types.Mesh) and len(data.polygons) > 0,
    )


def colour_attribute(data: Any) -> bpy.types.Attribute | None:
    """The colour attribute that is shown: a mesh's active one, a cloud's first."""
    if isinstance(data, bpy.types.Mesh):
        active = data.color_attributes.active_color
        return active if active is not None and active.domain in ("POINT", "CORNER") else None
    found = (attribute for attribute in data.attributes if attribute.data_type in COLOUR_TYPES)
    return next((attribute for attribute in found if attribute.domain == "POINT"), None)


def read_colours(data: Any, count: int) -> np.ndarray | None:
    """(N, 3) float32, sRGB in 0..1, of the points of a mesh or cloud; of a mesh that has them at the corners of its
    faces their mean, white where there are none. None where it has no colour attribute."""
    attribute = colour_attribute(data)
    if attribute is None or count == 0:
        return None
    values = np.empty(4 * len(attribute.data), np.float32)
    attribute.data.foreach_get("color_srgb", values)
    colours = np.nan_to_num(values.reshape(-1, 4)[:, :3], nan=1.0).clip(0.0, 1.0)
    if attribute.domain == "POINT":
        return colours
    corners = np.empty(len(attribute.data), np.int32)
    data.attributes[".corner_vert"].data.foreach_get("value", corners)
    number = np.bincount(corners, minlength=count)
    sums = np.stack([np.bincount(corners, colours[:, axis], count) for axis in range(3)], axis=1)
    mean = np.where(number[:, None] > 0, sums / np.maximum(number, 1)[:, None], 1.0)
    return mean.astype(np.float32).clip(0.0, 1.0)


def dress(mesh: bpy.types.Mesh, arrays: MeshArrays, look: Appearance) -> None:
    """Gives a result's mesh its colours and materials: the very ones of the source's slots."""
    if arrays.colours is not None and len(mesh.vertices):
        attribute = mesh.color_attributes.new(look.colour_name or "Color", "FLOAT_COLOR", "POINT")
        opaque = np.ones((len(arrays.colours), 4), np.float32)
        opaque[:, :3] = arrays.colours
        attribute.data.foreach_set("color_srgb", opaque.reshape(-1))
        mesh.color_attributes.active_color = attribute
        mesh.color_attributes.render_color_index = mesh.color_attributes.active_color_index
    if arrays.seen is not None and len(mesh.vertices):
        mesh.attributes.new(SEEN, "BOOLEAN", "POINT").data.foreach_set("value", arrays.seen)
    materials = [None if one is None else one.find(bpy.data.materials) for one in look.materials]
    if any(material is not None for material in materials):
        for material in materials:
            mesh.materials.append(material)
    set_face_materials(mesh, arrays.face_materials)


def set_face_materials(mesh: bpy.types.Mesh, numbers: np.ndarray | None) -> None:
    """(F,) numbers of the mesh's materials; what names none of them is the first."""
    if numbers is None or len(mesh.materials) < 2 or len(numbers) != len(mesh.polygons):
        return
    attribute = mesh.attributes.get("material_index") or mesh.attributes.new("material_index", "INT", "FACE")
    good = np.where((numbers >= 0) & (numbers < len(mesh.materials)), numbers, 0)
    attribute.data.foreach_set("value", np.ascontiguousarray(good, np.int32))


def joined(looks: Sequence[Appearance]) -> tuple[Appearance, list[np.ndarray]]:
    """One look for several sources, and for each source which of its materials is which there. Faces without any have
    an empty slot where others have materials."""
    materials: list[Reference | None] = []
    numbers: list[np.ndarray] = []
    some = any(look.materials for look in looks)
    for look in looks:
        own = look.materials or ([None] if some and look.has_faces else [])
        for material in own:
            if material not in materials:
                materials.append(material)
        numbers.append(np.array([materials.index(material) for material in own], np.int32))
    return Appearance(next((look.colour_name for look in looks if look.colour_name), ""), materials), numbers
