"""The add-on's preferences: which engine, on which device, and what the features have to say there."""

from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty

from . import session
from .link import connections

DEVICES = (
    ("auto", "Automatic", "The fastest device that the engine finds"),
    ("cuda", "CUDA", "An NVIDIA graphics card"),
    ("mps", "Metal", "The graphics of an Apple computer"),
    ("cpu", "Processor", "No graphics card; works everywhere"),
)

SECTIONS: list[Callable[[bpy.types.UILayout], None]] = []
"""What the features draw below: filled while they register, in their order."""

KINDS: dict[str, connections.ConnectionKind] = {}
"""The kinds of connections: looked for once, while the add-on registers."""

PROPERTIES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "text": (StringProperty, {}),
    "file": (StringProperty, {"subtype": "FILE_PATH"}),
    "folder": (StringProperty, {"subtype": "DIR_PATH"}),
    "secret": (StringProperty, {"subtype": "PASSWORD"}),
    "number": (IntProperty, {"min": 0}),
}
"""The kinds of a connection's settings, as Blender has them."""


class ShapewrightPreferences(bpy.types.AddonPreferences):
    """Its properties are made by `register`: the connections' settings are not known before."""

    bl_idname = __package__

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        column = layout.column()
        column.use_property_split = True
        if len(KINDS) > 1:
            column.prop(self, "connection")
        for setting in KINDS[chosen_kind(self)].settings:
            column.prop(self, setting.name)
        column.prop(self, "device")
        for draw_section in SECTIONS:
            draw_section(layout)


def chosen_kind(preferences: ShapewrightPreferences) -> str:
    """The connection chosen; the default one where its file is gone."""
    return preferences.connection or connections.DEFAULT


def configure(context: bpy.types.Context) -> None:
    """The session takes over what the preferences say about the engine."""
    chosen = of(context)
    values = {}
    for kind in KINDS.values():
        for setting in kind.settings:
            value = getattr(chosen, setting.name)
            is_path = setting.kind in ("file", "folder") and value
            values[setting.name] = bpy.path.abspath(value) if is_path else value
    session.use_preferences(chosen_kind(chosen), values)


def of(context: bpy.types.Context) -> ShapewrightPreferences:
    return context.preferences.addons[__package__].preferences


def _definitions() -> dict[str, Any]:
    definitions: dict[str, Any] = {
        "connection": EnumProperty(
            name="Engine",
            description="Where the engine is",
            items=[(kind.name, kind.label, kind.description) for kind in KINDS.values()],
            default=connections.DEFAULT,
        ),
        "device": EnumProperty(name="Device", description="What the engine computes on", items=DEVICES, default="auto"),
    }
    for kind in KINDS.values():
        for setting in kind.settings:
            if setting.name in definitions:
                raise ValueError(f"the connection '{kind.name}' has a setting '{setting.name}', which is another's")
            make, options = PROPERTIES[setting.kind]
            definitions[setting.name] = make(
                name=setting.label, description=setting.description, default=setting.default, **options
            )
    return definitions


def register() -> None:
    KINDS.update(connections.kinds())
    ShapewrightPreferences.__annotations__ = _definitions()
    bpy.utils.register_class(ShapewrightPreferences)


def unregister() -> None:
    bpy.utils.unregister_class(ShapewrightPreferences)
    KINDS.clear()
